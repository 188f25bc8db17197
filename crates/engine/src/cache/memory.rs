//! Answers in the memory of this process: so many bytes of them, the least lately used go first.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::answers::{Purged, Size};
use super::entry::Entry;
use super::key::Key;

/// Answers in memory.
pub(super) struct Memory {
    known: Cache<Key, Arc<Entry>>,
    most: usize,
}

/// Frees the room of what is over; whether it may still be given is decided by our own clock.
struct Over;

impl Expiry<Key, Arc<Entry>> for Over {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(lifetime(entry))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(lifetime(entry))
    }
}

fn lifetime(entry: &Entry) -> Duration {
    Duration::from_millis(u64::try_from(entry.head.ttl).unwrap_or_default())
}

impl Memory {
    /// With room for so many bytes.
    pub(super) fn new(most: usize) -> Self {
        let weigh = |_: &Key, entry: &Arc<Entry>| u32::try_from(entry.size()).unwrap_or(u32::MAX);
        let known = Cache::builder()
            .max_capacity(most as u64)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Over);
        Self {
            known: known.build(),
            most,
        }
    }

    /// How many bytes there is room for.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Entry>> {
        self.known.get(key)
    }

    pub(super) fn keep(&self, key: Key, entry: Arc<Entry>) {
        self.known.insert(key, entry);
    }

    /// Forgets all answers, or those of a model.
    pub(super) fn purge(&self, model: Option<&str>) -> Purged {
        let is_of = |entry: &Entry| model.is_none_or(|model| entry.head.asked == model);
        let mut count = 0;
        for (key, entry) in &self.known {
            if is_of(&entry) {
                self.known.invalidate(&*key);
                count += 1;
            }
        }
        Purged { count }
    }

    /// How much there is.
    pub(super) fn size(&self) -> Size {
        self.known.run_pending_tasks();
        Size {
            entries: self.known.entry_count(),
            bytes: self.known.weighted_size(),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Answers are what users said.
        f.debug_struct("Memory").field("most", &self.most).finish()
    }
}
