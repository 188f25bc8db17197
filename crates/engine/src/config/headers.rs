//! Which headers go from clients to providers, and from providers to clients.

use std::collections::BTreeMap;

use polygate_providers::Forward;

use crate::pattern::Pattern;

/// For all providers.
#[derive(Clone, Debug, Default)]
pub struct HeaderPolicy {
    /// Names of headers of an answer that pass to the client.
    pub passthrough: Vec<Pattern>,
    /// Headers for every request to a provider that speaks Anthropic's format before others; what the client sends and the provider
    /// says itself come before them.
    pub claude_defaults: BTreeMap<String, String>,
}

/// What a provider says itself.
#[derive(Clone, Debug, Default)]
pub struct OwnHeaderPolicy {
    /// Headers of clients that reach it; the row's unless set.
    pub forward: Option<Forward>,
    /// Names of headers of an answer that pass to the client; those of all unless set.
    pub passthrough: Option<Vec<Pattern>>,
}
