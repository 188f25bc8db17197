//! Checks that the admin asks for, now: of providers by their lists of models, or of models by chats of one token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use polygate_engine::probe::{Checked, CheckedModel, Wanted, check_now};
use polygate_engine::snapshot::{Snapshot, Upstream};
use polygate_store::config::Kind;
use serde_json::{Value, json};

use super::error;
use super::health::{members, millis, unknown};
use crate::State;
use crate::admin::{Area, Doc, Param, ParamKind, Route, waiting};

/// Times that can be asked for, in seconds, and how many providers are asked at a time.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=120;
const AT_ONCE: std::ops::RangeInclusive<u64> = 1..=10;

/// How much of what a provider said is repeated.
const ERROR: usize = 200;

/// A request of a check.
struct Asked {
    /// Names of providers; all unless given.
    providers: Option<Vec<String>>,
    wanted: Wanted,
}

/// Their routes.
pub fn routes() -> Vec<Route> {
    let of_some = Doc {
        id: "check_providers".to_owned(),
        summary: "Checks providers now: by their lists of models, or by chats of one token with the models named"
            .to_owned(),
        body: Some("Check"),
        is_body_optional: true,
        answers: vec![(200, Some("Checks"))],
        refusals: &[400, 404],
        ..Doc::default()
    };
    let of_one = Doc {
        id: "check_provider".to_owned(),
        summary: "Checks one provider now".to_owned(),
        query: &[
            Param {
                name: "models",
                kind: ParamKind::Text,
                about: "names of models to chat with, commas between",
            },
            Param {
                name: "timeout_secs",
                kind: ParamKind::Number(1, 120),
                about: "how long is waited for an answer",
            },
        ],
        answers: vec![(200, Some("Checked"))],
        refusals: &[400, 404],
        ..Doc::default()
    };
    let of_models = Doc {
        id: "check_models".to_owned(),
        summary: "Checks models of one provider now, with a summary".to_owned(),
        body: Some("CheckModels"),
        is_body_optional: true,
        answers: vec![(200, Some("Checked"))],
        refusals: &[400, 404],
        ..Doc::default()
    };
    let of = "/admin/v1/health/providers/{id}";
    // A check costs the provider's patience, and tokens where models are named.
    vec![
        Route::new(
            Method::POST,
            "/admin/v1/health/check",
            Area::Health,
            some,
            of_some,
        ),
        Route::new(Method::GET, of, Area::Health, one, of_one).that_costs(),
        Route::new(
            Method::POST,
            "/admin/v1/providers/{id}/health",
            Area::Health,
            models_of,
            of_models,
        ),
    ]
}

/// `POST /admin/v1/health/check`.
pub(super) async fn some(Shared(state): Shared<State>, body: Bytes) -> Response {
    let asked = match asked(&body) {
        Ok(asked) => asked,
        Err(message) => return invalid(&message),
    };
    let snapshot = state.engine.snapshot();
    let names = asked.providers.unwrap_or_else(|| all(&snapshot));
    match checked(&state, &snapshot, &names, &asked.wanted).await {
        Ok(providers) => {
            let count = |status: &str| {
                let of = providers.iter().filter(|one| one["status"] == status);
                of.count()
            };
            Json(json!({
                "total_providers": providers.len(),
                "healthy_providers": count("healthy"),
                "unhealthy_providers": count("unhealthy"),
                "providers": providers,
            }))
            .into_response()
        }
        Err(message) => error(StatusCode::NOT_FOUND, "not_found", &message),
    }
}

/// `GET /admin/v1/health/providers/{id}`, with `models` (names with commas between) and `timeout_secs`.
pub(super) async fn one(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let wanted = match wanted(&query) {
        Ok(wanted) => wanted,
        Err(message) => return invalid(&message),
    };
    let snapshot = state.engine.snapshot();
    match checked(&state, &snapshot, &[name], &wanted).await {
        Ok(mut providers) => Json(providers.pop().unwrap_or_default()).into_response(),
        Err(message) => error(StatusCode::NOT_FOUND, "not_found", &message),
    }
}

/// `POST /admin/v1/providers/{id}/health`: the same with a summary, and as many models at a time as `max_concurrent` says.
pub(super) async fn models_of(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let wanted = match asked(&body) {
        Ok(Asked {
            providers: Some(_), ..
        }) => {
            let known = "models, timeout_secs and max_concurrent";
            return invalid(&unknown("provider_ids", known));
        }
        Ok(Asked { wanted, .. }) => Wanted {
            models_at_once: wanted.at_once,
            ..wanted
        },
        Err(message) => return invalid(&message),
    };
    let snapshot = state.engine.snapshot();
    match checked(&state, &snapshot, &[name], &wanted).await {
        Ok(mut providers) => {
            let mut one = providers.pop().unwrap_or_default();
            one["summary"] = summary(&one["models"]);
            Json(one).into_response()
        }
        Err(message) => error(StatusCode::NOT_FOUND, "not_found", &message),
    }
}

fn summary(models: &Value) -> Value {
    let models = models.as_array().map_or(&[][..], Vec::as_slice);
    let healthy = models.iter().filter(|model| model["status"] == "healthy");
    let healthy = healthy.count();
    json!({
        "total_models": models.len(),
        "healthy_models": healthy,
        "unhealthy_models": models.len() - healthy,
    })
}

fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request", message)
}

fn usual() -> Wanted {
    Wanted {
        models: Vec::new(),
        timeout: Duration::from_secs(30),
        at_once: 2,
        models_at_once: 1,
    }
}

fn asked(body: &[u8]) -> Result<Asked, String> {
    let mut asked = Asked {
        providers: None,
        wanted: usual(),
    };
    for (name, value) in members(body)? {
        match name.as_str() {
            _ if value.is_null() => {}
            "provider_ids" => asked.providers = Some(ids(&name, &value)?),
            "models" => asked.wanted.models = names(&name, &value)?,
            "timeout_secs" => {
                let seconds = within(&name, value.as_u64(), &TIMEOUTS)?;
                asked.wanted.timeout = Duration::from_secs(seconds);
            }
            "max_concurrent" => {
                let number = within(&name, value.as_u64(), &AT_ONCE)?;
                asked.wanted.at_once = usize::try_from(number).unwrap_or(1);
            }
            _ => {
                let known = "provider_ids, models, timeout_secs and max_concurrent";
                return Err(unknown(&name, known));
            }
        }
    }
    Ok(asked)
}

fn wanted(query: &HashMap<String, String>) -> Result<Wanted, String> {
    let mut wanted = usual();
    for (name, value) in query {
        match name.as_str() {
            "models" => {
                let names = value.split(',').map(str::trim);
                wanted.models = names
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            "timeout_secs" => {
                let seconds = within(name, value.trim().parse().ok(), &TIMEOUTS)?;
                wanted.timeout = Duration::from_secs(seconds);
            }
            _ => return Err(unknown(name, "models and timeout_secs")),
        }
    }
    Ok(wanted)
}

/// Names, or numbers as llm-proxy has them.
fn ids(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let ids = value.as_array().and_then(|ids| {
        let id = |id: &Value| match id {
            Value::Number(number) => Some(number.as_u64()?.to_string()),
            id => id.as_str().map(str::to_owned),
        };
        ids.iter().map(id).collect()
    });
    ids.ok_or_else(|| format!("'{name}' must be a list of names or numbers"))
}

fn names(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let names = value.as_array().and_then(|names| {
        let names = names.iter().map(|name| name.as_str().map(str::to_owned));
        names.collect()
    });
    names.ok_or_else(|| format!("'{name}' must be a list of names"))
}

fn within(
    name: &str,
    value: Option<u64>,
    range: &std::ops::RangeInclusive<u64>,
) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    value
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("'{name}' must be a number from {least} to {most}"))
}

/// Every provider's name, in the configuration's order.
fn all(snapshot: &Snapshot) -> Vec<String> {
    let providers = snapshot.config.providers.iter();
    providers.map(|provider| provider.name.clone()).collect()
}

/// What checks of these said, in their order; those that are disabled are not asked.
async fn checked(
    state: &State,
    snapshot: &Arc<Snapshot>,
    names: &[String],
    wanted: &Wanted,
) -> Result<Vec<Value>, String> {
    let is_known = |name: &&String| {
        let mut known = snapshot.config.providers.iter();
        known.any(|provider| provider.name == **name)
    };
    let mut meant = Vec::new();
    for name in names {
        meant.push(named(state, snapshot, name).await);
    }
    let names = meant;
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let shown: String = name.chars().take(100).collect();
        return Err(format!("there is no provider '{shown}'"));
    }
    let find = |name: &String| {
        let mut upstreams = snapshot.upstreams.iter();
        upstreams.find(|upstream| *upstream.name == **name).cloned()
    };
    let upstreams: Vec<Arc<Upstream>> = names.iter().filter_map(find).collect();
    let engine = &state.engine;
    let checks = check_now(engine, snapshot, upstreams, wanted).await;
    let at = engine.clock().unix_seconds();
    let of_name = |name: &String| {
        let mut checks = checks.iter();
        match checks.find(|check| *check.upstream.name == **name) {
            Some(check) => result(check, at),
            None => disabled(name, at),
        }
    };
    Ok(names.iter().map(of_name).collect())
}

/// The provider that is meant: one of this name, else the document of this number, else the one with this number in the
/// configuration's order, counted from 1.
async fn named(state: &State, snapshot: &Snapshot, id: &str) -> String {
    let providers = &snapshot.config.providers;
    let Ok(number) = id.parse::<i64>() else {
        return id.to_owned();
    };
    if providers.iter().any(|one| one.name == id) {
        return id.to_owned();
    }
    let document = state.admin.store.document_by_id(Kind::Provider, number);
    if let Ok(Some(document)) = waiting(document).await {
        return document.name;
    }
    let at = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1));
    let meant = at.and_then(|at| providers.get(at));
    meant.map_or_else(|| id.to_owned(), |meant| meant.name.clone())
}

fn disabled(name: &str, at: u64) -> Value {
    json!({"provider_id": name, "provider_key": name, "status": "disabled", "models": [], "checked_at": at})
}

fn result(check: &Checked, at: u64) -> Value {
    let models: Vec<Value> = check.models.iter().map(model).collect();
    let good = check.models.iter().filter(|model| model.result.is_ok());
    let times: Vec<u64> = match &check.list {
        Some(Ok(())) => vec![millis(check.took)],
        Some(Err(_)) => Vec::new(),
        None => good.map(|model| millis(model.took)).collect(),
    };
    let average = times.iter().sum::<u64>().checked_div(times.len() as u64);
    let mut result = json!({
        "provider_id": check.upstream.name,
        "provider_key": check.upstream.name,
        "provider_type": check.upstream.row,
        "status": if check.is_healthy() { "healthy" } else { "unhealthy" },
        "models": models,
        "avg_response_time_ms": average,
        "checked_at": at,
    });
    if let Some(Err(failure)) = &check.list {
        result["error"] = json!(cut(&failure.to_string()));
    }
    result
}

fn model(checked: &CheckedModel) -> Value {
    match &checked.result {
        Ok(()) => {
            json!({"model": checked.model, "status": "healthy", "response_time_ms": millis(checked.took)})
        }
        Err(failure) => {
            json!({"model": checked.model, "status": "unhealthy", "error": cut(&failure.to_string())})
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(ERROR).collect()
}
