//! When a second attempt is made.

use std::time::Duration;

/// A second attempt beside a slow first one, on another candidate. It costs: what the loser wrote is paid as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the first has for its first good event, or for its whole answer.
    pub after: Duration,
    /// How many of a hundred calls may have one.
    pub max_percent: u32,
}
