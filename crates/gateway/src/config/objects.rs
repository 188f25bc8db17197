//! What the file has, in the words of documents and without secrets: for those who look at it beside the database's.

use polygate_core::moment;
use polygate_engine::condition::Condition;
use polygate_engine::config::{
    Bounds, Cloak, Config, Fallbacks, Key, Model, Percent, PriceOverride, Provider, Role, Team,
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
        "cloak": provider.cloak.as_ref().map(cloak),
        "api_keys": Some(keys).filter(|keys| !keys.is_empty()),
    });
    object(&provider.name, body)
}

/// Of headers only the names, and of words how many: there may be secrets in them.
fn cloak(cloak: &Cloak) -> Value {
    let words: Vec<&str> = cloak.sensitive_words.iter().map(|_| "***").collect();
    let headers = cloak.headers.keys();
    let headers: Map<String, Value> = headers.map(|name| (name.clone(), "***".into())).collect();
    let body = json!({
        "mode": cloak.mode.name(),
        "system_prompt": cloak.system_prompt,
        "strict_mode": Some(true).filter(|_| cloak.strict),
        "user_id": cloak.user_id.name(),
        "headers": Some(headers).filter(|headers| !headers.is_empty()),
        "sensitive_words": Some(words).filter(|words| !words.is_empty()),
    });
    object("", body).body.into()
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
    let routes = model.routes.iter();
    let routes: Vec<Value> = routes
        .map(|route| {
            let when = Some(condition(&route.when)).filter(|_| !route.when.is_empty());
            let percent = route.percent.map(Percent::value);
            let body = json!({"when": when, "percent": percent, "model": route.model});
            object("", body).body.into()
        })
        .collect();
    let shadow = model.shadow.as_ref().map(|shadow| {
        json!({
            "model": shadow.model,
            "percent": shadow.percent.value(),
            "max_concurrent": shadow.max_concurrent,
        })
    });
    let body = json!({
        "routes": Some(routes).filter(|routes| !routes.is_empty()),
        "shadow": shadow,
        "strategy": model.strategy.map(|strategy| strategy.name()),
        "targets": targets,
        "fallbacks": fallbacks(&model.fallbacks),
        "max_concurrent": model.max_concurrent,
        "strict": Some(true).filter(|_| model.strict),
    });
    object(&model.name, body)
}

/// Values of headers may be secrets.
fn condition(when: &Condition) -> Value {
    let said = |patterns: &[Pattern]| {
        let sources: Vec<Value> = patterns.iter().map(|one| one.source().into()).collect();
        Some(sources).filter(|sources| !sources.is_empty())
    };
    let headers = when.headers.iter();
    let headers: Map<String, Value> = headers
        .map(|header| (header.name.to_string(), "***".into()))
        .collect();
    let formats: Vec<&str> = when.formats.iter().map(|format| format.name()).collect();
    let body = json!({
        "models": said(&when.models),
        "keys": said(&when.keys),
        "teams": said(&when.teams),
        "tags": said(&when.tags),
        "headers": Some(headers).filter(|headers| !headers.is_empty()),
        "formats": Some(formats).filter(|formats| !formats.is_empty()),
        "endpoints": said(&when.endpoints),
        "stream": when.stream,
        "tools": when.tools,
        "images": when.images,
        "tokens_above": when.tokens_above,
        "tokens_up_to": when.tokens_up_to,
    });
    object("", body).body.into()
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
