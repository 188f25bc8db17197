//! Why a call would go where it goes, and why one went where it went.

use axum::response::Json;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use polygate_core::Failure;
use polygate_engine::admit::Caller;
use polygate_engine::explain::Explanation;
use polygate_engine::{Endpoint, Engine, Inbound, InboundBody};
use polygate_store::usage::CallRow;
use polygate_wire::RawObject;
use serde_json::{Map, Value, json};

use super::asked::{self, Asked};
use super::logs;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Route};
use super::view;
use crate::router::{Matched, route};

/// What is asked of unless something else is said.
const USUAL: &str = "/v1/chat/completions";

/// What a request may say beside the body; anything else makes of it a bare body.
const MEMBERS: [&str; 4] = ["endpoint", "body", "key", "headers"];

/// What calls show their keys by: nobody's are wanted here.
const CREDENTIALS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-litellm-api-key"),
    HeaderName::from_static("x-bf-vk"),
    HeaderName::from_static("x-portkey-api-key"),
];

/// Their routes.
pub fn routes() -> Vec<Route> {
    let of_one_to_come = Doc {
        id: "explain".to_owned(),
        summary: "What would come of this call now: whom it would be sent to, why not to others, and what limits it. \
                  Nobody is asked and nothing is counted"
            .to_owned(),
        body: Some("Explain"),
        answers: vec![(200, Some("Explanation"))],
        refusals: &[422],
        ..Doc::default()
    };
    let of_one_that_was = Doc {
        id: "explain_call".to_owned(),
        summary: "Why a call went where it went, by its own id or the request's".to_owned(),
        answers: vec![(200, Some("ExplainedCall"))],
        refusals: &[404],
        ..Doc::default()
    };
    let path = "/admin/v1/explain";
    vec![
        Route::new(Method::POST, path, Area::Explain, to_come, of_one_to_come).that_reads(),
        Route::new(
            Method::GET,
            format!("{path}/{{id}}"),
            Area::Logs,
            that_was,
            of_one_that_was,
        ),
    ]
}

/// A call that nobody makes.
struct Supposed {
    endpoint: String,
    key: Option<String>,
    headers: Map<String, Value>,
    /// As it came, byte by byte: what a member says that is there twice is decided where calls are read.
    body: Bytes,
}

impl Supposed {
    /// `{endpoint, body, key, headers}`, or the body alone.
    fn read(mut members: Map<String, Value>, bytes: &Bytes) -> Result<Self, Problem> {
        let wrong = |failure: &Failure| Problem::invalid(failure.message.clone());
        let described = RawObject::parse(bytes.clone()).map_err(|failure| wrong(&failure))?;
        let is_wrapped = members.get("body").is_some_and(Value::is_object)
            && members.keys().all(|name| MEMBERS.contains(&name.as_str()));
        if !is_wrapped {
            return Ok(Self {
                endpoint: USUAL.to_owned(),
                key: None,
                headers: Map::new(),
                body: bytes.clone(),
            });
        }
        let once = described.refuse_duplicates(&MEMBERS);
        once.map_err(|failure| wrong(&failure))?;
        let body = described.get("body").unwrap_or_default();
        Ok(Self {
            endpoint: text(&mut members, "endpoint")?.unwrap_or_else(|| USUAL.to_owned()),
            key: text(&mut members, "key")?,
            headers: object(&mut members, "headers")?,
            body: bytes.slice_ref(body.as_bytes()),
        })
    }

    fn into_inbound(self, engine: &Engine) -> Result<Inbound, Problem> {
        let (endpoint, model_in_path) = endpoint(&self.endpoint, engine)?;
        Ok(Inbound {
            endpoint,
            method: Method::POST,
            model_in_path,
            headers: headers(&self.headers)?,
            body: InboundBody::Whole(self.body),
            request_id: "explain".into(),
            caller: caller(self.key.as_deref(), engine)?,
        })
    }
}

async fn to_come(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let described = Supposed::read(asked.object()?, asked.body())?;
    let explanation = explained(&asked.state.engine, described).await?;
    Ok(Json(json!(explanation)))
}

/// What would come of a call that is described so, as a request to the admin API describes it.
pub async fn supposed(engine: &Engine, described: Bytes) -> Result<Explanation, Problem> {
    let members = asked::members(&described)?;
    explained(engine, Supposed::read(members, &described)?).await
}

async fn explained(engine: &Engine, supposed: Supposed) -> Result<Explanation, Problem> {
    let inbound = supposed.into_inbound(engine)?;
    let explained = engine.explain(inbound).await;
    explained.map_err(|failure| not_understood(&failure))
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::field(name, "must be a text")),
    }
}

fn object(members: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, Problem> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Problem::field(name, "must be an object")),
    }
}

/// The route of a model that this path is, as clients write it.
fn endpoint(path: &str, engine: &Engine) -> Result<(Endpoint, Option<String>), Problem> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let matched = route(&Method::POST, path, query, &engine.snapshot());
    match matched {
        Ok(Matched::Model { endpoint, model }) => Ok((endpoint, model)),
        _ => {
            let message = "must be the path of a call to a model, such as /v1/chat/completions";
            Err(Problem::field("endpoint", message))
        }
    }
}

fn headers(said: &Map<String, Value>) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for (name, value) in said {
        let wrong = |message: &str| Problem::field(&format!("headers.{name}"), message);
        let value = value.as_str().ok_or_else(|| wrong("must be a text"))?;
        let value = HeaderValue::from_str(value);
        let value = value.map_err(|_| wrong("cannot be the value of a header"))?;
        let known = HeaderName::try_from(name);
        let known = known.map_err(|_| wrong("cannot be the name of a header"))?;
        if CREDENTIALS.contains(&known) {
            return Err(wrong(
                "keys are not read here: 'key' names the one that calls",
            ));
        }
        headers.insert(known, value);
    }
    Ok(headers)
}

/// The key of this name; nobody's where none is named.
fn caller(key: Option<&str>, engine: &Engine) -> Result<Caller, Problem> {
    let Some(name) = key else {
        return Ok(Caller::default());
    };
    let found = engine.keys().named(name);
    found.ok_or_else(|| Problem::field("key", "no enabled key has this name"))
}

/// What a client would be told of such a call.
fn not_understood(failure: &Failure) -> Problem {
    let field = match &failure.param {
        Some(param) => format!("body.{param}"),
        None => "body".to_owned(),
    };
    Problem::field(&field, failure.message.clone())
}

async fn that_was(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&[])?;
    let row = logs::found(&asked, false).await?;
    Ok(Json(past(&row)))
}

/// What the ledger knows of a call, in the words of explanations.
fn past(row: &CallRow) -> Value {
    let passed_over = logs::parsed(row.passed_over.as_deref());
    let mut decision = logs::parsed(row.decision.as_deref());
    let mut decided = |name: &str| decision.get_mut(name).map(Value::take);
    let mut list = |name: &str| decided(name).unwrap_or_else(|| json!([]));
    let (routes, limits, considered) = (list("routes"), list("limits"), list("considered"));
    let (altered, rules, guards) = (list("altered"), list("rules"), list("guards"));
    json!({
        "at": view::time(row.started),
        "id": row.id,
        "request_id": row.request_id,
        "endpoint": row.endpoint,
        "model": row.model,
        "label": row.label,
        "stream": row.stream,
        "key": row.key,
        "team": row.team,
        "refusal": refusal(row),
        "cache": decided("cache"),
        "saved_tokens": row.saved,
        "routes": routes,
        "limits": limits,
        "considered": considered,
        "lane": lane(row, decided("translated")),
        "altered": altered,
        "rules": rules,
        "guards": guards,
        "passed_over": if passed_over.is_null() { json!([]) } else { passed_over },
        "attempts": row.attempts.iter().map(logs::attempt).collect::<Vec<_>>(),
        "outcome": row.outcome,
        "status_code": row.status,
        "state": row.state,
        "losses": logs::parsed(row.losses.as_deref()),
        "price": logs::parsed(row.price.as_deref()),
        "tokens": row.usage,
        "cost_micro_usd": row.cost,
        "total_duration_ms": logs::millis(row.duration),
        "ttft_ms": row.first_event.map(logs::millis),
    })
}

/// `native`, or the format that the request was translated to; `null` where nobody was asked, or nobody noted it.
fn lane(row: &CallRow, translated: Option<Value>) -> Value {
    match (translated, &row.decision) {
        (Some(format), _) => json!({"kind": "translated", "format": format}),
        (None, Some(_)) if !row.attempts.is_empty() => json!({"kind": "native"}),
        (None, _) => Value::Null,
    }
}

/// Why nobody was asked, where nobody was.
fn refusal(row: &CallRow) -> Value {
    let code = row.error.as_ref().filter(|_| row.attempts.is_empty());
    code.map_or(Value::Null, |code| json!({"code": code}))
}
