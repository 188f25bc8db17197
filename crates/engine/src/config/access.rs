//! Who may call, what, and how much.

use polygate_core::Secret;

use crate::pattern::Pattern;
pub use crate::quota::Allowance;

/// Who may call.
#[derive(Clone, Debug)]
pub struct Access {
    /// `None`: the file has no key section, so anyone nearby may call. `Some` of none enabled: nobody may.
    pub keys: Option<Vec<Key>>,
    /// Without a key section: callers from public addresses may call too.
    pub allow_anonymous: bool,
}

/// A key of a caller.
#[derive(Clone, Debug)]
pub struct Key {
    /// Shown instead of the key.
    pub name: String,
    /// The key itself.
    pub key: Secret,
    /// Disabled keys are as unknown.
    pub enabled: bool,
    /// What translation would lose is refused.
    pub strict: bool,
    /// Models it may use; empty = all.
    pub allowed_models: Vec<Pattern>,
    /// How often it may call.
    pub rate_limit: Option<RateLimit>,
    /// How many calls it may have at a time.
    pub max_concurrent: Option<usize>,
    /// How much it may take in a time.
    pub limits: Vec<Allowance>,
}

/// A request rate with a burst. Zero requests per second blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Sustained rate.
    pub requests_per_second: u32,
    /// How many may come at once.
    pub burst_size: u32,
}
