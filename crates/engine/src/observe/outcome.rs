//! How calls end.

use polygate_core::Usage;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Completely.
    Completed,
    /// With an error.
    Failed,
    /// The client went first.
    ClientGone,
}

impl Outcome {
    /// The word in logs.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::ClientGone => "client_gone",
        }
    }
}

/// How a call ended, for those who have its answer too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// How.
    pub outcome: Outcome,
    /// The error's code, where there was one.
    pub error: Option<&'static str>,
    /// Token counts, where they were reported.
    pub usage: Option<Usage>,
}

impl End {
    /// Whether all of the answer was there.
    pub fn is_good(&self) -> bool {
        self.outcome == Outcome::Completed
    }
}
