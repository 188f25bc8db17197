//! `polygate import --database`: a native configuration as documents of the store, all of them in one version.

use std::io::Write as _;

use polygate_core::{Clock, SystemClock};
use polygate_store::config::{Document, Documents, Expect, Kind, Put, Write};
use polygate_store::{Result as Stored, Sealer};
use serde_json::{Map, Value};

use super::Imported;
use crate::config::database::Storage;
use crate::config::documents::open;
use crate::config::env::Environment;
use crate::storage::{Opened, Refused};

/// Who writes, as the history of versions has it.
const ACTOR: &str = "import";

/// A document to be.
struct Drafted {
    kind: Kind,
    name: String,
    /// With its secrets in it: never shown.
    body: Value,
}

/// What a configuration comes to as documents.
#[derive(Default)]
struct Draft {
    documents: Vec<Drafted>,
    /// Keys that stay in a file.
    left: Vec<String>,
    /// Why nothing is written.
    problems: Vec<String>,
}

/// Writes a configuration into the store. What is there by the same name stays, and nothing is written, unless it is to be replaced.
pub async fn write(
    imported: &Imported,
    storage: &Storage,
    environment: &Environment,
    replace: bool,
) -> anyhow::Result<()> {
    let opened = Opened::for_command(storage).await?;
    let draft = Draft::of(&imported.document, environment, &opened.sealer);
    if !draft.problems.is_empty() {
        return Err(Refused(draft.problems.join("\n")).into());
    }
    let known = opened.store.documents().await?;
    let mut puts = Vec::new();
    let mut taken = Vec::new();
    for drafted in &draft.documents {
        let found = found(&known, drafted);
        match found {
            Some(found) if is_same(found, drafted, &opened.sealer) => continue,
            Some(_) if !replace => taken.push(format!("{} '{}'", drafted.kind, drafted.name)),
            _ => {}
        }
        puts.push(drafted.put(found, &opened.sealer)?);
    }
    if !taken.is_empty() {
        return Err(Refused(format!(
            "nothing was written: the database has another {} already; --replace writes over it",
            taken.join(", ")
        ))
        .into());
    }
    let (count, all) = (puts.len(), draft.documents.len());
    let write = Write {
        actor: ACTOR.to_owned(),
        action: format!("imported from {}", imported.origin),
        at: i64::try_from(SystemClock::new().unix_seconds()).unwrap_or_default() * 1_000_000,
        puts,
    };
    let version = opened.store.write(write).await?;
    let mut out = std::io::stderr();
    for key in &draft.left {
        writeln!(
            out,
            "{key}: stays in a file: the database has providers, models, teams, keys and prices"
        )?;
    }
    writeln!(
        out,
        "version {version}: {count} of {all} documents were written, the others were there"
    )?;
    Ok(())
}

impl Draft {
    fn of(document: &Value, environment: &Environment, sealer: &Sealer) -> Self {
        let mut draft = Draft::default();
        for (key, value) in document.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("providers", Value::Array(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        draft.listed(
                            Kind::Provider,
                            &format!("providers[{at}]"),
                            item,
                            "",
                            environment,
                        );
                    }
                }
                ("master_keys", Value::Array(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        let name = format!("key-{}", at + 1);
                        draft.listed(
                            Kind::Key,
                            &format!("master_keys[{at}]"),
                            item,
                            &name,
                            environment,
                        );
                    }
                }
                ("price_overrides", Value::Array(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        draft.price(&format!("price_overrides[{at}]"), item, environment);
                    }
                }
                ("models", Value::Object(members)) => {
                    draft.named(Kind::Model, members, environment)
                }
                ("teams", Value::Object(members)) => draft.named(Kind::Team, members, environment),
                _ => draft.left.push(key.clone()),
            }
        }
        for drafted in &mut draft.documents {
            if drafted.kind == Kind::Key {
                hash(&mut drafted.body, sealer);
            }
        }
        draft
    }

    fn listed(
        &mut self,
        kind: Kind,
        path: &str,
        item: &Value,
        unnamed: &str,
        environment: &Environment,
    ) {
        let Some(mut body) = self.expanded(path, item, environment) else {
            return;
        };
        let Some(members) = body.as_object_mut() else {
            return;
        };
        let name = members
            .shift_remove("name")
            .or_else(|| members.shift_remove("id"));
        let name = name
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or(unnamed)
            .trim()
            .to_owned();
        if name.is_empty() {
            self.problems.push(format!("{path}: has no name"));
            return;
        }
        self.add(kind, name, body);
    }

    /// A price's document is called as its model, or as that and its provider where there are several.
    fn price(&mut self, path: &str, item: &Value, environment: &Environment) {
        let Some(mut body) = self.expanded(path, item, environment) else {
            return;
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let (model, provider) = (text("model").unwrap_or_default(), text("provider"));
        let is_known = |name: &str| {
            let mut known = self.documents.iter();
            known.any(|known| known.kind == Kind::Price && known.name == name)
        };
        let name = match provider {
            Some(provider) if is_known(&model) => format!("{model}@{provider}"),
            _ => model.clone(),
        };
        if let Some(members) = body.as_object_mut().filter(|_| name == model) {
            members.shift_remove("model");
        }
        self.add(Kind::Price, name, body);
    }

    fn named(&mut self, kind: Kind, members: &Map<String, Value>, environment: &Environment) {
        for (name, member) in members {
            if let Some(body) = self.expanded(&format!("{kind}s.{name}"), member, environment) {
                self.add(kind, name.clone(), body);
            }
        }
    }

    fn add(&mut self, kind: Kind, name: String, body: Value) {
        let mut known = self.documents.iter();
        if known.any(|known| known.kind == kind && known.name == name) {
            self.problems
                .push(format!("{kind} '{name}' is there twice"));
        }
        self.documents.push(Drafted { kind, name, body });
    }

    /// The same with what variables say: documents are literal.
    fn expanded(&mut self, path: &str, value: &Value, environment: &Environment) -> Option<Value> {
        let mut value = value.clone();
        match expand(&mut value, environment) {
            Ok(()) => Some(value),
            Err(unset) => {
                self.problems.push(format!(
                    "{path}: {unset}, and the database keeps what it says"
                ));
                None
            }
        }
    }
}

impl Drafted {
    fn put(&self, found: Option<&Document>, sealer: &Sealer) -> Stored<Put> {
        let mut body = self.body.clone();
        if self.kind == Kind::Provider {
            seal(&mut body, &self.place(), sealer)?;
        }
        Ok(Put {
            kind: self.kind,
            name: self.name.clone(),
            body: Some(body.to_string()),
            expect: found.map_or(Expect::Nothing, |found| Expect::Version(found.version)),
        })
    }

    fn price(&self) -> Value {
        price_item(&self.name, &self.body)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

fn found<'a>(known: &'a Documents, drafted: &Drafted) -> Option<&'a Document> {
    let known = known.documents.iter();
    let mut known = known.filter(|known| known.kind == drafted.kind);
    // A price's document may be called anything; a file has no word for that.
    let is_same = |known: &&Document| {
        drafted.kind == Kind::Price
            && read(known).is_some_and(|body| price_item(&known.name, &body) == drafted.price())
    };
    let same = known.clone().find(is_same);
    same.or_else(|| known.find(|known| known.name == drafted.name))
}

fn read(document: &Document) -> Option<Value> {
    serde_json::from_str(&document.body).ok()
}

/// A price's document as an entry of `price_overrides`: it may leave out its model, and what it is to be below `price`.
pub fn price_item(name: &str, body: &Value) -> Value {
    let mut rates = body.as_object().cloned().unwrap_or_default();
    let mut out = Map::new();
    let model = rates.shift_remove("model");
    out.insert(
        "model".to_owned(),
        model.unwrap_or_else(|| name.to_owned().into()),
    );
    for key in ["provider", "date"] {
        out.extend(rates.shift_remove(key).map(|value| (key.to_owned(), value)));
    }
    let price = rates.shift_remove("price");
    out.insert(
        "price".to_owned(),
        price.unwrap_or_else(|| Value::Object(rates)),
    );
    Value::Object(out)
}

/// Whether the store has this already; what is sealed is compared open.
fn is_same(found: &Document, drafted: &Drafted, sealer: &Sealer) -> bool {
    read(found).is_some_and(|mut body| match drafted.kind {
        Kind::Price => price_item(&found.name, &body) == drafted.price(),
        _ => open(&mut body, &drafted.place(), sealer).is_ok() && body == drafted.body,
    })
}

fn expand(value: &mut Value, environment: &Environment) -> Result<(), crate::config::env::Unset> {
    match value {
        Value::String(text) => {
            *text = environment.expand(text)?;
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| expand(item, environment)),
        Value::Object(members) => members
            .values_mut()
            .try_for_each(|member| expand(member, environment)),
        _ => Ok(()),
    }
}

/// A key of callers is kept as its keyed hash.
fn hash(body: &mut Value, sealer: &Sealer) {
    let Some(members) = body.as_object_mut() else {
        return;
    };
    if let Some(Value::String(key)) = members.shift_remove("key") {
        members.insert("key_hash".to_owned(), sealer.hash(key.trim()).into());
    }
}

/// Seals every text of a provider that is a secret, or may hold one.
fn seal(body: &mut Value, place: &str, sealer: &Sealer) -> Stored<()> {
    for (_, text) in secrets(body) {
        if !Sealer::is_sealed(text) {
            *text = sealer.seal(place, text)?;
        }
    }
    Ok(())
}

/// Texts of a provider's document that are secrets, or may hold one, with what they are called.
pub fn secrets(body: &mut Value) -> Vec<(String, &mut String)> {
    let mut found = Vec::new();
    for (key, member) in body.as_object_mut().into_iter().flatten() {
        match (key.as_str(), member) {
            ("api_key" | "proxy_url", Value::String(text)) => found.push((key.clone(), text)),
            ("api_keys", Value::Array(items)) => {
                let items = items.iter_mut().enumerate();
                found.extend(
                    items.flat_map(|(at, item)| of_key(&format!("api_key_{}", at + 1), item)),
                );
            }
            ("headers", Value::Object(members)) => found.extend(of_headers("header", members)),
            _ => {}
        }
    }
    // Nothing, and no proxy, is no secret.
    found.retain(|(_, text)| !matches!(text.trim(), "" | "direct" | "none"));
    found
}

fn of_key<'a>(name: &str, item: &'a mut Value) -> Vec<(String, &'a mut String)> {
    let members = match item {
        Value::String(text) => return vec![(name.to_owned(), text)],
        Value::Object(members) => members,
        _ => return vec![],
    };
    let mut found = Vec::new();
    for (key, member) in members {
        match (key.as_str(), member) {
            ("key", Value::String(text)) => found.push((name.to_owned(), text)),
            ("proxy_url", Value::String(text)) => found.push((format!("{name}_proxy_url"), text)),
            ("headers", Value::Object(members)) => {
                found.extend(of_headers(&format!("{name}_header"), members));
            }
            _ => {}
        }
    }
    found
}

fn of_headers<'a>(
    front: &str,
    headers: &'a mut Map<String, Value>,
) -> impl Iterator<Item = (String, &'a mut String)> {
    headers
        .iter_mut()
        .filter_map(move |(name, member)| match member {
            Value::String(text) => Some((format!("{front}_{name}"), text)),
            _ => None,
        })
}
