//! From a request to its answer: what fits it, what it says, what goes wrong with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::fault::{Playing, Then};
use crate::formats::{self, gemini, shape};
use crate::ledger::{Entry, Outcome};
use crate::raw::{Raw, raw};
use crate::reply::{Ask, reply};
use crate::route::{Endpoint, route};
use crate::script::{Behaviour, Fault};
use crate::server::{Connection, Shared};

/// A request that was read.
pub(crate) struct Asked {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What comes of a request: an answer, or a connection that ends without one.
pub(crate) enum Answered {
    Response(Box<Response<Playing>>),
    Raw(Raw),
    Nothing {
        reset: bool,
    },
    /// Silence, until the client goes: the entry's number.
    Never(usize),
}

const JSON: &str = "application/json";

/// No text, and no end of an event where one would be.
const JUNK: &[u8] = b"\xff\xfe\x00\x9f\x92\n\n\x80";

/// What an answer is made of.
struct Content {
    status: u16,
    kind: String,
    events: Vec<Bytes>,
    is_stream: bool,
    /// Elements of one JSON array instead of events.
    is_array: bool,
    input: u64,
    output: u64,
}

impl Content {
    fn whole(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            events: vec![body.into()],
            is_stream: false,
            is_array: false,
            input: 0,
            output: 0,
        }
    }

    fn json(status: u16, value: &Value) -> Self {
        Self::whole(status, JSON, value.to_string())
    }
}

pub(crate) async fn answer(
    asked: Asked,
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
) -> Answered {
    if asked.path.starts_with("/_mock/") {
        return control(&asked, shared, connection);
    }
    let (endpoint, named) = route(&asked.method, &asked.path);
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
    let mut ask = (shape(endpoint).read)(&body);
    if let Some(model) = named {
        ask.model = model;
    }
    ask.stream |= matches!(
        endpoint,
        Endpoint::StreamGenerate | Endpoint::ConverseStream
    );
    let header = asked
        .headers
        .get("x-mock")
        .and_then(|value| serde_json::from_slice::<Behaviour>(value.as_bytes()).ok());
    let behaviour = header.or_else(|| shared.script.take(&ask.model, &asked.path));
    let scripted = behaviour.is_some();
    let behaviour = behaviour.unwrap_or_default();
    let entry = open_entry(&asked, shared, endpoint, &ask, scripted);
    if behaviour.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
    }
    if let Some(nothing) = no_answer(&behaviour, entry, shared) {
        return nothing;
    }
    let content = content(&asked, shared, endpoint, &ask, &body, &behaviour, entry);
    shared.ledger.update(entry, |entry| {
        entry.status = content.status;
        entry.input_tokens = content.input;
        entry.output_tokens = content.output;
    });
    if let Some(raw) = written(&content, &behaviour) {
        shared
            .ledger
            .update(entry, |entry| entry.outcome = Outcome::Faulted);
        return Answered::Raw(raw);
    }
    Answered::Response(Box::new(play(
        content, endpoint, &behaviour, entry, shared, connection,
    )))
}

fn open_entry(
    asked: &Asked,
    shared: &Shared,
    endpoint: Endpoint,
    ask: &Ask,
    scripted: bool,
) -> usize {
    let headers = asked.headers.iter().map(|(name, value)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let path = match &asked.query {
        Some(query) => format!("{}?{query}", asked.path),
        None => asked.path.clone(),
    };
    shared.ledger.open(Entry {
        seq: 0,
        method: asked.method.to_string(),
        path,
        endpoint,
        model: ask.model.clone(),
        stream: ask.stream,
        status: 0,
        events_sent: 0,
        input_tokens: 0,
        output_tokens: 0,
        outcome: Outcome::Running,
        scripted,
        headers: if shared.options.keep_bodies {
            headers.collect()
        } else {
            vec![]
        },
        body: shared.options.keep_bodies.then(|| asked.body.clone()),
    })
}

fn no_answer(behaviour: &Behaviour, entry: usize, shared: &Shared) -> Option<Answered> {
    let answered = match behaviour.fault {
        Some(Fault::Refuse) => Answered::Nothing { reset: false },
        Some(Fault::Reset) => Answered::Nothing { reset: true },
        Some(Fault::Stall) => return Some(Answered::Never(entry)),
        _ => return None,
    };
    shared
        .ledger
        .update(entry, |entry| entry.outcome = Outcome::Faulted);
    Some(answered)
}

/// What is written by hand.
fn written(content: &Content, behaviour: &Behaviour) -> Option<Raw> {
    let every = Duration::from_millis(behaviour.token_ms);
    let fault = behaviour.fault.as_ref()?;
    raw(fault, &content.kind, &content.events.concat(), every)
}

/// What is said, faults aside.
fn content(
    asked: &Asked,
    shared: &Shared,
    endpoint: Endpoint,
    ask: &Ask,
    body: &Value,
    behaviour: &Behaviour,
    seq: usize,
) -> Content {
    let shape = shape(endpoint);
    let error = |status: u16, message: &str| Content::json(status, &(shape.error)(status, message));
    if let Some(body) = &behaviour.body {
        let kind = behaviour.content_type.as_deref().unwrap_or(JSON);
        let content = Content::whole(behaviour.status.unwrap_or(200), kind, body.clone());
        return Content {
            is_stream: kind.starts_with("text/event-stream"),
            ..content
        };
    }
    if let Some(status) = behaviour.status.filter(|status| *status >= 300) {
        let message = behaviour
            .error
            .clone()
            .unwrap_or_else(|| format!("scripted to answer {status}"));
        return error(status, &message);
    }
    if !shared.is_known(&asked.headers, asked.query.as_deref()) {
        return error(401, "this key is not known");
    }
    match endpoint {
        Endpoint::Models => {
            return Content::json(
                200,
                &formats::models(
                    &shared.models(),
                    &asked.path,
                    asked.headers.contains_key("anthropic-version"),
                ),
            );
        }
        Endpoint::Other => return Content::json(200, &echo(asked)),
        _ if !body.is_object() => return error(400, "the body is not a JSON object"),
        _ if ask.model.is_empty() => return error(400, "the model is missing"),
        Endpoint::Embeddings => return Content::json(200, &formats::embeddings(body)),
        Endpoint::GeminiEmbed => return Content::json(200, &formats::gemini_embeddings(body)),
        _ => {}
    }
    let reply = reply(ask, behaviour, shared.name(), seq);
    let (input, output) = (reply.input, reply.output);
    match endpoint {
        Endpoint::CountTokens => Content::json(200, &json!({"input_tokens": input})),
        Endpoint::ResponsesCount => Content::json(
            200,
            &json!({"object": "response.input_tokens", "input_tokens": input}),
        ),
        Endpoint::ConverseCount => Content::json(200, &json!({"inputTokens": input})),
        Endpoint::GeminiCount => Content::json(200, &json!({"totalTokens": input})),
        _ if ask.stream && is_array(asked, endpoint) => Content {
            status: 200,
            kind: JSON.to_owned(),
            events: gemini::elements((shape.events)(&reply)),
            is_stream: true,
            is_array: true,
            input,
            output,
        },
        _ if ask.stream && behaviour.fault != Some(Fault::ErrorAfter(u32::MAX)) => Content {
            status: 200,
            kind: shape.stream_type.to_owned(),
            events: (shape.events)(&reply),
            is_stream: true,
            is_array: false,
            input,
            output,
        },
        _ => Content {
            input,
            output,
            ..Content::json(200, &(shape.answer)(&reply))
        },
    }
}

/// Google streams events only to those who ask for them.
fn is_array(asked: &Asked, endpoint: Endpoint) -> bool {
    let query = asked.query.as_deref().unwrap_or_default();
    endpoint == Endpoint::StreamGenerate && !query.split('&').any(|pair| pair == "alt=sse")
}

fn echo(asked: &Asked) -> Value {
    let headers: serde_json::Map<String, Value> = asked
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                json!(String::from_utf8_lossy(value.as_bytes())),
            )
        })
        .collect();
    json!({"echo": {
        "method": asked.method.as_str(),
        "path": asked.path,
        "query": asked.query,
        "headers": headers,
        "body": String::from_utf8_lossy(&asked.body),
    }})
}

/// Puts content on its way, with whatever goes wrong.
fn play(
    mut content: Content,
    endpoint: Endpoint,
    behaviour: &Behaviour,
    entry: usize,
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
) -> Response<Playing> {
    let (then, length) = spoil(&mut content, endpoint, behaviour);
    let every = match behaviour.fault {
        Some(Fault::Pings) => Duration::from_millis(behaviour.token_ms.max(20)),
        Some(Fault::Pieces(_)) => Duration::from_millis(behaviour.token_ms.max(1)),
        _ if content.is_stream => Duration::from_millis(behaviour.token_ms),
        _ => Duration::ZERO,
    };
    let mut playing = Playing::new(
        content.events,
        then,
        every,
        entry,
        shared.clone(),
        connection.clone(),
    );
    if let Some(length) = length.filter(|_| content.status != 204) {
        playing = playing.with_length(length);
    }
    shared
        .ledger
        .update(entry, |entry| entry.status = content.status);
    head(content.status, &content.kind, behaviour, playing)
}

/// Makes of content what goes wrong with it: what follows it, and the length that its head says.
fn spoil(content: &mut Content, endpoint: Endpoint, behaviour: &Behaviour) -> (Then, Option<u64>) {
    let error = behaviour.error.as_deref().unwrap_or("scripted to fail");
    let mut then = Then::End;
    let mut length = (!content.is_stream).then(|| {
        content
            .events
            .iter()
            .map(|event| event.len() as u64)
            .sum::<u64>()
    });
    let cut = |content: &mut Content, count: u32| {
        if content.is_stream {
            content.events.truncate(count as usize);
        } else if let Some(whole) = content.events.first_mut() {
            whole.truncate(whole.len() / 2);
        }
    };
    match behaviour.fault.clone() {
        Some(Fault::ResetAfter(count)) => (then, _) = (Then::Reset, cut(content, count)),
        Some(Fault::CutAfter(count)) => (then, _) = (Then::Cut, cut(content, count)),
        Some(Fault::StallAfter(count)) => (then, _) = (Then::Stall, cut(content, count)),
        Some(Fault::EndAfter(count)) => {
            cut(content, count);
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::ErrorAfter(count)) if content.is_stream => {
            cut(content, count);
            let mut event = (shape(endpoint).error_event)(error);
            if content.is_array {
                event = gemini::element(&event, content.events.is_empty());
            }
            content.events.push(event);
            then = Then::FaultyEnd;
        }
        Some(Fault::ErrorAfter(_)) => {
            *content = Content::json(200, &(shape(endpoint).error)(500, error));
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Junk) => {
            *content = Content {
                kind: content.kind.clone(),
                ..Content::whole(200, JSON, JUNK)
            };
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Html) => {
            *content = Content::whole(
                200,
                "text/html; charset=utf-8",
                "<!doctype html><html><body>Welcome</body></html>",
            );
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Empty) => {
            content.events.clear();
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Endless) => {
            let first = if content.is_array {
                "[{\"a\":\""
            } else if content.is_stream {
                "data: "
            } else {
                "{\"a\":\""
            };
            content.events = vec![
                Bytes::from_static(first.as_bytes()),
                Bytes::from(vec![b'x'; 64 * 1024]),
            ];
            (then, length) = (Then::Repeat, None);
        }
        Some(Fault::Redirect(_)) => {
            *content = Content::whole(307, "text/plain", "elsewhere");
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Pings) => {
            content.events = vec![if content.is_stream && !content.is_array {
                (shape(endpoint).ping)()
            } else {
                Bytes::from_static(b" ")
            }];
            (then, length) = (Then::Repeat, None);
        }
        Some(Fault::JunkAfter(count)) => {
            cut(content, count);
            content.events.push(Bytes::from_static(JUNK));
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::HalfAfter(count)) => {
            let next = content.events.get(count as usize).cloned();
            cut(content, count);
            let next = next.filter(|_| content.is_stream).unwrap_or_default();
            content.events.push(next.slice(..next.len() / 2));
            (then, length) = (Then::FaultyEnd, None);
        }
        Some(Fault::Pieces(size)) => {
            let mut all = std::mem::take(&mut content.events).into_iter();
            let first = all.next().unwrap_or_default();
            let pieces = first.chunks(size.max(1) as usize);
            content.events = pieces.map(Bytes::copy_from_slice).collect();
            content.events.push(all.collect::<Vec<_>>().concat().into());
        }
        Some(
            Fault::Refuse
            | Fault::Reset
            | Fault::Stall
            | Fault::Length(_)
            | Fault::EarlyHints
            | Fault::CloseDelimited
            | Fault::Raw(_),
        )
        | None => {}
    }
    (then, length)
}

fn head(status: u16, kind: &str, behaviour: &Behaviour, playing: Playing) -> Response<Playing> {
    let mut response = Response::new(playing);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    if let Some(Fault::Redirect(to)) = &behaviour.fault {
        headers.extend(HeaderValue::from_str(to).ok().map(|to| (LOCATION, to)));
    }
    for (name, value) in &behaviour.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    response
}

/// `/_mock/…`: rules and ledger over HTTP; never in the ledger itself.
fn control(asked: &Asked, shared: &Arc<Shared>, connection: &Arc<Connection>) -> Answered {
    let content = match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/_mock/health") => Content::json(200, &json!({"status": "ok"})),
        ("GET", "/_mock/ledger") => Content::json(200, &json!(shared.ledger.entries())),
        ("DELETE", "/_mock/ledger") => {
            shared.ledger.clear();
            Content::json(200, &json!({}))
        }
        ("DELETE", "/_mock/script") => {
            shared.script.clear();
            Content::json(200, &json!({}))
        }
        ("POST", "/_mock/script") => match rules(&asked.body) {
            Ok(rules) => {
                let count = rules.len();
                rules.into_iter().for_each(|rule| shared.script.add(rule));
                Content::json(200, &json!({"rules": count}))
            }
            Err(error) => Content::json(400, &json!({"error": error.to_string()})),
        },
        _ => Content::json(404, &json!({"error": "no such control"})),
    };
    let length = content.events.iter().map(|event| event.len() as u64).sum();
    let playing = Playing::new(
        content.events,
        Then::End,
        Duration::ZERO,
        usize::MAX,
        shared.clone(),
        connection.clone(),
    )
    .with_length(length);
    Answered::Response(Box::new(head(
        content.status,
        &content.kind,
        &Behaviour::default(),
        playing,
    )))
}

fn rules(body: &[u8]) -> Result<Vec<crate::Rule>, serde_json::Error> {
    if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|rule| vec![rule])
    }
}
