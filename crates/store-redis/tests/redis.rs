//! A real Redis does what every store of limited amounts does, and is missed for a moment only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use polygate_core::Secret;
use polygate_store::QuotaStore;
use polygate_store::conformance::{quota, signals};
use polygate_store::quota::{Lease, QuotaWindow};
use polygate_store::signals::SignalStore;
use polygate_store_redis::RedisStore;
use polygate_test_services::Redis;

fn lease(want: i64) -> Lease {
    Lease {
        window: QuotaWindow {
            name: "w".to_owned(),
            began: 0,
            ends: i64::MAX,
        },
        want,
        cap: 100,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_does_what_every_store_does() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let open = || RedisStore::new(&Secret::new(redis.url())).unwrap();
    quota::leases(&open()).await;
    signals::words(&open()).await;
    let other = format!("{}/1", redis.url());
    quota::many_takers(Arc::new(RedisStore::new(&Secret::new(other)).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_again_after_it_was_away() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    assert_eq!(store.lease(&[lease(7)]).await.unwrap()[0].taken, 7);
    redis.process().kill();
    assert!(store.lease(&[lease(1)]).await.unwrap_err().is_temporary());
    redis.restart();
    let start = Instant::now();
    // The connection comes again by itself.
    let granted = loop {
        if let Ok(granted) = store.lease(&[lease(1)]).await {
            break granted;
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(granted[0].taken, 1, "it has forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_heard_again_after_it_was_away_and_in_one_database_only() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let open = |database: &str| {
        let url = format!("{}{database}", redis.url());
        RedisStore::new(&Secret::new(url)).unwrap()
    };
    let (store, other) = (open(""), open("/1"));
    let mut elsewhere = other.told();
    let mut heard = store.told();
    redis.process().kill();
    assert!(store.tell("lost").await.unwrap_err().is_temporary());
    redis.restart();
    let start = Instant::now();
    loop {
        let _ = store.tell("again").await;
        let word = tokio::time::timeout(Duration::from_millis(50), heard.recv()).await;
        if let Ok(word) = word {
            assert_eq!(&*word.unwrap(), "again");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    signals::words(&other).await;
    while let Ok(word) = elsewhere.try_recv() {
        assert_ne!(&*word, "again");
    }
}

#[test]
fn an_address_that_is_none_is_refused_without_showing_it() {
    let error = RedisStore::new(&Secret::new("mysql://u:hush@h"))
        .err()
        .unwrap();
    assert!(!error.to_string().contains("hush"), "{error}");
}
