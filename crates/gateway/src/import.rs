//! `polygate import`: a configuration of LiteLLM or of the three published systems becomes a native file, and a report says what became
//! of every key. References to variables stay references: nothing is resolved.

mod database;
mod litellm;
mod published;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use crate::config::env::Environment;
use crate::config::yaml::{self, Kind, Node, Place, shown};
use crate::config::{Dialect, Problem, Report, parse};

pub use database::{price_item, secrets, write};
pub use write::yaml;

/// A native configuration, with what is to be said of how it came about.
#[derive(Debug)]
pub struct Imported {
    /// Whose file it was.
    pub origin: &'static str,
    /// The configuration, by native keys.
    pub document: Value,
    /// What became of the file's keys, by line.
    pub findings: Vec<Finding>,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands; line 0 where it stands nowhere.
    pub place: Place,
    /// Which key: `model_list[0].litellm_params.rpm`.
    pub path: String,
    /// What became of it.
    pub fate: Fate,
    /// How, and what to do. Never a value that may be a secret.
    pub message: String,
}

/// What may become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It means the same here.
    Carried,
    /// It is there, but means something else, or wants to be looked at.
    Changed,
    /// It is not there.
    NoCounterpart,
}

impl Fate {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Carried => "carried",
            Fate::Changed => "changed",
            Fate::NoCounterpart => "no counterpart",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.line > 0 {
            write!(f, "{}: ", self.place.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(self.fate.name())?;
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}

impl Imported {
    /// The native file.
    pub fn text(&self) -> String {
        let origin = self.origin;
        format!(
            "# From {origin} by `polygate import`; its report says what became of every key.\n{}",
            yaml(&self.document)
        )
    }

    /// The findings, a line each, and how many there are of each fate.
    pub fn report(&self) -> String {
        let lines = self.findings.iter().map(|finding| format!("{finding}\n"));
        let count = |fate| {
            let of_it = self.findings.iter().filter(|finding| finding.fate == fate);
            format!("{} {}", of_it.count(), fate.name())
        };
        let counts = [Fate::Carried, Fate::Changed, Fate::NoCounterpart].map(count);
        format!(
            "{}{}: {}\n",
            lines.collect::<String>(),
            self.origin,
            counts.join(", ")
        )
    }

    /// What keeps the native file from being loaded, variables aside: those that are not set get a stand-in.
    pub fn problems(&self, environment: &Environment) -> Vec<Problem> {
        problems(&self.document, environment)
    }
}

/// The same of any native configuration.
fn problems(document: &Value, environment: &Environment) -> Vec<Problem> {
    let mut document = document.clone();
    stand_in(&mut document, "", environment);
    // A default stands in for what is not set.
    let mut names = BTreeSet::new();
    collect(&document, &mut names, &|text| {
        environment.expand(text).is_err()
    });
    let values = names
        .iter()
        .map(|name| (name.as_str(), environment.get(name).unwrap_or("1")));
    let environment = Environment::of(&values.collect::<Vec<_>>());
    parse(&yaml(&document), &environment).findings.errors
}

/// Addresses that variables say which are not set become some address.
fn stand_in(value: &mut Value, key: &str, environment: &Environment) {
    match value {
        Value::String(text) => match key {
            "api_base" if environment.expand(text).is_err() => {
                *text = "https://example.invalid".to_owned();
            }
            "proxy_url" if environment.expand(text).is_err() => text.clear(),
            _ => {}
        },
        Value::Array(items) => {
            for item in items {
                stand_in(item, key, environment);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                stand_in(member, key, environment);
            }
        }
        _ => {}
    }
}

/// Whether this is a file of LiteLLM's, which is of use only when it was imported.
pub(crate) fn is_litellm(node: &Node) -> bool {
    litellm::is(node)
}

/// Reads a file; what is wrong names it.
pub fn read(file: &Path) -> Result<Imported, Report> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let problem = Problem::general("", format!("cannot be read: {error}"));
        Report::new(Some(file.to_path_buf()), vec![problem])
    })?;
    let directory = file.parent().unwrap_or(Path::new(""));
    let imported = parsed(&text).and_then(|mut node| {
        if litellm::is(&node) || node.get("include").is_some() {
            litellm::include(&mut node, directory)
                .map_err(|problem| Report::new(None, vec![problem]))?;
        }
        imported(&node)
    });
    imported.map_err(|report| Report {
        file: Some(file.to_path_buf()),
        ..report
    })
}

/// Reads a file of any system that is known, and writes it in native keys.
pub fn import(text: &str) -> Result<Imported, Report> {
    imported(&parsed(text)?)
}

fn parsed(text: &str) -> Result<Node, Report> {
    yaml::parse(text).map_err(|error| {
        let problem = Problem {
            place: error.place,
            ..Problem::general("", error.message)
        };
        Report::new(None, vec![problem])
    })
}

fn imported(node: &Node) -> Result<Imported, Report> {
    let mut imported = if litellm::is(node) {
        litellm::import(node)
    } else {
        published::import(node, Dialect::of(node))
    };
    let is_empty = |key| {
        let there = imported.document.get(key);
        there.is_none_or(|there: &Value| {
            there.as_array().is_none_or(Vec::is_empty)
                && there.as_object().is_none_or(Map::is_empty)
        })
    };
    if ["providers", "models", "master_keys"]
        .into_iter()
        .all(is_empty)
    {
        let mut problems: Vec<Problem> = imported.findings.iter().map(problem).collect();
        problems.push(Problem::general(
            "",
            "there is nothing here that can be imported: no providers, models or keys of callers",
        ));
        return Err(Report::new(None, problems));
    }
    imported.document = ordered(imported.document);
    imported.findings.sort_by_key(|finding| finding.place);
    Ok(imported)
}

/// The sections in the order in which a file is read.
fn ordered(document: Value) -> Value {
    const FIRST: [&str; 5] = ["server", "providers", "models", "teams", "master_keys"];
    let Value::Object(mut members) = document else {
        return document;
    };
    let first = FIRST.map(|key| {
        members
            .shift_remove(key)
            .map(|value| (key.to_owned(), value))
    });
    Value::Object(first.into_iter().flatten().chain(members).collect())
}

fn problem(finding: &Finding) -> Problem {
    Problem {
        place: finding.place,
        path: finding.path.clone(),
        ..Problem::general("", format!("{}: {}", finding.fate.name(), finding.message))
    }
}

/// Variables that any text of a configuration refers to.
pub fn variables(value: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect(value, &mut names, &|_| true);
    names
}

/// Of those texts that are wanted.
fn collect(value: &Value, names: &mut BTreeSet<String>, is_wanted: &dyn Fn(&str) -> bool) {
    match value {
        Value::String(text) if !is_wanted(text) => {}
        Value::String(text) => {
            for piece in text.split("${").skip(1) {
                let end = piece.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                names.extend(end.and_then(|end| piece.get(..end)).map(str::to_owned));
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, names, is_wanted);
            }
        }
        Value::Object(members) => {
            for member in members.values() {
                collect(member, names, is_wanted);
            }
        }
        _ => {}
    }
}

/// Findings while they are made.
#[derive(Debug, Default)]
struct Notes(Vec<Finding>);

impl Notes {
    fn note(&mut self, at: &At<'_>, fate: Fate, message: impl Into<String>) {
        self.0.push(Finding {
            place: at.place,
            path: at.path.clone(),
            fate,
            message: message.into(),
        });
    }

    fn carried(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.note(at, Fate::Carried, message);
    }

    fn changed(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.note(at, Fate::Changed, message);
    }

    fn missing(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.note(at, Fate::NoCounterpart, message);
    }

    /// The same of what several refer to: it is said once.
    fn once(&mut self, at: &At<'_>, message: &str) {
        let is_said = self.0.iter().any(|known| {
            known.place == at.place && known.path == at.path && known.message == message
        });
        if !is_said {
            self.missing(at, message);
        }
    }

    /// Something that stands nowhere in the file.
    fn general(&mut self, path: &str, message: &str) {
        self.0.push(Finding {
            place: Place::default(),
            path: path.to_owned(),
            fate: Fate::Changed,
            message: message.to_owned(),
        });
    }
}

/// A value in its place.
#[derive(Clone, Debug)]
struct At<'a> {
    node: &'a Node,
    place: Place,
    path: String,
}

impl<'a> At<'a> {
    fn top(node: &'a Node) -> Self {
        Self {
            node,
            place: node.place,
            path: String::new(),
        }
    }

    /// The value of a key; `null` counts as absent.
    fn get(&self, key: &str) -> Option<At<'a>> {
        let mut members = self.node.members().iter();
        let member = members.find(|(known, node)| known.text == key && !node.is_null())?;
        Some(self.member(member))
    }

    fn member(&self, (key, node): &'a (yaml::Key, Node)) -> At<'a> {
        let name = shown(&key.text);
        let path = match self.path.as_str() {
            "" => name,
            path => format!("{path}.{name}"),
        };
        let place = key.place;
        At { node, place, path }
    }

    /// The keys of a mapping, with their values.
    fn entries(&self) -> Vec<(&'a str, At<'a>)> {
        let members = self.node.members().iter();
        members
            .map(|member| (member.0.text.as_str(), self.member(member)))
            .collect()
    }

    /// The items of a list; a single value is a list of one.
    fn items(&self) -> Vec<At<'a>> {
        if !matches!(self.node.kind, Kind::List(_)) {
            return vec![self.clone()];
        }
        let items = self.node.items().iter().enumerate();
        let item = |(at, node): (usize, &'a Node)| At {
            node,
            place: node.place,
            path: format!("{}[{at}]", self.path),
        };
        items.map(item).collect()
    }

    /// The text of a single value.
    fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text.trim()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }
}

/// A node as JSON: what was written without quotes and is a number, true, false or nothing is that.
fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, plain } => plain_value(text, *plain),
        Kind::List(items) => Value::Array(items.iter().map(value).collect()),
        Kind::Map(members) => {
            let members = members.iter();
            Value::Object(
                members
                    .map(|(key, node)| (key.text.clone(), value(node)))
                    .collect(),
            )
        }
    }
}

fn plain_value(text: &str, plain: bool) -> Value {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let is_same = |value: &Value| match value {
        Value::Bool(said) => text == if *said { "true" } else { "false" },
        Value::Number(number) => text == number.to_string(),
        _ => false,
    };
    parsed
        .filter(|value| plain && is_same(value))
        .unwrap_or_else(|| text.into())
}
