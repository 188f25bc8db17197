//! Health and metrics, and the router of all that is not a call: axum's.

pub mod check;
pub mod health;
pub mod overview;

use std::net::IpAddr;

use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode};
use polygate_engine::status;
use serde_json::{Value, json};

use crate::{State, admin};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Every page.
pub fn router(state: State) -> axum::Router {
    axum::Router::new()
        .route("/", get(alive))
        .route("/health", get(alive))
        .route("/health/detailed", get(health::detailed))
        .route(
            "/health/live",
            get(|| async { Json(json!({"status": "ok"})) }),
        )
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .merge(admin::router(&state))
        .method_not_allowed_fallback(|| async {
            error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this page does not take this method",
            )
        })
        .fallback(|| async {
            error(
                StatusCode::NOT_FOUND,
                "route_not_found",
                "there is no such page here",
            )
        })
        .with_state(state)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(json!({"error": {"message": message, "code": code, "origin": "gateway"}})),
    )
        .into_response()
}

/// Never depends on upstreams.
async fn alive(Shared(state): Shared<State>) -> Json<Value> {
    let providers = state.engine.snapshot().upstreams.len();
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "providers": providers}))
}

async fn ready(Shared(state): Shared<State>) -> Response {
    if state.life.is_ready() {
        return Json(json!({"status": "ready"})).into_response();
    }
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "stopping",
        "the gateway is stopping",
    )
}

async fn metrics(
    Shared(state): Shared<State>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if !state.engine.snapshot().config.metrics_open
        && let Err(problem) = admin::identify(&state, &headers, peer)
    {
        return problem.into_response();
    }
    state.flush.flush().await;
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let now = state.engine.clock().now();
    let providers = status::providers(&state.engine.snapshot(), now);
    let ledger = state.engine.ledger().map(|ledger| ledger.stats());
    let moment = state.engine.clock().unix_micros();
    let metrics = state.engine.metrics();
    metrics.limits(state.engine.limits());
    let text = metrics.render(&providers, ledger.as_ref(), moment);
    ([(http::header::CONTENT_TYPE, kind)], text).into_response()
}
