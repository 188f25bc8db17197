//! The database's documents over the file's configuration. What the file has wins; a document that is no good is left out, and the
//! rest is served.

use std::collections::HashSet;

use polygate_engine::Config;
use polygate_engine::admit::Hash;
use polygate_engine::config::{Key, Model, PriceOverride, Provider, Team};
use polygate_providers::price::Source;
use polygate_server::admin::configuration;
use polygate_store::config::{Document, Documents, Kind};
use polygate_store::{Sealer, StoreError};
use serde_json::Value;

use super::Loaded;
use super::check::check;
use super::env::Environment;
use super::names::Names;
use super::native::{ALIASES, access, accounts, models, providers};
use super::problem::{Findings, Problem};
use super::reader::{Item, Reading};
use super::yaml::Node;

/// A key's document: what it is found by, and what it may.
pub fn key(document: &Document) -> Result<(Hash, Key), Vec<String>> {
    let body: Value =
        serde_json::from_str(&document.body).map_err(|error| vec![format!("no JSON: {error}")])?;
    let node = Node::of_json(&body);
    let environment = Environment::default();
    let mut reading = Reading::new(&environment);
    reading.is_literal = true;
    reading.aliases = &ALIASES;
    let path = place(document.kind, &document.name);
    let key = access::hashed(&document.name, &Item::document(&reading, &node, path));
    let errors = &reading.findings.borrow().errors;
    key.filter(|_| errors.is_empty())
        .ok_or_else(|| errors.iter().map(Problem::to_string).collect())
}

/// What the file says, ready to be added to.
#[derive(Clone, Debug)]
pub struct Base {
    config: Config,
    names: Names,
    /// Serves where there is no provider.
    demo: Option<Provider>,
}

/// File and documents together.
#[derive(Debug)]
pub struct Composed {
    /// The configuration.
    pub config: Config,
    /// Documents that are not in it, by kind and name.
    pub left_out: Vec<LeftOut>,
}

/// A document that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What it describes.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why.
    pub problems: Vec<String>,
}

/// A document that was read.
struct Piece {
    kind: Kind,
    name: String,
    described: Described,
    names: Names,
}

#[derive(Clone)]
enum Described {
    Provider(Box<Provider>),
    Model(Box<Model>),
    Team(Box<Team>),
    Price(Box<PriceOverride>),
}

/// Finds everything that is wrong with a whole configuration.
type Accept<'a> = &'a dyn Fn(Config) -> Result<(), Vec<String>>;

impl Base {
    /// Of what was read.
    pub fn of(loaded: &Loaded, demo: Option<Provider>) -> Self {
        Self {
            config: loaded.config.clone(),
            names: loaded.names.clone(),
            demo,
        }
    }

    /// Whether this is the provider that serves where there is no other.
    pub fn is_demo(&self, provider: &Provider) -> bool {
        let demo = self.demo.as_ref();
        demo.is_some_and(|demo| demo.api_base == provider.api_base)
    }

    /// What the file says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the file has one of this name, served or not.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        let names = &self.names;
        let named = match kind {
            Kind::Provider if names.absent.iter().any(|absent| absent == name) => return true,
            Kind::Provider => &names.providers,
            Kind::Model => &names.models,
            Kind::Key => &names.keys,
            Kind::Team => &names.teams,
            Kind::Price => return false,
        };
        named.iter().any(|named| named.name == name)
    }

    /// The names of the file's keys.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys.iter().map(|named| named.name.as_str())
    }

    /// The same for what was read again.
    #[must_use]
    pub fn renewed(&self, loaded: &Loaded) -> Self {
        Self::of(loaded, self.demo.clone())
    }

    /// The configuration with these documents, as far as they are any good.
    pub fn with(&self, documents: &Documents, sealer: &Sealer, accept: Accept<'_>) -> Composed {
        let mut left_out = Vec::new();
        let mut pieces = Vec::new();
        for document in &documents.documents {
            match self.read(document, sealer) {
                Some(Ok(piece)) => pieces.push(piece),
                Some(Err(problems)) => {
                    left_out.push(LeftOut::of(document.kind, &document.name, problems));
                }
                None => {}
            }
        }
        let config = self.fitting(pieces, &mut left_out, accept);
        left_out.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        Composed { config, left_out }
    }

    /// A document's meaning; `None` where its kind means nothing here.
    fn read(&self, document: &Document, sealer: &Sealer) -> Option<Result<Piece, Vec<String>>> {
        if document.kind == Kind::Key {
            return None;
        }
        if self.has(document.kind, &document.name) {
            return Some(Err(vec![
                "the file has one of this name, which wins".to_owned(),
            ]));
        }
        Some(read(document, sealer))
    }

    /// As many of the pieces as go together, with the file.
    fn fitting(
        &self,
        mut pieces: Vec<Piece>,
        left_out: &mut Vec<LeftOut>,
        accept: Accept<'_>,
    ) -> Config {
        loop {
            let problems = match self.joined(pieces.iter(), accept) {
                Ok(config) => return config,
                Err(problems) => problems,
            };
            let before = pieces.len();
            pieces.retain(|piece| {
                let guilt = problems.iter().filter(|problem| piece.is_named(problem));
                let guilt: Vec<String> = guilt.cloned().collect();
                let is_good = guilt.is_empty();
                if !is_good {
                    left_out.push(LeftOut::of(piece.kind, &piece.name, guilt));
                }
                is_good
            });
            if pieces.len() == before {
                return self.one_by_one(pieces, left_out, accept);
            }
        }
    }

    /// Where no one can be told to be at fault: each that goes with those before it.
    fn one_by_one(
        &self,
        pieces: Vec<Piece>,
        left_out: &mut Vec<LeftOut>,
        accept: Accept<'_>,
    ) -> Config {
        let mut good: Vec<Piece> = Vec::new();
        for piece in pieces {
            match self.joined(good.iter().chain([&piece]), accept) {
                Ok(_) => good.push(piece),
                Err(problems) => {
                    left_out.push(LeftOut::of(piece.kind, &piece.name, problems));
                }
            }
        }
        let config = self.joined(good.iter(), accept);
        config.unwrap_or_else(|_| self.config.clone())
    }

    fn joined<'a>(
        &self,
        pieces: impl Iterator<Item = &'a Piece>,
        accept: Accept<'_>,
    ) -> Result<Config, Vec<String>> {
        let (mut config, mut names) = (self.config.clone(), self.names.clone());
        let mut is_plain = true;
        for piece in pieces {
            is_plain = false;
            names.extend(piece.names.clone());
            match piece.described.clone() {
                Described::Provider(provider) => config.providers.push(*provider),
                Described::Model(model) => config.models.push(*model),
                Described::Team(team) => config.access.teams.push(*team),
                Described::Price(price) => config.price_overrides.push(*price),
            }
        }
        if config.providers.is_empty() {
            config.providers.extend(self.demo.clone());
        }
        // The file alone was checked when it was read.
        if is_plain {
            return Ok(config);
        }
        let mut findings = Findings::default();
        check(&mut config, &names, &mut findings);
        if !findings.errors.is_empty() {
            return Err(findings.errors.iter().map(Problem::to_string).collect());
        }
        accept(config.clone())?;
        Ok(config)
    }
}

impl LeftOut {
    /// This one, for these reasons.
    pub fn of(kind: Kind, name: &str, problems: Vec<String>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            problems,
        }
    }

    /// Why, in one line.
    pub fn why(&self) -> String {
        self.problems.join("; ")
    }

    /// As the admin API says it.
    pub fn said(&self) -> configuration::LeftOut {
        configuration::LeftOut {
            kind: self.kind,
            name: self.name.clone(),
            why: self.why(),
        }
    }
}

impl Piece {
    /// Whether a problem is about this one: the reader's by where it stands, the engine's by the name.
    fn is_named(&self, problem: &str) -> bool {
        problem.starts_with(&place(self.kind, &self.name))
            || problem.starts_with(&format!("{} '{}':", self.kind, self.name))
    }
}

/// Where something stands that stands in no file.
pub fn place(kind: Kind, name: &str) -> String {
    format!("database, {kind} '{name}'")
}

fn read(document: &Document, sealer: &Sealer) -> Result<Piece, Vec<String>> {
    let (kind, name) = (document.kind, document.name.as_str());
    let mut body: Value =
        serde_json::from_str(&document.body).map_err(|error| vec![format!("no JSON: {error}")])?;
    let Value::Object(members) = &mut body else {
        return Err(vec!["must be a JSON object".to_owned()]);
    };
    if kind == Kind::Provider {
        // The document's own name is the one that counts.
        for alias in ["name", "id", "provider_key"] {
            members.shift_remove(alias);
        }
        members.insert("name".to_owned(), name.into());
    }
    let sealed = format!("{kind}/{name}");
    open(&mut body, &sealed, sealer).map_err(|error| vec![error.to_string()])?;
    let node = Node::of_json(&body);
    let environment = Environment::default();
    let mut reading = Reading::new(&environment);
    reading.is_literal = true;
    reading.aliases = &ALIASES;
    let item = Item::document(&reading, &node, place(kind, name));
    let described = match kind {
        Kind::Provider => {
            let provider = item.section().and_then(providers::read);
            provider.map(|provider| Described::Provider(Box::new(provider)))
        }
        Kind::Team => access::team(name, &item).map(|team| Described::Team(Box::new(team))),
        Kind::Price => {
            let section = item.section();
            let source = Source::Override;
            let price = section
                .and_then(|section| accounts::price_override(&item, section, Some(name), source));
            price.map(|price| Described::Price(Box::new(price)))
        }
        _ => models::model(name, &item).map(|model| Described::Model(Box::new(model))),
    };
    let errors = &reading.findings.borrow().errors;
    match described.filter(|_| errors.is_empty()) {
        Some(described) => Ok(Piece {
            kind,
            name: name.to_owned(),
            described,
            names: reading.names.borrow().clone(),
        }),
        None => Err(errors.iter().map(Problem::to_string).collect()),
    }
}

/// Opens what is sealed, wherever it stands.
pub(crate) fn open(value: &mut Value, place: &str, sealer: &Sealer) -> Result<(), StoreError> {
    match value {
        Value::String(text) if Sealer::is_sealed(text) => {
            *text = sealer.open(place, text)?.reveal().to_owned();
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| open(item, place, sealer)),
        Value::Object(members) => members
            .iter_mut()
            .try_for_each(|(_, member)| open(member, place, sealer)),
        _ => Ok(()),
    }
}

/// Says which documents are left out, unless that was said already.
pub fn say(left_out: &[LeftOut], said: &mut HashSet<(Kind, String, String)>) {
    let now: HashSet<_> = left_out
        .iter()
        .map(|one| (one.kind, one.name.clone(), one.why()))
        .collect();
    for (kind, name, why) in now.difference(said) {
        tracing::warn!(%kind, name, why, "a document of the database is left out");
    }
    *said = now;
}

#[cfg(test)]
pub mod tests;
