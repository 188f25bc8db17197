//! ai-proxy's dialect: kebab-case keys, credentials in one list a vendor.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use polygate_core::Secret;
use polygate_engine::config::{Access, Config, Key, Mapping, Provider, Retry, Strategy};
use polygate_engine::pattern::Pattern;

use super::cloak::cloak;
use super::headers::{Keys, of_all};
use super::names::Named;
use super::payload;
use super::pieces::{WIRE_APIS, add_key, headers, keep, pattern, patterns, set, way};
use super::reader::{Item, Section};
use super::yaml::{Kind, Node};

/// A list of credentials: its key, the row it means, and what its entries are called.
struct Vendor {
    key: &'static str,
    kind: &'static str,
    name: &'static str,
    /// Its credentials may be for one of OpenAI's two interfaces.
    has_wire_apis: bool,
}

const VENDORS: [Vendor; 4] = [
    Vendor {
        key: "claude-api-key",
        kind: "anthropic",
        name: "claude",
        has_wire_apis: false,
    },
    Vendor {
        key: "openai-api-key",
        kind: "openai",
        name: "openai",
        has_wire_apis: true,
    },
    Vendor {
        key: "gemini-api-key",
        kind: "gemini",
        name: "gemini",
        has_wire_apis: false,
    },
    Vendor {
        key: "openai-compatibility",
        kind: COMPATIBLE,
        name: "compat",
        has_wire_apis: true,
    },
];

const HEADERS: Keys = Keys {
    passthrough: "passthrough-headers",
    claude_defaults: "claude-header-defaults",
};

/// The published defaults.
const CONNECT: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(300);

const COMPATIBLE: &str = "openai-compatible";

/// Keys by which a file is known as ai-proxy's.
const SIGNS: [&str; 14] = [
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
    "log-dir",
    "non-stream-keepalive-secs",
];

/// Keys that speak against it: a native file whose address stands in the wrong place is no ai-proxy file.
const NATIVE: [&str; 4] = ["providers", "models", "master_keys", "server"];

const STRATEGIES: [(&str, Strategy); 2] = [
    // With the shares that entries may have.
    ("round-robin", Strategy::Weighted),
    ("fill-first", Strategy::FillFirst),
];

/// Whether this is one of its files.
pub fn is(top: &Node) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| top.get(key).is_some());
    has(&SIGNS) || (has(&["host", "port"]) && !has(&NATIVE))
}

/// Reads a file.
pub fn read(top: Section<'_>) -> Config {
    let mut config = Config::default();
    config.server.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    config.server.port = 8317;
    set(&mut config.server.host, top.address("host"));
    set(&mut config.server.port, top.number("port"));
    set(&mut config.server.body_limit, body_limit(&top));
    if let Some(section) = top.section("tls") {
        config.server.tls = super::native::settings::tls(section, false);
    }
    config.access = Access {
        keys: api_keys(&top),
        ..Access::default()
    };
    config.routing.strategy = strategy(&top);
    set(
        &mut config.routing.force_model_prefix,
        top.boolean("force-model-prefix"),
    );
    retry(&top, &mut config.retry);
    let timeouts = &mut config.timeouts;
    timeouts.connect = top.patience("connect-timeout").unwrap_or(CONNECT);
    timeouts.request = top.patience("request-timeout").unwrap_or(REQUEST);
    set(
        &mut timeouts.non_stream_keepalive,
        top.duration("non-stream-keepalive-secs"),
    );
    if let Some(streaming) = top.section("streaming") {
        config.retry.stream_retries = streaming.number("bootstrap-retries");
        set(
            &mut timeouts.keepalive,
            streaming.duration("keepalive-seconds"),
        );
        streaming.finish();
    }
    set(&mut config.way, way(&top, "proxy-url"));
    config.header_policy = of_all(&top, &HEADERS);
    for vendor in &VENDORS {
        let items = top.items(vendor.key).into_iter().enumerate();
        let providers = items.filter_map(|(at, item)| {
            let entry = item.left_out_if_unset().section()?;
            provider(entry, vendor, at + 1)
        });
        config.providers.extend(providers);
    }
    config.payload = payload::rules(&top);
    for key in ["debug", "logging-to-file", "log-dir"] {
        top.ignored(key, "the original read it and never used it");
    }
    top.finish();
    config
}

fn body_limit(top: &Section<'_>) -> Option<usize> {
    let megabytes: usize = top.number("body-limit-mb")?;
    let bytes = megabytes.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
    if bytes.is_none() {
        top.error("body-limit-mb", "must be a number of megabytes above zero");
    }
    bytes
}

/// No key section, or an empty one: open to callers nearby.
fn api_keys(top: &Section<'_>) -> Option<Vec<Key>> {
    let items = top.items("api-keys");
    if items.is_empty() {
        return None;
    }
    let key = |(at, item): (usize, &Item<'_>)| {
        let key = item.secret()?;
        let name = format!("key-{}", at + 1);
        let named = Named::new(&name, &item.spot);
        item.names().borrow_mut().keys.push(named);
        Some(Key::new(name, key))
    };
    Some(items.iter().enumerate().filter_map(key).collect())
}

fn strategy(top: &Section<'_>) -> Strategy {
    let Some(routing) = top.section("routing") else {
        return Strategy::Weighted;
    };
    let strategy = routing.word("strategy", &STRATEGIES);
    routing.finish();
    strategy.unwrap_or(Strategy::Weighted)
}

fn retry(top: &Section<'_>, retry: &mut Retry) {
    retry.max_retries = Some(top.number("request-retry").unwrap_or(3));
    retry.max_wait = Duration::from_secs(30);
    retry.max_backoff = Duration::from_secs(30);
    set(&mut retry.max_wait, top.duration("max-retry-interval"));
    let Some(detail) = top.section("retry") else {
        return;
    };
    if let Some(retries) = detail.number("max-retries") {
        retry.max_retries = Some(retries);
    }
    for (place, key) in [
        (&mut retry.max_backoff, "max-backoff-secs"),
        (&mut retry.cooldown_rate_limit, "cooldown-429-secs"),
        (&mut retry.cooldown_error, "cooldown-5xx-secs"),
        (&mut retry.cooldown_network, "cooldown-network-secs"),
    ] {
        set(place, detail.duration(key));
    }
    detail.finish();
}

fn provider(entry: Section<'_>, vendor: &Vendor, number: usize) -> Option<Provider> {
    let name = entry.text("name");
    let name = name.unwrap_or_else(|| format!("{}-{number}", vendor.name));
    let mut provider = Provider::new(name, vendor.kind);
    let api_key = entry.required("api-key");
    let api_key = api_key.and_then(|item| key_of(&entry, &item));
    let has_key = api_key.is_some();
    if let Some(api_key) = api_key {
        add_key(&mut provider, api_key);
    }
    provider.api_base = entry.text("base-url");
    provider.prefix = entry.text("prefix");
    let models = entry.items("models").into_iter();
    provider.models = models.flat_map(|item| mappings(&item)).collect();
    provider.excluded_models = patterns(&entry, "excluded-models", Pattern::glob);
    provider.headers = headers(&entry, "headers");
    provider.cloak = cloak(&entry);
    provider.disabled = entry.boolean("disabled").unwrap_or(false);
    if vendor.has_wire_apis {
        provider.wire_api = entry.word("wire-api", &WIRE_APIS);
    } else {
        entry.ignored("wire-api", "only OpenAI's interface is there twice");
    }
    provider.way = way(&entry, "proxy-url");
    set(&mut provider.weight, entry.number("weight"));
    let left_out = entry.is_left_out(&provider.name);
    let has_address = vendor.kind != COMPATIBLE || provider.api_base.is_some();
    if !left_out && !has_address {
        entry.error(
            "base-url",
            "is missing: a compatible provider has no address of its own",
        );
    }
    let is_sound = has_key && has_address && !left_out;
    let provider = keep(&entry, provider, is_sound);
    entry.finish();
    provider
}

/// An entry's key. The original leaves those without one out, unsaid.
fn key_of(entry: &Section<'_>, item: &Item<'_>) -> Option<Secret> {
    if item.text()?.trim().is_empty() {
        entry.warn("api-key", "is empty: the entry is left out");
        return None;
    }
    item.secret()
}

/// A model's alias, and its id, which may be said too. Both may be globs; a glob passes what was said.
fn mappings(item: &Item<'_>) -> Vec<Mapping> {
    let passed = |item: &Item<'_>, text: &str| {
        let pattern = pattern(item, text, Pattern::glob)?;
        Some(Mapping {
            pattern,
            target: None,
            price: None,
        })
    };
    if let Kind::Scalar { .. } = item.node.kind {
        let id = item.text();
        return id
            .and_then(|id| passed(item, id.trim()))
            .into_iter()
            .collect();
    }
    let Some(section) = item.section() else {
        return vec![];
    };
    let id = section.required_text("id");
    let alias = section.text("alias");
    section.finish();
    let Some(id) = id else {
        return vec![];
    };
    let own = passed(item, &id);
    let alias = alias
        .and_then(|alias| passed(item, &alias))
        .map(|mapping| Mapping {
            target: (!id.contains(['*', '?'])).then_some(id),
            ..mapping
        });
    alias.into_iter().chain(own).collect()
}
