//! Short words between the processes of one store: hints that may be lost, and nobody waits for.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::error::{Result, StoreError};

/// The most bytes of a word.
pub const LONGEST: usize = 7_000;

/// How many words wait for a slow listener before the oldest is lost.
pub const WAITING: usize = 1_024;

/// Where such words go.
#[async_trait]
pub trait SignalStore: Send + Sync {
    /// Tells all processes that listen, this one too.
    async fn tell(&self, word: &str) -> Result<()>;
    /// What is told from now on.
    fn told(&self) -> broadcast::Receiver<Arc<str>>;
}

/// Refuses words that are too long.
pub fn fits(word: &str) -> Result<()> {
    if word.len() > LONGEST {
        let message = format!("a signal of {} bytes is longer than {LONGEST}", word.len());
        return Err(StoreError::Refused(message));
    }
    Ok(())
}
