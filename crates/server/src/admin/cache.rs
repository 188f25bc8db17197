//! Forgets answers that are kept for calls that ask the same.

use axum::response::Json;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::asked::Asked;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};

const PARAMETERS: &[Param] = &[Param {
    name: "model",
    kind: ParamKind::Text,
    about: "of this model, as it was asked for; all unless said",
}];

/// Its route.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "purge_cache".to_owned(),
        summary: "Forgets answers that are kept: of this replica, and those in Redis, where answers are kept there. Other replicas are told to forget theirs, where they share a Redis or a PostgreSQL; `purged` does not count those".to_owned(),
        query: PARAMETERS,
        answers: vec![(200, Some("Purged"))],
        refusals: &[400],
        ..Doc::default()
    };
    let path = "/admin/v1/cache";
    vec![Route::new(Method::DELETE, path, Area::Cache, purge, doc)]
}

async fn purge(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&["model"])?;
    let model = asked.query("model");
    let purged = asked.state.engine.answers().purge(model).await;
    let subject = match model {
        Some(model) => format!("answers of model {model}"),
        None => "all answers".to_owned(),
    };
    let outcome = if purged.is_ok() { "done" } else { "failed" };
    let (admin, principal) = (&asked.state.admin, &asked.principal);
    admin
        .note_of(principal, "purge cache", subject, outcome)
        .await;
    match purged {
        Ok(purged) => Ok(Json(json!({"purged": purged.count}))),
        Err(trouble) => {
            tracing::warn!(
                trouble,
                "answers of other replicas, or in Redis, cannot be forgotten"
            );
            let message = "answers of this replica are forgotten; those of others, or in Redis, may not be, since what replicas share cannot be reached";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(Problem::new(status, "store_unavailable", message).after(2))
        }
    }
}
