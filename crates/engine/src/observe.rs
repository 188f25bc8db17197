//! What is known of a call when it is over, and where that goes: a bounded queue, emptied off the request path into metrics and the log.

mod charge;
mod log;
pub mod metrics;
mod pump;
mod record;
mod row;

pub use charge::Charge;
pub use metrics::{Metrics, SignalCounters};
pub use pump::{Flush, Pump, Recorders};
pub use record::{AttemptRecord, CallRecord, Outcome, Recorder};
