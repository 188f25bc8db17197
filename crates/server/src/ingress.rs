//! One request from its head to its answer: route, key, body, engine, headers.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use polygate_core::{Failure, Kind};
use polygate_engine::admit::Caller;
use polygate_engine::observe::Refused;
use polygate_engine::{Answered, Endpoint, Inbound, InboundBody};
use polygate_wire::Format;
use tower::ServiceExt;

use crate::answer::{Answer, AnswerBody, Reply};
use crate::life::Life;
use crate::refusal::{overloaded, stopping};
use crate::render::render;
use crate::router::{Matched, route};
use crate::trail::{
    reads_litellm, show_explanation, show_limits, show_litellm, show_passed, show_trail,
};
use crate::upload::Refusal;
use crate::{State, body, cors, given, key, models};

/// Longest request id that a caller may bring.
const ID_LIMIT: usize = 128;

/// Answers a request. Never fails: failures are answers.
pub async fn handle(
    state: &State,
    pages: &axum::Router,
    peer: IpAddr,
    is_reserved: bool,
    request: Request<Incoming>,
) -> Answer {
    let request_id = request_id(request.headers());
    let snapshot = state.engine.snapshot();
    let matched = route(
        request.method(),
        request.uri().path(),
        request.uri().query(),
        &snapshot,
    );
    if matches!(matched, Ok(Matched::Page)) {
        return with_id(page(pages, peer, request).await, &request_id);
    }
    if let Some(answer) = cors::preflight(request.method(), request.headers()) {
        return with_id(answer, &request_id);
    }
    let origin = request.headers().get(http::header::ORIGIN).cloned();
    let note = |failure: &Failure| {
        let refused = Refused::new(request.method(), &request_id, failure);
        state.engine.refused(refused);
    };
    let mut answer = match matched {
        Ok(Matched::Model { endpoint, .. }) if is_reserved => {
            let failure = overloaded("connections");
            let refused = Refused::new(request.method(), &request_id, &failure);
            state.engine.refused(refused.at(&endpoint));
            render(&failure, endpoint.format(), &request_id)
        }
        Ok(Matched::Model { endpoint, model }) => {
            model_call(state, peer, request, endpoint, model, &request_id).await
        }
        Ok(Matched::Models { gemini, id }) => models::answer(
            state,
            &snapshot,
            peer,
            &request,
            gemini,
            id.as_deref(),
            &request_id,
        ),
        Ok(Matched::Given { id, what }) => {
            given::answer(state, peer, &request, &id, what, &request_id).await
        }
        Ok(Matched::WrongMethod(format)) => {
            let answer = wrong_method(&request, format, &request_id);
            note(&Failure::new(Kind::MethodNotAllowed, ""));
            answer
        }
        Ok(Matched::Page) => render(
            &Failure::new(Kind::Internal, "unreachable"),
            Format::OpenaiChat,
            &request_id,
        ),
        Err(failure) => {
            note(&failure);
            render(&failure, format_of_path(request.uri().path()), &request_id)
        }
    };
    if let Some(origin) = origin {
        let headers = HeaderMap::from_iter([(http::header::ORIGIN, origin)]);
        cors::open(&headers, &mut answer);
    }
    with_id(answer, &request_id)
}

async fn model_call(
    state: &State,
    peer: IpAddr,
    request: Request<Incoming>,
    endpoint: Endpoint,
    model_in_path: Option<String>,
    request_id: &Arc<str>,
) -> Answer {
    let format = endpoint.format();
    let method = request.method().clone();
    let refuse = |key: Option<Arc<str>>, endpoint: &Endpoint, failure: &Failure| {
        let refused = Refused::new(&method, request_id, failure).at(endpoint);
        let refused = key.into_iter().fold(refused, Refused::by);
        state.engine.refused(refused);
        render(failure, format, request_id)
    };
    let caller = match authenticate(
        state,
        peer,
        request.headers(),
        request.uri().query(),
        format,
    ) {
        Ok(caller) => caller,
        Err(failure) => return refuse(None, &endpoint, &failure),
    };
    let snapshot = state.engine.snapshot();
    let server = &snapshot.config.server;
    let most = server.max_concurrent_requests.unwrap_or(state.bearable);
    let Some(place) = state.calls.take(most) else {
        let failure = overloaded("calls at a time");
        return refuse(Some(caller.name()), &endpoint, &failure);
    };
    let (limit, patience) = (server.body_limit, server.patience.body);
    drop(snapshot);
    let read = async {
        match endpoint {
            Endpoint::Proxy(_) => body::read_proxied(request, limit, patience).await,
            _ => body::read_json(request, limit, patience)
                .await
                .map(|(headers, bytes)| (headers, InboundBody::Whole(bytes), Refusal::default())),
        }
    };
    // From there on the engine ends what must end, with a record.
    let read = unless_cut(&state.life, read).await;
    let (headers, body, mut refusal) = match read.unwrap_or_else(|| Err(stopping())) {
        Ok(read) => read,
        Err(failure) => return refuse(Some(caller.name()), &endpoint, &failure),
    };
    let reads_litellm = reads_litellm(&headers);
    let inbound = Inbound {
        endpoint,
        method,
        model_in_path,
        headers,
        body,
        request_id: request_id.clone(),
        caller,
    };
    let Answered {
        result,
        trail,
        limits,
        explanation,
    } = tokio::select! {
        biased;
        answered = state.engine.call(inbound) => answered,
        // The call is dropped, and its upstream with it.
        failure = refusal.told() => return render(&failure, format, request_id),
    };
    let mut answer = match result {
        Ok(reply) => {
            let mut answer = Response::new(AnswerBody::Reply(Reply::new(
                reply.body,
                state.life.clone(),
                place,
            )));
            *answer.status_mut() = reply.status;
            *answer.headers_mut() = reply.headers;
            answer
        }
        Err(failure) => render(&failure, format, request_id),
    };
    let passed = trail.map(|trail| {
        show_trail(&trail, answer.headers_mut());
        trail.passed
    });
    if let Some(told) = explanation {
        show_explanation(&told, answer.headers_mut());
    }
    if reads_litellm {
        show_litellm(request_id, answer.headers_mut());
    }
    if !limits.is_empty() {
        let now = state.engine.clock().unix_seconds();
        show_limits(&limits, now, answer.headers_mut());
    }
    if let Some(passed) = passed {
        show_passed(&passed, answer.headers_mut());
    }
    answer
}

/// What comes of it, unless the gateway can wait no longer. Whoever polls this task when it is so, polls what it waits for.
async fn unless_cut<T>(life: &Life, call: impl Future<Output = T>) -> Option<T> {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| {
        if life.is_cut() {
            return Poll::Ready(None);
        }
        call.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Who calls.
pub fn authenticate(
    state: &State,
    peer: IpAddr,
    headers: &HeaderMap,
    query: Option<&str>,
    format: Format,
) -> Result<Caller, Failure> {
    let shown = key::shown(headers, query, format == Format::Gemini);
    let now = state.engine.clock().unix_seconds();
    state.engine.keys().authenticate(shown, peer, now)
}

fn wrong_method(request: &Request<Incoming>, format: Format, request_id: &str) -> Answer {
    let path = request.uri().path();
    let message =
        if path.ends_with("/responses") && request.headers().contains_key(http::header::UPGRADE) {
            "WebSockets are not served here: use POST".to_owned()
        } else {
            format!(
                "{} is not allowed here: use POST for calls, GET for lists",
                request.method()
            )
        };
    let mut answer = render(
        &Failure::new(Kind::MethodNotAllowed, message),
        format,
        request_id,
    );
    answer.headers_mut().insert(
        http::header::ALLOW,
        HeaderValue::from_static("POST, GET, HEAD, OPTIONS"),
    );
    answer
}

/// The format of errors on paths that are no route.
fn format_of_path(path: &str) -> Format {
    match path {
        path if path.starts_with("/v1beta/") => Format::Gemini,
        path if path.starts_with("/v1/messages") => Format::AnthropicMessages,
        _ => Format::OpenaiChat,
    }
}

async fn page(pages: &axum::Router, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(crate::pages::Peer(peer));
    match pages.clone().oneshot(request).await {
        Ok(answer) => answer.map(AnswerBody::Page),
        Err(never) => match never {},
    }
}

fn with_id(mut answer: Answer, request_id: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        answer.headers_mut().insert("x-request-id", value);
    }
    answer
}

/// The caller's id where it is a harmless one, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let is_harmless = |id: &&str| {
        !id.is_empty()
            && id.len() <= ID_LIMIT
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    let brought = headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(is_harmless);
    brought.map_or_else(new_id, Arc::from)
}

/// An id of our own.
pub fn new_id() -> Arc<str> {
    let mut text = uuid::Uuid::encode_buffer();
    Arc::from(&*uuid::Uuid::now_v7().simple().encode_lower(&mut text))
}
