//! AI API Pool's dialect: a list of providers under every model.

use std::net::IpAddr;

use polygate_core::Secret;
use polygate_engine::config::{Config, Credential, Mapping, Provider, Strategy};
use polygate_engine::pattern::Pattern;

use super::reader::Section;
use super::yaml::Kind;

/// Whether this is one of its files: models that have providers.
pub fn is(top: &Section<'_>) -> bool {
    let has_providers = |node: &super::yaml::Node| match &node.kind {
        Kind::Map(members) => members
            .iter()
            .any(|(key, _)| key.text == "providers" || key.text == "model_name"),
        _ => false,
    };
    top.entries().any(|(key, node)| match &node.kind {
        Kind::Map(models) if key.text == "models" => {
            models.iter().any(|(_, node)| has_providers(node))
        }
        _ => false,
    })
}

/// Reads a file.
pub fn read(top: Section<'_>) -> Config {
    let mut config = Config::default();
    config.routing.strategy = Strategy::RoundRobin;
    config.server.host = IpAddr::from([0, 0, 0, 0]);
    if let Some(server) = top.section("server") {
        config.server.host = server.address("host").unwrap_or(config.server.host);
        config.server.port = server.number("port").unwrap_or(config.server.port);
        server.ignored("config_file", "the file is the one that was named at start");
        server.finish();
    }
    let models = top.section("models");
    for (key, node) in models.iter().flat_map(Section::entries) {
        let Some(section) = models
            .as_ref()
            .and_then(|models| models.section_of(node, models.path_of(&key.text)))
        else {
            continue;
        };
        model(&key.text, section, &mut config.providers);
    }
    top.finish();
    config
}

fn model(name: &str, section: Section<'_>, providers: &mut Vec<Provider>) {
    let target = section
        .text("model_name")
        .filter(|target| !target.is_empty() && target != name);
    let entries = section.list("providers");
    if entries.is_empty() {
        section.error(
            "providers",
            "is missing: a model needs at least one provider",
        );
    }
    for (node, path) in entries {
        let Some(entry) = section.section_of(node, path).and_then(provider) else {
            continue;
        };
        let mapping = Mapping {
            pattern: Pattern::exact(name),
            target: target.clone(),
        };
        add(providers, entry, mapping);
    }
    section.finish();
}

fn provider(mut entry: Section<'_>) -> Option<Provider> {
    entry.leave_out_if_unset();
    let name = entry.text("name");
    let api_base = entry.text("api_base");
    let api_key = entry.text("api_key");
    let enabled = entry.boolean("enabled").unwrap_or(true);
    let left_out = entry.left_out(name.as_deref().unwrap_or("this provider"));
    for (key, value) in [("name", &name), ("api_base", &api_base)] {
        if value.is_none() && !left_out {
            entry.error(key, "is missing");
        }
    }
    entry.finish();
    if left_out {
        return None;
    }
    let mut provider = Provider::new(name?, "");
    provider.api_base = api_base;
    provider.disabled = !enabled;
    let api_key = Secret::new(api_key.unwrap_or_default());
    provider.credentials.push(Credential {
        name: format!("{}#1", provider.name),
        api_key,
        weight: 1,
    });
    Some(provider)
}

/// The same provider under several models is one; another of the same name gets a number.
fn add(providers: &mut Vec<Provider>, mut entry: Provider, mapping: Mapping) {
    let key = |provider: &Provider| {
        provider
            .credentials
            .first()
            .map(|credential| credential.api_key.clone())
    };
    let is_same = |known: &&mut Provider| {
        let base_name = known.name.split('-').next() == entry.name.split('-').next()
            || known.name == entry.name;
        base_name
            && known.api_base == entry.api_base
            && key(known) == key(&entry)
            && known.disabled == entry.disabled
    };
    if let Some(known) = providers.iter_mut().find(is_same) {
        known.models.push(mapping);
        return;
    }
    let taken = |name: &str| providers.iter().any(|provider| provider.name == name);
    if taken(&entry.name) {
        let name = (2..)
            .map(|number| format!("{}-{number}", entry.name))
            .find(|name| !taken(name));
        entry.name = name.unwrap_or_default();
    }
    entry.models.push(mapping);
    providers.push(entry);
}
