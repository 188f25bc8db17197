//! Who may call, what, and how much.

use std::collections::BTreeMap;

use polygate_core::Secret;

pub use crate::admit::network::Network;
use crate::pattern::Pattern;
pub use crate::quota::Allowance;

/// Who may call.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None`: the file has no key section, so anyone nearby may call. `Some` of none enabled: nobody may.
    pub keys: Option<Vec<Key>>,
    /// What keys have in common.
    pub teams: Vec<Team>,
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
    /// Its keyed hash, where only that is known.
    pub hash: Option<crate::admit::Hash>,
    /// The keyed hash of the key before it, as long as that one is good too.
    pub previous: Option<Previous>,
    /// Disabled keys are as unknown.
    pub enabled: bool,
    /// When it ends; seconds since 1970.
    pub expires: Option<u64>,
    /// Where it may be used from; empty = anywhere.
    pub allowed_ips: Vec<Network>,
    /// The team whose bounds hold for it too.
    pub team: Option<String>,
    /// What translation would lose is refused.
    pub strict: bool,
    /// What it may do.
    pub bounds: Bounds,
    /// What it may do beside calling models.
    pub role: Option<Role>,
    /// It may see why its calls go where they go.
    pub explain: bool,
    /// What its owner wants to know of it.
    pub metadata: BTreeMap<String, String>,
    /// What its calls are counted under.
    pub tags: Vec<String>,
}

/// A key that was replaced, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// What it is found by.
    pub hash: crate::admit::Hash,
    /// Seconds since 1970.
    pub until: u64,
}

/// What callers have in common.
#[derive(Clone, Debug)]
pub struct Team {
    /// What keys call it.
    pub name: String,
    /// Keys of a disabled team are refused.
    pub enabled: bool,
    /// What all its keys together may do.
    pub bounds: Bounds,
    /// What its owner wants to know of it.
    pub metadata: BTreeMap<String, String>,
    /// What its calls are counted under.
    pub tags: Vec<String>,
}

/// What a key or a team may do.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Models; empty = all.
    pub allowed_models: Vec<Pattern>,
    /// How often.
    pub rate_limit: Option<RateLimit>,
    /// How many calls at a time.
    pub max_concurrent: Option<usize>,
    /// How much in a time.
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

/// What a key may do beside calling models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading everything.
    ReadOnly,
    /// Everything within its team.
    TeamAdmin,
}

impl Key {
    /// A key of this name, with no bounds.
    pub fn new(name: impl Into<String>, key: Secret) -> Self {
        Self {
            name: name.into(),
            key,
            hash: None,
            previous: None,
            enabled: true,
            expires: None,
            allowed_ips: Vec::new(),
            team: None,
            strict: false,
            bounds: Bounds::default(),
            role: None,
            explain: false,
            metadata: BTreeMap::new(),
            tags: Vec::new(),
        }
    }
}

impl Role {
    /// All of them by the words in configuration and API.
    pub const NAMES: [(&'static str, Role); 3] = [
        ("admin", Role::Admin),
        ("read-only", Role::ReadOnly),
        ("team-admin", Role::TeamAdmin),
    ];

    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::ReadOnly => "read_only",
            Role::TeamAdmin => "team_admin",
        }
    }
}
