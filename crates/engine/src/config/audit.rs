//! How long it is kept who changed what.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long it is kept who changed what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// So long entries of the audit log are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// So many versions of the configuration are kept, the last ones; `None`: all.
    pub versions: Option<NonZeroU32>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_secs(365 * 86_400)),
            versions: NonZeroU32::new(1_000),
        }
    }
}
