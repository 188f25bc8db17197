//! The native dialect: llm-proxy's keys and what Polygate adds to them.

use polygate_core::Secret;
use polygate_engine::config::{
    Access, Config, Credential, HealthCheck, Key, Mapping, Model, Provider, RateLimit, Retry,
    Routing, Server, Strategy, Target, Timeouts, WireApi,
};
use polygate_engine::pattern::Pattern;

use super::reader::Section;
use super::yaml::{Kind, Node};

/// Names of strategies.
pub const STRATEGIES: [(&str, Strategy); 6] = [
    ("weighted", Strategy::Weighted),
    ("weighted-round-robin", Strategy::Weighted),
    ("round-robin", Strategy::RoundRobin),
    ("round_robin", Strategy::RoundRobin),
    ("fill-first", Strategy::FillFirst),
    ("fill_first", Strategy::FillFirst),
];

/// Names of OpenAI's two interfaces.
pub const WIRE_APIS: [(&str, WireApi); 2] =
    [("chat", WireApi::Chat), ("responses", WireApi::Responses)];

/// Keys by which a file is Polygate's own and not merely llm-proxy's.
const OWN: [&str; 8] = [
    "models",
    "routing",
    "retry",
    "timeouts",
    "health_check",
    "allow_anonymous",
    "metrics",
    "log_level",
];
const OWN_OF_PROVIDERS: [&str; 7] = [
    "type",
    "api_keys",
    "prefix",
    "excluded_models",
    "headers",
    "wire_api",
    "api_version",
];

/// Whether every key is one that llm-proxy published.
pub fn is_llm_proxy(top: &Section<'_>) -> bool {
    let own = OWN.iter().any(|key| top.has(key));
    let provider_is_own = top
        .entries()
        .filter(|(key, _)| key.text == "providers")
        .any(|(_, node)| match &node.kind {
            Kind::List(items) => items.iter().any(|item| match &item.kind {
                Kind::Map(members) => members
                    .iter()
                    .any(|(key, _)| OWN_OF_PROVIDERS.contains(&key.text.as_str())),
                _ => false,
            }),
            _ => false,
        });
    !own && !provider_is_own
        && top.has("providers")
        && (top.has("master_keys") || top.has("verify_ssl"))
}

/// Reads a file.
pub fn read(top: Section<'_>) -> Config {
    let mut config = Config::default();
    if is_llm_proxy(&top) {
        config.server.host = std::net::IpAddr::from([0, 0, 0, 0]);
        config.server.port = 18000;
    }
    if let Some(section) = top.section("server") {
        server(section, &mut config.server);
    }
    config.providers = top
        .list("providers")
        .into_iter()
        .filter_map(|(node, path)| provider(top.section_of(node, path)?))
        .collect();
    if let Some(section) = top.section("models") {
        config.models = section
            .entries()
            .filter_map(|(key, node)| {
                model(
                    &key.text,
                    section.section_of(node, section.path_of(&key.text))?,
                )
            })
            .collect();
    }
    let allow_anonymous = top.boolean("allow_anonymous").unwrap_or(false);
    let keys = top.node("master_keys").map(|_| master_keys(&top));
    config.access = Access {
        keys,
        allow_anonymous,
    };
    if let Some(section) = top.section("routing") {
        routing(section, &mut config.routing);
    }
    if let Some(section) = top.section("retry") {
        retry(section, &mut config.retry);
    }
    if let Some(section) = top.section("timeouts") {
        timeouts(section, &mut config.timeouts);
    }
    if let Some(section) = top.section("health_check") {
        health_check(section, &mut config.health_check);
    }
    if let Some(section) = top.section("metrics") {
        config.metrics_open = section.boolean("open").unwrap_or(true);
        section.finish();
    }
    config.verify_ssl = top.boolean("verify_ssl").unwrap_or(true);
    top.finish();
    config
}

fn server(section: Section<'_>, server: &mut Server) {
    set(&mut server.host, section.address("host"));
    set(&mut server.port, section.number("port"));
    set(&mut server.body_limit, section.bytes("body_limit"));
    set(
        &mut server.shutdown_grace,
        section.duration("shutdown_grace"),
    );
    set(
        &mut server.shutdown_delay,
        section.duration("shutdown_delay"),
    );
    section.finish();
}

/// Puts a value where the file has one.
pub fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn provider(mut section: Section<'_>) -> Option<Provider> {
    section.leave_out_if_unset();
    let name = section
        .text("name")
        .or_else(|| section.text("provider_key"))
        .or_else(|| section.text("id"));
    let kind = section
        .text("type")
        .or_else(|| section.text("provider_type"))
        .unwrap_or_default();
    let mut provider = Provider::new(name.clone().unwrap_or_default(), kind);
    provider.api_base = section.text("api_base");
    provider.credentials = credentials(&section, &provider);
    set(&mut provider.weight, section.number("weight"));
    let enabled = section
        .boolean("enabled")
        .or(section.boolean("is_enabled"))
        .unwrap_or(true);
    provider.disabled = section.boolean("disabled").unwrap_or(false) || !enabled;
    provider.prefix = section.text("prefix");
    provider.models = model_mapping(&section);
    provider.excluded_models = patterns(&section, "excluded_models", Pattern::glob);
    provider.headers = headers(&section, "headers");
    provider.wire_api = section.word("wire_api", &WIRE_APIS);
    provider.api_version = section.text("api_version");
    let left_out = section.left_out(name.as_deref().unwrap_or("this provider"));
    if name.as_deref().is_none_or(|name| name.trim().is_empty()) && !left_out {
        section.error("name", "is missing");
    }
    section.finish();
    (!left_out).then_some(provider)
}

fn credentials(section: &Section<'_>, provider: &Provider) -> Vec<Credential> {
    let numbered = |at: usize| format!("{}#{}", provider.name, at + 1);
    let mut keys: Vec<Credential> = section
        .secret("api_key")
        .into_iter()
        .map(|api_key| Credential {
            name: numbered(0),
            api_key,
            weight: 1,
        })
        .collect();
    for (node, path) in section.list("api_keys") {
        let name = numbered(keys.len());
        if let Kind::Map(_) = node.kind {
            let Some(entry) = section.section_of(node, path) else {
                continue;
            };
            let api_key = entry.secret("key");
            let credential = api_key.map(|api_key| Credential {
                name: entry.text("name").unwrap_or(name),
                api_key,
                weight: entry.number("weight").unwrap_or(1),
            });
            keys.extend(credential);
            entry.finish();
        } else if let Some(text) = section.text_of(node, &path) {
            keys.push(Credential {
                name,
                api_key: Secret::new(text.trim()),
                weight: 1,
            });
        }
    }
    if keys.is_empty() {
        // Some upstreams want no key.
        keys.push(Credential {
            name: numbered(0),
            api_key: Secret::new(""),
            weight: 1,
        });
    }
    keys
}

/// `model_mapping`: name or pattern → name there, or an object that has it under `mapped_model`; or a list of names.
fn model_mapping(section: &Section<'_>) -> Vec<Mapping> {
    let key = "model_mapping";
    let Some(node) = section.node(key) else {
        return vec![];
    };
    match &node.kind {
        Kind::List(_) => patterns(section, key, Pattern::mapping)
            .into_iter()
            .map(|pattern| Mapping {
                pattern,
                target: None,
            })
            .collect(),
        _ => {
            let Some(map) = section.section_of(node, section.path_of(key)) else {
                return vec![];
            };
            map.entries()
                .filter_map(|(name, node)| mapping(&map, &name.text, node))
                .collect()
        }
    }
}

fn mapping(map: &Section<'_>, name: &str, node: &Node) -> Option<Mapping> {
    let path = map.path_of(name);
    let pattern = match Pattern::mapping(name) {
        Ok(pattern) => pattern,
        Err(error) => {
            map.error(
                name,
                format!("is no valid pattern: {}", last_line(&error.to_string())),
            );
            return None;
        }
    };
    let target = match &node.kind {
        Kind::Map(_) => {
            let object = map.section_of(node, path)?;
            // Limits, prices and capabilities come with the catalogue: a warning each would drown the rest.
            object.text("mapped_model")
        }
        _ => map.text_of(node, &path),
    };
    Some(Mapping {
        pattern,
        target: target.filter(|target| !target.is_empty()),
    })
}

/// Patterns of a list; bad ones are told.
pub fn patterns<E: std::fmt::Display>(
    section: &Section<'_>,
    key: &'static str,
    read: fn(&str) -> Result<Pattern, E>,
) -> Vec<Pattern> {
    let texts = section.texts(key).into_iter();
    texts
        .filter_map(|(text, _)| match read(&text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                section.error(
                    key,
                    format!(
                        "'{text}' is no valid pattern: {}",
                        last_line(&error.to_string())
                    ),
                );
                None
            }
        })
        .collect()
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// A mapping of header names to values.
pub fn headers(
    section: &Section<'_>,
    key: &'static str,
) -> std::collections::BTreeMap<String, String> {
    let Some(map) = section.section(key) else {
        return Default::default();
    };
    let pair = |(name, node): (&super::yaml::Key, &Node)| {
        Some((
            name.text.to_ascii_lowercase(),
            map.text_of(node, &map.path_of(&name.text))?,
        ))
    };
    map.entries().filter_map(pair).collect()
}

fn model(name: &str, section: Section<'_>) -> Option<Model> {
    let targets: Vec<Target> = section
        .list("targets")
        .into_iter()
        .filter_map(|(node, path)| target(section.section_of(node, path)?))
        .collect();
    let fallbacks = section
        .texts("fallbacks")
        .into_iter()
        .map(|(text, _)| text)
        .collect();
    let strategy = section.word("strategy", &STRATEGIES);
    if targets.is_empty() {
        section.error("targets", "is missing: a model needs at least one target");
    }
    section.finish();
    Some(Model {
        name: name.to_owned(),
        strategy,
        targets,
        fallbacks,
    })
}

fn target(section: Section<'_>) -> Option<Target> {
    let provider = section.text("provider");
    let model = section.text("model");
    let weight = section.number("weight");
    if provider.is_none() {
        section.error("provider", "is missing");
    }
    section.finish();
    Some(Target {
        provider: provider?,
        model,
        weight,
    })
}

fn master_keys(top: &Section<'_>) -> Vec<Key> {
    top.list("master_keys")
        .into_iter()
        .enumerate()
        .filter_map(|(at, (node, path))| master_key(at, top.section_of(node, path)?))
        .collect()
}

fn master_key(at: usize, mut section: Section<'_>) -> Option<Key> {
    section.leave_out_if_unset();
    let name = section
        .text("name")
        .unwrap_or_else(|| format!("key-{}", at + 1));
    let key = section.secret("key");
    section.node("description");
    let enabled = section
        .boolean("enabled")
        .or(section.boolean("is_enabled"))
        .unwrap_or(true);
    let allowed_models = patterns(&section, "allowed_models", Pattern::mapping);
    let rate_limit = section.section("rate_limit").map(rate_limit);
    let left_out = section.left_out(&name);
    if key.is_none() && !left_out && !section.has("key") {
        section.error("key", "is missing");
    }
    section.finish();
    Some(Key {
        name,
        key: key.filter(|_| !left_out)?,
        enabled,
        allowed_models,
        rate_limit,
    })
}

fn rate_limit(section: Section<'_>) -> RateLimit {
    let requests_per_second = section.number("requests_per_second");
    if requests_per_second.is_none() && !section.has("requests_per_second") {
        section.error("requests_per_second", "is missing");
    }
    let limit = RateLimit {
        requests_per_second: requests_per_second.unwrap_or(0),
        burst_size: section.number("burst_size").unwrap_or(10),
    };
    section.finish();
    limit
}

fn routing(section: Section<'_>, routing: &mut Routing) {
    set(&mut routing.strategy, section.word("strategy", &STRATEGIES));
    set(
        &mut routing.force_model_prefix,
        section.boolean("force_model_prefix"),
    );
    routing.provider_suffix = section.text("provider_suffix");
    section.finish();
}

fn retry(section: Section<'_>, retry: &mut Retry) {
    retry.max_retries = section.number("max_retries");
    set(
        &mut retry.initial_backoff,
        section.duration("initial_backoff"),
    );
    set(&mut retry.max_backoff, section.duration("max_backoff"));
    set(&mut retry.max_wait, section.duration("max_wait"));
    set(
        &mut retry.cooldown_rate_limit,
        section.duration("cooldown_rate_limit"),
    );
    set(
        &mut retry.cooldown_quota,
        section.duration("cooldown_quota"),
    );
    set(
        &mut retry.cooldown_error,
        section.duration("cooldown_error"),
    );
    set(
        &mut retry.cooldown_network,
        section.duration("cooldown_network"),
    );
    set(&mut retry.max_cooldown, section.duration("max_cooldown"));
    set(
        &mut retry.breaker_threshold,
        section.number("breaker_threshold"),
    );
    section.finish();
}

fn timeouts(section: Section<'_>, timeouts: &mut Timeouts) {
    set(&mut timeouts.connect, section.duration("connect"));
    set(&mut timeouts.first_event, section.duration("first_event"));
    set(&mut timeouts.idle, section.duration("idle"));
    set(&mut timeouts.request, section.duration("request"));
    set(&mut timeouts.keepalive, section.duration("keepalive"));
    section.finish();
}

fn health_check(section: Section<'_>, check: &mut HealthCheck) {
    set(&mut check.enabled, section.boolean("enabled"));
    set(&mut check.interval, section.duration("interval"));
    set(&mut check.timeout, section.duration("timeout"));
    section.finish();
}
