//! Keeps what is taken of limited amounts beyond this process: written down for the next start, or leased part by part from a store
//! that replicas share. Calls never wait for it, but once for a lease, and not for long.

mod leased;
mod meeting;
mod written;

use std::sync::Arc;
use std::time::Duration;

use polygate_core::Clock;
use polygate_engine::quota::{Book, Calls, Keeping, Tally, Window};
use polygate_store::QuotaStore;
use polygate_store::quota::{Lease, QuotaWindow};
use polygate_store_redis::RedisStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::storage::Opened;
use leased::Leased;
use written::Written;

/// So many leases are asked for at a time.
const BATCH: usize = 64;

/// How often windows that are over are forgotten, and how many at a time.
const FORGET: Duration = Duration::from_secs(600);
const FORGOTTEN: u32 = 1_000;

/// How long the start waits for the store to count the replicas.
const MEETING: Duration = Duration::from_millis(300);

/// Where limits are kept, and how.
pub struct Place {
    /// Where.
    pub store: Arc<dyn QuotaStore>,
    /// How.
    pub keeping: Keeping,
}

impl Place {
    /// In Redis where there is one, else in the store.
    pub fn of(opened: &Opened, redis: Option<&Arc<RedisStore>>) -> Self {
        match redis {
            Some(redis) => Self {
                store: redis.clone(),
                keeping: Keeping::Leased,
            },
            None => Self {
                store: opened.store.clone(),
                keeping: opened.keeping(),
            },
        }
    }
}

/// What a keeper needs.
pub struct Parts {
    /// What is kept.
    pub book: Arc<Book>,
    /// Where.
    pub store: Arc<dyn QuotaStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What of it has changed.
    pub calls: Calls,
}

/// A keeper at work.
pub struct Keeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Goes to work. What was taken before is known when this returns, or the store is away.
    pub async fn start(parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = match parts.book.keeping() {
            Keeping::Alone => tokio::spawn(std::future::ready(())),
            Keeping::Written => {
                let mut written = Written::new(parts);
                written.load().await;
                tokio::spawn(written.run(stopped))
            }
            Keeping::Leased => {
                let mut leased = Leased::new(parts);
                // Who does not answer by then is met later.
                let _ = tokio::time::timeout(MEETING, leased.meet()).await;
                tokio::spawn(leased.run(stopped))
            }
        };
        Self { stop, task }
    }

    /// Writes what is not written yet, and gives back what is leased and not used.
    pub async fn stop(self, patience: Duration) {
        self.stop.send_replace(true);
        // What a store that is away does not hear, it will not hear now.
        let _ = tokio::time::timeout(patience, self.task).await;
    }
}

/// A wish for a part of a tally's window.
fn lease(tally: &Tally, window: &Window, want: i64, cap: i64) -> Lease {
    Lease {
        window: named(&tally.id().name(), window),
        want,
        cap,
    }
}

/// A window as stores know it.
fn named(name: &str, window: &Window) -> QuotaWindow {
    let micros =
        |seconds: u64| i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    QuotaWindow {
        name: name.to_owned(),
        began: micros(window.began),
        ends: window.ends.map_or(i64::MAX, micros),
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Forgets windows that are over.
async fn forget(store: &dyn QuotaStore, now: u64) {
    let day_before = signed(now.saturating_sub(86_400).saturating_mul(1_000_000));
    while let Ok(forgotten) = store.forget_windows(day_before, FORGOTTEN).await {
        if forgotten < u64::from(FORGOTTEN) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
