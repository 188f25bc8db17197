//! Health and metrics, and the router of all that is not a call: axum's.

pub mod check;
pub mod health;
pub mod overview;

use std::net::IpAddr;

use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode};
use polygate_engine::observe::metrics::{Format, Now};
use polygate_engine::observe::{Build, Standing};
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
    let Build { version, commit } = state.engine.metrics().build();
    Json(json!({"status": "ok", "version": version, "commit": commit, "providers": providers}))
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
    let accept = headers.get(http::header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let kind = HeaderValue::from_static(format.media_type());
    let engine = &state.engine;
    let ledger = engine.ledger().map(|ledger| ledger.stats());
    let now = Now {
        providers: &status::providers(&engine.snapshot(), engine.clock().now()),
        ledger: ledger.as_ref(),
        limits: engine.limits(),
        standing: standing(&state),
        micros: engine.clock().unix_micros(),
    };
    let text = engine.metrics().render(&now, format);
    ([(http::header::CONTENT_TYPE, kind)], text).into_response()
}

/// The gateway as metrics show it.
fn standing(state: &State) -> Standing {
    let configuration = &state.admin.configuration;
    let now = configuration.standing();
    let most = state
        .engine
        .snapshot()
        .config
        .server
        .max_concurrent_requests;
    Standing {
        generation: now.generation,
        version: now.version,
        is_file_refused: now.is_file_refused,
        are_documents_refused: now.are_documents_refused,
        left_out: configuration.left_out().len(),
        is_store_up: now.is_store_up,
        calls: state.calls.taken(),
        most_calls: most.unwrap_or(state.bearable),
        cached: state.engine.answers().size(),
        cache_failures: state.engine.answers().failures(),
    }
}
