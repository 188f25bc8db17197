//! ai-proxy's files: every credential becomes a provider.

use serde_json::{Map, Value, json};

use super::{carry, mapping};
use crate::config::later;
use crate::config::yaml::Kind;
use crate::import::{At, Notes, value};

/// Lists of credentials: the row that they mean, and what their entries are called.
const VENDORS: [(&str, &str, &str); 4] = [
    ("claude-api-key", "anthropic", "claude"),
    ("openai-api-key", "openai", "openai"),
    ("gemini-api-key", "gemini", "gemini"),
    ("openai-compatibility", "openai-compatible", "compat"),
];

/// Settings that only move: key, section and key here.
const MOVED: [(&str, &str, &str); 8] = [
    ("host", "server", "host"),
    ("port", "server", "port"),
    ("force-model-prefix", "routing", "force_model_prefix"),
    ("connect-timeout", "timeouts", "connect"),
    ("request-timeout", "timeouts", "request"),
    (
        "non-stream-keepalive-secs",
        "timeouts",
        "non_stream_keepalive",
    ),
    ("request-retry", "retry", "max_retries"),
    ("max-retry-interval", "retry", "max_wait"),
];

/// The same of sections: section, key, section and key here.
const MOVED_BELOW: [(&str, &str, &str, &str); 8] = [
    ("routing", "strategy", "routing", "strategy"),
    ("streaming", "bootstrap-retries", "retry", "stream_retries"),
    ("streaming", "keepalive-seconds", "timeouts", "keepalive"),
    ("retry", "max-retries", "retry", "max_retries"),
    ("retry", "max-backoff-secs", "retry", "max_backoff"),
    ("retry", "cooldown-429-secs", "retry", "cooldown_rate_limit"),
    ("retry", "cooldown-5xx-secs", "retry", "cooldown_error"),
    (
        "retry",
        "cooldown-network-secs",
        "retry",
        "cooldown_network",
    ),
];

/// Keys of credentials that only get another name.
const RENAMED: [(&str, &str); 10] = [
    ("api-key", "api_key"),
    ("base-url", "api_base"),
    ("prefix", "prefix"),
    ("excluded-models", "excluded_models"),
    ("headers", "headers"),
    ("cloak", "cloak"),
    ("disabled", "disabled"),
    ("wire-api", "wire_api"),
    ("proxy-url", "proxy_url"),
    ("weight", "weight"),
];

/// Reads a file.
pub fn read(top: &At<'_>, notes: &mut Notes) -> Map<String, Value> {
    let mut document = Map::new();
    for (section, defaults) in [
        ("server", json!({"host": "0.0.0.0", "port": 8317})),
        ("routing", json!({"strategy": "weighted"})),
        (
            "retry",
            json!({"max_retries": 3, "max_wait": 30, "max_backoff": 30}),
        ),
        ("timeouts", json!({"connect": 30, "request": 300})),
    ] {
        document.insert(section.to_owned(), defaults);
    }
    let mut providers = Vec::new();
    let mut entries = top.entries();
    // What stands below `retry` goes before what stands at the top.
    entries.sort_by_key(|(key, _)| *key == "retry");
    for (key, at) in entries {
        if at.node.is_null() {
            continue;
        }
        if let Some((_, kind, name)) = VENDORS.iter().find(|(known, ..)| *known == key) {
            let items = at.items().into_iter().enumerate();
            providers.extend(items.filter_map(|(number, item)| {
                let name = format!("{name}-{}", number + 1);
                provider(&item, kind, name, notes)
            }));
        } else {
            setting(key, &at, &mut document, notes);
        }
    }
    document.insert("providers".to_owned(), Value::Array(providers));
    document
}

fn setting(key: &str, at: &At<'_>, document: &mut Map<String, Value>, notes: &mut Notes) {
    if let Some((_, section, name)) = MOVED.iter().find(|(known, ..)| *known == key) {
        moved(section, name, at, document, notes);
        return;
    }
    match key {
        "proxy-url" => carry(document, "proxy_url", at, notes, "proxy_url"),
        "passthrough-headers" => {
            let ours = "passthrough_headers";
            carry(document, ours, at, notes, ours);
        }
        "claude-header-defaults" => {
            let ours = "claude_header_defaults";
            carry(document, ours, at, notes, ours);
        }
        "payload" => carry(document, "payload", at, notes, "payload"),
        "body-limit-mb" => {
            let limit = format!("{}MiB", at.text().unwrap_or_default());
            notes.carried(at, "server.body_limit");
            put(document, "server", "body_limit", limit.into());
        }
        "tls" => tls(at, document, notes),
        "api-keys" => api_keys(at, document, notes),
        "debug" | "logging-to-file" | "log-dir" => {
            notes.missing(at, "the original read it and never used it");
        }
        "routing" | "streaming" | "retry" => below(key, at, document, notes),
        _ => unknown(key, at, notes),
    }
}

fn below(section: &str, at: &At<'_>, document: &mut Map<String, Value>, notes: &mut Notes) {
    for (key, at) in at.entries() {
        let place = MOVED_BELOW
            .iter()
            .find(|(one, other, ..)| *one == section && *other == key);
        match place {
            // With the shares that entries may have.
            Some((.., section, name)) if at.text() == Some("round-robin") => {
                notes.carried(&at, format!("{section}.{name}"));
                put(document, section, name, "weighted".into());
            }
            Some((.., section, name)) => moved(section, name, &at, document, notes),
            None => unknown(key, &at, notes),
        }
    }
}

fn moved(
    section: &str,
    name: &str,
    at: &At<'_>,
    document: &mut Map<String, Value>,
    notes: &mut Notes,
) {
    if at.node.is_null() {
        return;
    }
    notes.carried(at, format!("{section}.{name}"));
    put(document, section, name, value(at.node));
}

fn put(document: &mut Map<String, Value>, section: &str, name: &str, value: Value) {
    if let Some(Value::Object(section)) = document.get_mut(section) {
        section.insert(name.to_owned(), value);
    }
}

fn unknown(key: &str, at: &At<'_>, notes: &mut Notes) {
    match later::named(key) {
        Some(later) if later.is_off(at.node) => {}
        Some(later) => notes.missing(at, format!("not supported yet: {}", later.what)),
        None => notes.missing(at, "the original knows no such key"),
    }
}

fn tls(at: &At<'_>, document: &mut Map<String, Value>, notes: &mut Notes) {
    let mut tls = Map::new();
    // The original's is off unless it is switched on.
    tls.insert("enable".to_owned(), false.into());
    for (key, at) in at.entries() {
        match key {
            "enable" | "cert" | "key" if !at.node.is_null() => {
                tls.insert(key.to_owned(), value(at.node));
            }
            _ => unknown(key, &at, notes),
        }
    }
    notes.carried(at, "server.tls");
    put(document, "server", "tls", Value::Object(tls));
}

fn api_keys(at: &At<'_>, document: &mut Map<String, Value>, notes: &mut Notes) {
    let items = at.items();
    if items.is_empty() {
        return;
    }
    notes.carried(at, "master_keys");
    let keys = items.iter().enumerate();
    let keys =
        keys.map(|(at, item)| json!({"name": format!("key-{}", at + 1), "key": value(item.node)}));
    document.insert("master_keys".to_owned(), keys.collect());
}

fn provider(entry: &At<'_>, kind: &str, numbered: String, notes: &mut Notes) -> Option<Value> {
    if entry.node.members().is_empty() {
        notes.missing(entry, "no credential");
        return None;
    }
    let api_key = entry.get("api-key").map(|at| value(at.node));
    if api_key.is_some_and(|key| key == "") {
        notes.missing(entry, "its api-key is empty");
        return None;
    }
    let name = entry.get("name").and_then(|at| at.text());
    let name = name.map_or(numbered, str::to_owned);
    notes.carried(entry, format!("provider '{name}'"));
    let mut out = Map::new();
    out.insert("name".to_owned(), name.into());
    out.insert("type".to_owned(), kind.into());
    for (key, at) in entry.entries() {
        if at.node.is_null() {
            continue;
        }
        let renamed = RENAMED.iter().find(|(known, _)| *known == key);
        match (key, renamed) {
            ("name", _) => {}
            ("wire-api", _) if !kind.starts_with("openai") => {
                notes.missing(&at, "only OpenAI's interface is there twice");
            }
            ("models", _) => {
                let mapping = models(&at);
                if !mapping.is_empty() {
                    out.insert("model_mapping".to_owned(), Value::Object(mapping));
                }
            }
            (_, Some((_, ours))) => {
                out.insert((*ours).to_owned(), value(at.node));
            }
            _ => unknown(key, &at, notes),
        }
    }
    Some(Value::Object(out))
}

/// A model's alias, and its id, which may be said too.
fn models(at: &At<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    for item in at.items() {
        let is_text = matches!(item.node.kind, Kind::Scalar { .. });
        let id = match is_text {
            true => item.text(),
            false => item.get("id").and_then(|at| at.text()),
        };
        let Some(id) = id else { continue };
        if let Some(alias) = item.get("alias").and_then(|at| at.text()) {
            let is_pattern = id.contains(['*', '?']);
            let target = if is_pattern { Value::Null } else { id.into() };
            out.entry(mapping(alias)).or_insert(target);
        }
        out.entry(mapping(id)).or_insert(Value::Null);
    }
    out
}
