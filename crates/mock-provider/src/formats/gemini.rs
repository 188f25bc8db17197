//! Gemini.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{data, empty_schema, member, string, text_of};
use crate::reply::{Ask, AskedTool, Reply, Stop};

pub(super) fn read(body: &Value) -> Ask {
    // A count's question may have the request inside.
    let body = body.get("generateContentRequest").unwrap_or(body);
    let contents = member(body, "contents")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let last = contents.last().cloned().unwrap_or_default();
    let parts = member(&last, "parts")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let result = parts.iter().find_map(|part| part.get("functionResponse"));
    let declared = member(body, "tools")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.get("functionDeclarations")?.as_array())
        .flatten();
    let config = &member(body, "toolConfig")["functionCallingConfig"];
    let generation = member(body, "generationConfig");
    let schema = |tool: &Value| {
        // Google takes either spelling of every name, and its own SDK uses both.
        let names = [
            "parametersJsonSchema",
            "parameters_json_schema",
            "parameters",
        ];
        let given = names.iter().find_map(|name| tool.get(*name));
        given.cloned().unwrap_or_else(empty_schema)
    };
    Ask {
        model: String::new(),
        stream: false,
        prompt: text_of(member(&last, "parts")),
        all_text: contents
            .iter()
            .map(|content| text_of(member(content, "parts")).len())
            .sum::<usize>()
            + text_of(&member(body, "systemInstruction")["parts"]).len(),
        tools: declared
            .map(|tool| AskedTool {
                name: string(tool, "name"),
                schema: schema(tool),
            })
            .collect(),
        forced: (config["mode"] == "ANY").then(|| {
            config["allowedFunctionNames"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        }),
        tool_result: result.map(|result| member(result, "response").to_string()),
        schema: ["responseJsonSchema", "responseSchema"]
            .iter()
            .find_map(|name| generation.get(*name))
            .cloned(),
        max_tokens: member(generation, "maxOutputTokens").as_u64(),
        include_usage: true,
    }
}

fn usage(reply: &Reply) -> Value {
    let thoughts = reply.thought.len() as u64;
    let mut usage = json!({"promptTokenCount": reply.input, "candidatesTokenCount": reply.output - thoughts, "totalTokenCount": reply.input + reply.output});
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = json!(thoughts);
    }
    usage
}

fn chunk(reply: &Reply, parts: &Value, last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if last {
        candidate["finishReason"] = json!(if reply.stop == Stop::Length {
            "MAX_TOKENS"
        } else {
            "STOP"
        });
    }
    let usage = if last {
        usage(reply)
    } else {
        json!({"promptTokenCount": reply.input, "totalTokenCount": reply.input})
    };
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": reply.model, "responseId": format!("resp-{}", reply.id)})
}

/// The first call after a thought carries its seal.
fn calls(reply: &Reply) -> Vec<Value> {
    let mut calls: Vec<Value> = reply.calls.iter().map(|call| json!({"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}})).collect();
    if let Some(first) = calls.first_mut().filter(|_| !reply.thought.is_empty()) {
        first["thoughtSignature"] = json!(reply.seal());
    }
    calls
}

fn thought(text: &str) -> Value {
    json!({"text": text, "thought": true})
}

pub(super) fn answer(reply: &Reply) -> Value {
    let mut parts = vec![];
    if !reply.thought.is_empty() {
        parts.push(thought(&reply.thought.concat()));
    }
    if reply.calls.is_empty() {
        parts.push(json!({"text": reply.text()}));
    }
    parts.extend(calls(reply));
    chunk(reply, &json!(parts), true)
}

pub(super) fn events(reply: &Reply) -> Vec<Bytes> {
    let thoughts = reply.thought.iter().map(|word| json!([thought(word)]));
    let words = reply.words.iter().map(|word| json!([{"text": word}]));
    let mut parts: Vec<Value> = thoughts.chain(words).collect();
    parts.extend(calls(reply).into_iter().map(|call| json!([call])));
    let last = parts.len().saturating_sub(1);
    if parts.is_empty() {
        parts.push(json!([{"text": ""}]));
    }
    parts
        .iter()
        .enumerate()
        .map(|(at, parts)| data(&chunk(reply, parts, at == last)))
        .collect()
}

/// The same stream as elements of one JSON array, as Google sends it where nobody asks for events; its end is a piece of its own.
pub(crate) fn elements(events: Vec<Bytes>) -> Vec<Bytes> {
    let elements = events.into_iter().enumerate();
    let elements = elements.map(|(at, event)| element(&event, at == 0));
    elements.chain([Bytes::from_static(b"\n]\n")]).collect()
}

/// An event as an element.
pub(crate) fn element(event: &Bytes, is_first: bool) -> Bytes {
    let json = event.strip_prefix(b"data: ").unwrap_or(event);
    let before: &[u8] = if is_first { b"[" } else { b"\n,\r\n" };
    [before, json.trim_ascii()].concat().into()
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let word = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": message, "status": word}})
}

pub(super) fn error_event(message: &str) -> Bytes {
    data(&error(503, message))
}
