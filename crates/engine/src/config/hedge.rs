//! When a second attempt is made beside a slow first one.

use std::time::Duration;

/// A second attempt beside a slow first one, on another candidate. It costs: what the loser wrote is paid as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the first has for its first good event, or for its whole answer.
    pub after: HedgeAfter,
    /// How many of a hundred calls may have one.
    pub max_percent: u32,
}

/// When a first attempt is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// After so long.
    Time(Duration),
    /// After as long as all but a twentieth of its target's good answers take; never, while too few of them are known.
    P95,
}
