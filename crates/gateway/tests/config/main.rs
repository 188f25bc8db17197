//! Configuration: texts in, the canonical model or a report out.

mod cache;
mod callers;
mod cloak;
mod dialects;
mod environment;
mod example;
mod listening;
mod payload;
mod precedence;
mod problems;
mod robustness;
mod routing;

use std::path::Path;

use polygate::config::env::Environment;
use polygate::config::{Flags, Loaded, Report, load};
use polygate_engine::config::Provider;

/// Loads a file of this text with these variables.
fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.yaml"), text).expect("written");
    load_in(dir.path(), variables)
}

fn load_in(directory: &Path, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    load(&Flags::default(), &Environment::of(variables), directory)
}

/// Loads a file that is good.
fn good(text: &str) -> Loaded {
    good_with(text, &[])
}

fn good_with(text: &str, variables: &[(&str, &str)]) -> Loaded {
    let loaded = load_text(text, variables);
    let report = loaded.as_ref().err().map(ToString::to_string);
    assert_eq!(report, None, "{text}");
    loaded.expect("no report")
}

/// The whole report of a bad file.
fn report(text: &str) -> String {
    report_with(text, &[])
}

fn report_with(text: &str, variables: &[(&str, &str)]) -> String {
    let report = load_text(text, variables).map(|_| text);
    report.expect_err("a file with problems").to_string()
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// A provider in a line: name, row, address, keys, and mappings as `pattern>target`.
fn line(provider: &Provider) -> String {
    let keys: Vec<&str> = provider
        .credentials
        .iter()
        .map(|key| key.api_key.reveal())
        .collect();
    let models: Vec<String> = provider
        .models
        .iter()
        .map(|mapping| {
            let target = mapping.target.as_deref().unwrap_or_default();
            format!("{}>{target}", mapping.pattern.source())
        })
        .collect();
    format!(
        "{} {} {} [{}] {}",
        provider.name,
        provider.kind,
        provider.api_base.as_deref().unwrap_or("-"),
        keys.join(" "),
        models.join(" ")
    )
    .trim_end()
    .to_owned()
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.config.providers.iter().map(line).collect()
}
