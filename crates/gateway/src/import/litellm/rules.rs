//! `payload.default` from what deployments give to calls. A rule knows a call by the name that the client says and by the model's name at
//! the provider: where these do not tell two deployments apart, none is made, and that is said.

use serde_json::{Map, Value, json};

use super::defaults::{Defaults, Part};
use crate::config::yaml::Place;
use crate::import::published::exactly;
use crate::import::{Fate, Finding, Notes};

/// A deployment as rules see it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The model's name there, or a pattern of such names.
    pub model: String,
    /// What it gives to calls.
    pub defaults: Defaults,
    /// Where it stands in the file.
    pub place: Place,
    /// … and under which key.
    pub path: String,
}

/// A name that clients say, with whom its calls may be sent to.
#[derive(Debug)]
pub struct Name<'a> {
    /// The name, or a pattern of names.
    pub name: &'a str,
    /// Deployments of this name.
    pub own: Vec<&'a Asked>,
    /// Those of its fallbacks, and of theirs.
    pub further: Vec<&'a Asked>,
}

/// A rule while it is put together.
#[derive(Debug)]
struct Rule {
    models: Vec<(String, Option<&'static str>)>,
    names: Vec<String>,
    clients: &'static [&'static str],
    params: Map<String, Value>,
}

/// The rules for all names.
pub fn rules(names: &[Name<'_>], notes: &mut Notes) -> Vec<Value> {
    let mut rules: Vec<Rule> = Vec::new();
    for name in names {
        let decided = name.decided(notes);
        for own in &name.own {
            let is_carried = decided.iter().any(|decided| decided.model == own.model);
            own.tell(is_carried, notes);
        }
        for asked in decided {
            for part in asked.defaults.parts() {
                add(&mut rules, &exactly(name.name), &asked.model, part);
            }
        }
    }
    merged(rules).into_iter().map(Rule::finish).collect()
}

/// A rule of a pattern of names, which nothing else comes under.
pub fn of_pattern(pattern: &str, asked: &Asked) -> Vec<Value> {
    let mut rules = Vec::new();
    for part in asked.defaults.parts() {
        add(&mut rules, pattern, &asked.model, part);
    }
    rules.into_iter().map(Rule::finish).collect()
}

impl Asked {
    /// Says what became of its parameters, now that it is known. What is left out is told of the whole deployment too.
    pub fn tell(&self, is_carried: bool, notes: &mut Notes) {
        for finding in self.defaults.findings.iter().cloned() {
            let finding = match is_carried {
                true => finding,
                false => Finding {
                    fate: Fate::NoCounterpart,
                    message: "left out: its deployment says why".to_owned(),
                    ..finding
                },
            };
            add_finding(finding, notes);
        }
    }

    /// Says something of the whole deployment.
    pub fn note(&self, fate: Fate, message: String, notes: &mut Notes) {
        let finding = Finding {
            place: self.place,
            path: self.path.clone(),
            fate,
            message,
        };
        add_finding(finding, notes);
    }
}

impl<'a> Name<'a> {
    /// One deployment for each model there whose parameters are those of all that a rule could mean. A name's own come first.
    fn decided(&self, notes: &mut Notes) -> Vec<&'a Asked> {
        let mut decided: Vec<&Asked> = Vec::new();
        let all = || self.own.iter().chain(&self.further).copied();
        for asked in all() {
            if decided.iter().any(|known| known.model == asked.model) {
                continue;
            }
            decided.push(asked);
        }
        decided.retain(|asked| {
            let others = all().filter(|other| {
                other.model == asked.model && other.defaults.parts() != asked.defaults.parts()
            });
            let mut is_told_apart = true;
            for other in others {
                let is_own = self.own.iter().any(|own| std::ptr::eq(*own, other));
                is_told_apart &= !is_own;
                self.note(other, is_own, notes);
            }
            if !is_told_apart {
                self.note(asked, true, notes);
            }
            is_told_apart
        });
        decided
    }

    fn note(&self, asked: &Asked, is_own: bool, notes: &mut Notes) {
        let Name { name, .. } = self;
        let model = &asked.model;
        let (fate, message) = match is_own {
            true => (
                Fate::NoCounterpart,
                format!(
                    "'{name}' has '{model}' twice, with other parameters: rules cannot tell them apart, so neither has its own; give them two names"
                ),
            ),
            false => (
                Fate::Changed,
                format!(
                    "calls of '{name}' that fall back to it have the parameters of '{name}', which is '{model}' too"
                ),
            ),
        };
        asked.note(fate, message, notes);
    }
}

/// Names that mean the same deployments have one thing said of them.
fn add_finding(finding: Finding, notes: &mut Notes) {
    if !notes.0.contains(&finding) {
        notes.0.push(finding);
    }
}

/// Adds a name to the rule that says the same of the same model, or makes one.
fn add(rules: &mut Vec<Rule>, name: &str, model: &str, part: &Part) {
    let models = vec![(model.to_owned(), part.protocol)];
    let same = rules.iter_mut().find(|rule| {
        rule.models == models && rule.params == part.params && rule.clients == part.clients
    });
    match same {
        Some(rule) => rule.names.push(name.to_owned()),
        None => rules.push(Rule {
            models,
            names: vec![name.to_owned()],
            clients: part.clients,
            params: part.params.clone(),
        }),
    }
}

/// Rules that say the same for the same names are one.
fn merged(rules: Vec<Rule>) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = merged.iter_mut().find(|known| {
            known.names == rule.names
                && known.params == rule.params
                && known.clients == rule.clients
        });
        match same {
            Some(known) => known.models.extend(rule.models),
            None => merged.push(rule),
        }
    }
    merged
}

impl Rule {
    fn finish(self) -> Value {
        let models = self.models.into_iter();
        let models: Value = models
            .map(|(name, protocol)| match protocol {
                Some(protocol) => json!({"name": name, "protocol": protocol}),
                None => json!({ "name": name }),
            })
            .collect();
        let mut when = json!({"models": self.names});
        if !self.clients.is_empty() {
            when["formats"] = json!(self.clients);
        }
        json!({"models": models, "when": when, "params": self.params})
    }
}
