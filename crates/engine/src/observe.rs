//! What is known of a call when it is over, and where that goes: a bounded queue, emptied off the request path into metrics, the log
//! and whoever else is told.

mod attempt;
mod charge;
mod content;
mod decision;
mod log;
mod looked;
pub mod metrics;
mod outcome;
mod overhead;
mod program;
mod pump;
mod record;
mod recount;
mod refused;
mod row;
mod size;
mod trace;

pub use attempt::AttemptRecord;
pub use charge::Charge;
pub use content::Content;
pub(crate) use decision::NOTED;
pub use decision::{Considered, Transformed};
pub use looked::Looked;
pub use metrics::{Build, Metrics, SignalCounters, Standing, Told};
pub(crate) use outcome::End;
pub use outcome::Outcome;
pub use pump::{Finished, Flush, Pump, Recorders, Sink};
pub(crate) use record::NOBODY;
pub use record::{CallRecord, Recorder};
pub use refused::Refused;
pub use trace::{Trace, is_part};
