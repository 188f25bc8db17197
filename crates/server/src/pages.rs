//! Health, metrics and admin: what is not a call. An axum router.

mod check;
mod health;

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode};
use polygate_engine::admit::same_secret;
use polygate_engine::catalogue;
use polygate_engine::snapshot::Snapshot;
use polygate_engine::status;
use serde_json::{Value, json};

use crate::{State, key};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Every page.
pub fn router(state: State) -> axum::Router {
    let admin = axum::Router::new()
        .route("/admin/config", get(config))
        .route("/admin/metrics", get(totals))
        .route("/admin/models", get(models))
        .route("/admin/v1/health", get(health::all))
        .route("/admin/v1/health/check", post(check::some))
        .route("/admin/v1/health/providers/{id}", get(check::one))
        .route("/admin/v1/health/reset", post(health::reset))
        .route("/admin/v1/providers/{id}/health", post(check::models_of))
        .layer(from_fn_with_state(state.clone(), admins_only));
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
        .merge(admin)
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

fn is_admin(state: &State, headers: &HeaderMap) -> bool {
    key::bearer(headers).is_some_and(|shown| same_secret(shown, state.admin_key.reveal()))
}

async fn admins_only(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    if is_admin(&state, request.headers()) {
        return next.run(request).await;
    }
    let message = "the admin key is needed: 'Authorization: Bearer ADMIN_KEY'";
    error(StatusCode::UNAUTHORIZED, "invalid_admin_key", message)
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

async fn metrics(Shared(state): Shared<State>, headers: HeaderMap) -> Response {
    if !state.engine.snapshot().config.metrics_open && !is_admin(&state, &headers) {
        return error(
            StatusCode::UNAUTHORIZED,
            "invalid_admin_key",
            "metrics are closed: the admin key is needed",
        );
    }
    state.flush.flush().await;
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let now = state.engine.clock().now();
    let providers = status::providers(&state.engine.snapshot(), now);
    (
        [(http::header::CONTENT_TYPE, kind)],
        state.engine.metrics().render(&providers),
    )
        .into_response()
}

/// Sums since the start, in the published shape.
async fn totals(Shared(state): Shared<State>) -> Json<Value> {
    state.flush.flush().await;
    let metrics = state.engine.metrics();
    let totals = metrics.totals();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let breakdown = metrics.breakdown();
    Json(json!({
        "total_requests": load(&totals.requests),
        "total_errors": load(&totals.errors),
        "total_attempts": load(&totals.attempts),
        "total_input_tokens": load(&totals.input_tokens),
        "total_output_tokens": load(&totals.output_tokens),
        "active_requests": metrics.active(),
        "latency_ms": breakdown.latency_ms,
        "by_model": breakdown.by_model,
        "by_provider": breakdown.by_provider,
    }))
}

async fn models(Shared(state): Shared<State>) -> Json<Value> {
    let snapshot = state.engine.snapshot();
    let models: Vec<Value> = catalogue::list(&snapshot)
        .into_iter()
        .map(|model| json!({"id": model.id, "provider": model.providers.first(), "providers": model.providers, "owned_by": model.owned_by}))
        .collect();
    Json(json!({"models": models}))
}

/// The configuration in force: no key, no address that could hold one.
async fn config(Shared(state): Shared<State>) -> Json<Value> {
    Json(redacted(&state.engine.snapshot()))
}

fn redacted(snapshot: &Snapshot) -> Value {
    let config = &snapshot.config;
    let of_row = |row: &str| {
        snapshot
            .upstreams
            .iter()
            .filter(|upstream| upstream.row == row)
            .map(|upstream| upstream.credentials.len())
            .sum::<usize>()
    };
    let total: usize = snapshot
        .upstreams
        .iter()
        .map(|upstream| upstream.credentials.len())
        .sum();
    let (claude, openai, gemini) = (of_row("anthropic"), of_row("openai"), of_row("gemini"));
    let providers: Vec<Value> = snapshot
        .upstreams
        .iter()
        .map(|upstream| json!({"name": upstream.name, "type": upstream.row, "weight": upstream.weight, "credentials": upstream.credentials.len(), "prefix": upstream.prefix}))
        .collect();
    let keys = config.access.keys.as_ref();
    json!({
        "generation": snapshot.generation,
        "host": config.server.host,
        "port": config.server.port,
        "tls": {"enable": config.server.tls.is_some()},
        "api_keys_count": keys.map_or(0, Vec::len),
        "keys": keys.map(|keys| keys.iter().map(|key| &key.name).collect::<Vec<_>>()),
        "routing": {"strategy": format!("{:?}", config.routing.strategy), "force-model-prefix": config.routing.force_model_prefix},
        "retry": {
            "max-retries": config.retry.max_retries,
            "max-backoff-secs": config.retry.max_backoff.as_secs(),
            "cooldown-429-secs": config.retry.cooldown_rate_limit.as_secs(),
            "cooldown-5xx-secs": config.retry.cooldown_error.as_secs(),
            "cooldown-network-secs": config.retry.cooldown_network.as_secs(),
        },
        "streaming": {"keepalive-seconds": config.timeouts.keepalive.as_secs()},
        "body_limit_mb": config.server.body_limit / (1024 * 1024),
        "connect_timeout": config.timeouts.connect.as_secs(),
        "request_timeout": config.timeouts.request.as_secs(),
        "claude_keys_count": claude,
        "openai_keys_count": openai,
        "gemini_keys_count": gemini,
        "compat_keys_count": total - claude - openai - gemini,
        "providers": providers,
        "models": snapshot.models.keys().collect::<std::collections::BTreeSet<_>>(),
    })
}
