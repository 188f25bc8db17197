//! Two replicas on one store; and stores that are silent.

use polygate_core::Secret;
use polygate_store::{KeptStore, MemoryStore};

use super::*;

fn words(store: &Arc<dyn Store>) -> Arc<dyn SignalStore> {
    store.clone()
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&Secret::new("a secret key of some length")).unwrap())
}

fn entry(text: &str) -> Entry {
    Entry {
        items: text.into(),
        answer: Some(format!("{{\"id\": \"{text}\"}}").into()),
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_one_keeps_another_finds_for_the_same_key_only() {
    let memory = Arc::new(MemoryStore::default());
    let store: Arc<dyn Store> = memory.clone();
    let (one, writer) = shared(&store, &words(&store), &sealer());
    let writer = tokio::spawn(writer.run());
    let (other, _) = shared(&store, &words(&store), &sealer());
    let alice: Arc<str> = "alice".into();
    one.keep(&alice, "resp_1", &entry("prompt"), DAY);
    one.keep(&alice, "resp_2", &entry("another"), DAY);
    one.flush(Duration::from_secs(10)).await;
    let ids = ["resp_1".to_owned(), "resp_9".to_owned()];
    let found = other.find("alice", &ids).await;
    assert_eq!(found, [("resp_1".to_owned(), entry("prompt"))]);
    assert!(other.find("bob", &ids).await.is_empty());
    let row = memory.kept("resp_1@alice", 0).await.unwrap().unwrap();
    assert!(!row.body.contains("prompt"), "at rest it is sealed");
    other.forget("alice", vec!["resp_1".to_owned()]);
    one.forget("alice", vec!["resp_1".to_owned()]);
    one.flush(Duration::from_secs(10)).await;
    assert!(other.find("alice", &ids).await.is_empty());
    writer.abort();
}

#[tokio::test]
async fn what_finds_no_room_is_not_waited_for() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    // Nobody writes.
    let (answers, _writer) = shared(&store, &words(&store), &sealer());
    let owner: Arc<str> = "alice".into();
    let big = entry(&"x".repeat(QUEUED_BYTES / 8));
    for number in 0..10 {
        answers.keep(&owner, &number.to_string(), &big, DAY);
    }
    let queued = answers.queued.load(Ordering::Relaxed);
    assert!(
        queued <= QUEUED_BYTES && queued > QUEUED_BYTES / 2,
        "{queued}"
    );
    for number in 0..2 * QUEUE {
        answers.keep(&owner, &number.to_string(), &entry("x"), DAY);
    }
    assert!(answers.dropped.load(Ordering::Relaxed) > QUEUE as u64);
}
