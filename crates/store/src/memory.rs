//! A store that forgets with the process: for `DB_URL=none` and for tests.

mod audit;
mod config;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use crate::audit::{Entry, Event};
use crate::config::{Change, Document, Kind, Version};
use crate::error::Result;
use crate::kept::{KeptAnswer, KeptStore};
use crate::quota::{Granted, Lease, QuotaStore, QuotaWindow};
use crate::signals::{SignalStore, WAITING, fits};
use crate::usage::{CallRow, Totals};

/// Keeps everything in memory.
#[derive(Debug)]
pub struct MemoryStore {
    held: Mutex<Held>,
    notices: watch::Sender<u64>,
    signals: broadcast::Sender<Arc<str>>,
}

#[derive(Debug, Default)]
struct Held {
    documents: BTreeMap<(Kind, String), Document>,
    versions: Vec<Version>,
    changes: Vec<Change>,
    events: Vec<Entry>,
    /// The last number that was given to an entry.
    audited: i64,
    /// The last number that was given to a document.
    last_id: i64,
    notes: HashMap<String, String>,
    calls: BTreeMap<String, CallRow>,
    sums: HashMap<Sum, Totals>,
    windows: HashMap<QuotaWindow, i64>,
    answers: HashMap<String, KeptAnswer>,
}

/// What is summed together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sum {
    hour: i64,
    key: String,
    team: String,
    model: String,
    provider: String,
}

impl Held {
    /// Adds an event; its number.
    fn note(&mut self, event: Event) -> i64 {
        self.audited += 1;
        let number = self.audited;
        self.events.push(Entry { number, event });
        number
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            notices: watch::Sender::new(0),
            signals: broadcast::Sender::new(WAITING),
        }
    }
}

impl MemoryStore {
    fn held(&self) -> MutexGuard<'_, Held> {
        // What a panic of another left is whole: every change below is made at once.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl QuotaStore for MemoryStore {
    async fn lease(&self, leases: &[Lease]) -> Result<Vec<Granted>> {
        let mut held = self.held();
        let grant = |lease: &Lease| {
            let taken = held.windows.entry(lease.window.clone()).or_default();
            let granted = Granted::of(*taken, lease.want, lease.cap);
            *taken = granted.taken;
            granted
        };
        Ok(leases.iter().map(grant).collect())
    }

    async fn taken(&self, windows: &[QuotaWindow]) -> Result<Vec<i64>> {
        let held = self.held();
        let taken = |window| held.windows.get(window).copied().unwrap_or_default();
        Ok(windows.iter().map(taken).collect())
    }

    async fn forget_windows(&self, before: i64, limit: u32) -> Result<u64> {
        let mut held = self.held();
        let over = held.windows.keys().filter(|window| window.ends < before);
        let over: Vec<_> = over.take(limit as usize).cloned().collect();
        for window in &over {
            held.windows.remove(window);
        }
        Ok(over.len() as u64)
    }
}

#[async_trait]
impl KeptStore for MemoryStore {
    async fn keep(&self, answers: &[KeptAnswer]) -> Result<()> {
        let pairs = answers.iter().cloned();
        let pairs = pairs.map(|answer| (answer.id.clone(), answer));
        self.held().answers.extend(pairs);
        Ok(())
    }

    async fn kept(&self, id: &str, now: i64) -> Result<Option<KeptAnswer>> {
        let held = self.held();
        let answer = held.answers.get(id).filter(|answer| answer.until > now);
        Ok(answer.cloned())
    }

    async fn forget(&self, id: &str) -> Result<bool> {
        Ok(self.held().answers.remove(id).is_some())
    }

    async fn forget_old(&self, now: i64, limit: u32) -> Result<u64> {
        let mut held = self.held();
        let old = held.answers.values().filter(|answer| answer.until <= now);
        let old: Vec<_> = old
            .take(limit as usize)
            .map(|answer| answer.id.clone())
            .collect();
        for id in &old {
            held.answers.remove(id);
        }
        Ok(old.len() as u64)
    }
}

#[async_trait]
impl SignalStore for MemoryStore {
    async fn tell(&self, word: &str) -> Result<()> {
        fits(word)?;
        // Nobody may listen.
        let _ = self.signals.send(word.into());
        Ok(())
    }

    fn told(&self) -> broadcast::Receiver<Arc<str>> {
        self.signals.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_does_what_every_store_does() {
        crate::conformance::run(|| async { MemoryStore::default() }).await;
    }
}
