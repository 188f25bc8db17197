//! Versions of the configuration: which is in force, what each changed, and the way back.

use std::collections::BTreeSet;

use axum::response::Json;
use http::Method;
use polygate_store::StoreError;
use polygate_store::audit::DONE;
use polygate_store::config::{Change, Document, Documents, Kind, Version};
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::documents::WRITING;
use super::problem::{Field, Problem};
use super::role::Area;
use super::route::{Doc, Param, Route};
use super::view;
use super::write::{Manner, PARAMETERS, asking, check, commit, dry};

/// Versions of a page, and the most there may be.
const USUAL: u32 = 50;
const MOST: u32 = 500;

/// Changes that are asked for at a time.
const CHUNK: u32 = 1000;

const PAGE: &[Param] = &[
    Param::limit(MOST, "so many at most; 50 unless said"),
    Param::CURSOR,
];

/// Their routes.
pub fn routes() -> Vec<Route> {
    let at = |path: &str| format!("/admin/v1/config/{path}");
    let doc = |id: &str, summary: &str, answer: &'static str| Doc {
        id: id.to_owned(),
        summary: summary.to_owned(),
        answers: vec![(200, Some(answer))],
        ..Doc::default()
    };
    let of_version = doc(
        "get_version",
        "The version in force here, and the last one of the database",
        "ConfigVersion",
    );
    let of_reload = Doc {
        refusals: &[400, 422],
        ..doc(
            "reload",
            "Reads the file and the database again, now",
            "ConfigVersion",
        )
    };
    let of_history = Doc {
        query: PAGE,
        refusals: &[400],
        ..doc("list_versions", "Versions, the newest first", "History")
    };
    let of_change = Doc {
        refusals: &[400, 404],
        ..doc(
            "get_changes",
            "What a version changed, without secrets",
            "Changes",
        )
    };
    let of_rollback = Doc {
        query: WRITING,
        body: Some("Rollback"),
        refusals: &[400, 404, 409, 422],
        ..doc(
            "rollback",
            "Writes a new version with the documents of an old one; keys stay as they are unless `include_keys` says otherwise",
            "RolledBack",
        )
    };
    vec![
        Route::new(
            Method::GET,
            at("version"),
            Area::Config,
            version,
            of_version,
        ),
        Route::new(Method::POST, at("reload"), Area::Config, reload, of_reload),
        Route::new(
            Method::GET,
            at("history"),
            Area::Config,
            history,
            of_history,
        ),
        Route::new(
            Method::GET,
            at("history/{version}"),
            Area::Config,
            changes,
            of_change,
        ),
        Route::new(
            Method::POST,
            at("rollback"),
            Area::Config,
            rollback,
            of_rollback,
        ),
    ]
}

async fn version(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    Ok(Json(standing(&asked).await))
}

/// What is in force. A database that is away costs no more than its own number.
async fn standing(asked: &Asked) -> Value {
    let admin = &asked.state.admin;
    let standing = admin.configuration.standing();
    let stored = asking(admin.store.version()).await.ok();
    let left_out = admin.configuration.left_out();
    let left_out = left_out.iter();
    let left_out = left_out.map(|one| json!({"kind": one.kind, "name": one.name, "why": one.why}));
    json!({
        "version": standing.version,
        "timestamp": view::time(standing.since),
        "store_version": stored,
        "is_current": stored == Some(standing.version),
        "generation": standing.generation,
        "left_out": left_out.collect::<Vec<_>>(),
    })
}

async fn reload(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let admin = &asked.state.admin;
    let reloaded = admin.configuration.reload().await;
    let outcome = if reloaded.is_ok() { DONE } else { "refused" };
    let none = String::new();
    admin
        .note_of(&asked.principal, "reload", none, outcome)
        .await;
    reloaded.map_err(|problems| {
        let problems = problems.into_iter();
        Problem::fields(problems.map(|problem| Field::new("", problem)).collect())
    })?;
    Ok(Json(standing(&asked).await))
}

async fn history(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&["limit", "cursor"])?;
    let limit = asked.limit(USUAL, MOST)?;
    let before = asked.before()?;
    let versions = asking(asked.state.admin.store.versions(before, limit + 1)).await?;
    let has_more = versions.len() > limit as usize;
    let shown = versions.get(..limit as usize).unwrap_or(&versions);
    let next = shown
        .last()
        .filter(|_| has_more)
        .map(|last| last.version.to_string());
    let views: Vec<Value> = shown.iter().map(of_version).collect();
    Ok(Json(json!({"versions": views, "next_cursor": next})))
}

fn of_version(version: &Version) -> Value {
    json!({
        "version": version.version,
        "at": view::time(version.at),
        "actor": version.actor,
        "action": version.action,
        "changes": version.changes,
    })
}

async fn changes(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let said = asked.param("version");
    let missing = || Problem::missing("version", said);
    let number = said
        .parse::<i64>()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(missing)?;
    let store = &asked.state.admin.store;
    let after = number.saturating_add(1);
    let version = asking(store.versions(after, 1)).await?;
    let version = version.first().filter(|version| version.version == number);
    let mut view = of_version(version.ok_or_else(missing)?);
    let changes = asking(store.changes(number - 1, 1)).await?;
    let changes = changes.iter().filter(|change| change.version == number);
    view["documents"] = changes.map(|change| of_change(&asked, change)).collect();
    Ok(Json(view))
}

fn of_change(asked: &Asked, change: &Change) -> Value {
    let sealer = &asked.state.admin.sealer;
    let members =
        |document: &Option<Document>| document.as_ref().map(view::members).unwrap_or_default();
    let shown = |document: &Option<Document>| {
        document
            .as_ref()
            .map(|document| view::masked(document, sealer))
            .unwrap_or_default()
    };
    let (before, after) = (members(&change.before), members(&change.after));
    let (was, became) = (shown(&change.before), shown(&change.after));
    // By what is kept: two secrets may look alike.
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let field = |name: &String| {
        json!({
            "field": name,
            "before": said(&before, &was, name),
            "after": said(&after, &became, name),
        })
    };
    let fields: Vec<Value> = changed.map(field).collect();
    let action = match (&change.before, &change.after) {
        (None, _) => "created",
        (_, None) => "deleted",
        _ => "updated",
    };
    json!({"kind": change.kind, "name": change.name, "action": action, "fields": fields})
}

/// A member as it may be shown.
fn said(kept: &Map<String, Value>, shown: &Map<String, Value>, name: &str) -> Value {
    let hidden = || kept.get(name).map_or(Value::Null, |_| "***".into());
    shown.get(name).cloned().unwrap_or_else(hidden)
}

async fn rollback(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&PARAMETERS)?;
    let manner = Manner::of(&asked)?;
    let (target, has_keys) = wanted(asked.object()?)?;
    let store = &asked.state.admin.store;
    let mut now = asking(store.documents()).await?;
    if target > now.version {
        return Err(Problem::missing("version", &target.to_string()));
    }
    let mut then = now.clone();
    then.undo(&since(&asked, target, now.version).await?, target);
    if !has_keys {
        // A key that was revoked since stays so.
        for documents in [&mut now, &mut then] {
            documents
                .documents
                .retain(|document| document.kind != Kind::Key);
        }
    }
    let puts = now.puts_to(&then);
    let views: Vec<Value> = puts
        .iter()
        .map(|put| {
            let action = match (&put.body, now.has(put.kind, &put.name)) {
                (None, _) => "deleted",
                (Some(_), true) => "updated",
                (Some(_), false) => "created",
            };
            json!({"kind": put.kind, "name": put.name, "action": action})
        })
        .collect();
    let left_out = check(&asked, &puts, manner, str::to_owned).await?;
    let mut answer = json!({"version": now.version, "rolled_back_to": target, "documents": views});
    if manner.is_dry {
        return Ok(Json(dry(answer, &left_out)));
    }
    let written = commit(&asked, &format!("rollback to {target}"), puts).await;
    answer["version"] = match written {
        Ok(version) => version.into(),
        Err(StoreError::Conflict { .. }) => {
            let message = "something was written meanwhile: look again, and try again";
            return Err(Problem::conflict("changed", message));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Json(answer))
}

/// Which version, and whether keys go back too.
fn wanted(body: Map<String, Value>) -> Result<(i64, bool), Problem> {
    let (mut version, mut has_keys) = (None, false);
    for (name, value) in body {
        match (name.as_str(), &value) {
            ("version", Value::Number(number)) => version = number.as_i64(),
            ("include_keys", Value::Bool(yes)) => has_keys = *yes,
            ("include_keys", _) => {
                return Err(Problem::field("include_keys", "must be true or false"));
            }
            ("version", _) => {}
            _ => {
                let shown: String = name.chars().take(100).collect();
                return Err(Problem::field(
                    &shown,
                    "unknown key: there are version and include_keys",
                ));
            }
        }
    }
    let version = version.filter(|version| *version >= 0);
    let problem = || Problem::field("version", "must be the number of a version");
    Ok((version.ok_or_else(problem)?, has_keys))
}

/// Everything that changed after a version, oldest first.
async fn since(asked: &Asked, version: i64, now: i64) -> Result<Vec<Change>, Problem> {
    let (mut all, mut last) = (Vec::new(), version);
    while last < now {
        let changes = asking(asked.state.admin.store.changes(last, CHUNK)).await?;
        let Some(change) = changes.last() else {
            // Forgotten: nobody knows what it was.
            return Err(Problem::missing("version", &version.to_string()));
        };
        last = change.version;
        // What was written since these documents were read is not theirs.
        all.extend(changes.into_iter().filter(|change| change.version <= now));
    }
    Ok(all)
}

/// Whether there is one of this name.
trait Has {
    fn has(&self, kind: Kind, name: &str) -> bool;
}

impl Has for Documents {
    fn has(&self, kind: Kind, name: &str) -> bool {
        let mut documents = self.documents.iter();
        documents.any(|document| document.kind == kind && document.name == name)
    }
}
