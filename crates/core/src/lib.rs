//! The vocabulary of Polygate: what every crate means by failure, usage, secret, time. No I/O, no async, no JSON.

pub mod clock;
pub mod failure;
pub mod moment;
pub mod secret;
pub mod tier;
pub mod usage;

pub use clock::{Clock, FixedClock, SystemClock};
pub use failure::{Failure, Kind, Origin, Scope, Why};
pub use secret::Secret;
pub use tier::ServiceTier;
pub use usage::Usage;
