//! OpenAI Chat, and the legacy completions beside it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{data, empty_schema, member, pieces, schema_at, string, text_of};
use crate::reply::{Ask, AskedTool, Reply, Stop};

const CREATED: u64 = 1_750_000_000;

pub(super) fn read(body: &Value) -> Ask {
    let messages = member(body, "messages")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let last = messages.last().cloned().unwrap_or_default();
    let user = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .cloned()
        .unwrap_or_default();
    let tools = member(body, "tools")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.get("function"));
    let choice = member(body, "tool_choice");
    Ask {
        model: string(body, "model"),
        stream: member(body, "stream").as_bool().unwrap_or(false),
        prompt: text_of(member(&user, "content")),
        all_text: messages
            .iter()
            .map(|message| text_of(member(message, "content")).len())
            .sum(),
        tools: tools
            .map(|tool| AskedTool {
                name: string(tool, "name"),
                schema: tool.get("parameters").cloned().unwrap_or_else(empty_schema),
            })
            .collect(),
        forced: match choice {
            Value::String(word) if word == "required" => Some(String::new()),
            Value::Object(_) => Some(string(member(choice, "function"), "name")),
            _ => None,
        },
        tool_result: (last["role"] == "tool").then(|| text_of(member(&last, "content"))),
        schema: schema_at(body, "/response_format/json_schema/schema"),
        max_tokens: member(body, "max_completion_tokens")
            .as_u64()
            .or_else(|| member(body, "max_tokens").as_u64()),
        include_usage: member(body, "stream_options")["include_usage"] == true,
    }
}

fn finish(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "stop",
        Stop::Length => "length",
        Stop::Tools => "tool_calls",
    }
}

fn usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.input,
        "completion_tokens": reply.output,
        "total_tokens": reply.input + reply.output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reply.thought.len()},
    })
}

pub(super) fn answer(reply: &Reply) -> Value {
    let mut message = json!({"role": "assistant", "content": reply.text(), "refusal": null});
    if !reply.thought.is_empty() {
        message["reasoning_content"] = json!(reply.thought.concat());
    }
    if !reply.calls.is_empty() {
        message["content"] = Value::Null;
        let calls = reply.calls.iter().map(|call| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments.to_string()}}));
        message["tool_calls"] = calls.collect();
    }
    json!({
        "id": format!("chatcmpl-{}", reply.id),
        "object": "chat.completion",
        "created": CREATED,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply.stop)}],
        "usage": usage(reply),
        "system_fingerprint": "fp_mock",
    })
}

pub(super) fn events(reply: &Reply) -> Vec<Bytes> {
    let chunk = |delta: Value, finish_reason: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", reply.id),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": reply.model,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
        });
        if reply.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut events = vec![data(&chunk(
        json!({"role": "assistant", "content": "", "refusal": null}),
        Value::Null,
    ))];
    let mut say = |name: &str, words: &[String]| {
        let chunks = words
            .iter()
            .map(|word| data(&chunk(json!({name: word}), Value::Null)));
        events.extend(chunks);
    };
    say("reasoning_content", &reply.thought);
    say("content", &reply.words);
    for (index, call) in reply.calls.iter().enumerate() {
        let opened = json!({"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}});
        events.push(data(&chunk(json!({"tool_calls": [opened]}), Value::Null)));
    }
    // Parallel calls alternate, as they may.
    let arguments: Vec<Vec<String>> = reply
        .calls
        .iter()
        .map(|call| pieces(&call.arguments.to_string(), 3))
        .collect();
    for turn in 0..3 {
        for (index, pieces) in arguments.iter().enumerate() {
            if let Some(piece) = pieces.get(turn) {
                let delta =
                    json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
                events.push(data(&chunk(delta, Value::Null)));
            }
        }
    }
    events.push(data(&chunk(json!({}), json!(finish(reply.stop)))));
    if reply.include_usage {
        let mut last = chunk(json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = usage(reply);
        events.push(data(&last));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

pub(super) fn error_event(message: &str) -> Bytes {
    data(&error(500, message))
}

pub(super) fn read_completion(body: &Value) -> Ask {
    let prompt = text_of(member(body, "prompt"));
    Ask {
        all_text: prompt.len(),
        prompt,
        ..read(body)
    }
}

fn completion_choice(reply: &Reply, text: &str, finish_reason: Value) -> Value {
    json!({
        "id": format!("cmpl-{}", reply.id),
        "object": "text_completion",
        "created": CREATED,
        "model": reply.model,
        "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason}],
    })
}

pub(super) fn completion(reply: &Reply) -> Value {
    let mut answer = completion_choice(reply, &reply.text(), json!(finish(reply.stop)));
    answer["usage"] = usage(reply);
    answer
}

pub(super) fn completion_events(reply: &Reply) -> Vec<Bytes> {
    let mut events: Vec<Bytes> = reply
        .words
        .iter()
        .map(|word| data(&completion_choice(reply, word, Value::Null)))
        .collect();
    events.push(data(&completion_choice(
        reply,
        "",
        json!(finish(reply.stop)),
    )));
    if reply.include_usage {
        let mut last = completion_choice(reply, "", Value::Null);
        last["choices"] = json!([]);
        last["usage"] = usage(reply);
        events.push(data(&last));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}
