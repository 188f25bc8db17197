//! Who did what.

use crate::Store;
use crate::audit::{DONE, Event, EventFilter};
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
    assert_eq!(
        store
            .entries(&EventFilter::default(), i64::MAX, 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(store.add(&event(5)).await.unwrap(), 1);
    let version = store
        .write(write("create", &[("a", "1", Expect::Nothing)]))
        .await;
    let version = version.unwrap();
    assert_eq!(store.add(&event(3)).await.unwrap(), 3);
    let all = store
        .entries(&EventFilter::default(), i64::MAX, 10)
        .await
        .unwrap();
    let numbers: Vec<i64> = all.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(all[2].event, event(5));
    let made = &all[1].event;
    assert_eq!((made.version, &*made.outcome), (Some(version), DONE));
    assert_eq!((&*made.action, &*made.subject), ("create", "provider a"));
    let page = store.entries(&EventFilter::default(), 3, 1).await.unwrap();
    assert_eq!(page, all[1..2]);
}

/// Entries are found by who, what and when, and forgotten by age; numbers go on.
pub async fn wanted(store: &dyn Store) {
    for (at, actor, action) in [
        (1, "alice@10.0.0.1", "create"),
        (2, "al%@10.0.0.1", "create key"),
        (3, "bob@10.0.0.1", "é delete"),
        (4, "alice@10.0.0.2", "delete"),
    ] {
        let (actor, action) = (actor.to_owned(), action.to_owned());
        let event = Event {
            actor,
            action,
            ..event(at)
        };
        store.add(&event).await.unwrap();
    }
    let numbers = async |of: EventFilter, before, limit| {
        let found = store.entries(&of, before, limit).await.unwrap();
        found.iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    let begins = |actor: &str, action: &str| EventFilter {
        actor: Some(actor.to_owned()),
        action: Some(action.to_owned()),
        ..EventFilter::default()
    };
    assert_eq!(numbers(begins("alice", ""), i64::MAX, 9).await, [4, 1]);
    assert_eq!(numbers(begins("alice", ""), 4, 9).await, [1]);
    assert_eq!(numbers(begins("al%", ""), i64::MAX, 9).await, [2]);
    assert_eq!(numbers(begins("", "é d"), i64::MAX, 9).await, [3]);
    assert_eq!(numbers(begins("", "create"), i64::MAX, 1).await, [2]);
    assert!(numbers(begins("lice", ""), i64::MAX, 9).await.is_empty());
    let between = EventFilter {
        since: Some(2),
        until: Some(4),
        ..EventFilter::default()
    };
    assert_eq!(numbers(between, i64::MAX, 9).await, [3, 2]);
    assert_eq!(store.forget_entries(4, 2).await.unwrap(), 2);
    assert_eq!(store.forget_entries(4, 2).await.unwrap(), 1);
    assert_eq!(store.forget_entries(4, 2).await.unwrap(), 0);
    assert_eq!(store.add(&event(9)).await.unwrap(), 5);
    assert_eq!(numbers(EventFilter::default(), i64::MAX, 9).await, [5, 4]);
}

/// What changes nothing, and what is refused, leaves nothing.
pub async fn nothing(store: &dyn Store) {
    let same = || write("same", &[("a", "1", Expect::Anything)]);
    store.write(same()).await.unwrap();
    store.write(same()).await.unwrap();
    let refused = [("b", "1", Expect::Nothing), ("a", "2", Expect::Nothing)];
    store.write(write("refused", &refused)).await.unwrap_err();
    assert_eq!(
        store
            .entries(&EventFilter::default(), i64::MAX, 10)
            .await
            .unwrap()
            .len(),
        1
    );
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
