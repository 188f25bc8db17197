//! Keys of features that come later: refused by name, never ignored.

use super::values::boolean;
use super::yaml::{Kind, Node};

/// A key whose feature is not built.
pub struct Later {
    key: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// `false`, `0`, an empty text or list, or `enable: false` asks for nothing, so it may stay. Not so for limits, where zero blocks.
    may_be_off: bool,
}

const fn feature(key: &'static str, what: &'static str) -> Later {
    Later {
        key,
        what,
        may_be_off: true,
    }
}

const fn limit(key: &'static str, what: &'static str) -> Later {
    Later {
        key,
        what,
        may_be_off: false,
    }
}

const TABLE: [Later; 25] = [
    feature("cache", "cached answers"),
    feature("claude-header-defaults", "headers for masquerading"),
    feature("cloak", "masquerading"),
    feature("conditions", "routing by conditions"),
    feature("database", "configuration in a database"),
    feature("db_url", "configuration in a database"),
    feature("guards", "guard rails"),
    feature("guardrails", "guard rails"),
    feature("jsonl_log", "request logs"),
    feature("langfuse", "export to Langfuse"),
    feature(
        "logging",
        "log settings in the file (use --log-level or RUST_LOG)",
    ),
    feature("observability", "export of traces and logs"),
    feature("otlp", "export of traces and logs"),
    feature("passthrough-headers", "passing upstream headers on"),
    feature("payload", "rules that change requests"),
    feature("provider_params", "parameters of a provider"),
    feature("redis", "limits shared by replicas"),
    feature("request_log", "request logs"),
    feature("shadow", "shadow traffic"),
    feature("strict", "refusing lossy translations"),
    limit("budget", "budgets"),
    limit("budgets", "budgets"),
    limit("tokens_per_day", "limits on tokens"),
    limit("tokens_per_minute", "limits on tokens"),
    limit("requests_per_minute", "limits by the minute"),
];

/// The feature that a key belongs to.
pub fn named(key: &str) -> Option<&'static Later> {
    TABLE.iter().find(|later| later.key == key)
}

impl Later {
    /// Whether this value asks for nothing.
    pub fn is_off(&self, node: &Node) -> bool {
        node.is_null() || (self.may_be_off && asks_for_nothing(node))
    }
}

fn asks_for_nothing(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { text, .. } => text.is_empty() || boolean(text) == Some(false),
        Kind::List(items) => items.is_empty(),
        Kind::Map(members) => {
            let is_switch_off = |(key, node): &(super::yaml::Key, Node)| match &node.kind {
                Kind::Scalar { text, .. } => match key.text.as_str() {
                    "enable" | "enabled" => boolean(text) == Some(false),
                    "mode" => text == "never",
                    _ => false,
                },
                _ => false,
            };
            members.iter().any(is_switch_off)
        }
    }
}
