//! Who did what.

use axum::response::Json;
use http::Method;
use polygate_store::audit::Entry;
use serde_json::{Value, json};

use super::asked::Asked;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};
use super::view;
use super::write::asking;

/// Entries of a page, and the most there may be.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

/// Its route.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "list_audit".to_owned(),
        summary: "Who wrote, reset, reloaded or deleted what, and who tried to without the role for it; the newest first".to_owned(),
        query: &[
            Param {
                name: "limit",
                kind: ParamKind::Number(1, MOST as i64),
                about: "so many at most; 100 unless said",
            },
            Param {
                name: "cursor",
                kind: ParamKind::Text,
                about: "the `next_cursor` of the page before",
            },
        ],
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
    asked.knows(&["limit", "cursor"])?;
    let limit = asked.limit(USUAL, MOST)?;
    let before = asked.before()?;
    let entries = asking(asked.state.admin.store.entries(before, limit + 1)).await?;
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
