//! The published systems' files, and native ones, in native keys. Defaults that differ are written out.

mod ai_proxy;
mod pool;

use polygate_engine::pattern::Pattern;
use serde_json::{Map, Value, json};

use super::{At, Imported, Notes, value};
use crate::config::Dialect;
use crate::config::yaml::Node;

/// What llm-proxy's lists call the things in them, and what they are called here.
const PROVIDER_KEYS: [(&str, &str); 5] = [
    ("provider_key", "name"),
    ("id", "name"),
    ("provider_type", "type"),
    ("is_enabled", "enabled"),
    ("models", "model_mapping"),
];

/// Reads a file of this dialect.
pub fn import(node: &Node, dialect: Dialect) -> Imported {
    let top = At::top(node);
    let mut notes = Notes::default();
    let document = match dialect {
        Dialect::AiProxy => ai_proxy::read(&top, &mut notes),
        Dialect::Pool => pool::read(&top, &mut notes),
        Dialect::LlmProxy => llm_proxy(&top, &mut notes),
        Dialect::Native | Dialect::Zero => native(&top, &mut notes),
    };
    Imported {
        origin: dialect.name(),
        document: Value::Object(document),
        findings: notes.0,
    }
}

fn native(top: &At<'_>, notes: &mut Notes) -> Map<String, Value> {
    let entries = top.entries().into_iter();
    let carried = entries.map(|(key, at)| {
        notes.carried(&at, "");
        (key.to_owned(), value(at.node))
    });
    carried.collect()
}

fn llm_proxy(top: &At<'_>, notes: &mut Notes) -> Map<String, Value> {
    let mut document = native(top, notes);
    for list in ["providers", "master_keys"] {
        let Some(Value::Array(items)) = document.get_mut(list) else {
            continue;
        };
        for item in items {
            if let Value::Object(members) = item {
                *members = renamed(std::mem::take(members));
            }
        }
    }
    if let Some(limit) = document.remove("request_timeout_secs") {
        document.insert("timeouts".to_owned(), json!({"request": limit}));
    }
    let server = document.entry("server").or_insert_with(|| json!({}));
    if let Value::Object(server) = server {
        server.entry("host").or_insert_with(|| "0.0.0.0".into());
        server.entry("port").or_insert_with(|| 18_000.into());
    }
    document
}

/// The same under native names. What is there by both names stays, and is refused when it is loaded.
fn renamed(members: Map<String, Value>) -> Map<String, Value> {
    let names: Vec<String> = members.keys().cloned().collect();
    let members = members.into_iter().map(|(name, value)| {
        let renamed = PROVIDER_KEYS.iter().find(|(theirs, _)| *theirs == name);
        let renamed = renamed.filter(|(_, ours)| names.iter().all(|name| name != ours));
        (renamed.map_or(name, |(_, ours)| (*ours).to_owned()), value)
    });
    members.collect()
}

/// Carries a value to a place of its own.
fn carry(to: &mut Map<String, Value>, key: &str, at: &At<'_>, notes: &mut Notes, place: &str) {
    notes.carried(at, place);
    to.insert(key.to_owned(), value(at.node));
}

/// A glob (`*`, `?`) as the pattern of a mapping.
fn mapping(glob: &str) -> String {
    let is_same = !glob.contains('?') && !is_regex(glob);
    if is_same {
        return glob.to_owned();
    }
    let mut out = String::from("^");
    for c in glob.chars() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            c => {
                out.push_str(if is_literal(c) { "" } else { "\\" });
                out.push(c);
            }
        }
    }
    out.push('$');
    out
}

/// Whether a mapping would take this for a regular expression.
fn is_regex(text: &str) -> bool {
    let literal = text.chars().filter(|c| *c != '*').count();
    Pattern::mapping(text).map_or(true, |pattern| {
        !pattern.is_exact() && pattern.specificity() != literal
    })
}

/// Whether a regular expression takes this character for itself.
fn is_literal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | ':' | ' ') || !c.is_ascii()
}

/// A pattern of this name only.
pub fn exactly(name: &str) -> String {
    if Pattern::mapping(name).is_ok_and(|pattern| pattern.is_exact()) {
        return name.to_owned();
    }
    let escaped = name.chars().flat_map(|c| {
        let escape = (!is_literal(c)).then_some('\\');
        escape.into_iter().chain([c])
    });
    format!("^{}$", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_globs_mean_the_same_as_patterns() {
        for (name, expected) in [
            ("gpt-4.1", "gpt-4.1"),
            ("a(b)", r"^a\(b\)$"),
            ("a*", r"^a\*$"),
            ("é[", r"^é\[$"),
        ] {
            let pattern = exactly(name);
            assert_eq!(pattern, expected);
            let pattern = Pattern::mapping(&pattern).expect("a pattern");
            assert!(pattern.matches(name) && !pattern.matches("ab"), "{name}");
        }
        for (glob, expected) in [
            ("gpt-*", "gpt-*"),
            ("o?", "^o.$"),
            ("a.*", r"^a\..*$"),
            ("a", "a"),
        ] {
            let pattern = mapping(glob);
            assert_eq!(pattern, expected);
            let read = Pattern::mapping(&pattern).expect("a pattern");
            let meant = Pattern::glob(glob).expect("a glob");
            for name in ["gpt-4", "o1", "o12", "a.b", "a", "ab", glob] {
                assert_eq!(read.matches(name), meant.matches(name), "{glob} {name}");
            }
        }
    }
}
