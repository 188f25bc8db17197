//! The ledger's local log: what a call may cost is on disk before it is asked, and is shipped to the store once it is known.

mod disk;
mod error;
mod frame;
mod fresh;
mod instance;
mod ledger;
mod log;
mod record;
mod replay;
mod ship;
mod spare;
mod tail;
#[cfg(test)]
mod tests;

pub use error::{LedgerError, Result};
pub use ledger::{Fsync, Ledger, Options, Slot, Stats};
pub use record::{Estimate, GATEWAY_ENDED, Intent};
