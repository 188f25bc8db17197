//! Documents, versions, history.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigStore, Documents, Expect, Kind, Page, Put, Write};
use crate::error::StoreError;

fn put(kind: Kind, name: &str, body: Option<&str>, expect: Expect) -> Put {
    Put {
        kind,
        name: name.to_owned(),
        body: body.map(str::to_owned),
        expect,
    }
}

fn write(at: i64, puts: Vec<Put>) -> Write {
    Write {
        actor: "tester".to_owned(),
        action: "test".to_owned(),
        at,
        puts,
    }
}

async fn one(store: &dyn ConfigStore, at: i64, name: &str, body: Option<&str>) -> i64 {
    let puts = vec![put(Kind::Provider, name, body, Expect::Anything)];
    store.write(write(at, puts)).await.unwrap()
}

/// Writes are numbered from 1, and what they wrote is there.
pub async fn versions(store: &dyn ConfigStore) {
    assert_eq!(store.version().await.unwrap(), 0);
    assert_eq!(store.documents().await.unwrap(), Documents::default());
    assert_eq!(one(store, 10, "a", Some(r#"{"x":1}"#)).await, 1);
    assert_eq!(one(store, 20, "b", Some("{}")).await, 2);
    assert_eq!(one(store, 30, "a", Some(r#"{"x":"é\u0000"}"#)).await, 3);
    assert_eq!(
        one(store, 40, "a", Some(r#"{"x":"é\u0000"}"#)).await,
        3,
        "nothing changed: no version"
    );
    assert_eq!(one(store, 40, "none", None).await, 3);
    let a = store.document(Kind::Provider, "a").await.unwrap().unwrap();
    assert_eq!(
        (a.version, a.created, a.updated, &*a.body),
        (3, 10, 30, r#"{"x":"é\u0000"}"#)
    );
    let b = store.document(Kind::Provider, "b").await.unwrap().unwrap();
    assert_ne!(a.id, b.id);
    let found = store.document_by_id(Kind::Provider, a.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&a));
    assert!(
        store
            .document_by_id(Kind::Key, a.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.document(Kind::Model, "a").await.unwrap().is_none());
    let mut all = store.documents().await.unwrap();
    all.documents.sort_by_key(|document| document.id);
    assert_eq!((all.version, all.documents), (3, vec![a.clone(), b]));
    assert_eq!(one(store, 50, "a", None).await, 4);
    assert!(store.document(Kind::Provider, "a").await.unwrap().is_none());
    assert_eq!(one(store, 60, "a", Some("{}")).await, 5);
    let again = store.document(Kind::Provider, "a").await.unwrap().unwrap();
    assert_eq!(again.created, 60, "another document of the same name");
}

/// All or nothing, and only where what was expected is there.
pub async fn expectations(store: &dyn ConfigStore) {
    one(store, 1, "a", Some("{}")).await;
    for expect in [Expect::Nothing, Expect::Version(7)] {
        let puts = vec![
            put(Kind::Model, "m", Some("{}"), Expect::Anything),
            put(Kind::Provider, "a", Some(r#"{"x":1}"#), expect),
        ];
        match store.write(write(2, puts)).await {
            Err(StoreError::Conflict { kind, name, found }) => {
                assert_eq!((kind, &*name, found), (Kind::Provider, "a", Some(1)));
            }
            other => panic!("a conflict was expected: {other:?}"),
        }
    }
    for expect in [Expect::Something, Expect::Version(1)] {
        let puts = vec![put(Kind::Provider, "b", Some("{}"), expect)];
        let error = store.write(write(2, puts)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { found: None, .. }));
    }
    assert!(store.document(Kind::Model, "m").await.unwrap().is_none());
    assert_eq!(store.version().await.unwrap(), 1);
    let puts = vec![
        put(Kind::Model, "m", Some("{}"), Expect::Nothing),
        put(Kind::Provider, "a", Some(r#"{"x":1}"#), Expect::Version(1)),
    ];
    assert_eq!(store.write(write(3, puts)).await.unwrap(), 2);
    let puts = vec![put(Kind::Provider, "a", None, Expect::Version(2))];
    assert_eq!(store.write(write(4, puts)).await.unwrap(), 3);
}

/// Changes can be followed, and undone.
pub async fn history(store: &dyn ConfigStore) {
    one(store, 1, "a", Some(r#"{"x":1}"#)).await;
    let first = store.documents().await.unwrap();
    one(store, 2, "a", Some(r#"{"x":2}"#)).await;
    let puts = vec![
        put(Kind::Provider, "a", None, Expect::Anything),
        put(Kind::Provider, "b", Some("{}"), Expect::Anything),
        put(Kind::Key, "k", Some("{}"), Expect::Anything),
    ];
    store.write(write(3, puts)).await.unwrap();
    let last = store.documents().await.unwrap();
    let sorted = |mut documents: Documents| {
        documents
            .documents
            .sort_by_key(|document| (document.kind, document.name.clone()));
        documents
    };
    let changes = store.changes(1, 100).await.unwrap();
    let shape: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.version,
                change.before.is_some(),
                change.after.is_some(),
            )
        })
        .collect();
    assert_eq!(shape.len(), 4, "{shape:?}");
    assert_eq!(shape.first(), Some(&(2, true, true)));
    assert!(shape.iter().skip(1).all(|(version, ..)| *version == 3));
    let mut followed = first.clone();
    followed.apply(&changes);
    assert_eq!(sorted(followed.clone()), sorted(last.clone()));
    followed.undo(&changes, 1);
    assert_eq!(sorted(followed), sorted(first.clone()));
    let part = store.changes(1, 1).await.unwrap();
    assert_eq!(part.len(), 1);
    let part = store.changes(2, 1).await.unwrap();
    assert_eq!(part.len(), 3, "a version is never torn apart");
    assert!(store.changes(3, 9).await.unwrap().is_empty());

    // Back to the first version, as a version of its own.
    let puts = last.puts_to(&first);
    assert_eq!(store.write(write(4, puts)).await.unwrap(), 4);
    let back = store.documents().await.unwrap();
    let bodies: Vec<_> = back
        .documents
        .iter()
        .map(|document| (document.kind, &*document.name, &*document.body))
        .collect();
    assert_eq!(bodies, [(Kind::Provider, "a", r#"{"x":1}"#)]);

    let versions = store.versions(i64::MAX, 2).await.unwrap();
    let seen: Vec<_> = versions
        .iter()
        .map(|version| (version.version, version.at, version.changes))
        .collect();
    assert_eq!(seen, [(4, 4, 3), (3, 3, 3)]);
    assert_eq!(versions.first().unwrap().actor, "tester");
    let versions = store.versions(3, 9).await.unwrap();
    assert_eq!(versions.len(), 2);
}

/// Documents come in pages, by number.
pub async fn pages(store: &dyn ConfigStore) {
    let puts = (0..25)
        .map(|n| put(Kind::Key, &format!("k{n}"), Some("{}"), Expect::Nothing))
        .collect();
    store.write(write(1, puts)).await.unwrap();
    one(store, 2, "p", Some("{}")).await;
    let mut names = Vec::new();
    let mut after = 0;
    loop {
        let page = store
            .page(Kind::Key, Page { after, limit: 10 })
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 10);
        assert!(last.id > after);
        after = last.id;
        names.extend(page.into_iter().map(|document| document.name));
    }
    let expected: Vec<_> = (0..25).map(|n| format!("k{n}")).collect();
    assert_eq!(names, expected);
}

/// Words that stand beside the configuration.
pub async fn notes(store: &dyn ConfigStore) {
    assert_eq!(store.note("n").await.unwrap(), None);
    assert_eq!(store.note_once("n", "one").await.unwrap(), "one");
    assert_eq!(store.note_once("n", "two").await.unwrap(), "one");
    assert_eq!(store.note("n").await.unwrap().as_deref(), Some("one"));
}

/// Writes are noticed.
pub async fn notices(store: &dyn ConfigStore) {
    let mut notices = store.notices();
    notices.mark_unchanged();
    one(store, 1, "a", Some("{}")).await;
    let noticed = tokio::time::timeout(Duration::from_secs(5), notices.changed()).await;
    noticed.unwrap().unwrap();
}

/// Whoever writes at the same time: versions have no gaps and no two the same number.
pub async fn many_writers<S: ConfigStore + 'static>(store: Arc<S>) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                one(&*store, 1, &format!("{writer}-{n}"), Some("{}")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(store.version().await.unwrap(), 80);
    let changes = store.changes(0, 1000).await.unwrap();
    let versions: Vec<_> = changes.iter().map(|change| change.version).collect();
    assert_eq!(versions, (1..=80).collect::<Vec<_>>());
    let documents = store.documents().await.unwrap();
    assert_eq!(documents.documents.len(), 80);
}

/// Old versions are forgotten, the last and all documents stay, and nobody is told half of what changed.
pub async fn forgetting(store: &dyn ConfigStore) {
    assert_eq!(store.forget_versions(2, 9).await.unwrap(), 0);
    for at in 1..=6 {
        let body = format!(r#"{{"x":{at}}}"#);
        one(store, at, "a", Some(&body)).await;
    }
    let documents = store.documents().await.unwrap();
    assert_eq!(store.forget_versions(2, 3).await.unwrap(), 3);
    assert_eq!(store.forget_versions(2, 3).await.unwrap(), 1);
    assert_eq!(store.forget_versions(2, 3).await.unwrap(), 0);
    assert_eq!(store.documents().await.unwrap(), documents);
    let left = store.versions(i64::MAX, 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|version| version.version).collect();
    assert_eq!(left, [6, 5]);
    for after in 0..4 {
        assert!(store.changes(after, 9).await.unwrap().is_empty(), "{after}");
    }
    assert_eq!(store.changes(4, 9).await.unwrap().len(), 2);
    assert_eq!(one(store, 9, "b", Some("{}")).await, 7);
}
