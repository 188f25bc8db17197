//! What a configuration resolved to, for people: no secrets.

use std::fmt::Write;
use std::time::Duration;

use polygate_engine::config::{
    Affinity, By, CacheStore, Cloak, Config, Credential, Guard, HeaderPolicy, Looks, Model,
    ModelRoute, Provider, Retry, Way, WireApi,
};
use polygate_engine::pattern::Pattern;
use polygate_engine::payload::Rule;
use polygate_engine::snapshot::settings;
use polygate_providers::Forward;
use polygate_providers::base::Base;

use super::{Loaded, payload};

/// Readable lines: a word for what it is about, then what it is.
pub fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut lines = vec![("dialect", loaded.dialect.name().to_owned())];
    lines.push(("listens", listens(config)));
    let providers = config.providers.iter();
    lines.extend(providers.map(|provider| ("provider", provider_line(provider))));
    let models = config.models.iter();
    lines.extend(models.map(|model| ("model", model_line(model))));
    let rules = config.payload.iter();
    lines.extend(rules.map(|rule| ("payload", payload_line(rule))));
    lines.push(("callers", callers(config)));
    lines.push(("routing", routing(config)));
    lines.push(("retry", retry(&config.retry)));
    lines.push(("rests", rests(&config.retry)));
    lines.push(("timeouts", timeouts(config)));
    lines.push(("health", health(config)));
    lines.extend(cache(config).into_iter().map(|text| ("cache", text)));
    let guards = config.guards.list.iter();
    lines.extend(guards.map(|guard| ("guard", guard_line(guard))));
    if let Way::Through(proxy) = &config.way {
        lines.push(("proxy", proxy.to_string()));
    }
    lines.extend(header_policy(&config.header_policy).map(|text| ("headers", text)));
    if !config.verify_ssl {
        let warning = "providers' certificates are NOT checked (verify_ssl: false)";
        lines.push(("warning", warning.to_owned()));
    }
    let warnings = loaded.warnings.iter();
    lines.extend(warnings.map(|warning| ("warning", warning.to_string())));
    let mut out = String::new();
    for (what, text) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{what:<10} {text}");
    }
    out
}

fn listens(config: &Config) -> String {
    let server = &config.server;
    let address = std::net::SocketAddr::new(server.host, server.port);
    let tls = if server.tls.is_some() { " (TLS)" } else { "" };
    format!(
        "{address}{tls}, bodies up to {} bytes, grace {} after a delay of {}",
        server.body_limit,
        time(server.shutdown_grace),
        time(server.shutdown_delay)
    )
}

fn provider_line(provider: &Provider) -> String {
    let row = polygate_providers::registry::row_of(&settings(provider)).ok();
    let kind = row.map_or("?", |row| row.name.as_str());
    let own = row.and_then(|row| row.base.as_deref());
    let base = provider.api_base.as_deref().or(own).unwrap_or_default();
    // Read and written again: a query may hold a key.
    let base = Base::parse(base, "").map_or_else(|_| "-".to_owned(), |base| base.display());
    let mut out = format!("{} ({kind}) {base}, {}", provider.name, keys(provider));
    let mut add = |text: String| {
        out.push_str(", ");
        out.push_str(&text);
    };
    add(format!("weight {}", provider.weight));
    if provider.priority != 0 {
        add(format!("priority {}", provider.priority));
    }
    if let Some(prefix) = &provider.prefix {
        add(format!("prefix {prefix}"));
    }
    if let Some(wire_api) = provider.wire_api {
        let name = match wire_api {
            WireApi::Chat => "chat",
            WireApi::Responses => "responses",
        };
        add(format!("{name} only"));
    }
    match &provider.way {
        Some(Way::Through(proxy)) => add(format!("through {proxy}")),
        Some(Way::Direct) => add("direct".to_owned()),
        None => {}
    }
    if provider.verify_ssl == Some(false) {
        add("certificates NOT checked".to_owned());
    }
    if !provider.headers.is_empty() {
        let names: Vec<&str> = provider.headers.keys().map(String::as_str).collect();
        add(format!("headers {}", names.join(" ")));
    }
    if let Some(cloak) = provider.cloak.as_ref().filter(|cloak| cloak.is_on()) {
        add(cloak_words(cloak));
    }
    if let Some(forward) = &provider.header_policy.forward {
        add(forwarded(forward));
    }
    if let Some(passed) = &provider.header_policy.passthrough {
        add(format!("answers with {}", names(passed)));
    }
    if let Some(model) = &provider.health_model {
        add(format!("checked by chats with {model}"));
    }
    if provider.disabled {
        add("disabled".to_owned());
    }
    format!("{out}: {}", serves(provider))
}

fn cloak_words(cloak: &Cloak) -> String {
    let mut out = format!(
        "cloak {} (end user {}",
        cloak.mode.name(),
        cloak.user_id.name()
    );
    if cloak.system_prompt.is_some() {
        let how = match cloak.strict {
            true => ", its own instructions alone",
            false => ", its own instructions first",
        };
        out.push_str(how);
    }
    if !cloak.sensitive_words.is_empty() {
        let _ = write!(out, ", hides {} word(s)", cloak.sensitive_words.len());
    }
    if !cloak.headers.is_empty() {
        let names: Vec<&str> = cloak.headers.keys().map(String::as_str).collect();
        let _ = write!(out, ", headers {}", names.join(" "));
    }
    out + ")"
}

/// How many keys there are, and which, where one has options of its own.
fn keys(provider: &Provider) -> String {
    let keys = provider.credentials.iter();
    let named = keys.clone().filter(|key| !key.api_key.is_empty()).count();
    let texts: Vec<String> = keys.clone().map(key).collect();
    let is_plain = texts.iter().zip(keys).all(|(text, key)| *text == key.name);
    if is_plain {
        return format!("{named} key(s)");
    }
    format!("{named} key(s): {}", texts.join(" "))
}

/// A key's name, and what it has of its own.
fn key(key: &Credential) -> String {
    let mut out = key.name.clone();
    if key.weight != 1 {
        let _ = write!(out, " ×{}", key.weight);
    }
    let models = [("for", &key.models), ("not for", &key.excluded_models)];
    let mut more: Vec<String> = models
        .iter()
        .filter(|(_, patterns)| !patterns.is_empty())
        .map(|(word, patterns)| format!("{word} {}", names(patterns)))
        .collect();
    if !key.headers.is_empty() {
        let names: Vec<&str> = key.headers.keys().map(String::as_str).collect();
        more.push(format!("headers {}", names.join(" ")));
    }
    if key.disabled {
        more.push("disabled".to_owned());
    }
    if !more.is_empty() {
        let _ = write!(out, " ({})", more.join(", "));
    }
    out
}

/// Headers that pass between clients and providers, where any do.
fn header_policy(policy: &HeaderPolicy) -> Option<String> {
    let mut parts = Vec::new();
    if !policy.passthrough.is_empty() {
        parts.push(format!("answers with {}", names(&policy.passthrough)));
    }
    if !policy.claude_defaults.is_empty() {
        let names: Vec<&str> = policy.claude_defaults.keys().map(String::as_str).collect();
        parts.push(format!("defaults for Claude {}", names.join(" ")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn forwarded(forward: &Forward) -> String {
    let rules = forward.rules().iter().map(|rule| match &rule.only {
        None => rule.name.to_string(),
        Some(only) => format!("{} ({})", rule.name, only.join(" ")),
    });
    let rules: Vec<String> = rules.collect();
    match rules.as_slice() {
        [] => "forwards no headers".to_owned(),
        rules => format!("forwards {}", rules.join(" ")),
    }
}

fn names(patterns: &[Pattern]) -> String {
    let names: Vec<&str> = patterns.iter().map(Pattern::source).collect();
    match names.as_slice() {
        [] => "no headers".to_owned(),
        names => names.join(" "),
    }
}

fn serves(provider: &Provider) -> String {
    let models = provider.models.iter().map(|mapping| match &mapping.target {
        Some(target) => format!("{} -> {target}", mapping.pattern.source()),
        None => mapping.pattern.source().to_owned(),
    });
    let models: Vec<String> = models.collect();
    let mut out = if models.is_empty() {
        "every model".to_owned()
    } else {
        models.join(", ")
    };
    let excluded = provider.excluded_models.iter();
    let excluded: Vec<&str> = excluded.map(|pattern| pattern.source()).collect();
    if !excluded.is_empty() {
        let _ = write!(out, ", but not {}", excluded.join(", "));
    }
    out
}

fn model_line(model: &Model) -> String {
    let targets = model.targets.iter().map(|target| {
        let name = target.model.as_deref().unwrap_or(&model.name);
        let weight = target.weight.map(|weight| format!(" ×{weight}"));
        let tier = target
            .priority
            .map(|priority| format!(" (priority {priority})"));
        format!(
            "{}/{name}{}{}",
            target.provider,
            weight.unwrap_or_default(),
            tier.unwrap_or_default()
        )
    });
    let routes = model.routes.iter().map(route);
    let ways: Vec<String> = routes.chain(targets).collect();
    let mut out = format!("{} -> {}", model.name, ways.join(", "));
    if let Some(strategy) = model.strategy {
        let _ = write!(out, ", {}", strategy.name());
    }
    if model.strict {
        out.push_str(", strict");
    }
    if let Some(affinity) = model.affinity {
        let _ = write!(out, ", {}", affinity_name(affinity));
    }
    if let Some(shadow) = &model.shadow {
        let (to, percent, most) = (&shadow.model, shadow.percent, shadow.max_concurrent);
        let _ = write!(out, ", {percent} % to {to} too (at most {most} at a time)");
    }
    for (cause, names) in model.fallbacks.by_cause() {
        if !names.is_empty() {
            let cause = match cause {
                "any" => String::new(),
                cause => format!(" ({cause})"),
            };
            let _ = write!(out, ", else{cause} {}", names.join(", "));
        }
    }
    out
}

/// Where it changes what, for whom; the values may be secrets.
fn payload_line(rule: &Rule) -> String {
    let paths = rule.params.iter().map(|(path, _)| path.to_string());
    let paths: Vec<String> = paths.collect();
    let targets = rule.targets.iter().map(|target| {
        let protocol = target.protocol.and_then(payload::word);
        let protocol = protocol.map(|word| format!(" ({word})"));
        format!("{}{}", target.model.source(), protocol.unwrap_or_default())
    });
    let targets: Vec<String> = targets.collect();
    let mut out = format!("{rule} {}", paths.join(", "));
    if !targets.is_empty() {
        let _ = write!(out, " for {}", targets.join(", "));
    }
    if !rule.when.is_empty() {
        let _ = write!(out, ", when {}", rule.when);
    }
    out
}

fn route(route: &ModelRoute) -> String {
    let when = Some(route.when.to_string()).filter(|when| !when.is_empty());
    let percent = route.percent.map(|percent| format!("{percent} %"));
    let conditions: Vec<String> = when.into_iter().chain(percent).collect();
    match conditions.is_empty() {
        true => route.model.clone(),
        false => format!("{} ({})", route.model, conditions.join("; ")),
    }
}

fn guard_line(guard: &Guard) -> String {
    let sides = match (guard.requests, guard.answers) {
        (true, true) => "requests and answers",
        (true, false) => "requests",
        (false, _) => "answers",
    };
    let what = match &guard.by {
        By::Looks(looks) => format!("{} {} in {sides}", looks.action.name(), looked_for(looks)),
        By::Webhook(own) => {
            let otherwise = if own.fails_open {
                "go on"
            } else {
                "are refused"
            };
            let patience = time(own.timeout);
            format!(
                "a webhook is asked of {sides}, which {otherwise} without its answer in {patience}"
            )
        }
    };
    let mut out = format!("{}: {what}", guard.name);
    if !guard.when.is_empty() {
        let _ = write!(out, ", when {}", guard.when);
    }
    out
}

/// Patterns and words may be secrets of their own.
fn looked_for(looks: &Looks) -> String {
    let detectors = looks.detectors.iter().map(|one| one.name.to_owned());
    let mut all: Vec<String> = detectors.collect();
    let counts = [
        (looks.patterns.len(), "pattern(s)"),
        (looks.words.len(), "word(s)"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    all.extend(counts.map(|(count, what)| format!("{count} {what}")));
    all.join(", ")
}

fn callers(config: &Config) -> String {
    match &config.access.keys {
        None if config.access.allow_anonymous => "anyone (allow_anonymous)".to_owned(),
        None => "anyone on loopback and private addresses (no keys configured)".to_owned(),
        Some(keys) => {
            let enabled: Vec<&str> = keys
                .iter()
                .filter(|key| key.enabled)
                .map(|key| key.name.as_str())
                .collect();
            let disabled = match keys.len() - enabled.len() {
                0 => String::new(),
                disabled => format!(", {disabled} disabled"),
            };
            format!("{} key(s): {}{disabled}", enabled.len(), enabled.join(", "))
        }
    }
}

fn affinity_name(affinity: Affinity) -> &'static str {
    match (affinity.session, affinity.prefix) {
        (false, false) => "no affinity",
        (true, false) => "affinity by session",
        (false, true) => "affinity by prefix",
        (true, true) => "affinity by session or prefix",
    }
}

fn routing(config: &Config) -> String {
    let routing = &config.routing;
    let mut out = routing.strategy.name().to_owned();
    if routing.affinity != Affinity::default() {
        let _ = write!(out, ", {}", affinity_name(routing.affinity));
    }
    if routing.force_model_prefix {
        out.push_str(", prefixed providers by prefix only");
    }
    if routing.context_aware {
        out.push_str(", models with too small a context last");
    }
    if let Some(suffix) = &routing.provider_suffix {
        let _ = write!(out, ", '{}/' stripped", suffix.trim_end_matches('/'));
    }
    out
}

fn retry(retry: &Retry) -> String {
    let further = match retry.max_retries {
        Some(retries) => format!("{retries} further attempt(s)"),
        None => "every candidate once, at least 3 further attempts".to_owned(),
    };
    let streams = retry
        .stream_retries
        .map(|retries| format!(" ({retries} for streams)"));
    let streams = streams.unwrap_or_default();
    format!(
        "{further}{streams}, backoff {} to {}, waits {} for a resting key",
        time(retry.initial_backoff),
        time(retry.max_backoff),
        time(retry.max_wait)
    )
}

fn rests(retry: &Retry) -> String {
    format!(
        "429 {}, quota {}, errors {}, network {} after {} failures in a row, at most {}",
        time(retry.cooldown_rate_limit),
        time(retry.cooldown_quota),
        time(retry.cooldown_error),
        time(retry.cooldown_network),
        retry.breaker_threshold,
        time(retry.max_cooldown)
    )
}

fn timeouts(config: &Config) -> String {
    let timeouts = &config.timeouts;
    let unless_off = |every| match every {
        Duration::ZERO => "off".to_owned(),
        every => time(every),
    };
    format!(
        "connect {}, first event {}, idle {}, request {}, keepalive {}, hold {}, non-stream keepalive {}",
        time(timeouts.connect),
        time(timeouts.first_event),
        time(timeouts.idle),
        time(timeouts.request),
        unless_off(timeouts.keepalive),
        unless_off(timeouts.hold),
        unless_off(timeouts.non_stream_keepalive)
    )
}

fn health(config: &Config) -> String {
    let check = &config.health_check;
    if check.enabled {
        let chats = match check.probe_models {
            true => ", by chats with every model named",
            false => "",
        };
        format!(
            "every {}, within {}{chats}",
            time(check.interval),
            time(check.timeout)
        )
    } else {
        "not checked".to_owned()
    }
}

fn cache(config: &Config) -> Vec<String> {
    let Some(cache) = &config.cache else {
        return Vec::new();
    };
    let place = match cache.store {
        CacheStore::Memory => format!("in memory, {} bytes", cache.max_bytes),
        CacheStore::Redis => "in Redis".to_owned(),
    };
    let place = format!("{place}, answers of up to {} bytes", cache.max_entry);
    let rules = cache.rules.iter().map(|rule| {
        let whom = match rule.when.to_string() {
            all if all.is_empty() => "every call".to_owned(),
            some => some,
        };
        let mut out = format!(
            "{whom}: {}, shared by {}",
            time(rule.ttl),
            rule.share.name()
        );
        for (is, word) in [
            (rule.coalesce, ", coalesced"),
            (rule.on_request, ", on request"),
        ] {
            out.push_str(if is { word } else { "" });
        }
        out
    });
    std::iter::once(place).chain(rules).collect()
}

fn time(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    format!("{duration:?}")
}
