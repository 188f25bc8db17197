//! Whether a key is a good one here, as llm-proxy publishes it.

use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, Method};
use serde_json::json;

use super::gate::identify;
use super::role::Area;
use super::route::{Doc, Route};
use crate::State;
use crate::pages::Peer;

/// Its route.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "validate_key".to_owned(),
        summary: "Whether the key is a good one, and what it may".to_owned(),
        answers: vec![(200, Some("Session"))],
        refusals: &[401, 429],
        ..Doc::default()
    };
    let path = "/admin/v1/auth/validate";
    // It finds out by itself who asks, and says so either way.
    vec![Route::new(Method::POST, path, Area::Session, validate, doc).that_is_open()]
}

async fn validate(
    Shared(state): Shared<State>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let principal = match identify(&state, &headers, peer) {
        Ok(principal) => principal,
        Err(problem) => return problem.with("valid", json!(false)).into_response(),
    };
    Json(json!({
        "valid": true,
        "message": "the key is a good one",
        "name": principal.name,
        "role": principal.role.name(),
        "team": principal.team,
    }))
    .into_response()
}
