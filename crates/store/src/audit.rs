//! Who did what: a list that only grows at its one end, and is forgotten at the other. Every version of the configuration puts itself into it, in the same transaction.

use async_trait::async_trait;

use crate::error::Result;

/// Something that was done, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When; microseconds since 1970.
    pub at: i64,
    /// Who, and from where.
    pub actor: String,
    /// What, in a few words.
    pub action: String,
    /// What came of it: `done`, or a code of the refusal.
    pub outcome: String,
    /// To what, in words.
    pub subject: String,
    /// The version of the configuration that it made.
    pub version: Option<i64>,
}

/// An event with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counted from 1, without gaps; the oldest are forgotten some day.
    pub number: i64,
    /// What happened.
    pub event: Event,
}

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of actors whose name begins so.
    pub actor: Option<String>,
    /// Of actions that begin so.
    pub action: Option<String>,
    /// From this moment; microseconds since 1970.
    pub since: Option<i64>,
    /// Before this moment; microseconds since 1970.
    pub until: Option<i64>,
}

/// What came of an event that nothing was against.
pub const DONE: &str = "done";

/// Where it is kept.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds one; its number.
    async fn add(&self, event: &Event) -> Result<i64>;
    /// Such entries before this number, newest first.
    async fn entries(&self, of: &EventFilter, before: i64, limit: u32) -> Result<Vec<Entry>>;
    /// Forgets entries of before a moment, the oldest first and so many at most; how many.
    async fn forget_entries(&self, before: i64, limit: u32) -> Result<u64>;
}

impl Event {
    /// Of a version that was written.
    pub fn of_version(version: i64, at: i64, actor: &str, action: &str, subject: String) -> Self {
        Self {
            at,
            actor: actor.to_owned(),
            action: action.to_owned(),
            outcome: DONE.to_owned(),
            subject,
            version: Some(version),
        }
    }
}

/// What a version changed, in words: of very many the first.
pub fn subject<'a>(names: impl Iterator<Item = (crate::Kind, &'a str)>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = names.map(|(kind, name)| format!("{kind} {name}")).collect();
    let shown = names.get(..SHOWN).unwrap_or(&names).join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
