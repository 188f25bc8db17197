//! How anything is written: checked as a whole, written as one version, and in force here before it is answered.

use std::future::Future;

use http::StatusCode;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use polygate_store::config::{Document, Put, Write};
use polygate_store::{Result as StoreResult, StoreError};
use serde_json::{Value, json};

use super::PATIENCE;
use super::asked::Asked;
use super::configuration::{Checked, LeftOut};
use super::problem::Problem;

/// Parameters of everything that writes.
pub const PARAMETERS: [&str; 2] = ["dry_run", "force"];

/// What an answer of the store is worth waiting for.
pub async fn asking<T>(answer: impl Future<Output = StoreResult<T>>) -> Result<T, Problem> {
    Ok(waiting(answer).await?)
}

/// The same, for who makes something of its refusal.
pub async fn waiting<T>(answer: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable("it does not answer".to_owned())),
    }
}

/// What a request wants of its write.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Says what would come of it, and does not do it.
    pub is_dry: bool,
    /// Does it though others are served no longer.
    pub is_forced: bool,
}

impl Manner {
    /// As the query says.
    pub fn of(asked: &Asked) -> Result<Self, Problem> {
        Ok(Self {
            is_dry: asked.flag("dry_run")?,
            is_forced: asked.flag("force")?,
        })
    }
}

/// Finds out what would come of documents: what is wrong with them, in the words of who sent them, or what else they break.
pub async fn check(
    asked: &Asked,
    puts: &[Put],
    manner: Manner,
    said: impl Fn(&str) -> String,
) -> Result<Vec<LeftOut>, Problem> {
    let Checked { problems, left_out } = asked.state.admin.configuration.check(puts).await;
    if !problems.is_empty() {
        let mut problems = problems;
        for problem in &mut problems {
            problem.field = said(&problem.field);
        }
        return Err(Problem::fields(problems));
    }
    if !left_out.is_empty() && !manner.is_dry && !manner.is_forced {
        let names = left_out
            .iter()
            .map(|one| format!("{} '{}': {}", one.kind, one.name, one.why));
        let message = format!(
            "others would be served no longer: {}. Change them first, or send 'force=true'",
            names.collect::<Vec<_>>().join("; ")
        );
        return Err(Problem::conflict("in_use", message));
    }
    Ok(left_out)
}

/// Writes a version; its number. It is in force here by then, unless that takes longer than anyone wants to wait.
pub async fn commit(asked: &Asked, action: &str, puts: Vec<Put>) -> StoreResult<i64> {
    let admin = &asked.state.admin;
    let write = Write {
        actor: asked.principal.actor(),
        action: action.to_owned(),
        at: admin.now(),
        puts,
    };
    let version = waiting(admin.store.write(write)).await?;
    if !admin.configuration.in_force(version).await {
        tracing::warn!(version, "a version is written but not in force here yet");
    }
    Ok(version)
}

/// What `If-Match` wants of a document; `None`: nothing.
pub fn matches(headers: &HeaderMap, document: &Document) -> Result<Option<i64>, Problem> {
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let wanted = wanted.to_str().unwrap_or_default();
    let tag = tag(document.version);
    let is_there = wanted
        .split(',')
        .map(str::trim)
        .any(|one| one == tag || one == "*");
    if !is_there {
        let message = format!("'{}' is {tag} by now: read it again", document.name);
        return Err(Problem::changed(message));
    }
    Ok(Some(document.version))
}

/// Whether a new one is wanted only where there is none.
pub fn wants_nothing(headers: &HeaderMap) -> bool {
    headers
        .get(IF_NONE_MATCH)
        .is_some_and(|wanted| wanted == "*")
}

/// A document's tag.
pub fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// An answer with its tag.
pub fn tagged(status: StatusCode, version: i64, view: Value) -> axum::response::Response {
    use axum::response::{IntoResponse, Json};
    let mut answer = (status, Json(view)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&tag(version)) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

/// What would be, of a dry run.
pub fn dry(mut view: Value, left_out: &[LeftOut]) -> Value {
    let left_out = left_out.iter();
    let left_out = left_out.map(|one| json!({"kind": one.kind, "name": one.name, "why": one.why}));
    view["dry_run"] = true.into();
    view["left_out"] = left_out.collect();
    view
}
