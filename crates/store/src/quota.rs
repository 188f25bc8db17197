//! What has been taken of limited amounts, counted for all replicas together.

use async_trait::async_trait;

use crate::error::Result;

/// An amount that is limited in a window of time: what is limited, by name, and when the window began.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaWindow {
    /// Which limit: its subject and measure, such as `key/alice/usd/month`.
    pub name: String,
    /// When the window began; microseconds since 1970, 0 where it has no end.
    pub began: i64,
    /// When it ends and may be forgotten; microseconds since 1970.
    pub ends: i64,
}

/// A wish for a part of what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of which.
    pub window: QuotaWindow,
    /// So much, or less where less is left. Negative: what was taken and not used comes back.
    pub want: i64,
    /// How much there is in all.
    pub cap: i64,
}

/// Where amounts are counted.
#[async_trait]
pub trait QuotaStore: Send + Sync {
    /// Takes or gives back, each wish by itself and in order: what was granted, and what is taken in all after it.
    async fn lease(&self, leases: &[Lease]) -> Result<Vec<Granted>>;
    /// What is taken in all of these.
    async fn taken(&self, windows: &[QuotaWindow]) -> Result<Vec<i64>>;
    /// Forgets windows that ended before this moment, so many at most; how many.
    async fn forget_windows(&self, before: i64, limit: u32) -> Result<u64>;
}

/// The answer to a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// How much of what was wanted.
    pub granted: i64,
    /// How much is taken in all now.
    pub taken: i64,
}

impl Granted {
    /// What a wish gets where so much is taken: never more than is left, never below nothing taken.
    pub fn of(taken: i64, want: i64, cap: i64) -> Self {
        let granted = if want >= 0 {
            want.min(cap.saturating_sub(taken).max(0))
        } else {
            want.max(-taken)
        };
        Self {
            granted,
            taken: taken.saturating_add(granted),
        }
    }
}
