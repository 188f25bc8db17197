//! Answers that Responses clients go on from, on whichever replica.

use async_trait::async_trait;

use crate::error::Result;

/// An answer with what was said before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The answer's id.
    pub id: String,
    /// Whose it is: the key's name.
    pub owner: String,
    /// JSON.
    pub body: String,
    /// Until when it is kept; microseconds since 1970.
    pub until: i64,
}

/// Where such answers are kept.
#[async_trait]
pub trait KeptStore: Send + Sync {
    /// Keeps these.
    async fn keep(&self, answers: &[KeptAnswer]) -> Result<()>;
    /// One of them, where it is still kept at this moment.
    async fn kept(&self, id: &str, now: i64) -> Result<Option<KeptAnswer>>;
    /// Forgets one; whether there was one.
    async fn forget(&self, id: &str) -> Result<bool>;
    /// Forgets those whose time is over, so many at most; how many.
    async fn forget_old(&self, now: i64, limit: u32) -> Result<u64>;
}
