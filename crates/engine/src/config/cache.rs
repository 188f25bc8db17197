//! Which answers are kept, for calls that ask the same again.

use std::time::Duration;

use crate::condition::Condition;

/// The response cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where answers are kept.
    pub store: CacheStore,
    /// So many bytes of answers are kept in memory.
    pub max_bytes: usize,
    /// An answer of more bytes is not kept.
    pub max_entry: usize,
    /// For which calls; the first that is for a call holds.
    pub rules: Vec<CacheRule>,
}

/// Where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStore {
    /// In this process.
    Memory,
    /// Where replicas share them.
    Redis,
}

/// Calls whose answers are kept.
#[derive(Clone, Debug)]
pub struct CacheRule {
    /// Which calls.
    pub when: Condition,
    /// How long an answer is good.
    pub ttl: Duration,
    /// Who gets the answers of whom.
    pub share: Share,
    /// Calls that ask the same at the same time wait for the answer of one.
    pub coalesce: bool,
    /// Only such calls as ask for it.
    pub on_request: bool,
}

/// Who gets the answers of whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// A key its own.
    #[default]
    Key,
    /// The keys of a team one another's.
    Team,
    /// All that may use the model.
    All,
}

impl CacheStore {
    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            CacheStore::Memory => "memory",
            CacheStore::Redis => "redis",
        }
    }
}

impl Share {
    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Share::Key => "key",
            Share::Team => "team",
            Share::All => "all",
        }
    }
}
