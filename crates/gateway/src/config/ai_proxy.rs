//! ai-proxy's dialect: kebab-case keys, credentials in one list a vendor.

use std::net::IpAddr;

use polygate_engine::config::{
    Access, Config, Credential, Key, Mapping, Provider, Retry, Strategy,
};
use polygate_engine::pattern::Pattern;

use super::native::{WIRE_APIS, headers, patterns, set};
use super::reader::Section;
use super::yaml::Kind;

/// Sections of credentials, the row each means, and what its entries are called.
const SECTIONS: [(&str, &str, &str); 4] = [
    ("claude-api-key", "anthropic", "claude"),
    ("openai-api-key", "openai", "openai"),
    ("gemini-api-key", "gemini", "gemini"),
    ("openai-compatibility", "openai-compatible", "compat"),
];

/// Keys by which a file is known as ai-proxy's.
const SIGNS: [&str; 12] = [
    "claude-api-key",
    "openai-api-key",
    "gemini-api-key",
    "openai-compatibility",
    "api-keys",
    "request-retry",
    "max-retry-interval",
    "connect-timeout",
    "request-timeout",
    "body-limit-mb",
    "force-model-prefix",
    "logging-to-file",
];

/// Whether this is one of its files.
pub fn is(top: &Section<'_>) -> bool {
    SIGNS.iter().any(|key| top.has(key))
}

/// Reads a file.
pub fn read(top: Section<'_>) -> Config {
    let mut config = Config::default();
    config.server.host = top.address("host").unwrap_or(IpAddr::from([0, 0, 0, 0]));
    config.server.port = top.number("port").unwrap_or(8317);
    config.server.body_limit = top
        .number::<usize>("body-limit-mb")
        .map_or(config.server.body_limit, |mb| mb << 20);
    config.access = Access {
        keys: api_keys(&top),
        allow_anonymous: false,
    };
    config.routing.strategy = strategy(&top);
    config.routing.force_model_prefix = top.boolean("force-model-prefix").unwrap_or(false);
    retry(&top, &mut config.retry);
    set(
        &mut config.timeouts.connect,
        top.duration("connect-timeout"),
    );
    set(
        &mut config.timeouts.request,
        top.duration("request-timeout"),
    );
    if let Some(streaming) = top.section("streaming") {
        set(
            &mut config.timeouts.keepalive,
            streaming.duration("keepalive-seconds"),
        );
        streaming.finish();
    }
    for (section, kind, prefix) in SECTIONS {
        for (at, (node, path)) in top.list(section).into_iter().enumerate() {
            let entry = top.section_of(node, path);
            config.providers.extend(
                entry.and_then(|entry| provider(entry, kind, &format!("{prefix}-{}", at + 1))),
            );
        }
    }
    for key in ["debug", "logging-to-file", "log-dir"] {
        top.ignored(key, "the original read it and never used it");
    }
    if top.has("non-stream-keepalive-secs")
        && top.number::<u64>("non-stream-keepalive-secs") != Some(0)
    {
        top.error(
            "non-stream-keepalive-secs",
            "is not supported yet, except as 0",
        );
    }
    top.finish();
    config
}

/// No key section, or an empty one: open to callers nearby.
fn api_keys(top: &Section<'_>) -> Option<Vec<Key>> {
    let entries = top.list("api-keys");
    if entries.is_empty() {
        return None;
    }
    let key = |(at, (node, path)): (usize, (&super::yaml::Node, String))| {
        let text = top.text_of(node, &path)?;
        if text.trim().is_empty() {
            top.error("api-keys", format!("entry {} is empty", at + 1));
            return None;
        }
        let key = polygate_core::Secret::new(text.trim());
        Some(Key {
            name: format!("key-{}", at + 1),
            key,
            enabled: true,
            allowed_models: vec![],
            rate_limit: None,
        })
    };
    Some(entries.into_iter().enumerate().filter_map(key).collect())
}

fn strategy(top: &Section<'_>) -> Strategy {
    let Some(routing) = top.section("routing") else {
        return Strategy::RoundRobin;
    };
    let words = [
        ("round-robin", Strategy::RoundRobin),
        ("fill-first", Strategy::FillFirst),
    ];
    let strategy = routing
        .word("strategy", &words)
        .unwrap_or(Strategy::RoundRobin);
    routing.finish();
    strategy
}

fn retry(top: &Section<'_>, retry: &mut Retry) {
    retry.max_retries = Some(top.number("request-retry").unwrap_or(3));
    retry.max_wait = top
        .duration("max-retry-interval")
        .unwrap_or(std::time::Duration::from_secs(30));
    retry.max_backoff = std::time::Duration::from_secs(30);
    let Some(detail) = top.section("retry") else {
        return;
    };
    if let Some(retries) = detail.number("max-retries") {
        retry.max_retries = Some(retries);
    }
    set(&mut retry.max_backoff, detail.duration("max-backoff-secs"));
    set(
        &mut retry.cooldown_rate_limit,
        detail.duration("cooldown-429-secs"),
    );
    set(
        &mut retry.cooldown_error,
        detail.duration("cooldown-5xx-secs"),
    );
    set(
        &mut retry.cooldown_network,
        detail.duration("cooldown-network-secs"),
    );
    detail.finish();
}

fn provider(mut entry: Section<'_>, kind: &str, fallback_name: &str) -> Option<Provider> {
    entry.leave_out_if_unset();
    let name = entry
        .text("name")
        .unwrap_or_else(|| fallback_name.to_owned());
    let mut provider = Provider::new(name, kind);
    let api_key = entry.secret("api-key");
    provider.api_base = entry.text("base-url").filter(|base| !base.is_empty());
    provider.prefix = entry.text("prefix");
    provider.models = entry
        .list("models")
        .into_iter()
        .flat_map(|(node, path)| models(&entry, node, path))
        .collect();
    provider.excluded_models = patterns(&entry, "excluded-models", Pattern::glob);
    provider.headers = headers(&entry, "headers");
    provider.disabled = entry.boolean("disabled").unwrap_or(false);
    provider.wire_api = entry.word("wire-api", &WIRE_APIS);
    set(&mut provider.weight, entry.number("weight"));
    let left_out = entry.left_out(&provider.name);
    if !left_out && !entry.has("api-key") {
        entry.error("api-key", "is missing");
    }
    if !left_out && kind == "openai-compatible" && provider.api_base.is_none() {
        entry.error(
            "base-url",
            "is missing: a compatible provider has no address of its own",
        );
    }
    entry.finish();
    provider.credentials.push(Credential {
        name: format!("{}#1", provider.name),
        api_key: api_key?,
        weight: 1,
    });
    (!left_out).then_some(provider)
}

/// A model's id, which clients may say unless it has an alias; and its alias. Both may be globs.
fn models(entry: &Section<'_>, node: &super::yaml::Node, path: String) -> Vec<Mapping> {
    if let Kind::Scalar { .. } = node.kind {
        let id = entry.text_of(node, &path);
        return id
            .and_then(|id| glob(entry, &id))
            .map(|pattern| Mapping {
                pattern,
                target: None,
            })
            .into_iter()
            .collect();
    }
    let Some(section) = entry.section_of(node, path) else {
        return vec![];
    };
    let id = section.text("id");
    let alias = section.text("alias").filter(|alias| !alias.is_empty());
    if id.is_none() && !section.has("id") {
        section.error("id", "is missing");
    }
    section.finish();
    let Some(id) = id else { return vec![] };
    let mut mappings: Vec<Mapping> = glob(entry, &id)
        .map(|pattern| Mapping {
            pattern,
            target: None,
        })
        .into_iter()
        .collect();
    if let Some(pattern) = alias.and_then(|alias| glob(entry, &alias)) {
        let is_glob = id.contains(['*', '?']);
        mappings.insert(
            0,
            Mapping {
                pattern,
                target: (!is_glob).then_some(id),
            },
        );
    }
    mappings
}

fn glob(entry: &Section<'_>, text: &str) -> Option<Pattern> {
    Pattern::glob(text)
        .inspect_err(|_| entry.error("models", format!("'{text}' is no valid pattern")))
        .ok()
}
