//! `providers`: upstreams with their keys and the names they serve.

use std::path::PathBuf;

use polygate_core::Secret;
use polygate_engine::config::{Credential, Mapping, Provider};
use polygate_engine::pattern::Pattern;
use polygate_providers::Price;

use super::limits::limits;
use crate::config::cloak::cloak;
use crate::config::headers::of_provider;
use crate::config::pieces::{
    WIRE_APIS, add_key, at_least_one, deadlines, headers, keep, max_concurrent, pattern, patterns,
    price, set, way,
};
use crate::config::reader::{Item, Section};
use crate::config::yaml::Kind;

/// One provider; `None` where it is left out or has no name.
pub fn read(section: Section<'_>) -> Option<Provider> {
    let name = section.required_text("name");
    let kind = section.text("type").unwrap_or_default();
    let mut provider = Provider::new(name.clone().unwrap_or_default(), kind);
    provider.api_base = section.text("api_base");
    provider.disabled = is_disabled(&section);
    let has_keys_left = credentials(&section, &mut provider);
    set(&mut provider.weight, section.number("weight"));
    set(&mut provider.priority, section.number("priority"));
    provider.prefix = section.text("prefix");
    provider.models = model_mapping(&section);
    provider.excluded_models = patterns(&section, "excluded_models", Pattern::glob);
    provider.headers = headers(&section, "headers");
    provider.cloak = cloak(&section);
    provider.header_policy = of_provider(&section, &provider);
    provider.wire_api = section.word("wire_api", &WIRE_APIS);
    provider.api_version = section.text("api_version");
    provider.region = section.text("region");
    provider.way = way(&section, "proxy_url");
    provider.verify_ssl = section.boolean("verify_ssl");
    provider.ca_file = section.text("ca_file").map(PathBuf::from);
    provider.timeouts = deadlines(&section, false);
    provider.max_concurrent = max_concurrent(&section);
    provider.limits = limits(&section);
    provider.max_connections = at_least_one(&section, "max_connections");
    provider.health_model = health_model(&section);
    let left_out = section.is_left_out(name.as_deref().unwrap_or("this provider"));
    let is_sound = name.is_some() && !left_out && has_keys_left;
    let provider = keep(&section, provider, is_sound);
    section.finish();
    provider
}

/// `health_check.model`.
fn health_model(section: &Section<'_>) -> Option<String> {
    let check = section.section("health_check")?;
    let model = check.required_text("model");
    check.finish();
    model
}

/// `api_key` and `api_keys`. Of several keys those whose variables are not set are left out; whether any, if there are some, is left.
fn credentials(section: &Section<'_>, provider: &mut Provider) -> bool {
    if let Some(item) = section.item("api_key")
        && let Some(api_key) = item.secret()
    {
        add_key(provider, api_key);
    }
    let items = section.items("api_keys");
    let mut left_out = 0;
    for item in items {
        let item = item.left_out_if_unset();
        credential(&item, provider);
        let name = format!("{}#{}", provider.name, provider.credentials.len() + 1);
        left_out += usize::from(item.is_left_out(&name));
    }
    let keys = &provider.credentials;
    if !keys.is_empty() && keys.iter().all(|key| key.disabled) {
        provider.disabled = true;
        section.warn(
            "api_keys",
            format!("'{}' has no key that is enabled", provider.name),
        );
    }
    let is_empty = provider.credentials.is_empty();
    if is_empty && left_out > 0 {
        let message = format!("'{}' is left out: it has no key left", provider.name);
        section.warn("api_keys", message);
        return false;
    }
    if is_empty {
        // Some upstreams want no key.
        add_key(provider, Secret::new(""));
    }
    true
}

fn credential(item: &Item<'_>, provider: &mut Provider) {
    if !matches!(item.node.kind, Kind::Map(_)) {
        if let Some(api_key) = item.secret() {
            add_key(provider, api_key);
        }
        return;
    }
    let Some(entry) = item.section() else {
        return;
    };
    let api_key = entry.required("key").and_then(|key| key.secret());
    let numbered = format!("{}#{}", provider.name, provider.credentials.len() + 1);
    let mut key = Credential::new(
        entry.text("name").unwrap_or(numbered),
        api_key.clone().unwrap_or_else(|| Secret::new("")),
    );
    set(&mut key.weight, entry.number("weight"));
    set(&mut key.priority, entry.number("priority"));
    key.disabled = is_disabled(&entry);
    key.way = way(&entry, "proxy_url");
    key.headers = headers(&entry, "headers");
    key.models = patterns(&entry, "models", Pattern::mapping);
    key.excluded_models = patterns(&entry, "excluded_models", Pattern::glob);
    entry.finish();
    if api_key.is_some() {
        provider.credentials.push(key);
    }
}

/// `disabled: true` and `enabled: false` are the same.
fn is_disabled(section: &Section<'_>) -> bool {
    let enabled = section.boolean("enabled").unwrap_or(true);
    section.boolean("disabled").unwrap_or(false) || !enabled
}

/// `model_mapping`: name or pattern → name there, or an object that has it under `mapped_model`; or a list of names.
fn model_mapping(section: &Section<'_>) -> Vec<Mapping> {
    let Some(whole) = section.item("model_mapping") else {
        return vec![];
    };
    if let Kind::List(_) = &whole.node.kind {
        let passed = |item: &Item<'_>| {
            let pattern = pattern(item, item.text()?.trim(), Pattern::mapping)?;
            Some(Mapping {
                pattern,
                target: None,
                price: None,
            })
        };
        return whole.list().iter().filter_map(passed).collect();
    }
    let entries = whole.section().map(|map| map.entries());
    let mut has_extras = false;
    let mappings = entries.into_iter().flatten().filter_map(|(name, item)| {
        let pattern = pattern(&item, name, Pattern::mapping);
        let (target, price) = target(&item, &mut has_extras);
        Some(Mapping {
            pattern: pattern?,
            target,
            price,
        })
    });
    let mappings = mappings.collect();
    if has_extras {
        section.warn(
            "model_mapping",
            "limits, prices and capabilities of models have no effect yet",
        );
    }
    mappings
}

/// The name there, and what it costs.
fn target(item: &Item<'_>, has_extras: &mut bool) -> (Option<String>, Option<Price>) {
    let mut price = None;
    let name = target_name(item, has_extras, &mut price);
    (name, price)
}

fn target_name(item: &Item<'_>, has_extras: &mut bool, cost: &mut Option<Price>) -> Option<String> {
    let text = if let Kind::Map(_) = &item.node.kind {
        let object = item.section()?;
        let target = object.required_text("mapped_model");
        *cost = price(&object);
        *has_extras |= object.pass_over(is_extra);
        object.finish();
        target?
    } else if item.node.is_null() {
        return None;
    } else {
        item.text()?
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What llm-proxy published beside `mapped_model`.
fn is_extra(key: &str) -> bool {
    key == "mode"
        || key.starts_with("supports_")
        || key.starts_with("max_")
        || key.contains("_cost_per_")
}
