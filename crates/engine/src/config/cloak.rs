//! Cloaks of providers: what they are told in place of who calls.

use std::collections::BTreeMap;

/// What a provider is told in place of who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloak {
    /// For which calls.
    pub mode: CloakMode,
    /// Stands before the client's instructions.
    pub system_prompt: Option<String>,
    /// It stands in their place.
    pub strict: bool,
    /// What the end user is called.
    pub user_id: UserId,
    /// Headers in place of the client's.
    pub headers: BTreeMap<String, String>,
    /// It gets placeholders for these, and the answer has them again.
    pub sensitive_words: Vec<String>,
}

/// For which calls there is a cloak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloakMode {
    /// For none.
    #[default]
    Never,
    /// For those that do not say themselves whose they are.
    Auto,
    /// For all.
    Always,
}

/// What the end user is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserId {
    /// Nothing.
    None,
    /// By a name that is the key's, and says nothing of it.
    #[default]
    PerKey,
    /// By another name each time.
    PerRequest,
}

impl Cloak {
    /// Whether it is for any call.
    pub fn is_on(&self) -> bool {
        self.mode != CloakMode::Never
    }
}

impl CloakMode {
    /// Its word in configuration.
    pub fn name(self) -> &'static str {
        match self {
            CloakMode::Never => "never",
            CloakMode::Auto => "auto",
            CloakMode::Always => "always",
        }
    }
}

impl UserId {
    /// Its word in configuration.
    pub fn name(self) -> &'static str {
        match self {
            UserId::None => "none",
            UserId::PerKey => "per-key",
            UserId::PerRequest => "per-request",
        }
    }
}
