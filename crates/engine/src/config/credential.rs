//! Keys for providers, and what each may have of its own.

use std::collections::BTreeMap;

use polygate_core::Secret;

use super::Way;
use crate::pattern::Pattern;

/// A key for a provider.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Shown instead of the key: `<provider>#1` unless named.
    pub name: String,
    /// The key itself.
    pub api_key: Secret,
    /// Share among the provider's credentials; 0 = drained.
    pub weight: u32,
    /// Its tier among them: lower ones are asked first.
    pub priority: i32,
    /// Never used.
    pub disabled: bool,
    /// The way for calls with it; the provider's unless set.
    pub way: Option<Way>,
    /// Added to every request with it, over the provider's own.
    pub headers: BTreeMap<String, String>,
    /// Those of the provider's models that it may use. Empty = all.
    pub models: Vec<Pattern>,
    /// Those that it may not, whatever `models` says.
    pub excluded_models: Vec<Pattern>,
}

impl Credential {
    /// A key with every default.
    pub fn new(name: impl Into<String>, api_key: Secret) -> Self {
        Self {
            name: name.into(),
            api_key,
            weight: 1,
            priority: 0,
            disabled: false,
            way: None,
            headers: BTreeMap::new(),
            models: Vec::new(),
            excluded_models: Vec::new(),
        }
    }
}
