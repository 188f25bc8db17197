//! What the cache had for a call.

/// What the cache had for a call that it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// An answer.
    Hit,
    /// The answer of another call that asked the same at the same time.
    Shared,
    /// None.
    Missed,
    /// It was not looked, since the call is none for it.
    Passed,
}

impl Looked {
    /// All of them.
    pub const ALL: [Looked; 4] = [Looked::Hit, Looked::Shared, Looked::Missed, Looked::Passed];

    /// The word in headers, metrics, logs and rows.
    pub fn name(self) -> &'static str {
        match self {
            Looked::Hit => "hit",
            Looked::Shared => "shared",
            Looked::Missed => "miss",
            Looked::Passed => "bypass",
        }
    }

    /// Whether the answer is one that was kept.
    pub fn is_answered(self) -> bool {
        matches!(self, Looked::Hit | Looked::Shared)
    }
}
