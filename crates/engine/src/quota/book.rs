//! All tallies by what they are of: made when a configuration names them, kept over reloads, seen by whoever keeps them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::tally::{Keeping, Tally, TallyId};

/// All tallies.
#[derive(Debug)]
pub struct Book {
    keeping: Keeping,
    shared: Arc<Shared>,
    /// Read and written where configurations change and by the keeper, never by calls.
    tallies: Mutex<HashMap<TallyId, Arc<Tally>>>,
    calls: mpsc::UnboundedSender<Arc<Tally>>,
}

/// Tallies of which the keeper should know something.
pub type Calls = mpsc::UnboundedReceiver<Arc<Tally>>;

/// What all tallies have in common.
#[derive(Debug)]
pub(super) struct Shared {
    is_away: AtomicBool,
    replicas: AtomicU64,
}

impl Shared {
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    /// How many replicas share what is left: never none.
    pub(super) fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed).max(1)
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new(Keeping::Alone).0
    }
}

impl Book {
    /// No tallies yet, and what is told of those to come.
    pub fn new(keeping: Keeping) -> (Self, Calls) {
        let (calls, told) = mpsc::unbounded_channel();
        let book = Self {
            keeping,
            shared: Arc::new(Shared {
                is_away: AtomicBool::new(false),
                replicas: AtomicU64::new(1),
            }),
            tallies: Mutex::default(),
            calls,
        };
        (book, told)
    }

    /// How tallies are kept.
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// The tally of this, of which there is so much in each window.
    pub fn tally(&self, id: TallyId, most: u64) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tallies.entry(id).or_insert_with_key(|id| {
            let (shared, calls) = (self.shared.clone(), self.calls.clone());
            Arc::new(Tally::new(id.clone(), self.keeping, shared, calls))
        });
        tally.allow(most);
        tally.clone()
    }

    /// All of them.
    pub fn tallies(&self) -> Vec<Arc<Tally>> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.values().cloned().collect()
    }

    /// Forgets those that no configuration names and nobody else holds; which.
    pub fn forget_unnamed(&self) -> Vec<TallyId> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let unnamed = tallies.extract_if(|_, tally| Arc::strong_count(tally) == 1);
        unnamed.map(|(id, _)| id).collect()
    }

    /// Whether the store is away: nobody waits for it, and each replica takes its share of what was left.
    pub fn is_away(&self) -> bool {
        self.shared.is_away()
    }

    /// The store is away, or there again.
    pub fn set_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How many replicas there are.
    pub fn replicas(&self) -> u64 {
        self.shared.replicas()
    }

    /// There are so many replicas.
    pub fn set_replicas(&self, replicas: u64) {
        self.shared.replicas.store(replicas, Ordering::Relaxed);
    }
}
