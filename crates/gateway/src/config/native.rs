//! The native dialect: llm-proxy's keys and what Polygate adds to them.

pub(super) mod access;
pub(super) mod accounts;
pub(super) mod cache;
mod guards;
mod limits;
pub(super) mod models;
pub(super) mod providers;
mod routes;
pub(super) mod settings;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use polygate_core::Secret;
use polygate_engine::config::Config;

use super::Dialect;
use super::database::{NO_REDIS, is_redis};
use super::headers;
use super::jsonl;
use super::payload;
use super::pieces::{hedge, set, way};
use super::reader::Section;
use super::telemetry;
use super::yaml::Node;

/// Other names of keys: those of llm-proxy's admin API, and those that carry their unit.
pub const ALIASES: [(&str, &str); 34] = [
    ("name", "provider_key"),
    ("name", "id"),
    ("type", "provider_type"),
    ("enabled", "is_enabled"),
    ("wire_api", "wire-api"),
    ("model_mapping", "models"),
    ("shutdown_grace", "shutdown_grace_secs"),
    ("shutdown_delay", "shutdown_delay_secs"),
    ("upgrade_grace", "upgrade_grace_secs"),
    ("initial_backoff", "initial_backoff_ms"),
    ("initial_backoff", "initial_backoff_secs"),
    ("max_backoff", "max_backoff_secs"),
    ("max_wait", "max_wait_secs"),
    ("cooldown_rate_limit", "cooldown_429_secs"),
    ("cooldown_quota", "cooldown_quota_secs"),
    ("cooldown_error", "cooldown_5xx_secs"),
    ("cooldown_network", "cooldown_network_secs"),
    ("max_cooldown", "max_cooldown_secs"),
    ("connect", "connect_secs"),
    ("connection_idle", "connection_idle_secs"),
    ("connection_lifetime", "connection_lifetime_secs"),
    ("proxy_url", "proxy-url"),
    ("passthrough_headers", "passthrough-headers"),
    ("claude_header_defaults", "claude-header-defaults"),
    ("first_event", "first_event_secs"),
    ("idle", "idle_secs"),
    ("request", "request_secs"),
    ("keepalive", "keepalive_secs"),
    ("interval", "interval_secs"),
    ("timeout", "timeout_secs"),
    ("system-prompt", "system_prompt"),
    ("strict-mode", "strict_mode"),
    ("user-id", "user_id"),
    ("sensitive-words", "sensitive_words"),
];

const HEADERS: headers::Keys = headers::Keys {
    passthrough: "passthrough_headers",
    claude_defaults: "claude_header_defaults",
};

/// The keys that llm-proxy published: a file of nothing else is one of its own.
const PUBLISHED: [&str; 5] = [
    "providers",
    "master_keys",
    "server",
    "verify_ssl",
    "request_timeout_secs",
];
const PUBLISHED_OF_SERVER: [&str; 2] = ["host", "port"];
const PUBLISHED_OF_PROVIDERS: [&str; 9] = [
    "name",
    "id",
    "provider_key",
    "provider_type",
    "api_base",
    "api_key",
    "weight",
    "model_mapping",
    "is_enabled",
];
const PUBLISHED_OF_KEYS: [&str; 6] = [
    "key",
    "name",
    "description",
    "enabled",
    "is_enabled",
    "rate_limit",
];

/// Whether a file is llm-proxy's: it has no key but those published, and what all of its published files have: providers with an
/// address and a key, and beside them callers' keys or a word on certificates.
pub fn is_llm_proxy(top: &Node) -> bool {
    let only = |node: &Node, keys: &[&str]| {
        node.members()
            .iter()
            .all(|(key, _)| keys.contains(&&*key.text))
    };
    let providers = top.get("providers").map(Node::items).unwrap_or_default();
    let keys = top.get("master_keys").map(Node::items).unwrap_or_default();
    only(top, &PUBLISHED)
        && (top.get("master_keys").is_some() || top.get("verify_ssl").is_some())
        && top
            .get("server")
            .is_none_or(|server| only(server, &PUBLISHED_OF_SERVER))
        && keys.iter().all(|key| only(key, &PUBLISHED_OF_KEYS))
        && !providers.is_empty()
        && providers.iter().all(|provider| {
            only(provider, &PUBLISHED_OF_PROVIDERS)
                && provider.get("api_base").is_some()
                && provider.get("api_key").is_some()
        })
}

/// Reads a file.
pub fn read(top: Section<'_>, dialect: Dialect) -> Config {
    let mut config = Config::default();
    if dialect == Dialect::LlmProxy {
        config.server.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        config.server.port = 18000;
    }
    if let Some(section) = top.section("server") {
        settings::server(section, &mut config.server);
    }
    // Where ai-proxy's files have it.
    if let Some(section) = top.section("tls") {
        let tls = settings::tls(section, true);
        config.server.tls = tls.or(config.server.tls.take());
    }
    let providers = top.items("providers");
    let providers = providers.into_iter().map(|item| item.left_out_if_unset());
    config.providers = providers
        .filter_map(|item| providers::read(item.section()?))
        .collect();
    if let Some(section) = top.section("models") {
        config.models = models::read(&section);
    }
    config.access = access::read(&top);
    if let Some(section) = top.section("routing") {
        settings::routing(section, &mut config.routing);
    }
    if let Some(section) = top.section("retry") {
        settings::retry(section, &mut config.retry);
    }
    if let Some(section) = top.section("timeouts") {
        settings::timeouts(section, &mut config.timeouts);
    }
    // Where llm-proxy's old files have it.
    set(
        &mut config.timeouts.request,
        top.patience("request_timeout_secs"),
    );
    config.hedge = hedge(&top);
    set(&mut config.continuation, top.boolean("continuation"));
    config.guards = guards::read(&top);
    if let Some(section) = top.section("health_check") {
        settings::health_check(section, &mut config.health_check);
    }
    config.price_overrides = accounts::price_overrides(&top);
    if let Some(section) = top.section("price_list") {
        config.price_list = accounts::price_list(section);
    }
    config.cache = top.section("cache").and_then(cache::cache);
    config.payload = payload::rules(&top);
    if let Some(section) = top.section("ledger") {
        accounts::ledger(section, &mut config.ledger);
    }
    if let Some(section) = top.section("audit") {
        accounts::audit(section, &mut config.audit);
    }
    if let Some(section) = top.section("metrics") {
        set(&mut config.metrics_open, section.boolean("open"));
        section.finish();
    }
    if let Some(section) = top.section("otlp") {
        telemetry::otlp(section, &mut config.telemetry);
    }
    if let Some(section) = top.section("jsonl_log") {
        jsonl::read(section, &mut config.telemetry);
    }
    if let Some(section) = top.section("langfuse") {
        telemetry::langfuse(section, &mut config.telemetry);
    }
    set(&mut config.shared_health, top.boolean("shared_health"));
    set(&mut config.verify_ssl, top.boolean("verify_ssl"));
    config.ca_file = top.text("ca_file").map(PathBuf::from);
    set(&mut config.way, way(&top, "proxy_url"));
    config.header_policy = headers::of_all(&top, &HEADERS);
    config.redis_url = redis_url(&top);
    top.finish();
    config
}

fn redis_url(top: &Section<'_>) -> Option<Secret> {
    let item = top.item("redis_url")?;
    let url = item.secret()?;
    if !is_redis(url.reveal()) {
        item.error(NO_REDIS);
        return None;
    }
    Some(url)
}
