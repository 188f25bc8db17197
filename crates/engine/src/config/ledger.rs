//! How calls are accounted for.

use std::time::Duration;

pub use polygate_ledger::Fsync;

/// How calls are accounted for. What is not `retention` takes effect at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// When the disk has to have what was written.
    pub fsync: Fsync,
    /// With so many bytes that the store does not have yet, no further call is taken.
    pub max_bytes: u64,
    /// So long single calls are kept in the store; `None`: for ever.
    pub retention: Option<Duration>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            fsync: Fsync::Interval(Duration::from_secs(1)),
            max_bytes: 8 << 30,
            retention: Some(Duration::from_secs(90 * 86_400)),
        }
    }
}
