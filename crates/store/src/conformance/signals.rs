//! Words between processes.

use std::time::Duration;

use crate::signals::{LONGEST, SignalStore};

/// They are heard by all who listen, in their order.
pub async fn words(store: &dyn SignalStore) {
    let mut listeners = [store.told(), store.told()];
    // Who listens at a database does so a moment after it was opened: the first words may be lost.
    let mut heard = None;
    for number in 0..500 {
        store.tell(&format!("try {number}")).await.unwrap();
        let word = tokio::time::timeout(Duration::from_millis(20), listeners[0].recv()).await;
        if let Ok(word) = word {
            heard = Some(word.unwrap());
            break;
        }
    }
    assert!(heard.is_some_and(|word| word.starts_with("try ")));
    let words = ["{\"é\": \"'\"}".to_owned(), "x".repeat(LONGEST)];
    for word in &words {
        store.tell(word).await.unwrap();
    }
    for listener in &mut listeners {
        for expected in &words {
            loop {
                let word = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await;
                let word = word.unwrap().unwrap();
                if !word.starts_with("try ") {
                    assert_eq!(&*word, expected);
                    break;
                }
            }
        }
    }
    assert!(store.tell(&"x".repeat(LONGEST + 1)).await.is_err());
}
