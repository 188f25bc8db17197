//! Who did what.

use crate::Store;
use crate::audit::{DONE, Event};
use crate::config::{Expect, Kind, Put, Write};

fn event(at: i64) -> Event {
    Event {
        at,
        actor: "alice@10.0.0.1".to_owned(),
        action: "reload".to_owned(),
        outcome: "forbidden".to_owned(),
        subject: "é".to_owned(),
        version: None,
    }
}

fn write(action: &str, puts: &[(&str, &str, Expect)]) -> Write {
    let put = |(name, body, expect): &(&str, &str, Expect)| Put {
        kind: Kind::Provider,
        name: (*name).to_owned(),
        body: Some((*body).to_owned()),
        expect: *expect,
    };
    Write {
        actor: "tester".to_owned(),
        action: action.to_owned(),
        at: 4,
        puts: puts.iter().map(put).collect(),
    }
}

/// Events are numbered in the order in which they come, and those of versions come by themselves.
pub async fn entries(store: &dyn Store) {
    assert_eq!(store.entries(i64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.add(&event(5)).await.unwrap(), 1);
    let version = store
        .write(write("create", &[("a", "1", Expect::Nothing)]))
        .await;
    let version = version.unwrap();
    assert_eq!(store.add(&event(3)).await.unwrap(), 3);
    let all = store.entries(i64::MAX, 10).await.unwrap();
    let numbers: Vec<i64> = all.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(all[2].event, event(5));
    let made = &all[1].event;
    assert_eq!((made.version, &*made.outcome), (Some(version), DONE));
    assert_eq!((&*made.action, &*made.subject), ("create", "provider a"));
    let page = store.entries(3, 1).await.unwrap();
    assert_eq!(page, all[1..2]);
}

/// What changes nothing, and what is refused, leaves nothing.
pub async fn nothing(store: &dyn Store) {
    let same = || write("same", &[("a", "1", Expect::Anything)]);
    store.write(same()).await.unwrap();
    store.write(same()).await.unwrap();
    let refused = [("b", "1", Expect::Nothing), ("a", "2", Expect::Nothing)];
    store.write(write("refused", &refused)).await.unwrap_err();
    assert_eq!(store.entries(i64::MAX, 10).await.unwrap().len(), 1);
    let found = store.document(Kind::Provider, "b").await.unwrap();
    assert_eq!(found, None);
}

/// However many at once: every event has a number of its own.
pub async fn many_at_once(store: std::sync::Arc<dyn Store>) {
    let tasks = (0..16).map(|at| {
        let store = store.clone();
        tokio::spawn(async move { store.add(&event(at)).await.unwrap() })
    });
    let mut numbers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        numbers.push(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<i64>>());
}
