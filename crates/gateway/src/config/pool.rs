//! AI API Pool's dialect: a list of providers under every model.

use std::net::{IpAddr, Ipv4Addr};

use polygate_core::Secret;
use polygate_engine::config::{Config, Mapping, Provider, Strategy};
use polygate_engine::pattern::Pattern;

use super::names::Named;
use super::pieces::{add_key, set};
use super::reader::{Item, Section, Spot};
use super::yaml::Node;

/// Whether this is one of its files: models that have providers.
pub fn is(top: &Node) -> bool {
    let has_providers =
        |model: &Node| model.get("providers").is_some() || model.get("model_name").is_some();
    let models = top.get("models").map(Node::members).unwrap_or_default();
    models.iter().any(|(_, model)| has_providers(model))
}

/// Reads a file.
pub fn read(top: Section<'_>) -> Config {
    let mut config = Config::default();
    config.routing.strategy = Strategy::RoundRobin;
    config.server.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Some(server) = top.section("server") {
        set(&mut config.server.host, server.address("host"));
        set(&mut config.server.port, server.number("port"));
        server.ignored("config_file", "the file is the one that was named at start");
        server.finish();
    }
    let mut pool = Pool::default();
    if let Some(models) = top.section("models") {
        for (name, item) in models.entries() {
            model(name, &item, &mut pool);
        }
    }
    top.finish();
    config.providers = pool
        .providers
        .into_iter()
        .map(|(_, provider)| provider)
        .collect();
    config
}

/// Providers with the names that the file gave them.
#[derive(Default)]
struct Pool {
    providers: Vec<(String, Provider)>,
}

fn model(name: &str, item: &Item<'_>, pool: &mut Pool) {
    let Some(section) = item.section() else {
        return;
    };
    let target = section.text("model_name").filter(|target| target != name);
    let entries = section.required("providers").map(|item| item.list());
    if entries.as_ref().is_some_and(Vec::is_empty) {
        section.error("providers", "needs at least one provider");
    }
    for entry in entries.into_iter().flatten() {
        let entry = entry.left_out_if_unset();
        let Some(provider) = entry.section().and_then(provider) else {
            continue;
        };
        let mapping = Mapping {
            pattern: Pattern::exact(name),
            target: target.clone(),
            price: None,
        };
        if let Some(named) = pool.add(provider, mapping, &entry.spot) {
            entry.names().borrow_mut().providers.push(named);
        }
    }
    section.finish();
}

fn provider(entry: Section<'_>) -> Option<Provider> {
    let name = entry.required_text("name");
    let api_base = entry.required_text("api_base");
    let api_key = entry.required("api_key").and_then(|item| item.text());
    let enabled = entry.boolean("enabled").unwrap_or(true);
    let left_out = entry.is_left_out(name.as_deref().unwrap_or("this provider"));
    entry.finish();
    if left_out {
        return None;
    }
    let mut provider = Provider::new(name?, "");
    provider.api_base = Some(api_base?);
    provider.disabled = !enabled;
    // An empty key is for upstreams that want none.
    add_key(&mut provider, Secret::new(api_key?.trim()));
    Some(provider)
}

impl Pool {
    /// The same provider under several models is one; another of the same name gets a number, and is told.
    fn add(&mut self, mut entry: Provider, mapping: Mapping, spot: &Spot) -> Option<Named> {
        let said = entry.name.clone();
        let same = self
            .providers
            .iter_mut()
            .find(|(name, known)| *name == said && is_same(known, &entry));
        if let Some((_, known)) = same {
            known.models.push(mapping);
            return None;
        }
        let taken = |name: &str| self.providers.iter().any(|(_, known)| known.name == name);
        if taken(&said) {
            let mut numbered = (2..).map(|number| format!("{said}-{number}"));
            entry.name = numbered.find(|name| !taken(name)).unwrap_or_default();
            let keys = std::mem::take(&mut entry.credentials);
            for key in keys {
                add_key(&mut entry, key.api_key);
            }
        }
        entry.models.push(mapping);
        let named = Named::new(&entry.name, spot);
        self.providers.push((said, entry));
        Some(named)
    }
}

fn is_same(one: &Provider, other: &Provider) -> bool {
    let keys = |provider: &Provider| {
        let keys = provider.credentials.iter();
        keys.map(|key| key.api_key.clone()).collect::<Vec<_>>()
    };
    one.api_base == other.api_base && one.disabled == other.disabled && keys(one) == keys(other)
}
