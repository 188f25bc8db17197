//! What outlives a process, as small traits by topic: configuration, audit, usage, quotas, answers that are gone on from, signals. No SQL here.

pub mod audit;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod kept;
pub mod memory;
pub mod mint;
pub mod quota;
pub mod seal;
pub mod signals;
pub mod usage;

pub use audit::AuditStore;
pub use config::{Change, ConfigStore, Document, Kind, Version, Write};
pub use error::{Result, StoreError};
pub use kept::{KeptAnswer, KeptStore};
pub use memory::MemoryStore;
pub use quota::QuotaStore;
pub use seal::Sealer;
pub use signals::SignalStore;
pub use usage::UsageStore;

/// Everything that a gateway keeps. Parts of it take the narrow trait that they need.
pub trait Store:
    ConfigStore + AuditStore + UsageStore + QuotaStore + KeptStore + SignalStore
{
}

impl<T: ConfigStore + AuditStore + UsageStore + QuotaStore + KeptStore + SignalStore> Store for T {}
