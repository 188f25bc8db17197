//! What no single section can see: names that refer to each other, names that are there twice, settings that cannot work together.

use std::collections::{HashMap, HashSet, VecDeque};

use polygate_engine::choose::DEPTH;
use polygate_engine::config::{Config, Mapping, Model, Provider};
use polygate_engine::snapshot::settings;

use super::names::{Named, Names, Reference};
use super::payload;
use super::problem::{Findings, Problem};
use super::reader::Spot;
use super::values::nearest;

/// Keys that everyone tries first.
pub const SAMPLES: [&str; 11] = [
    "your-admin-key",
    "your-secure-admin-key",
    "your-client-api-key",
    "admin",
    "admin-key",
    "changeme",
    "change-me",
    "secret",
    "password",
    "test",
    "12345678",
];

/// Whether this key is one that everyone tries first.
pub fn is_sample(key: &str) -> bool {
    SAMPLES.contains(&key.trim().to_ascii_lowercase().as_str())
}

/// Finds everything that is wrong between the parts, and takes out targets whose provider was left out.
pub fn check(config: &mut Config, names: &Names, findings: &mut Findings) {
    providers(config, names, findings);
    targets(names, findings);
    fallbacks(config, names, findings);
    routes(config, names, findings);
    cycles(config, names, findings);
    keys(config, names, findings);
    teams(names, findings);
    weights(config, names, findings);
    let said = payload::idle(&config.payload, &config.providers, &config.models);
    for message in said.into_iter().chain(payload::crossing(&config.payload)) {
        findings.warn("", message);
    }
    for model in &mut config.models {
        let is_here = |name: &String| names.providers.iter().any(|known| known.name == *name);
        model.targets.retain(|target| is_here(&target.provider));
    }
}

fn problem(spot: &Spot, message: String, hint: Option<String>) -> Problem {
    Problem {
        place: spot.place,
        path: spot.path.clone(),
        message,
        hint,
    }
}

fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|known| format!("did you mean '{known}'?"))
}

fn providers(config: &Config, names: &Names, findings: &mut Findings) {
    let mut first: HashMap<&str, &Spot> = HashMap::new();
    for (provider, named) in config.providers.iter().zip(&names.providers) {
        if let Some(first) = first.insert(&named.name, &named.spot) {
            let message = format!(
                "another provider, in line {}, is called '{}' too",
                first.place.line, named.name
            );
            findings.errors.push(problem(&named.spot, message, None));
        }
        if let Err(error) = polygate_providers::build(&settings(provider)) {
            let hint = kind_hint(&provider.kind);
            findings.errors.push(problem(&named.spot, error, hint));
        } else if let Some(variable) = wanted_key(provider) {
            let message = format!("'{}' has no api_key", named.name);
            let hint = Some(format!("is it ${{{variable}}}?"));
            findings.warnings.push(problem(&named.spot, message, hint));
        }
    }
}

fn kind_hint(kind: &str) -> Option<String> {
    if kind.is_empty() || polygate_providers::row_named(kind).is_some() {
        return None;
    }
    let rows = polygate_providers::table().iter();
    did_you_mean(kind, rows.map(|row| row.name.as_str()))
}

/// The variable that usually holds the key of a provider that has none and needs one.
fn wanted_key(provider: &Provider) -> Option<&'static str> {
    let is_empty = provider
        .credentials
        .iter()
        .all(|key| key.api_key.is_empty());
    let row = polygate_providers::registry::row_of(&settings(provider)).ok()?;
    let variable = row.env.first()?;
    (is_empty && !provider.disabled).then_some(variable)
}

fn targets(names: &Names, findings: &mut Findings) {
    let present = names.providers.iter().map(|named| named.name.as_str());
    let absent = names.absent.iter().map(String::as_str);
    let known: Vec<&str> = present.chain(absent).collect();
    for target in &names.targets {
        if !known.contains(&target.name.as_str()) {
            let message = format!("there is no provider '{}'", target.name);
            let hint = did_you_mean(&target.name, known.iter().copied());
            findings.errors.push(problem(&target.spot, message, hint));
        }
    }
}

fn fallbacks(config: &Config, names: &Names, findings: &mut Findings) {
    let models: Vec<&str> = names.models.iter().map(|named| &*named.name).collect();
    for fallback in &names.fallbacks {
        if fallback.name == fallback.by {
            let message = "a model cannot fall back to itself".to_owned();
            findings.errors.push(problem(&fallback.spot, message, None));
        } else if !is_model(fallback, config, names, &models) {
            let message = format!("there is no model '{}'", fallback.name);
            let hint = did_you_mean(&fallback.name, models.iter().copied());
            findings.errors.push(problem(&fallback.spot, message, hint));
        }
    }
}

fn by_name(config: &Config) -> HashMap<&str, &Model> {
    let models = config.models.iter();
    models.map(|model| (&*model.name, model)).collect()
}

fn routes(config: &Config, names: &Names, findings: &mut Findings) {
    let models: Vec<&str> = names.models.iter().map(|named| &*named.name).collect();
    for route in &names.routes {
        if route.name == route.by {
            let message = "a model cannot lead to itself: what no route takes goes to its targets";
            let hint = None;
            findings
                .errors
                .push(problem(&route.spot, message.to_owned(), hint));
        } else if !is_model(route, config, names, &models) {
            let message = format!("there is no model '{}'", route.name);
            let hint = did_you_mean(&route.name, models.iter().copied());
            findings.errors.push(problem(&route.spot, message, hint));
        }
    }
    let models = by_name(config);
    for named in &names.models {
        if leads_through(&named.name, &models, DEPTH) {
            let message = format!("its routes lead through more than {DEPTH} models");
            findings.errors.push(problem(&named.spot, message, None));
        }
    }
}

/// Whether routes lead through more models than this, by the sets of models that are so many steps away.
fn leads_through(start: &str, models: &HashMap<&str, &Model>, most: usize) -> bool {
    let with_routes = |name: &str| models.get(name).filter(|model| !model.routes.is_empty());
    let mut level: HashSet<&str> = with_routes(start)
        .map(|model| &*model.name)
        .into_iter()
        .collect();
    for _ in 0..most {
        let routes = level.iter().filter_map(|name| models.get(name));
        let routes = routes.flat_map(|model| &model.routes);
        let next = routes.filter_map(|route| with_routes(&route.model));
        level = next.map(|model| &*model.name).collect();
    }
    !level.is_empty()
}

/// Routes that lead back to where they began, through fallbacks too, each told once, at its first model.
fn cycles(config: &Config, names: &Names, findings: &mut Findings) {
    let models = by_name(config);
    let mut told: Vec<Vec<&str>> = Vec::new();
    for named in &names.models {
        let Some(cycle) = cycle_from(&named.name, &models) else {
            continue;
        };
        // Leading to itself is told already.
        let mut members = cycle.clone();
        members.sort_unstable();
        if members.len() < 2 || told.contains(&members) {
            continue;
        }
        told.push(members);
        let way = [cycle.as_slice(), &[&*named.name]].concat().join(" -> ");
        let message = format!("its routes and fallbacks go round in a circle: {way}");
        findings.errors.push(problem(&named.spot, message, None));
    }
}

/// The shortest way from a model back to itself that takes a route. Fallbacks alone may lead back: a call goes through each model once.
fn cycle_from<'a>(start: &'a str, models: &HashMap<&'a str, &'a Model>) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([(vec![start], false)]);
    let mut seen: HashSet<(&str, bool)> = HashSet::new();
    while let Some((way, by_route)) = ways.pop_front() {
        let model = way.last().and_then(|last| models.get(last));
        let Some(model) = model else { continue };
        let lists = model.fallbacks.by_cause();
        let fallbacks = lists.iter().flat_map(|(_, names)| *names);
        let fallbacks = fallbacks.map(|name| (name, by_route));
        let routes = model.routes.iter().map(|route| (&route.model, true));
        for (next, by_route) in fallbacks.chain(routes) {
            if next == start && by_route {
                return Some(way);
            }
            if next != start && seen.insert((next, by_route)) {
                ways.push_back(([way.as_slice(), &[next.as_str()]].concat(), by_route));
            }
        }
    }
    None
}

/// What absent providers would have offered is not known: their models get the benefit of the doubt.
fn is_model(named: &Reference, config: &Config, names: &Names, models: &[&str]) -> bool {
    let name = named.name.as_str();
    let mut providers = config.providers.iter();
    models.contains(&name)
        || !names.absent.is_empty()
        || providers.any(|provider| offers(provider, name))
}

fn offers(provider: &Provider, name: &str) -> bool {
    let prefix = provider.prefix.as_deref().unwrap_or_default();
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    let serves = |mapping: &Mapping| mapping.pattern.matches(bare) || mapping.pattern.matches(name);
    provider.models.is_empty() || provider.models.iter().any(serves)
}

fn keys(config: &Config, names: &Names, findings: &mut Findings) {
    let mut first: HashMap<_, &Named> = HashMap::new();
    let keys = config.access.keys.iter().flatten();
    for (key, named) in keys.zip(&names.keys) {
        if let Some(first) = first.insert((key.key.reveal(), key.hash), named) {
            let message = format!(
                "'{}' has the same key as '{}' in line {}",
                named.name, first.name, first.spot.place.line
            );
            findings.errors.push(problem(&named.spot, message, None));
        }
        if is_sample(key.key.reveal()) {
            let message = format!("'{}' has a key that everyone tries first", named.name);
            findings.warnings.push(problem(&named.spot, message, None));
        }
    }
    let is_closed = |keys: &Vec<_>| {
        keys.iter()
            .all(|key: &polygate_engine::config::Key| !key.enabled)
    };
    if config.access.keys.as_ref().is_some_and(is_closed) {
        findings.warn("", "no key of callers is enabled: every call is refused");
    }
}

fn teams(names: &Names, findings: &mut Findings) {
    let known: Vec<&str> = names.teams.iter().map(|named| &*named.name).collect();
    for named in &names.teams_named {
        if !known.contains(&named.name.as_str()) {
            let message = format!("there is no team '{}'", named.name);
            let hint = did_you_mean(&named.name, known.iter().copied());
            findings.errors.push(problem(&named.spot, message, hint));
        }
    }
}

/// Weight 0 drains; drained are used only when nothing else is left, which is always where all are.
fn weights(config: &Config, names: &Names, findings: &mut Findings) {
    let mut warn = |spot: &Spot, what: &str| {
        let message = format!("{what} has weight 0: they are used all the same, as a last resort");
        findings.warnings.push(problem(spot, message, None));
    };
    for (provider, named) in config.providers.iter().zip(&names.providers) {
        let keys = &provider.credentials;
        if !keys.is_empty() && keys.iter().all(|key| key.weight == 0) {
            warn(&named.spot, "every key");
        }
    }
    let weight_of = |name: &str| {
        let provider = config.providers.iter().find(|one| one.name == name);
        provider.map_or(1, |provider| provider.weight)
    };
    for (model, named) in config.models.iter().zip(&names.models) {
        let mut weights = model
            .targets
            .iter()
            .map(|target| target.weight.unwrap_or_else(|| weight_of(&target.provider)));
        if !model.targets.is_empty() && weights.all(|weight| weight == 0) {
            warn(&named.spot, "every target");
        }
    }
    let mut active = config
        .providers
        .iter()
        .filter(|one| !one.disabled)
        .peekable();
    if active.peek().is_some() && active.all(|provider| provider.weight == 0) {
        findings.warn("", "every provider has weight 0");
    }
}
