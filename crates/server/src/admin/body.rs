//! The body of a request → the body of a document: published words become the configuration's own, and names are found.

use serde_json::{Map, Value};

use super::openapi;
use super::problem::{Field, Problem};
use super::resource::Resource;

/// What answers say and requests may repeat, without effect.
pub const READ_ONLY: [&str; 10] = [
    "number",
    "version",
    "source",
    "created_at",
    "updated_at",
    "key_preview",
    "previous_key_until",
    "left_out",
    "warning",
    "dry_run",
];

/// What is made here and never brought.
pub const MADE_HERE: [&str; 2] = ["key_hash", "previous_key_hash"];

/// A body that was read.
#[derive(Debug)]
pub struct Sent {
    /// What it says that the document is called.
    pub name: Option<String>,
    /// Its members in the configuration's words; `null` clears.
    pub members: Map<String, Value>,
    /// What people call it, where that is all it says of a name.
    pub title: Option<String>,
    /// Which words were sent for which of them.
    words: Vec<(String, String)>,
}

impl Sent {
    /// Reads a body.
    pub fn read(resource: &Resource, body: Map<String, Value>) -> Result<Self, Problem> {
        let body = Value::Object(body);
        let [_, _, schema, _] = resource.schemas;
        let mut problems = openapi::check(schema, &body);
        let Value::Object(mut rest) = body else {
            return Err(Problem::invalid("the body must be a JSON object"));
        };
        let mut sent = Self {
            name: None,
            title: None,
            members: Map::new(),
            words: Vec::new(),
        };
        rest.retain(|word, _| !READ_ONLY.contains(&word.as_str()));
        sent.take_names(resource, &mut rest, &mut problems);
        for (word, value) in rest {
            if let Err(problem) = sent.take(resource, word, value) {
                problems.push(problem);
            }
        }
        match problems.is_empty() {
            true => Ok(sent),
            false => Err(Problem::fields(problems)),
        }
    }

    fn take_names(
        &mut self,
        resource: &Resource,
        body: &mut Map<String, Value>,
        problems: &mut Vec<Field>,
    ) {
        for word in resource.names {
            let Some(value) = body.get(*word).filter(|value| !value.is_null()) else {
                body.shift_remove(*word);
                continue;
            };
            let is_title = resource.title == Some(*word);
            let Some(name) = value.as_str() else {
                // Said already.
                body.shift_remove(*word);
                continue;
            };
            match &self.name {
                None => {
                    // A name that is too long is told by its length already.
                    let is_told = problems.iter().any(|problem| problem.field == *word);
                    if let Err(why) = sound(name)
                        && !is_told
                    {
                        problems.push(Field::new(*word, why));
                    }
                    self.name = Some(name.to_owned());
                    self.title = self.name.clone().filter(|_| is_title);
                    body.shift_remove(*word);
                }
                Some(known) if known == name => {
                    body.shift_remove(*word);
                }
                Some(_) if is_title => {}
                Some(known) => {
                    let message = format!("is another name than '{known}': keep one");
                    problems.push(Field::new(*word, message));
                    body.shift_remove(*word);
                }
            }
        }
    }

    fn take(&mut self, resource: &Resource, word: String, value: Value) -> Result<(), Field> {
        if MADE_HERE.contains(&word.as_str()) {
            return Err(Field::new(word, "is made here: send 'key', or nothing"));
        }
        let (native, value) = match (word.as_str(), value) {
            ("disabled", Value::Bool(disabled)) => ("enabled", Value::Bool(!disabled)),
            (word, value) => (resource.native(word), value),
        };
        if let Some((_, other)) = self.words.iter().find(|(known, _)| known == native) {
            let message = format!("is the same setting as '{other}': keep one");
            return Err(Field::new(word, message));
        }
        self.words.push((native.to_owned(), word.clone()));
        self.members.insert(native.to_owned(), value);
        Ok(())
    }

    /// For the document of this name: what is sent as the only name of one that has an id may be what people call it.
    pub fn meant_for(mut self, resource: &Resource, name: &str) -> Self {
        if let Some(title) = self.title.take()
            && let Some(word) = resource.title
        {
            let is_own = title == name;
            self.name = None;
            let title = if is_own { Value::Null } else { title.into() };
            self.members.insert(word.to_owned(), title);
        }
        self
    }

    /// A field as it was sent: `api_base`, `provider_type`, `is_enabled`.
    pub fn said(&self, field: &str) -> String {
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let (first, rest) = field.split_at_checked(end).unwrap_or((field, ""));
        let sent = self.words.iter().find(|(native, _)| native == first);
        format!("{}{rest}", sent.map_or(first, |(_, word)| word))
    }

    /// A body that was changed by this one.
    pub fn onto(&self, before: &Map<String, Value>) -> Map<String, Value> {
        let mut body = before.clone();
        for (name, value) in &self.members {
            match value {
                Value::Null => {
                    body.shift_remove(name);
                }
                value => {
                    body.insert(name.clone(), value.clone());
                }
            }
        }
        body
    }
}

/// What may be a name: something that can stand in a path, a header and a log.
fn sound(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.trim() != name {
        return Err("must be a text that neither begins nor ends with a space".to_owned());
    }
    if name.chars().any(char::is_control) || matches!(name, "." | "..") {
        return Err("must be a text that can stand in a path".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::resource::RESOURCES;
    use super::*;

    fn read(path: &str, body: Value) -> Result<Sent, Problem> {
        let resource = RESOURCES
            .iter()
            .find(|resource| resource.path == path)
            .expect("known");
        Sent::read(resource, body.as_object().cloned().expect("an object"))
    }

    #[test]
    fn both_published_forms_of_a_provider_are_one() {
        for name in ["id", "provider_key", "name"] {
            let body = json!({name: "p", "provider_type": "openai", "is_enabled": true, "provider_params": {}, "created_at": "x"});
            let sent = read("providers", body).expect("read");
            assert_eq!(sent.name.as_deref(), Some("p"));
            let expected = json!({"type": "openai", "enabled": true, "provider_params": {}});
            assert_eq!(Value::Object(sent.members.clone()), expected);
            assert_eq!(sent.said("type"), "provider_type");
            assert_eq!(sent.said("enabled.x[1]"), "is_enabled.x[1]");
            assert_eq!(sent.said("api_base"), "api_base");
        }
    }

    #[test]
    fn a_key_has_an_id_and_what_people_call_it() {
        let sent = read("master-keys", json!({"id": "k-1", "name": "Alice"})).expect("read");
        assert_eq!(sent.name.as_deref(), Some("k-1"));
        assert_eq!(sent.members["name"], "Alice");
        let sent = read("credentials", json!({"name": "Alice"})).expect("read");
        assert_eq!(
            (sent.name.as_deref(), sent.members.len()),
            (Some("Alice"), 0)
        );
    }

    #[test]
    fn what_contradicts_itself_is_told_by_field() {
        for (path, body, field) in [
            ("providers", json!({"id": "a", "provider_key": "b"}), "id"),
            ("providers", json!({"id": 5}), "id"),
            (
                "providers",
                json!({"id": "a", "type": "x", "provider_type": "y"}),
                "provider_type",
            ),
            ("providers", json!({"id": "a\n"}), "id"),
            ("providers", json!({"id": ".."}), "id"),
            ("providers", json!({"id": "é".repeat(201)}), "id"),
            (
                "master-keys",
                json!({"id": "a", "key_hash": "00"}),
                "key_hash",
            ),
            ("teams", json!({"name": " "}), "name"),
        ] {
            let problem = format!("{:?}", read(path, body.clone()).expect_err("wrong"));
            assert!(
                problem.contains(&format!("field: \"{field}\"")),
                "{body}: {problem}"
            );
        }
    }

    #[test]
    fn null_clears() {
        let sent = read("providers", json!({"weight": null, "models": ["a"]})).expect("read");
        let before = json!({"weight": 2, "model_mapping": {}, "type": "mock"});
        let after = sent.onto(before.as_object().expect("an object"));
        assert_eq!(
            Value::Object(after),
            json!({"model_mapping": ["a"], "type": "mock"})
        );
    }
}
