//! What no single section can see: names that refer to each other, and names that are there twice.

use std::collections::HashSet;

use polygate_engine::config::Config;
use polygate_engine::snapshot::settings;

use super::reader::{Problem, nearest};
use super::yaml::Place;

/// Everything that is wrong between the parts.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |path: String, message: String| {
        problems.push(Problem {
            place: Place::default(),
            path,
            message,
        })
    };
    providers(config, &mut say);
    models(config, &mut say);
    keys(config, &mut say);
    problems
}

fn providers(config: &Config, say: &mut dyn FnMut(String, String)) {
    let mut names = HashSet::new();
    for provider in &config.providers {
        let path = format!("provider '{}'", provider.name);
        if !names.insert(provider.name.as_str()) {
            say(path.clone(), "the name is there twice".to_owned());
        }
        if let Err(error) = polygate_providers::build(&settings(provider)) {
            let hint = kind_hint(&provider.kind);
            say(path, format!("{error}{hint}"));
        }
    }
}

fn kind_hint(kind: &str) -> String {
    if kind.is_empty() || polygate_providers::row_named(kind).is_some() {
        return String::new();
    }
    let names = polygate_providers::table()
        .iter()
        .map(|row| row.name.as_str());
    nearest(kind, names).map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

fn models(config: &Config, say: &mut dyn FnMut(String, String)) {
    let providers = || {
        config
            .providers
            .iter()
            .map(|provider| provider.name.as_str())
    };
    let models = || config.models.iter().map(|model| model.name.as_str());
    for model in &config.models {
        for (at, target) in model.targets.iter().enumerate() {
            if !providers().any(|name| name == target.provider) {
                let hint = nearest(&target.provider, providers())
                    .map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
                say(
                    format!("models.{}.targets[{at}]", model.name),
                    format!("there is no provider '{}'{hint}", target.provider),
                );
            }
        }
        for fallback in &model.fallbacks {
            let offered = || {
                config.providers.iter().any(|provider| {
                    provider.models.is_empty()
                        || provider
                            .models
                            .iter()
                            .any(|mapping| mapping.pattern.matches(fallback))
                })
            };
            if fallback == &model.name {
                say(
                    format!("models.{}.fallbacks", model.name),
                    "a model cannot fall back to itself".to_owned(),
                );
            } else if !models().any(|name| name == fallback) && !offered() {
                say(
                    format!("models.{}.fallbacks", model.name),
                    format!("there is no model '{fallback}'"),
                );
            }
        }
    }
}

fn keys(config: &Config, say: &mut dyn FnMut(String, String)) {
    let mut seen = HashSet::new();
    for key in config.access.keys.iter().flatten() {
        if !seen.insert(key.key.reveal()) {
            say(
                format!("key '{}'", key.name),
                "another key has the same value".to_owned(),
            );
        }
    }
}
