//! LiteLLM's `config.yaml`: deployments become providers with the names they serve, groups of deployments become models.

mod address;
mod cache;
mod callbacks;
mod defaults;
mod deployment;
mod fallbacks;
mod groups;
mod guardrails;
mod info;
mod model_name;
mod price;
mod rules;
mod settings;
mod shares;
mod wild;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{At, Imported, Notes};
use crate::config::Problem;
use crate::config::yaml::{Kind, Node, parse, shown};
use groups::Groups;

/// The keys of its files.
const SECTIONS: [&str; 4] = [
    "model_list",
    "litellm_settings",
    "router_settings",
    "general_settings",
];

/// Keys that speak against it.
const NATIVE: [&str; 4] = ["providers", "models", "master_keys", "server"];

/// Whether this is one of its files.
pub fn is(top: &Node) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| top.get(key).is_some());
    has(&SECTIONS) && !has(&NATIVE)
}

/// Puts the files that a file includes into it, as LiteLLM does: lists grow, anything else is replaced. They stand in its directory, as a rule.
pub fn include(top: &mut Node, directory: &Path) -> Result<(), Problem> {
    let Some(names) = top.get("include").cloned() else {
        return Ok(());
    };
    for name in names.items() {
        let Kind::Scalar { text: name, .. } = &name.kind else {
            continue;
        };
        let refused = |why: String| Problem {
            place: names.place,
            ..Problem::general("include", format!("{}: {why}", shown(name)))
        };
        let text = std::fs::read_to_string(directory.join(name));
        let text = text.map_err(|error| refused(format!("cannot be read: {error}")))?;
        let node = parse(&text)
            .map_err(|error| refused(format!("line {}: {}", error.place.line, error.message)))?;
        top.include(node);
    }
    top.clear("include");
    Ok(())
}

/// Reads a file.
pub fn import(node: &Node) -> Imported {
    let top = At::top(node);
    let mut notes = Notes::default();
    let mut groups = Groups::default();
    let mut guards = Vec::new();
    for (key, section) in top.entries() {
        match key {
            "model_list" => groups.read(&section, &top, &mut notes),
            "litellm_settings" | "router_settings" | "general_settings" => {}
            "environment_variables" => environment(&section, &mut notes),
            "guardrails" => guards = guardrails::read(&section, &mut notes),
            "callback_settings" => notes.missing(
                &section,
                "otlp.content and langfuse.content say whether prompts and answers are told",
            ),
            "credential_list" => notes.carried(&section, "where deployments name them"),
            "include" if section.node.is_null() => {
                notes.carried(&section, "read with it; what it says has no line here")
            }
            "include" => notes.missing(&section, "import each file, and put the parts together"),
            _ => notes.missing(&section, "Polygate has none of this"),
        }
    }
    let mut document = Map::new();
    let read = settings::read(&top, &mut groups, &mut notes);
    let rules = groups.rules(&mut notes);
    let (providers, models) = groups.finish(&mut notes);
    document.insert("providers".to_owned(), Value::Array(providers));
    if !models.is_empty() {
        document.insert("models".to_owned(), Value::Object(models));
    }
    document.extend(read);
    if !rules.is_empty() {
        document.insert("payload".to_owned(), one("default", Value::Array(rules)));
    }
    if !guards.is_empty() {
        document.insert("guards".to_owned(), Value::Array(guards));
    }
    if !document.contains_key("master_keys") {
        notes.general(
            "general_settings.master_key",
            "there is none: LiteLLM takes any caller, Polygate those on loopback and private addresses; allow_anonymous: true opens it",
        );
    }
    notes.general(
        "",
        "LiteLLM listens on 0.0.0.0:4000, Polygate on 127.0.0.1:8080: set server.host and server.port, or --host and --port",
    );
    Imported {
        origin: "LiteLLM",
        document: Value::Object(document),
        findings: notes.0,
    }
}

fn environment(section: &At<'_>, notes: &mut Notes) {
    for (name, at) in section.entries() {
        let name = variable(name);
        let message = format!("its value is not carried: set {name} in the environment or in .env");
        notes.missing(&at, message);
    }
}

/// A text in native words: `os.environ/X` is `${X}`, `${X}` stays, and other dollar signs mean themselves. One with line breaks in it is
/// none: nothing here can be called so.
fn text(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    (!text.chars().any(char::is_control)).then(|| native(text))
}

fn native(text: &str) -> String {
    match text.strip_prefix("os.environ/") {
        Some(name) => format!("${{{}}}", variable(name)),
        None => text.replace("$$", "$$$$"),
    }
}

/// A variable's name, as a shell has it.
fn variable(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.trim().chars().map(fits).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        false => name,
    }
}

/// Whether a native text says what a variable says.
fn is_reference(text: &str) -> bool {
    text.contains("${")
}

/// A whole number that is not negative, or what a variable says.
fn number(at: &At<'_>, notes: &mut Notes) -> Option<Value> {
    let text = text(at)?;
    if is_reference(&text) {
        return Some(text.into());
    }
    // Python writes whole numbers as `1_000` and `1000.0` too.
    let digits = text.replace('_', "");
    let digits = digits.strip_suffix(".0").unwrap_or(&digits);
    let number = digits.parse::<u32>().ok();
    if number.is_none() {
        notes.missing(at, "no whole number in range");
    }
    number.map(Value::from)
}

/// A time in seconds that is more than nothing, or what a variable says.
fn time(at: &At<'_>, notes: &mut Notes) -> Option<Value> {
    let text = text(at)?;
    if is_reference(&text) {
        return Some(text.into());
    }
    let seconds = crate::config::values::duration(&text).filter(|time| !time.is_zero());
    if seconds.is_none() {
        notes.missing(at, "no time that is more than zero");
        return None;
    }
    Some(super::plain_value(&text, true))
}

fn is_on(at: &At<'_>) -> Option<bool> {
    crate::config::values::boolean(at.text()?)
}

/// An object with a member that has a value.
fn one(key: &str, value: Value) -> Value {
    json!({ key: value })
}
