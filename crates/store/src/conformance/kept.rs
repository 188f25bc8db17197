//! Answers that are gone on from.

use crate::kept::{KeptAnswer, KeptStore};

/// They are there until their time is over.
pub async fn answers(store: &dyn KeptStore) {
    let answer = |id: &str, until| KeptAnswer {
        id: id.to_owned(),
        owner: "alice".to_owned(),
        body: r#"{"é":1}"#.to_owned(),
        until,
    };
    store
        .keep(&[answer("a", 10), answer("b", 20)])
        .await
        .unwrap();
    assert_eq!(store.kept("a", 9).await.unwrap(), Some(answer("a", 10)));
    assert_eq!(store.kept("a", 10).await.unwrap(), None);
    assert_eq!(store.kept("c", 0).await.unwrap(), None);
    store.keep(&[answer("a", 30)]).await.unwrap();
    assert_eq!(store.kept("a", 10).await.unwrap(), Some(answer("a", 30)));
    assert_eq!(store.forget_old(25, 10).await.unwrap(), 1);
    assert_eq!(store.kept("b", 0).await.unwrap(), None);
    assert!(store.forget("a").await.unwrap());
    assert!(!store.forget("a").await.unwrap());
}
