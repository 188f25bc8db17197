//! The client formats: a question of each, what was said in the answer, and how to tell a complete answer and an error.

use serde_json::{Value, json};

use crate::support::{Reply, chat};

/// A client format with a question of its own, streaming or not.
pub struct Client {
    pub name: &'static str,
    pub format: &'static str,
    /// Its streams are elements of one JSON array.
    pub is_array: bool,
    pub title: &'static str,
    /// Where this model is asked.
    pub path: fn(&str, bool) -> String,
    pub ask: fn(&str, bool) -> Value,
    /// Complete, and nothing after the end.
    pub is_complete: fn(&Reply, bool) -> bool,
    /// The text of a whole answer, or of one event.
    text: fn(&Value, bool) -> Option<String>,
    /// What an error has in it beside its message.
    is_error: fn(&Value, u16) -> bool,
}

pub const CLIENTS: [Client; 4] = [
    Client {
        name: "openai-chat",
        format: "openai-chat",
        is_array: false,
        title: "OpenAI Chat",
        path: |_, _| "/v1/chat/completions".to_owned(),
        ask: chat,
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().ends_with("data: [DONE]\n\n")
                    && reply.text().matches("data: [DONE]").count() == 1
                    && reply.text().matches("\"finish_reason\":\"stop\"").count() == 1
            }
            false => reply.json()["choices"][0]["finish_reason"] == "stop",
        },
        text: |value, stream| {
            let part = if stream { "delta" } else { "message" };
            Some(value["choices"][0][part]["content"].as_str()?.to_owned())
        },
        is_error: |error, _| error["error"]["type"].is_string(),
    },
    Client {
        name: "openai-responses",
        format: "openai-responses",
        is_array: false,
        title: "OpenAI Responses",
        path: |_, _| "/v1/responses".to_owned(),
        ask: |model, stream| json!({"model": model, "stream": stream, "input": "Hello there"}),
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().matches("event: response.completed").count() == 1
                    && reply.text().matches("event: response.created").count() == 1
                    && is_last(reply, "response.completed")
            }
            false => reply.json()["status"] == "completed",
        },
        text: |value, stream| match stream {
            true if value["type"] == "response.output_text.delta" => {
                Some(value["delta"].as_str()?.to_owned())
            }
            true => None,
            false => texts(&value["output"][0]["content"]),
        },
        is_error: |error, _| error["error"]["type"].is_string(),
    },
    Client {
        name: "anthropic-messages",
        format: "anthropic-messages",
        is_array: false,
        title: "Anthropic Messages",
        path: |_, _| "/v1/messages".to_owned(),
        ask: |model, stream| json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello there"}]}),
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().matches("event: message_stop").count() == 1
                    && reply.text().matches("event: message_start").count() == 1
                    && is_last(reply, "message_stop")
            }
            false => reply.json()["stop_reason"] == "end_turn",
        },
        text: |value, stream| match stream {
            true => Some(value["delta"]["text"].as_str()?.to_owned()),
            false => texts(&value["content"]),
        },
        is_error: |error, _| error["type"] == "error" && error["error"]["type"].is_string(),
    },
    GEMINI,
];

const GEMINI: Client = Client {
    name: "gemini",
    format: "gemini",
    is_array: false,
    title: "Gemini",
    path: |model, stream| {
        if stream {
            format!("/v1beta/models/{model}:streamGenerateContent?alt=sse")
        } else {
            format!("/v1beta/models/{model}:generateContent")
        }
    },
    ask: |_, _| json!({"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}),
    is_complete: |reply, stream| match stream {
        true => {
            let last = reply.events().pop().unwrap_or_default();
            reply.text().matches("\"finishReason\":\"STOP\"").count() == 1
                && last.contains("\"finishReason\"")
        }
        false => reply.json()["candidates"][0]["finishReason"] == "STOP",
    },
    text: |value, _| texts(&value["candidates"][0]["content"]["parts"]),
    is_error: |error, status| {
        error["error"]["code"] == status && error["error"]["status"].is_string()
    },
};

/// Gemini's client that does not ask for events.
pub const ARRAY: Client = Client {
    name: "gemini-array",
    is_array: true,
    title: "Gemini, streams as a JSON array",
    path: |model, _| format!("/v1beta/models/{model}:streamGenerateContent"),
    is_complete: |reply, _| {
        let Value::Array(elements) = reply.json() else {
            return false;
        };
        let ends = |element: &Value| element["candidates"][0]["finishReason"] == "STOP";
        elements.iter().filter(|element| ends(element)).count() == 1
            && elements.last().is_some_and(ends)
    },
    ..GEMINI
};

/// All columns of the wall.
pub fn columns() -> impl Iterator<Item = &'static Client> {
    CLIENTS.iter().chain([&ARRAY])
}

impl Client {
    /// The events of a stream, or the elements of its array; an error where it is none.
    pub fn events(&self, reply: &Reply) -> Result<Vec<String>, String> {
        if self.is_array {
            let elements = serde_json::from_slice::<Vec<Value>>(&reply.body);
            let elements = elements.map_err(|error| format!("no JSON array, {error}"))?;
            return Ok(elements.iter().map(Value::to_string).collect());
        }
        let events = reply.events();
        let is_none =
            |data: &&String| *data != "[DONE]" && serde_json::from_str::<Value>(data).is_err();
        match events.iter().find(is_none) {
            Some(data) => Err(format!("an event that is none, {data}")),
            None => Ok(events),
        }
    }

    /// All that was said.
    pub fn said(&self, reply: &Reply, stream: bool) -> String {
        if !stream {
            return (self.text)(&reply.json(), false).unwrap_or_default();
        }
        let events = self.events(reply).unwrap_or_default();
        let events = events
            .iter()
            .filter_map(|event| serde_json::from_str(event).ok());
        events
            .filter_map(|event: Value| (self.text)(&event, true))
            .collect()
    }

    /// Whether this is an error that says something, as the format has them.
    pub fn is_error(&self, reply: &Reply) -> bool {
        let Ok(error) = serde_json::from_slice::<Value>(&reply.body) else {
            return false;
        };
        let message = error["error"]["message"].as_str().unwrap_or_default();
        !message.is_empty() && (self.is_error)(&error, reply.status.as_u16())
    }
}

/// The texts of a list of parts.
fn texts(parts: &Value) -> Option<String> {
    let parts = parts.as_array()?.iter();
    Some(parts.filter_map(|part| part["text"].as_str()).collect())
}

/// Whether the last event is of this type.
fn is_last(reply: &Reply, kind: &str) -> bool {
    let last = reply.events().pop().unwrap_or_default();
    serde_json::from_str::<Value>(&last).is_ok_and(|event| event["type"] == kind)
}
