//! SQLite and PostgreSQL do what every store does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use polygate_store::conformance::dashboard;
use polygate_store::usage::CallRow;
use polygate_store::{ConfigStore, MemoryStore, UsageStore};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;

async fn sqlite(file: PathBuf) -> SqlStore {
    let store = SqlStore::sqlite(&file).unwrap();
    store.migrate_up().await.unwrap();
    store
}

#[tokio::test]
async fn sqlite_does_what_every_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    polygate_store::conformance::run(|| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        sqlite(folder.path().join(format!("{number}.db")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_what_every_store_does() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let count = AtomicUsize::new(0);
    polygate_store::conformance::run(|| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let url = postgres.database(&format!("store{number}"));
        async move {
            let store = SqlStore::new(&url).unwrap();
            store.migrate_up().await.unwrap();
            store
        }
    })
    .await;
}

fn row() -> CallRow {
    let usage = serde_json::json!({});
    let row = serde_json::json!({
        "id": "id", "request_id": "r", "started": 1, "duration": 1, "endpoint": "e", "key": "k", "team": "", "model": "m",
        "label": "m", "provider": "p", "credential": "c", "upstream_model": "m", "client": "curl", "stream": false, "status": 200,
        "outcome": "completed", "state": "reported", "usage": usage, "cost": 1, "attempts": [],
    });
    serde_json::from_value(row).unwrap()
}

/// The tables go up, all the way down and up again; and up once more changes nothing.
async fn up_and_down(store: &SqlStore) {
    assert_eq!(store.migration_versions().await.unwrap(), (0, 11));
    store.migrate_up().await.unwrap();
    store.migrate_up().await.unwrap();
    assert_eq!(store.migration_versions().await.unwrap(), (11, 11));
    assert_eq!(store.version().await.unwrap(), 0);
    store.migrate_down(0).await.unwrap();
    assert_eq!(store.migration_versions().await.unwrap(), (0, 11));
    let error = store.version().await.unwrap_err();
    // They may be on their way: another replica makes them.
    assert!(error.is_temporary(), "{error}");
    // That there is no table is no fault of a row: it waits.
    let error = store.record(&[row()]).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    store.migrate_up().await.unwrap();
    assert_eq!(store.version().await.unwrap(), 0);
    sums_of_before(store).await;
}

/// Sums and counts that there were no tables for are made of what is there.
async fn sums_of_before(store: &SqlStore) {
    let memory = MemoryStore::default();
    for store in [store as &dyn UsageStore, &memory] {
        dashboard::filled(store).await;
        dashboard::thinned(store).await;
    }
    store.migrate_down(2).await.unwrap();
    store.migrate_up().await.unwrap();
    dashboard::alike(store, &memory).await;
}

#[tokio::test]
async fn tables_go_up_and_down() {
    let folder = tempfile::tempdir().unwrap();
    up_and_down(&SqlStore::sqlite(&folder.path().join("a.db")).unwrap()).await;
    let Some(postgres) = Postgres::start() else {
        return;
    };
    up_and_down(&SqlStore::new(&postgres.url()).unwrap()).await;
}

/// Eight that start at once on an empty database all come up.
async fn eight_at_once(open: impl Fn() -> SqlStore) {
    let starts = (0..8).map(|_| {
        let store = Arc::new(open());
        tokio::spawn(async move {
            store.migrate_up().await.unwrap();
            store.version().await.unwrap()
        })
    });
    for start in starts.collect::<Vec<_>>() {
        assert_eq!(start.await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    eight_at_once(|| SqlStore::sqlite(&file).unwrap()).await;
    let Some(postgres) = Postgres::start() else {
        return;
    };
    eight_at_once(|| SqlStore::new(&postgres.url()).unwrap()).await;
}

#[tokio::test]
async fn a_database_that_is_away_is_said_to_be_so() {
    let store = SqlStore::new("postgres://nobody@127.0.0.1:1/none").unwrap();
    let error = store.version().await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert!(SqlStore::new("mysql://x").is_err());
}
