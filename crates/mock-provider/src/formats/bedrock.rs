//! Bedrock Converse: streams are AWS's binary messages.

use bytes::Bytes;
use polygate_wire::event_stream::{EXCEPTION, encode};
use serde_json::{Value, json};

use super::{empty_schema, member, pieces, string, text_of};
use crate::reply::{Ask, AskedTool, Reply, Stop};

pub(super) fn read(body: &Value) -> Ask {
    // A count's question has the request inside.
    let body = body.pointer("/input/converse").unwrap_or(body);
    let messages = member(body, "messages")
        .as_array()
        .cloned()
        .unwrap_or_default();
    let last = messages.last().cloned().unwrap_or_default();
    let content = member(&last, "content");
    let mut blocks = content.as_array().into_iter().flatten();
    let result = blocks.find_map(|block| block.get("toolResult"));
    let config = member(body, "toolConfig");
    let choice = member(config, "toolChoice");
    let tools = member(config, "tools").as_array().into_iter().flatten();
    let texts = messages.iter().map(|message| member(message, "content"));
    Ask {
        model: String::new(),
        stream: false,
        prompt: text_of(content),
        all_text: texts
            .chain([member(body, "system")])
            .map(|content| text_of(content).len())
            .sum(),
        tools: tools
            .filter_map(|tool| tool.get("toolSpec"))
            .map(|spec| AskedTool {
                name: string(spec, "name"),
                schema: member(spec, "inputSchema")
                    .get("json")
                    .cloned()
                    .unwrap_or_else(empty_schema),
            })
            .collect(),
        forced: match (choice.get("any"), choice.get("tool")) {
            (Some(_), _) => Some(String::new()),
            (_, Some(tool)) => Some(string(tool, "name")),
            _ => None,
        },
        tool_result: result.map(|result| text_of(member(result, "content"))),
        schema: body
            .pointer("/outputConfig/textFormat/structure/jsonSchema/schema")
            .and_then(|text| serde_json::from_str(text.as_str()?).ok()),
        max_tokens: member(member(body, "inferenceConfig"), "maxTokens").as_u64(),
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

fn usage(reply: &Reply) -> Value {
    json!({"inputTokens": reply.input, "outputTokens": reply.output, "totalTokens": reply.input + reply.output})
}

pub(super) fn answer(reply: &Reply) -> Value {
    let mut content = vec![];
    if !reply.thought.is_empty() {
        let text = json!({"text": reply.thought.concat(), "signature": reply.seal()});
        content.push(json!({"reasoningContent": {"reasoningText": text}}));
    }
    if reply.calls.is_empty() {
        content.push(json!({"text": reply.text()}));
    }
    content.extend(reply.calls.iter().map(|call| json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}})));
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop(reply),
        "usage": usage(reply),
        "metrics": {"latencyMs": 1},
    })
}

pub(super) fn events(reply: &Reply) -> Vec<Bytes> {
    let mut events = vec![message("messageStart", &json!({"role": "assistant"}))];
    let delta = |index: usize, delta: Value| {
        message(
            "contentBlockDelta",
            &json!({"contentBlockIndex": index, "delta": delta}),
        )
    };
    let closed = |index: usize| message("contentBlockStop", &json!({"contentBlockIndex": index}));
    let thinks = !reply.thought.is_empty();
    if thinks {
        let words = reply.thought.iter();
        events.extend(words.map(|word| delta(0, json!({"reasoningContent": {"text": word}}))));
        let seal = json!({"reasoningContent": {"signature": reply.seal()}});
        events.extend([delta(0, seal), closed(0)]);
    }
    let first = usize::from(thinks);
    if reply.calls.is_empty() {
        let words = reply.words.iter();
        events.extend(words.map(|word| delta(first, json!({"text": word}))));
        events.push(closed(first));
    }
    for (index, call) in (first..).zip(&reply.calls) {
        let start = json!({"toolUse": {"toolUseId": call.id, "name": call.name}});
        let start = json!({"contentBlockIndex": index, "start": start});
        events.push(message("contentBlockStart", &start));
        let arguments = pieces(&call.arguments.to_string(), 3).into_iter();
        events.extend(arguments.map(|piece| delta(index, json!({"toolUse": {"input": piece}}))));
        events.push(closed(index));
    }
    events.push(message("messageStop", &json!({"stopReason": stop(reply)})));
    let metadata = json!({"usage": usage(reply), "metrics": {"latencyMs": 1}});
    events.push(message("metadata", &metadata));
    events
}

fn message(name: &str, data: &Value) -> Bytes {
    encode(name, data.to_string().as_bytes()).into()
}

pub(super) fn error(_status: u16, message: &str) -> Value {
    json!({"message": message})
}

pub(super) fn error_event(text: &str) -> Bytes {
    message(
        &format!("{EXCEPTION}serviceUnavailableException"),
        &json!({"message": text}),
    )
}

/// It has none: the beginning, again.
pub(super) fn ping() -> Bytes {
    message("messageStart", &json!({"role": "assistant"}))
}
