//! The formats a mock speaks, as a table: how each reads a question and writes an answer, a stream and an error.

mod anthropic;
mod bedrock;
pub(crate) mod gemini;
mod lists;
mod openai_chat;
mod openai_responses;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::reply::{Ask, Reply};
use crate::route::Endpoint;

pub(crate) use lists::{embeddings, gemini_embeddings, models};

/// One format.
pub(crate) struct Shape {
    pub read: fn(&Value) -> Ask,
    pub answer: fn(&Reply) -> Value,
    pub events: fn(&Reply) -> Vec<Bytes>,
    pub error: fn(u16, &str) -> Value,
    pub error_event: fn(&str) -> Bytes,
    /// What keeps a stream alive and says nothing: a comment where the format has no word for it.
    pub ping: fn() -> Bytes,
    /// The type of its streams.
    pub stream_type: &'static str,
}

const SSE: &str = "text/event-stream; charset=utf-8";

const CHAT: Shape = Shape {
    read: openai_chat::read,
    answer: openai_chat::answer,
    events: openai_chat::events,
    error: openai_chat::error,
    error_event: openai_chat::error_event,
    ping: comment,
    stream_type: SSE,
};

const COMPLETIONS: Shape = Shape {
    read: openai_chat::read_completion,
    answer: openai_chat::completion,
    events: openai_chat::completion_events,
    ..CHAT
};

const RESPONSES: Shape = Shape {
    read: openai_responses::read,
    answer: openai_responses::answer,
    events: openai_responses::events,
    error: openai_chat::error,
    error_event: openai_responses::error_event,
    ping: comment,
    stream_type: SSE,
};

const MESSAGES: Shape = Shape {
    read: anthropic::read,
    answer: anthropic::answer,
    events: anthropic::events,
    error: anthropic::error,
    error_event: anthropic::error_event,
    ping: anthropic::ping,
    stream_type: SSE,
};

const GEMINI: Shape = Shape {
    read: gemini::read,
    answer: gemini::answer,
    events: gemini::events,
    error: gemini::error,
    error_event: gemini::error_event,
    ping: comment,
    stream_type: SSE,
};

const CONVERSE: Shape = Shape {
    read: bedrock::read,
    answer: bedrock::answer,
    events: bedrock::events,
    error: bedrock::error,
    error_event: bedrock::error_event,
    ping: bedrock::ping,
    stream_type: "application/vnd.amazon.eventstream",
};

/// The format of an endpoint.
pub(crate) fn shape(endpoint: Endpoint) -> &'static Shape {
    match endpoint {
        Endpoint::Completions => &COMPLETIONS,
        Endpoint::Responses | Endpoint::ResponsesCount => &RESPONSES,
        Endpoint::Messages | Endpoint::CountTokens => &MESSAGES,
        Endpoint::Generate
        | Endpoint::StreamGenerate
        | Endpoint::GeminiCount
        | Endpoint::GeminiEmbed => &GEMINI,
        Endpoint::Converse | Endpoint::ConverseStream | Endpoint::ConverseCount => &CONVERSE,
        Endpoint::Chat | Endpoint::Embeddings | Endpoint::Models | Endpoint::Other => &CHAT,
    }
}

/// The text of a member that is a string, or a list of parts with texts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts
                .iter()
                .filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()));
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// A server-sent event without a name.
fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// A server-sent event named by its `type`.
fn named(value: &Value) -> Bytes {
    let name = value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("message");
    format!("event: {name}\ndata: {value}\n\n").into()
}

/// A line that server-sent events have for nothing.
fn comment() -> Bytes {
    Bytes::from_static(b": ping\n\n")
}

/// A text in so many pieces.
fn pieces(text: &str, count: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(count).max(1);
    chars
        .chunks(size)
        .map(|piece| piece.iter().collect())
        .collect()
}

fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn string(value: &Value, name: &str) -> String {
    member(value, name).as_str().unwrap_or_default().to_owned()
}

/// The schema at this place of a request.
fn schema_at(body: &Value, place: &str) -> Option<Value> {
    body.pointer(place).filter(|it| it.is_object()).cloned()
}

fn empty_schema() -> Value {
    json!({"type": "object"})
}
