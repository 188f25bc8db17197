//! Where answers are, over changes of the configuration: in memory, or where replicas share them; and who is waiting for one.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::entry::Entry;
use super::flights::Flights;
use super::key::Key;
use super::memory::Memory;
use crate::config::CacheStore;

/// Answers of all configurations.
#[derive(Debug, Default)]
pub struct Answers {
    memory: ArcSwapOption<Memory>,
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    replicas: OnceLock<Arc<dyn Replicas>>,
    flights: Arc<Flights>,
    /// How often answers were purged: what was begun before is not kept after.
    epoch: AtomicU64,
}

/// What is found under a key.
pub type Found<'a> = Pin<Box<dyn Future<Output = Option<Bytes>> + Send + 'a>>;

/// What comes of forgetting; `Err`: why it could not be done.
pub type Forgotten<'a> = Pin<Box<dyn Future<Output = Result<u64, String>> + Send + 'a>>;

/// Where replicas share answers.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// Keeps one for so long. Nothing is waited for.
    fn keep(&self, key: String, entry: Bytes, ttl: Duration);
    /// One that is kept. A call waits for it: not for long, and for nobody who is known to be silent.
    fn find<'a>(&'a self, key: String) -> Found<'a>;
    /// How often it was asked, or given something, in vain.
    fn failures(&self) -> u64;
    /// Forgets those whose keys begin so; how many.
    fn forget<'a>(&'a self, beginning: String) -> Forgotten<'a>;
}

/// What comes of telling others; `Err`: why they do not know.
pub type Told<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Other processes, each with answers in its memory.
pub trait Replicas: fmt::Debug + Send + Sync {
    /// Tells them to forget all answers, or those of a model.
    fn purge<'a>(&'a self, model: Option<&'a str>) -> Told<'a>;
}

/// What was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many answers.
    pub count: u64,
}

/// How much is kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Answers.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Answers {
    /// Shares answers there, where a configuration says so.
    pub fn share(&self, elsewhere: Arc<dyn Elsewhere>) {
        let _ = self.elsewhere.set(elsewhere);
    }

    /// Tells these too when answers are purged.
    pub fn tell(&self, replicas: Arc<dyn Replicas>) {
        let _ = self.replicas.set(replicas);
    }

    /// There is room for so many bytes in memory; none, where that is nothing. What was kept in another room is forgotten.
    pub(crate) fn make_room(&self, most: usize) {
        let had = self
            .memory
            .load()
            .as_ref()
            .map_or(0, |memory| memory.most());
        if had != most {
            let memory = (most > 0).then(|| Arc::new(Memory::new(most)));
            self.memory.store(memory);
        }
    }

    pub(super) fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// What this process has.
    pub(super) fn here(&self, key: &Key) -> Option<Arc<Entry>> {
        self.memory.load().as_ref()?.find(key)
    }

    /// What replicas have.
    pub(super) async fn there(&self, key: &Key) -> Option<Arc<Entry>> {
        let found = self.elsewhere.get()?.find(key.text()).await?;
        Entry::read(&found).map(Arc::new)
    }

    /// Keeps an answer, unless answers were purged since it was asked for.
    pub(super) fn keep(&self, store: CacheStore, key: Key, entry: Arc<Entry>, epoch: u64) {
        if epoch != self.epoch() {
            return;
        }
        match store {
            CacheStore::Memory => {
                if let Some(memory) = &*self.memory.load() {
                    memory.keep(key, entry);
                }
            }
            CacheStore::Redis => {
                if let Some(elsewhere) = self.elsewhere.get() {
                    let ttl = u64::try_from(entry.head.ttl).unwrap_or_default();
                    elsewhere.keep(key.text(), entry.written(), Duration::from_millis(ttl));
                }
            }
        }
    }

    /// Forgets all answers, or those of a model: here, where replicas share them, and what each of them has. How many those are is not
    /// known of the last.
    pub async fn purge(&self, model: Option<&str>) -> Result<Purged, String> {
        let mut purged = self.purge_here(model);
        // First, so that what they are asking for now is not kept afterwards.
        let told = match self.replicas.get() {
            Some(replicas) => replicas.purge(model).await,
            None => Ok(()),
        };
        if let Some(elsewhere) = self.elsewhere.get() {
            let beginning = model.map(Key::of_model).unwrap_or_default();
            purged.count += elsewhere.forget(beginning).await?;
        }
        told.map(|()| purged)
    }

    /// Forgets what this process has.
    pub fn purge_here(&self, model: Option<&str>) -> Purged {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let memory = self.memory.load_full();
        memory.map_or(Purged { count: 0 }, |memory| memory.purge(model))
    }

    /// How often those whom replicas share answers at were asked, or given something, in vain.
    pub fn failures(&self) -> u64 {
        self.elsewhere.get().map_or(0, |shared| shared.failures())
    }

    /// How much is kept in memory.
    pub fn size(&self) -> Size {
        let memory = self.memory.load_full();
        memory.map(|memory| memory.size()).unwrap_or_default()
    }
}
