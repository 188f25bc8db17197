//! `polygate export`: the store's documents as a native file, which `polygate import --database` brings back.

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::Context;
use clap::ValueEnum;
use polygate_store::Sealer;
use polygate_store::config::{Document, Kind};
use serde_json::{Map, Value};

use crate::config::database::Storage;
use crate::config::documents::open;
use crate::import::{price_item, secrets, yaml};
use crate::storage::Opened;

/// What becomes of secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Secrets {
    /// Variables stand in their place, which have to be set before the file is of use
    #[default]
    References,
    /// They stand in the file
    Plain,
}

/// Documents as a native file.
#[derive(Debug, Default)]
struct Exported {
    providers: Vec<Value>,
    models: Map<String, Value>,
    teams: Map<String, Value>,
    keys: Vec<Value>,
    prices: Vec<Value>,
    /// Variables that stand for secrets.
    variables: BTreeSet<String>,
}

/// Prints what the store has.
pub async fn export(storage: &Storage, secrets: Secrets) -> anyhow::Result<()> {
    let opened = Opened::for_command(storage).await?;
    let documents = opened.store.documents().await?;
    let mut exported = Exported::default();
    for document in &documents.documents {
        let place = format!("{} '{}'", document.kind, document.name);
        exported
            .add(document, &opened.sealer, secrets)
            .context(place)?;
    }
    let variables = exported.variables.clone();
    let (version, text) = (documents.version, yaml(&exported.finish()));
    let mut out = std::io::stdout();
    write!(
        out,
        "# Version {version} of the database, by `polygate export`.\n{text}"
    )?;
    let mut said = std::io::stderr();
    if !variables.is_empty() {
        writeln!(
            said,
            "secrets are not in it; set these variables before it is used:"
        )?;
        for variable in variables {
            writeln!(said, "  {variable}")?;
        }
    }
    Ok(())
}

impl Exported {
    fn add(&mut self, document: &Document, sealer: &Sealer, how: Secrets) -> anyhow::Result<()> {
        let mut body: Value = serde_json::from_str(&document.body).context("no JSON")?;
        let place = format!("{}/{}", document.kind, document.name);
        open(&mut body, &place, sealer)?;
        escape(&mut body);
        if document.kind == Kind::Provider && how == Secrets::References {
            for (what, text) in secrets(&mut body) {
                *text = self.variable(&document.name, &what);
            }
        }
        let name = document.name.clone();
        match document.kind {
            Kind::Provider => self.providers.push(with_name(name, body)),
            Kind::Key => self.keys.push(with_name(name, body)),
            Kind::Price => self.prices.push(price_item(&name, &body)),
            Kind::Model => {
                self.models.insert(name, body);
            }
            Kind::Team => {
                self.teams.insert(name, body);
            }
        }
        Ok(())
    }

    /// A reference to a variable that no other secret has.
    fn variable(&mut self, name: &str, what: &str) -> String {
        let fits = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        };
        let mut variable: String = format!("{name}_{what}").chars().map(fits).collect();
        if variable.starts_with(|c: char| c.is_ascii_digit()) {
            variable.insert(0, '_');
        }
        while !self.variables.insert(variable.clone()) {
            variable.push('_');
        }
        format!("${{{variable}}}")
    }

    fn finish(self) -> Value {
        let mut document = Map::new();
        for (key, value, is_empty) in [
            (
                "providers",
                self.providers.len(),
                Value::Array(self.providers),
            ),
            ("models", self.models.len(), Value::Object(self.models)),
            ("teams", self.teams.len(), Value::Object(self.teams)),
            ("master_keys", self.keys.len(), Value::Array(self.keys)),
            (
                "price_overrides",
                self.prices.len(),
                Value::Array(self.prices),
            ),
        ]
        .map(|(key, count, value)| (key, value, count == 0))
        {
            if !is_empty {
                document.insert(key.to_owned(), value);
            }
        }
        Value::Object(document)
    }
}

/// The same with its name in front.
fn with_name(name: String, body: Value) -> Value {
    let mut out = Map::new();
    out.insert("name".to_owned(), name.into());
    if let Value::Object(members) = body {
        out.extend(members.into_iter().filter(|(key, _)| key != "name"));
    }
    Value::Object(out)
}

/// Documents are literal: what looks like a variable in a file is none.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("${") || text.contains("$$") => {
            *text = text.replace('$', "$$");
        }
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(members) => members.values_mut().for_each(escape),
        _ => {}
    }
}
