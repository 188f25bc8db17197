//! Which headers pass between clients and providers.

use std::collections::BTreeMap;

use http::HeaderName;
use polygate_engine::config::{HeaderPolicy, OwnHeaderPolicy, Provider};
use polygate_engine::passthrough::is_never;
use polygate_engine::pattern::Pattern;
use polygate_engine::snapshot::settings;
use polygate_providers::Forward;
use polygate_providers::forward::{Never, Rule};
use polygate_providers::registry::row_of;

use super::pieces::{headers, pattern};
use super::reader::{Item, Section};
use super::yaml::Kind;

/// Names of the settings for all providers, in a dialect.
pub struct Keys {
    /// Headers of answers that pass to clients.
    pub passthrough: &'static str,
    /// Headers of requests to providers of Claude's.
    pub claude_defaults: &'static str,
}

/// What llm-proxy does with a client's `anthropic-beta`.
#[derive(Clone, Copy)]
enum Betas {
    Drop,
    Allowlist,
    Passthrough,
}

const BETAS: [(&str, Betas); 3] = [
    ("drop", Betas::Drop),
    ("allowlist", Betas::Allowlist),
    ("passthrough", Betas::Passthrough),
];

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// What holds for all providers.
pub fn of_all(top: &Section<'_>, keys: &Keys) -> HeaderPolicy {
    HeaderPolicy {
        passthrough: passthrough(top, keys.passthrough).unwrap_or_default(),
        claude_defaults: claude_defaults(top, keys.claude_defaults),
    }
}

/// What a provider says itself. Its row has to be known.
pub fn of_provider(section: &Section<'_>, provider: &Provider) -> OwnHeaderPolicy {
    let (said, published) = (forward(section), published(section, provider));
    if said.is_some() && published.is_some() {
        section.error(
            "forward_headers",
            "says what 'provider_params' says too: keep one",
        );
    }
    OwnHeaderPolicy {
        forward: said.or(published),
        passthrough: passthrough(section, "passthrough_headers"),
    }
}

/// What there is to say to who wrote the name of such a header.
pub fn refusal(never: Never) -> String {
    format!("is never passed on to a provider: {}", never.why())
}

/// `forward_headers`: names, or names with patterns of the values that pass.
fn forward(section: &Section<'_>) -> Option<Forward> {
    let item = section.item("forward_headers")?;
    let rules: Vec<Rule> = if let Kind::Map(_) = item.node.kind {
        let entries = item.section().map(|map| map.entries());
        let entries = entries.into_iter().flatten();
        entries
            .filter_map(|(name, item)| rule(&item, name, Some(values(&item))))
            .collect()
    } else {
        let items = item.list();
        let names = items.iter();
        names
            .filter_map(|item| rule(item, &item.text()?, None))
            .collect()
    };
    Forward::new(rules).ok()
}

fn rule(item: &Item<'_>, name: &str, only: Option<Vec<String>>) -> Option<Rule> {
    let rule = Rule::new(name, only).map_err(|error| item.error(error));
    let rule = rule.ok()?;
    if let Some(never) = Never::of(rule.name.as_str()) {
        item.error(refusal(never));
        return None;
    }
    Some(rule)
}

/// A pattern of values, or several.
fn values(item: &Item<'_>) -> Vec<String> {
    if let Kind::List(_) = item.node.kind {
        return item.list().iter().filter_map(value).collect();
    }
    value(item).into_iter().collect()
}

fn value(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.trim().to_owned();
    if text.is_empty() || text.contains(',') {
        item.error("must be a pattern of one value: '*' is every one");
        return None;
    }
    Some(text)
}

/// `provider_params`, as far as llm-proxy's have a meaning here: the row's headers with another word on `anthropic-beta`.
fn published(section: &Section<'_>, provider: &Provider) -> Option<Forward> {
    let params = section.section("provider_params")?;
    let policy = params.word("anthropic_beta_policy", &BETAS);
    let allowed = params
        .item("anthropic_beta_allowlist")
        .map(|item| allowlist(&item));
    if allowed.is_some() && !matches!(policy, Some(Betas::Allowlist)) {
        params.warn(
            "anthropic_beta_allowlist",
            "has no effect without 'anthropic_beta_policy: allowlist'",
        );
    }
    params.finish();
    let only = match policy? {
        Betas::Drop => Some(Vec::new()),
        Betas::Allowlist => Some(allowed.unwrap_or_default()),
        Betas::Passthrough => None,
    };
    let row = row_of(&settings(provider)).ok()?;
    let rule = Rule { name: BETA, only };
    Some(row.forward.with(rule))
}

/// A list, or a text with commas.
fn allowlist(item: &Item<'_>) -> Vec<String> {
    if let Kind::List(_) = item.node.kind {
        return values(item);
    }
    let text = item.text().unwrap_or_default();
    let values = text.split(',').map(str::trim);
    let values = values.filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}

/// Names and globs of them.
fn passthrough(section: &Section<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    let items = section.item(key)?.list();
    let names = items.iter().filter_map(|item| {
        let name = item.text()?.trim().to_ascii_lowercase();
        if name.replace(['*', '?'], "x").parse::<HeaderName>().is_err() {
            item.error("is no header's name, and no pattern of one");
            return None;
        }
        if is_never(&name) {
            section.warn(
                key,
                format!(
                    "'{name}' never passes to clients: it is between two only, or the gateway's own"
                ),
            );
        }
        pattern(item, &name, Pattern::glob)
    });
    Some(names.collect())
}

fn claude_defaults(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let defaults = headers(section, key);
    for name in defaults.keys() {
        if let Some(never) = Never::of(name) {
            section.error(key, format!("'{name}' {}", refusal(never)));
        }
    }
    defaults
}
