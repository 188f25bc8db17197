//! Anthropic Messages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{empty_schema, member, named, pieces, schema_at, string, text_of};
use crate::reply::{Ask, AskedTool, Reply, Stop};

pub(super) fn read(body: &Value) -> Ask {
    let messages = member(body, "messages")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let user = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
        .cloned()
        .unwrap_or_default();
    let content = member(&user, "content");
    let result = content
        .as_array()
        .and_then(|blocks| blocks.iter().find(|block| block["type"] == "tool_result"));
    let tools = member(body, "tools")
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tool| tool.get("input_schema").is_some());
    let choice = member(body, "tool_choice");
    Ask {
        model: string(body, "model"),
        stream: member(body, "stream").as_bool().unwrap_or(false),
        prompt: text_of(content),
        all_text: text_of(member(body, "system")).len()
            + messages
                .iter()
                .map(|message| text_of(member(message, "content")).len())
                .sum::<usize>(),
        tools: tools
            .map(|tool| AskedTool {
                name: string(tool, "name"),
                schema: tool
                    .get("input_schema")
                    .cloned()
                    .unwrap_or_else(empty_schema),
            })
            .collect(),
        forced: match string(choice, "type").as_str() {
            "any" => Some(String::new()),
            "tool" => Some(string(choice, "name")),
            _ => None,
        },
        tool_result: result.map(|result| text_of(member(result, "content"))),
        schema: schema_at(body, "/output_config/format/schema"),
        max_tokens: member(body, "max_tokens").as_u64(),
        include_usage: true,
    }
}

fn stop(reply: &Reply) -> &'static str {
    match reply.stop {
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Tools => "tool_use",
    }
}

fn usage(reply: &Reply, output: u64) -> Value {
    json!({"input_tokens": reply.input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": output, "service_tier": "standard"})
}

fn message(reply: &Reply, content: Value, stop_reason: Value, output: u64) -> Value {
    json!({
        "id": format!("msg_{}", reply.id),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage(reply, output),
    })
}

pub(super) fn answer(reply: &Reply) -> Value {
    let mut content = vec![];
    if !reply.thought.is_empty() {
        let thought = reply.thought.concat();
        content.push(json!({"type": "thinking", "thinking": thought, "signature": reply.seal()}));
    }
    if reply.calls.is_empty() {
        content.push(json!({"type": "text", "text": reply.text()}));
    }
    content.extend(reply.calls.iter().map(|call| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})));
    message(reply, json!(content), json!(stop(reply)), reply.output)
}

pub(super) fn events(reply: &Reply) -> Vec<Bytes> {
    let mut events = vec![
        json!({"type": "message_start", "message": message(reply, json!([]), Value::Null, 1)}),
    ];
    let delta = |index: usize, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let start = |index: usize, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let stopped = |index: usize| json!({"type": "content_block_stop", "index": index});
    let thinks = !reply.thought.is_empty();
    if thinks {
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        events.push(start(0, block));
        let words = reply.thought.iter();
        events.extend(
            words.map(|word| delta(0, json!({"type": "thinking_delta", "thinking": word}))),
        );
        let seal = json!({"type": "signature_delta", "signature": reply.seal()});
        events.extend([delta(0, seal), stopped(0)]);
    }
    let first = usize::from(thinks);
    if reply.calls.is_empty() {
        events.push(start(first, json!({"type": "text", "text": ""})));
        events.push(json!({"type": "ping"}));
        let words = reply.words.iter();
        events.extend(words.map(|word| delta(first, json!({"type": "text_delta", "text": word}))));
        events.push(stopped(first));
    }
    for (index, call) in (first..).zip(&reply.calls) {
        let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        events.push(start(index, block));
        for piece in pieces(&call.arguments.to_string(), 3) {
            let piece = json!({"type": "input_json_delta", "partial_json": piece});
            events.push(delta(index, piece));
        }
        events.push(stopped(index));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop(reply), "stop_sequence": null}, "usage": {"output_tokens": reply.output}}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named).collect()
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"})
}

pub(super) fn error_event(message: &str) -> Bytes {
    named(&error(529, message))
}

pub(super) fn ping() -> Bytes {
    named(&json!({"type": "ping"}))
}
