//! Keys of callers: made here or brought, kept as a keyed hash, replaced with an overlap; and what the admin of a team may do with them.

use std::time::Duration;

use axum::response::Response;
use http::{Method, StatusCode};
use polygate_core::{Secret, moment};
use polygate_store::config::{Document, Kind};
use polygate_store::mint::mint;
use polygate_store::{Sealer, StoreError};
use serde_json::{Map, Value};

use super::asked::Asked;
use super::body::Sent;
use super::documents::{put, there, written};
use super::problem::Problem;
use super::resource::{RESOURCES, Resource};
use super::role::Area;
use super::route::{Doc, Route};
use super::secrets::preview;
use super::view;
use super::write::{Manner, check, commit, matches, tagged};

/// Lengths of keys that are brought.
const SHORTEST: usize = 8;
const LONGEST: usize = 512;

/// The longest that a key may outlive its successor.
const OVERLAP: u64 = Duration::from_secs(90 * 24 * 3600).as_secs();

/// Where the key before the current one is kept, and until when it is good.
const PREVIOUS: [&str; 2] = ["previous_key_hash", "previous_key_until"];

/// The routes that keys have beside those of all documents.
pub fn routes() -> Vec<Route> {
    let of_keys = RESOURCES.iter().filter(|one| one.kind == Kind::Key);
    let route = |resource: &'static Resource| {
        let doc = Doc {
            id: format!("rotate_{}", resource.path.replace('-', "_")),
            summary: "Replaces a key: the new one is shown once, the old one is good until the overlap is over".to_owned(),
            body: Some("Rotation"),
        is_body_optional: true,
            answers: vec![(200, Some("Key"))],
            refusals: &[400, 404, 409, 412, 422],
            is_conditional: true,
            ..Doc::default()
        };
        let path = format!("/admin/v1/{}/{{id}}/rotate", resource.path);
        Route::new(
            Method::POST,
            path,
            Area::Keys,
            move |asked| rotate(asked, resource),
            doc,
        )
    };
    of_keys.map(route).collect()
}

/// The key of a new document: what is to be shown of it, once, where it is made here.
pub fn make(asked: &Asked, sent: &mut Sent) -> Result<Option<Secret>, Problem> {
    confine(asked, sent)?;
    let brought = sent.members.shift_remove("key");
    let (hash, shown, made) = key_of(asked, brought)?;
    not_taken(asked, &hash, None)?;
    sent.members.insert("key_hash".to_owned(), hash.into());
    sent.members.insert("key_preview".to_owned(), shown.into());
    Ok(made)
}

/// What a change makes of a key: another key ends the one before at once.
pub fn change(
    asked: &Asked,
    sent: &Sent,
    body: &mut Map<String, Value>,
    before: &Document,
) -> Result<(), Problem> {
    for field in ["role", "explain", "team"] {
        let was = view::members(before);
        let was = was.get(field).unwrap_or(&Value::Null);
        let is_changed = sent.members.get(field).is_some_and(|value| value != was);
        if is_changed && asked.principal.confined().is_some() {
            return Err(beyond(field));
        }
    }
    let Some(brought) = body.shift_remove("key") else {
        return Ok(());
    };
    let (hash, shown, _) = key_of(asked, Some(brought))?;
    not_taken(asked, &hash, Some(&before.name))?;
    body.insert("key_hash".to_owned(), hash.into());
    body.insert("key_preview".to_owned(), shown.into());
    for name in PREVIOUS {
        body.shift_remove(name);
    }
    Ok(())
}

/// Whether the admin of a team may see this: keys of its team, and the team itself.
pub fn is_within(asked: &Asked, kind: Kind, name: &str, body: &Map<String, Value>) -> bool {
    let Some(team) = asked.principal.confined() else {
        return true;
    };
    match kind {
        Kind::Key => body.get("team").and_then(Value::as_str) == Some(team),
        Kind::Team => name == team,
        Kind::Provider | Kind::Model | Kind::Price => false,
    }
}

/// Whoever takes a key takes with it what only an admin gives: a role, and what it sees of the gateway.
pub fn may_change(asked: &Asked, document: &Document) -> Result<(), Problem> {
    let members = view::members(document);
    let explains = members.get("explain").and_then(Value::as_bool) == Some(true);
    let more = match members.contains_key("role") {
        true => Some("has a role"),
        false => explains.then_some("may see explanations"),
    };
    if let Some(more) = more.filter(|_| asked.principal.confined().is_some()) {
        let message = format!("key '{}' {more}: only an admin changes it", document.name);
        return Err(Problem::forbidden(message));
    }
    Ok(())
}

/// What the admin of a team makes is of the team, has no role, and sees of the gateway what its admin may.
fn confine(asked: &Asked, sent: &mut Sent) -> Result<(), Problem> {
    let Some(team) = asked.principal.confined() else {
        return Ok(());
    };
    for field in ["role", "explain"] {
        let said = sent.members.get(field);
        if said.is_some_and(|value| !value.is_null()) {
            return Err(beyond(field));
        }
    }
    match sent.members.get("team") {
        None | Some(Value::Null) => {
            sent.members.insert("team".to_owned(), team.into());
            Ok(())
        }
        Some(named) if named == team => Ok(()),
        Some(_) => Err(beyond("team")),
    }
}

fn beyond(field: &str) -> Problem {
    Problem::forbidden(format!("'{field}' is not for the admin of a team to give"))
}

/// What is kept of a key, what is shown of it, and the key itself where it is made here.
fn key_of(
    asked: &Asked,
    brought: Option<Value>,
) -> Result<(String, String, Option<Secret>), Problem> {
    let sealer = &asked.state.admin.sealer;
    match brought {
        None | Some(Value::Null) => {
            let minted = mint()?;
            let hash = sealer.hash(minted.key.reveal());
            Ok((hash, minted.preview, Some(minted.key)))
        }
        Some(Value::String(key)) => {
            let length = key.chars().count();
            let is_sound = (SHORTEST..=LONGEST).contains(&length)
                && !key
                    .chars()
                    .any(|sign| sign.is_whitespace() || sign.is_control());
            if !is_sound {
                let message = format!(
                    "must have {SHORTEST} to {LONGEST} characters and no spaces; leave it out to have one made"
                );
                return Err(Problem::field("key", message));
            }
            Ok((sealer.hash(&key), preview(&key), None))
        }
        Some(_) => Err(Problem::field("key", "must be a text")),
    }
}

/// A key has one owner.
fn not_taken(asked: &Asked, hash: &str, own: Option<&str>) -> Result<(), Problem> {
    let hash = Sealer::hash_of(hash).unwrap_or_default();
    let owner = asked.state.admin.configuration.key_of(&hash);
    match owner.filter(|owner| Some(owner.as_str()) != own) {
        // The owner's name would tell the admin of a team whose key that is.
        Some(_) => Err(Problem::conflict("key_in_use", "another has this very key")),
        None => Ok(()),
    }
}

async fn rotate(asked: Asked, resource: &'static Resource) -> Result<Response, Problem> {
    asked.knows(&[])?;
    let (overlap, brought) = rotation(asked.members()?)?;
    let before = there(&asked, resource).await?;
    matches(&asked.headers, &before)?;
    may_change(&asked, &before)?;
    let (hash, shown, made) = key_of(&asked, brought)?;
    not_taken(&asked, &hash, Some(&before.name))?;
    let mut body = view::members(&before);
    let old = body.insert("key_hash".to_owned(), hash.into());
    body.insert("key_preview".to_owned(), shown.into());
    for name in PREVIOUS {
        body.shift_remove(name);
    }
    if let Some(old) = old.filter(|_| overlap > 0) {
        let until = asked.state.engine.clock().unix_seconds() + overlap;
        let [hash, end] = PREVIOUS;
        body.insert(hash.to_owned(), old);
        body.insert(end.to_owned(), moment::text(until).into());
    }
    let puts = vec![put(&asked, resource, &before.name, body, Some(&before))?];
    let manner = Manner {
        is_dry: false,
        is_forced: false,
    };
    check(&asked, &puts, manner, str::to_owned).await?;
    match commit(&asked, "rotate key", puts).await {
        Ok(_) => {}
        Err(StoreError::Conflict { .. }) => {
            let message = format!("'{}' was changed meanwhile: read it again", before.name);
            return Err(Problem::changed(message));
        }
        Err(error) => return Err(error.into()),
    }
    let document = written(&asked, resource, &before.name).await?;
    let mut view = view::of_document(resource, &document, &asked.state.admin.sealer);
    if let Some(key) = made {
        view["key"] = key.reveal().into();
    }
    Ok(tagged(StatusCode::OK, document.version, view))
}

/// How long the old key stays good, and the new one where it is brought.
fn rotation(body: Map<String, Value>) -> Result<(u64, Option<Value>), Problem> {
    let (mut overlap, mut key) = (0, None);
    for (name, value) in body {
        match name.as_str() {
            "overlap_secs" => {
                let seconds = value.as_u64().filter(|seconds| *seconds <= OVERLAP);
                overlap = seconds.ok_or_else(|| {
                    let message = format!("must be a number of seconds, {OVERLAP} at most");
                    Problem::field("overlap_secs", message)
                })?;
            }
            "key" => key = Some(value),
            _ => {
                let shown: String = name.chars().take(100).collect();
                return Err(Problem::field(
                    &shown,
                    "unknown key: there are overlap_secs and key",
                ));
            }
        }
    }
    Ok((overlap, key))
}
