//! Documents, and what the file has, in the published shapes.

use polygate_core::moment;
use polygate_store::Sealer;
use polygate_store::config::{Document, Kind};
use serde_json::{Map, Value, json};

use super::configuration::{FileObject, LeftOut};
use super::resource::Resource;
use super::secrets::mask;

/// What is kept of keys and shown to nobody.
const HIDDEN: [&str; 2] = ["key_hash", "previous_key_hash"];

/// A document.
pub fn of_document(resource: &Resource, document: &Document, sealer: &Sealer) -> Value {
    let mut members = masked(document, sealer);
    let name = &document.name;
    let mut view = head(resource, name, &mut members);
    view.insert("number".to_owned(), document.id.into());
    view.extend(rest(resource, members));
    view.insert("created_at".to_owned(), time(document.created));
    view.insert("updated_at".to_owned(), time(document.updated));
    view.insert("version".to_owned(), document.version.into());
    view.insert("source".to_owned(), "database".into());
    view.into()
}

/// Something that the file has.
pub fn of_file(resource: &Resource, object: &FileObject) -> Value {
    let mut members = object.body.clone();
    let mut view = head(resource, &object.name, &mut members);
    view.insert("number".to_owned(), Value::Null);
    view.extend(rest(resource, members));
    view.insert("created_at".to_owned(), Value::Null);
    view.insert("updated_at".to_owned(), Value::Null);
    view.insert("version".to_owned(), Value::Null);
    view.insert("source".to_owned(), "file".into());
    view.into()
}

/// The same with why it is not served, where it is not.
pub fn with_trouble(mut view: Value, document: &Document, left_out: &[LeftOut]) -> Value {
    let mut found = left_out.iter();
    let found = found.find(|one| one.kind == document.kind && one.name == document.name);
    if let Some(one) = found {
        view["left_out"] = one.why.as_str().into();
    }
    view
}

/// The members of a document; none where it is no JSON object.
pub fn members(document: &Document) -> Map<String, Value> {
    serde_json::from_str(&document.body).unwrap_or_default()
}

/// The same without what nobody may see.
pub fn masked(document: &Document, sealer: &Sealer) -> Map<String, Value> {
    let mut members = members(document);
    mask(document.kind, &document.name, &mut members, sealer);
    members.retain(|name, _| !HIDDEN.contains(&name.as_str()));
    members
}

/// Microseconds since 1970 as people and other APIs write them.
pub fn time(micros: i64) -> Value {
    let seconds = u64::try_from(micros / 1_000_000).unwrap_or_default();
    moment::text(seconds).into()
}

/// What it is called.
fn head(resource: &Resource, name: &str, members: &mut Map<String, Value>) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("id".to_owned(), name.into());
    let called = match resource.kind {
        Kind::Provider => "provider_key",
        Kind::Price => "model",
        Kind::Model | Kind::Key | Kind::Team => "name",
    };
    let shown = members.shift_remove(called).filter(Value::is_string);
    view.insert(called.to_owned(), shown.unwrap_or_else(|| name.into()));
    view
}

/// What the published shapes have even where nothing is said of it.
fn rest(resource: &Resource, mut members: Map<String, Value>) -> Map<String, Value> {
    let usual = match resource.kind {
        Kind::Provider => json!({
            "type": null, "api_base": null, "model_mapping": {}, "weight": 1, "enabled": true, "provider_params": {},
        }),
        Kind::Key => {
            json!({"key_preview": null, "allowed_models": [], "rate_limit": null, "enabled": true})
        }
        Kind::Team => json!({"allowed_models": [], "enabled": true}),
        Kind::Model | Kind::Price => json!({}),
    };
    let mut view = Map::new();
    for (name, value) in usual.as_object().into_iter().flatten() {
        let said = members.shift_remove(name);
        view.insert(
            resource.published(name).to_owned(),
            said.unwrap_or_else(|| value.clone()),
        );
    }
    let others = members.into_iter();
    view.extend(others.map(|(name, value)| (resource.published(&name).to_owned(), value)));
    view
}
