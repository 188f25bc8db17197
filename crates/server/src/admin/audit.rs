//! Who did what.

use axum::response::Json;
use http::Method;
use polygate_store::audit::{Entry, EventFilter};
use serde_json::{Value, json};

use super::asked::Asked;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};
use super::usage::asked_moment;
use super::view;
use super::write::asking;

/// Entries of a page, and the most there may be.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

const PARAMETERS: &[Param] = &[
    Param::limit(MOST, "so many at most; 100 unless said"),
    Param::CURSOR,
    Param {
        name: "actor",
        kind: ParamKind::Text,
        about: "by those whose name begins so: `alice`, `alice@10.0.0.1`",
    },
    Param {
        name: "action",
        kind: ParamKind::Text,
        about: "of actions that begin so: `create`, `delete logs`",
    },
    Param {
        name: "since",
        kind: ParamKind::Text,
        about: "from this moment: RFC 3339, a day, or seconds since 1970",
    },
    Param {
        name: "until",
        kind: ParamKind::Text,
        about: "before this moment, likewise",
    },
];

const NAMES: [&str; 6] = ["limit", "cursor", "actor", "action", "since", "until"];

/// Its route.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "list_audit".to_owned(),
        summary: "Who wrote, reset, reloaded or deleted what, and who tried to without the role for it; the newest first".to_owned(),
        query: PARAMETERS,
        answers: vec![(200, Some("Audit"))],
        refusals: &[400],
        ..Doc::default()
    };
    vec![Route::new(
        Method::GET,
        "/admin/v1/audit",
        Area::Audit,
        audit,
        doc,
    )]
}

async fn audit(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&NAMES)?;
    let limit = asked.limit(USUAL, MOST)?;
    let before = asked.before()?;
    let of = EventFilter {
        actor: asked.query("actor").map(str::to_owned),
        action: asked.query("action").map(str::to_owned),
        since: asked_moment(&asked, "since")?,
        until: asked_moment(&asked, "until")?,
    };
    let entries = asking(asked.state.admin.store.entries(&of, before, limit + 1)).await?;
    let has_more = entries.len() > limit as usize;
    let shown = entries.get(..limit as usize).unwrap_or(&entries);
    let next = shown
        .last()
        .filter(|_| has_more)
        .map(|last| last.number.to_string());
    let views: Vec<Value> = shown.iter().map(of_entry).collect();
    Ok(Json(json!({"entries": views, "next_cursor": next})))
}

fn of_entry(entry: &Entry) -> Value {
    let event = &entry.event;
    json!({
        "number": entry.number,
        "at": view::time(event.at),
        "actor": event.actor,
        "action": event.action,
        "outcome": event.outcome,
        "subject": event.subject,
        "version": event.version,
    })
}
