//! What the file has, in the words of documents and without secrets: for those who look at it beside the database's.

use polygate_core::moment;
use polygate_engine::config::{
    Bounds, Config, Fallbacks, Key, Model, PriceOverride, Provider, Role, Team,
};
use polygate_engine::pattern::Pattern;
use polygate_providers::Forward;
use polygate_providers::base::Base;
use polygate_providers::price::Rates;
use polygate_server::admin::configuration::FileObject;
use polygate_store::config::Kind;
use serde_json::{Map, Value, json};

/// Everything of a kind, in the configuration's order.
pub fn objects(config: &Config, kind: Kind) -> Vec<FileObject> {
    match kind {
        Kind::Provider => config.providers.iter().map(provider).collect(),
        Kind::Model => config.models.iter().map(model).collect(),
        Kind::Key => config.access.keys.iter().flatten().map(key).collect(),
        Kind::Team => config.access.teams.iter().map(team).collect(),
        Kind::Price => config.price_overrides.iter().map(price).collect(),
    }
}

fn object(name: &str, body: Value) -> FileObject {
    let body = match body {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    // What is not said is not shown.
    let said = body.into_iter().filter(|(_, value)| !value.is_null());
    FileObject {
        name: name.to_owned(),
        body: said.collect(),
    }
}

fn provider(provider: &Provider) -> FileObject {
    let mapping: Map<String, Value> = provider
        .models
        .iter()
        .map(|mapping| {
            let pattern = mapping.pattern.source();
            let target = mapping.target.as_deref().unwrap_or(pattern);
            (pattern.to_owned(), target.into())
        })
        .collect();
    // Read and written again: an address may hold a key.
    let base = provider.api_base.as_deref();
    let base = base
        .map(|base| Base::parse(base, "").map_or_else(|_| "***".to_owned(), |base| base.display()));
    let kind = Some(&provider.kind).filter(|kind| !kind.is_empty());
    let keys = provider.credentials.iter();
    let keys: Vec<Value> = keys
        .filter(|key| !key.api_key.is_empty())
        .map(|key| {
            let enabled = Some(false).filter(|_| key.disabled);
            let said =
                json!({"name": key.name, "weight": key.weight, "key": "***", "enabled": enabled});
            object("", said).body.into()
        })
        .collect();
    let body = json!({
        "type": kind,
        "api_base": base,
        "model_mapping": mapping,
        "weight": provider.weight,
        "enabled": !provider.disabled,
        "priority": Some(provider.priority).filter(|priority| *priority != 0),
        "prefix": provider.prefix,
        "region": provider.region,
        "forward_headers": provider.header_policy.forward.as_ref().map(forwarded),
        "passthrough_headers": provider.header_policy.passthrough.as_ref().map(|names| sources(names)),
        "max_concurrent": provider.max_concurrent,
        "max_connections": provider.max_connections,
        "api_keys": Some(keys).filter(|keys| !keys.is_empty()),
    });
    object(&provider.name, body)
}

/// By name: all values, or patterns of them.
fn forwarded(forward: &Forward) -> Value {
    let rules = forward.rules().iter();
    let rules = rules.map(|rule| {
        let only = rule
            .only
            .as_ref()
            .map_or_else(|| json!("*"), |only| json!(only));
        (rule.name.to_string(), only)
    });
    rules.collect::<Map<_, _>>().into()
}

fn sources(patterns: &[Pattern]) -> Value {
    patterns.iter().map(Pattern::source).collect()
}

fn model(model: &Model) -> FileObject {
    let targets = model.targets.iter();
    let targets: Vec<Value> = targets
        .map(|target| {
            let body = json!({
                "provider": target.provider,
                "model": target.model,
                "weight": target.weight,
                "priority": target.priority,
            });
            object("", body).body.into()
        })
        .collect();
    let body = json!({
        "strategy": model.strategy.map(|strategy| strategy.name()),
        "targets": targets,
        "fallbacks": fallbacks(&model.fallbacks),
        "max_concurrent": model.max_concurrent,
        "strict": Some(true).filter(|_| model.strict),
    });
    object(&model.name, body)
}

fn fallbacks(fallbacks: &Fallbacks) -> Option<Value> {
    let lists = fallbacks.by_cause();
    let said = lists.iter().filter(|(_, names)| !names.is_empty());
    let said: Map<String, Value> = said
        .map(|(cause, names)| ((*cause).to_owned(), json!(names)))
        .collect();
    (!said.is_empty()).then(|| said.into())
}

fn key(key: &Key) -> FileObject {
    let mut body = json!({
        "enabled": key.enabled,
        "team": key.team,
        "role": key.role.map(Role::name),
        "expires_at": key.expires.map(moment::text),
        "strict": Some(true).filter(|_| key.strict),
        "explain": Some(true).filter(|_| key.explain),
        "tags": Some(&key.tags).filter(|tags| !tags.is_empty()),
        "metadata": Some(&key.metadata).filter(|metadata| !metadata.is_empty()),
    });
    bounds(&key.bounds, &mut body);
    object(&key.name, body)
}

fn team(team: &Team) -> FileObject {
    let mut body = json!({
        "enabled": team.enabled,
        "tags": Some(&team.tags).filter(|tags| !tags.is_empty()),
        "metadata": Some(&team.metadata).filter(|metadata| !metadata.is_empty()),
    });
    bounds(&team.bounds, &mut body);
    object(&team.name, body)
}

/// By its model, behind the provider where it is for one.
fn price(price: &PriceOverride) -> FileObject {
    let model = price.model.source();
    let name = match &price.provider {
        Some(provider) => format!("{provider}/{model}"),
        None => model.to_owned(),
    };
    let long = price.price.long.as_ref();
    let mut amounts = dollars(&price.price.rates);
    if let Some(long) = long {
        let mut of_long = dollars(&long.rates);
        of_long.insert("above".to_owned(), long.above.into());
        amounts.insert("long_prompt".to_owned(), of_long.into());
    }
    let body = json!({
        "model": model,
        "provider": price.provider,
        "price": amounts,
        "date": Some(&price.date).filter(|date| !date.is_empty()),
    });
    object(&name, body)
}

/// In USD per million tokens, as files say it.
fn dollars(rates: &Rates) -> Map<String, Value> {
    let all = json!(rates);
    let said = all.as_object().into_iter().flatten();
    said.filter_map(|(name, millionths)| {
        let dollars = millionths.as_f64()? / 1e6;
        Some((name.clone(), json!(dollars)))
    })
    .collect()
}

fn bounds(bounds: &Bounds, body: &mut Value) {
    let models = bounds.allowed_models.iter();
    body["allowed_models"] = models.map(|pattern| pattern.source()).collect();
    body["max_concurrent"] = json!(bounds.max_concurrent);
    body["rate_limit"] = json!(bounds.rate_limit.map(|limit| {
        json!({"requests_per_second": limit.requests_per_second, "burst_size": limit.burst_size})
    }));
}
