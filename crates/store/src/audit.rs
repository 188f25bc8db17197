//! Who did what: a list that only grows. Every version of the configuration puts itself into it, in the same transaction.

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
    /// Counted from 1, without gaps.
    pub number: i64,
    /// What happened.
    pub event: Event,
}

/// What came of an event that nothing was against.
pub const DONE: &str = "done";

/// Where it is kept.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds one; its number.
    async fn add(&self, event: &Event) -> Result<i64>;
    /// Entries before this number, newest first.
    async fn entries(&self, before: i64, limit: u32) -> Result<Vec<Entry>>;
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
