//! How providers, their keys and models are: the published page for callers, and the admin's, which can also reset.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use polygate_core::Failure;
use polygate_engine::health::{Position, Reason};
use polygate_engine::snapshot::{Credential, Upstream};
use polygate_engine::status::{self, CredentialStatus, Ended, ProviderStatus, Which};
use polygate_store::audit::DONE;
use polygate_wire::Format;
use serde_json::{Map, Value, json};

use super::{Peer, error};
use crate::admin::{Area, Doc, Principal, Route};
use crate::{State, admin, key};

/// The longest wait that is a number of seconds: what rests until somebody wakes it rests longer.
const LONGEST: u64 = 31_536_000;

/// The routes for an admin.
pub fn routes() -> Vec<Route> {
    let of_all = Doc {
        id: "get_health".to_owned(),
        summary: "Every provider with what rests and why, its calls, connections, keys and models"
            .to_owned(),
        answers: vec![(200, Some("HealthList"))],
        ..Doc::default()
    };
    let of_reset = Doc {
        id: "reset_health".to_owned(),
        summary: "Ends rests, closes breakers and fills budgets: of all, or of what the body names"
            .to_owned(),
        body: Some("HealthReset"),
        is_body_optional: true,
        answers: vec![(200, Some("HealthResetDone"))],
        refusals: &[400, 404],
        ..Doc::default()
    };
    vec![
        Route::new(Method::GET, "/admin/v1/health", Area::Health, all, of_all),
        Route::new(
            Method::POST,
            "/admin/v1/health/reset",
            Area::Health,
            reset,
            of_reset,
        ),
    ]
}

/// Each provider with what rests and why. For callers with a key, since it names providers.
pub(super) async fn detailed(
    Shared(state): Shared<State>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let keys = state.engine.keys();
    let now = state.engine.clock().unix_seconds();
    let known = keys.authenticate(key::shown(&headers, None, false), peer, now);
    if let Err(failure) = known.map(|_| ()).or_else(|failure| {
        admin::identify(&state, &headers, peer)
            .map(|_| ())
            .map_err(|_| failure)
    }) {
        return refused(&failure);
    }
    let snapshot = state.engine.snapshot();
    let now = state.engine.clock().now();
    let providers: BTreeMap<String, Value> = snapshot
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.to_string(), provider_health(upstream, now)))
        .collect();
    Json(json!(providers)).into_response()
}

/// Every provider with its breaker, budget, calls, connections, keys and models.
pub(super) async fn all(Shared(state): Shared<State>) -> Json<Value> {
    let snapshot = state.engine.snapshot();
    let now = state.engine.clock().now();
    let upstreams = snapshot.upstreams.iter();
    let providers: Vec<Value> = upstreams.map(|upstream| provider(upstream, now)).collect();
    Json(json!({"providers": providers}))
}

/// Ends rests, closes breakers and fills budgets: of all, or of what the body names.
pub(super) async fn reset(
    Shared(state): Shared<State>,
    Extension(principal): Extension<Principal>,
    body: Bytes,
) -> Response {
    let which = match which(&body) {
        Ok(which) => which,
        Err(message) => return error(StatusCode::BAD_REQUEST, "invalid_request", &message),
    };
    match status::reset(&state.engine, &which) {
        Ok(ended) => {
            let names = [which.provider, which.credential, which.model];
            let names: Vec<String> = names.into_iter().flatten().collect();
            let admin = &state.admin;
            let subject = names.join(" ");
            admin
                .note_of(&principal, "reset health", subject, DONE)
                .await;
            Json(json!({"reset": ended.iter().map(was).collect::<Vec<_>>()})).into_response()
        }
        Err(message) => error(StatusCode::NOT_FOUND, "not_found", &message),
    }
}

fn which(body: &[u8]) -> Result<Which, String> {
    let mut which = Which::default();
    for (name, value) in members(body)? {
        let place = match name.as_str() {
            "provider" => &mut which.provider,
            "credential" => &mut which.credential,
            "model" => &mut which.model,
            _ => return Err(unknown(&name, "provider, credential and model")),
        };
        *place = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => return Err(format!("'{name}' must be a name")),
        };
    }
    Ok(which)
}

/// The body's members; none where it is empty.
pub(super) fn members(body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("the body must be a JSON object".to_owned()),
        Err(problem) => Err(format!("the body is no JSON: {problem}")),
    }
}

pub(super) fn unknown(name: &str, known: &str) -> String {
    let shown: String = name.chars().take(100).collect();
    format!("'{shown}' is not known here: there are {known}")
}

fn was(ended: &Ended) -> Value {
    json!({
        "provider": ended.provider,
        "credential": ended.credential,
        "model": ended.model,
        "reason": ended.reason,
    })
}

fn provider(upstream: &Upstream, now: Duration) -> Value {
    let status = ProviderStatus::of(upstream, now);
    let keys = upstream.credentials.iter().zip(&status.credentials);
    let credentials: Vec<Value> = keys
        .map(|(key, status)| credential(key, status, now))
        .collect();
    let models = status.resting_models.iter();
    let models: Vec<Value> = models
        .map(|(name, reason, wait)| json!({"model": name, "status": "resting", "reason": reason.name(), "seconds": seconds(*wait)}))
        .collect();
    json!({
        "name": status.name,
        "type": upstream.row,
        "status": verdict(&status),
        "breaker": breaker(&status),
        "retries": {
            "budget": status.retries.left,
            "tried": status.retries.tried,
            "refused": status.retries.refused,
        },
        "calls": status.calls,
        "max_calls": status.max_calls,
        "connections": {
            "open": status.connections.open,
            "idle": status.connections.idle,
            "opened": status.connections.connects,
            "reused": status.connections.reuses,
            "waiting": status.connections.waiting,
            "refused": status.connections.refused,
        },
        "credentials": credentials,
        "models": models,
    })
}

fn verdict(status: &ProviderStatus) -> &'static str {
    let keys = &status.credentials;
    let resting = keys.iter().filter(|key| key.rest.is_some()).count();
    match (status.breaker, resting) {
        (Position::Open(..), _) => "error",
        (_, all) if all == keys.len() => "error",
        (Position::Closed, 0) => "ok",
        _ => "partial",
    }
}

fn breaker(status: &ProviderStatus) -> Value {
    let rest = match status.breaker {
        Position::Open(reason, wait) => Some((reason, wait)),
        Position::Closed | Position::HalfOpen => None,
    };
    let breaker = json!({
        "state": status.breaker.name(),
        "reason": rest.map(|(reason, _)| reason.name()),
        "seconds": rest.map(|(_, wait)| seconds(wait)),
        "trips": status.trips,
        "opened": status.opened,
    });
    learnt(breaker, status.learnt_from)
}

/// The same with the replica that says so, where that was not seen here.
fn learnt(mut rest: Value, from: Option<u64>) -> Value {
    if let (Value::Object(members), Some(from)) = (&mut rest, from) {
        members.insert("learnt_from".to_owned(), format!("{from:016x}").into());
    }
    rest
}

fn credential(key: &Credential, status: &CredentialStatus, now: Duration) -> Value {
    let models = status::models(key, now);
    let slowest = models.iter().filter_map(|model| model.latency).max();
    let models: Vec<Value> = models
        .iter()
        .map(|model| json!({"model": model.name, "calls": model.calls, "latency_ms": model.latency.map(millis)}))
        .collect();
    let credential = json!({
        "name": status.name,
        "status": if status.rest.is_some() { "resting" } else { "ok" },
        "reason": status.rest.map(|(reason, _): (Reason, _)| reason.name()),
        "seconds": status.rest.map(|(_, wait)| seconds(wait)),
        "calls": status.calls,
        "latency_ms": slowest.map(millis),
        "models": models,
    });
    learnt(credential, status.learnt_from)
}

fn seconds(wait: Duration) -> f64 {
    (wait.as_millis() as f64 / 1000.0).min(LONGEST as f64)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn refused(failure: &Failure) -> Response {
    let body = polygate_wire::dialect(Format::OpenaiChat).encode_error(failure, "");
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::UNAUTHORIZED);
    (status, [("content-type", "application/json")], body).into_response()
}

fn provider_health(upstream: &Upstream, now: Duration) -> Value {
    let own = upstream.health.breaker.resting(now);
    let credentials: Vec<Value> = upstream
        .credentials
        .iter()
        .map(|credential| {
            let rest = credential.rest.resting(now);
            json!({"name": credential.name, "status": if rest.is_some() { "resting" } else { "ok" }, "reason": rest.map(|(reason, _)| reason.name()), "seconds": rest.map(|(_, wait)| wait.as_secs().min(LONGEST))})
        })
        .collect();
    let resting = upstream
        .credentials
        .iter()
        .filter(|credential| credential.rest.resting(now).is_some())
        .count();
    let status = match (own, resting) {
        (Some(_), _) => "error",
        (None, 0) => "ok",
        (None, some) if some == upstream.credentials.len() => "error",
        (None, _) => "partial",
    };
    let models: Vec<Value> = upstream
        .mappings
        .iter()
        .filter(|mapping| mapping.pattern.is_exact())
        .map(|mapping| json!({"model": mapping.pattern.source(), "status": if status == "error" { "error" } else { "ok" }}))
        .collect();
    json!({
        "status": status,
        "type": upstream.row,
        "reason": own.map(|(reason, _)| reason.name()),
        "credentials": credentials,
        "models": models,
    })
}
