//! Guards: what is looked for in requests and answers, and what is done about it.

use std::time::Duration;

use http::HeaderName;
use polygate_core::Secret;

use crate::condition::Condition;
pub use crate::guard::detect::Detector;

/// The guards, and what they share.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    /// In order.
    pub list: Vec<Guard>,
    /// What placeholders are made with.
    pub key: Option<Secret>,
}

/// A guard.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Its name: in errors, headers, logs and metrics.
    pub name: String,
    /// The calls that it is for.
    pub when: Condition,
    /// It looks at what is asked.
    pub requests: bool,
    /// It looks at what is answered.
    pub answers: bool,
    /// Who decides.
    pub by: By,
}

/// Who decides what is let through.
#[derive(Clone, Debug)]
pub enum By {
    /// What is looked for in the text.
    Looks(Looks),
    /// Somebody who is asked.
    Webhook(Webhook),
}

/// What is looked for, and what is done about it.
#[derive(Clone, Debug)]
pub struct Looks {
    /// What is done.
    pub action: Action,
    /// Built-in detectors.
    pub detectors: Vec<&'static Detector>,
    /// Regular expressions.
    pub patterns: Vec<String>,
    /// Texts as they are.
    pub words: Vec<String>,
    /// Words in this spelling only.
    pub case_sensitive: bool,
}

/// What is done about what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call is refused, or its answer ends.
    Block,
    /// A placeholder takes its place.
    Redact,
    /// The same, and in the answer it is put back.
    Restore,
    /// It is told.
    Flag,
}

impl Action {
    /// All of them by name.
    pub const NAMES: [(&'static str, Action); 4] = [
        ("block", Action::Block),
        ("redact", Action::Redact),
        ("restore", Action::Restore),
        ("flag", Action::Flag),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, action)| *action == self);
        named.map_or("", |(name, _)| name)
    }

    /// Whether something else takes the place of what was found.
    pub fn replaces(self) -> bool {
        matches!(self, Action::Redact | Action::Restore)
    }
}

/// Somebody who is asked.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where. There may be a secret in it.
    pub url: Secret,
    /// What is sent along.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How long it may take.
    pub timeout: Duration,
    /// Without its answer calls go on.
    pub fails_open: bool,
}
