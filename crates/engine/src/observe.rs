//! What is known of a call when it is over, and where that goes: a bounded queue, emptied off the request path into metrics, the log
//! and whoever else is told.

mod charge;
mod log;
pub mod metrics;
mod pump;
mod record;
mod row;
mod trace;

pub use charge::Charge;
pub(crate) use metrics::Refused;
pub use metrics::{Build, Metrics, SignalCounters, Standing, Told};
pub use pump::{Flush, Pump, Recorders, Sink};
pub use record::{AttemptRecord, CallRecord, Content, Outcome, Recorder};
pub use trace::{Trace, is_part};
