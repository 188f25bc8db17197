//! AI API Pool's files: providers below every model become providers with the models that they serve.

use serde_json::{Map, Value, json};

use super::{carry, exactly};
use crate::import::{At, Notes, value};

/// A provider with the name that the file gave it.
struct Known {
    said: String,
    name: String,
    body: Map<String, Value>,
    mapping: Map<String, Value>,
}

/// Reads a file.
pub fn read(top: &At<'_>, notes: &mut Notes) -> Map<String, Value> {
    let mut server = Map::new();
    server.insert("host".to_owned(), "0.0.0.0".into());
    let mut known: Vec<Known> = Vec::new();
    for (key, section) in top.entries() {
        match key {
            "server" => read_server(&section, &mut server, notes),
            "models" => {
                for (name, model) in section.entries() {
                    read_model(name, &model, &mut known, notes);
                }
            }
            _ => notes.missing(&section, "the original knows no such key"),
        }
    }
    let providers = known.into_iter().map(Known::finish);
    let mut document = Map::new();
    document.insert("server".to_owned(), Value::Object(server));
    document.insert("routing".to_owned(), json!({"strategy": "round-robin"}));
    document.insert("providers".to_owned(), providers.collect());
    document
}

fn read_server(section: &At<'_>, server: &mut Map<String, Value>, notes: &mut Notes) {
    for (key, at) in section.entries() {
        match key {
            "host" | "port" => carry(server, key, &at, notes, ""),
            _ => notes.missing(&at, "the file is the one that was named at start"),
        }
    }
}

fn read_model(name: &str, model: &At<'_>, known: &mut Vec<Known>, notes: &mut Notes) {
    let target = model.get("model_name").map(|at| value(at.node));
    let target = target.filter(|target| target.as_str() != Some(name));
    let providers = model.get("providers");
    for entry in providers.iter().flat_map(At::items) {
        let Some(said) = entry.get("name").and_then(|at| at.text()) else {
            notes.missing(&entry, "it has no name, so it is left out");
            continue;
        };
        let mut body = Map::new();
        for (key, at) in entry.entries() {
            match key {
                "name" => {}
                // An empty key is for providers that want none.
                "api_key" if at.text().is_none() => {}
                "api_base" | "api_key" | "enabled" => {
                    body.insert(key.to_owned(), value(at.node));
                }
                _ => notes.missing(&at, "the original knows no such key"),
            }
        }
        let at = place(said, body, known);
        if let Some(provider) = known.get_mut(at) {
            notes.carried(&entry, format!("'{name}' of provider '{}'", provider.name));
            let target = target.clone().unwrap_or(Value::Null);
            provider.mapping.entry(exactly(name)).or_insert(target);
        }
    }
}

/// The same provider under several models is one; another of the same name gets a number.
fn place(said: &str, body: Map<String, Value>, known: &mut Vec<Known>) -> usize {
    let is_same = |one: &Known| one.said == said && one.body == body;
    if let Some(at) = known.iter().position(is_same) {
        return at;
    }
    let taken = |name: &str| known.iter().any(|one| one.name == name);
    let mut numbered = (2..).map(|number| format!("{said}-{number}"));
    let name = match taken(said) {
        false => Some(said.to_owned()),
        true => numbered.find(|name| !taken(name)),
    };
    known.push(Known {
        said: said.to_owned(),
        name: name.unwrap_or_default(),
        body,
        mapping: Map::new(),
    });
    known.len() - 1
}

impl Known {
    fn finish(self) -> Value {
        let mut out = Map::new();
        out.insert("name".to_owned(), self.name.into());
        out.extend(self.body);
        let mapping = if self.mapping.values().all(Value::is_null) {
            self.mapping.into_iter().map(|(name, _)| name).collect()
        } else {
            Value::Object(self.mapping)
        };
        out.insert("model_mapping".to_owned(), mapping);
        Value::Object(out)
    }
}
