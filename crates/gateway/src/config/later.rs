//! Keys of features that come later, and of features that stand under another key: refused by name, never ignored.

use super::values::boolean;
use super::yaml::{Kind, Node};

/// A key that is known, and not read where it stands.
pub struct Later {
    key: &'static str,
    /// What it is for, or what to write instead.
    pub what: &'static str,
    /// Its feature is not built: `false`, `0`, an empty text or list, or `enable: false` asks for nothing, so it may stay.
    is_to_come: bool,
}

const fn feature(key: &'static str, what: &'static str) -> Later {
    Later {
        key,
        what,
        is_to_come: true,
    }
}

const fn elsewhere(key: &'static str, what: &'static str) -> Later {
    Later {
        key,
        what,
        is_to_come: false,
    }
}

const TABLE: [Later; 13] = [
    elsewhere("conditions", "routes: [{when: {…}, model: …}]"),
    feature("database", "configuration in a database"),
    feature("db_url", "configuration in a database"),
    elsewhere("guardrails", "guards: […]"),
    feature(
        "logging",
        "log settings in the file (use --log-level or RUST_LOG)",
    ),
    elsewhere("observability", "otlp: {…} or langfuse: {…}"),
    elsewhere("request_log", "jsonl_log: {…}"),
    feature("strict", "refusing lossy translations"),
    elsewhere("budget", "limits: {usd_per_month: …}"),
    elsewhere("budgets", "limits: {usd_per_month: …}"),
    elsewhere("tokens_per_day", "limits: {tokens_per_day: …}"),
    elsewhere("tokens_per_minute", "limits: {tokens_per_minute: …}"),
    elsewhere("requests_per_minute", "limits: {requests_per_minute: …}"),
];

/// The feature that a key belongs to.
pub fn named(key: &str) -> Option<&'static Later> {
    TABLE.iter().find(|later| later.key == key)
}

impl Later {
    /// What there is to say to who wrote it.
    pub fn message(&self, name: &str) -> String {
        match self.is_to_come {
            true => format!("'{name}' is not supported yet: {}", self.what),
            false => format!("'{name}' does not stand here: write '{}'", self.what),
        }
    }

    /// Whether this value asks for nothing.
    pub fn is_off(&self, node: &Node) -> bool {
        node.is_null() || (self.is_to_come && asks_for_nothing(node))
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
