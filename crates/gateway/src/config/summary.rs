//! What a configuration resolved to, for people: no secrets.

use std::fmt::Write;

use polygate_engine::config::{Config, Provider};
use polygate_engine::snapshot::settings;

use super::Loaded;

/// Readable lines.
pub fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "dialect    {}", loaded.dialect.name());
    let _ = writeln!(
        out,
        "listens    {}:{}",
        config.server.host, config.server.port
    );
    let _ = writeln!(out, "body limit {} bytes", config.server.body_limit);
    for provider in &config.providers {
        let _ = writeln!(out, "provider   {}", provider_line(provider));
    }
    for model in &config.models {
        let targets: Vec<String> = model
            .targets
            .iter()
            .map(|target| {
                format!(
                    "{}/{}",
                    target.provider,
                    target.model.as_deref().unwrap_or("*")
                )
            })
            .collect();
        let _ = writeln!(out, "model      {} -> {}", model.name, targets.join(", "));
    }
    let _ = writeln!(out, "callers    {}", callers(config));
    let _ = writeln!(out, "routing    {:?}", config.routing.strategy);
    for warning in &loaded.warnings {
        let _ = writeln!(out, "warning    {warning}");
    }
    out
}

fn provider_line(provider: &Provider) -> String {
    let settings = settings(provider);
    let row = polygate_providers::registry::row_of(&settings);
    let kind = row.as_ref().map_or("?", |row| row.name.as_str());
    let base = provider
        .api_base
        .as_deref()
        .or(row.as_ref().ok().and_then(|row| row.base.as_deref()))
        .unwrap_or("-");
    let models: Vec<String> = provider
        .models
        .iter()
        .map(|mapping| match &mapping.target {
            Some(target) => format!("{} -> {target}", mapping.pattern.source()),
            None => mapping.pattern.source().to_owned(),
        })
        .collect();
    let models = if models.is_empty() {
        "every model".to_owned()
    } else {
        models.join(", ")
    };
    let state = if provider.disabled { ", disabled" } else { "" };
    let prefix = provider
        .prefix
        .as_deref()
        .map_or_else(String::new, |prefix| format!(", prefix {prefix}"));
    format!(
        "{} ({kind}) {base}, {} key(s), weight {}{prefix}{state}: {models}",
        provider.name,
        provider.credentials.len(),
        provider.weight
    )
}

fn callers(config: &Config) -> String {
    match &config.access.keys {
        None if config.access.allow_anonymous => "anyone (allow_anonymous)".to_owned(),
        None => "anyone on loopback and private addresses (no keys configured)".to_owned(),
        Some(keys) => {
            let names: Vec<&str> = keys
                .iter()
                .filter(|key| key.enabled)
                .map(|key| key.name.as_str())
                .collect();
            format!("{} key(s): {}", names.len(), names.join(", "))
        }
    }
}
