//! What is in force and what was done since the start, in all: the published pages for an admin.

use std::sync::atomic::Ordering;

use axum::extract::State as Shared;
use axum::response::Json;
use http::Method;
use polygate_engine::catalogue;
use polygate_engine::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::State;
use crate::admin::{Area, Doc, Route};

/// Their routes.
pub fn routes() -> Vec<Route> {
    let doc = |id: &str, summary: &str| Doc {
        id: id.to_owned(),
        summary: summary.to_owned(),
        answers: vec![(200, Some("Object"))],
        ..Doc::default()
    };
    let summary = "The configuration in force, without secrets";
    let of_config = Route::new(
        Method::GET,
        "/admin/config",
        Area::Overview,
        config,
        doc("get_config", summary),
    );
    let summary = "Sums of calls since the start";
    let of_totals = Route::new(
        Method::GET,
        "/admin/metrics",
        Area::Overview,
        totals,
        doc("get_totals", summary),
    );
    let summary = "Every model that can be called";
    let of_models = Route::new(
        Method::GET,
        "/admin/models",
        Area::Overview,
        models,
        doc("get_callable_models", summary),
    );
    vec![of_config, of_totals, of_models]
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
