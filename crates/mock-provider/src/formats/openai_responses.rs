//! OpenAI Responses.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{empty_schema, member, named, pieces, schema_at, string, text_of};
use crate::reply::{Ask, AskedTool, Reply, Stop};

pub(super) fn read(body: &Value) -> Ask {
    let input = member(body, "input");
    let items = input.as_array().cloned().unwrap_or_default();
    let user = items
        .iter()
        .rev()
        .find(|item| item["role"] == "user")
        .cloned()
        .unwrap_or_default();
    let last = items.last().cloned().unwrap_or_default();
    let tools = member(body, "tools")
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tool| tool["type"] == "function");
    let choice = member(body, "tool_choice");
    let prompt = input
        .as_str()
        .map_or_else(|| text_of(member(&user, "content")), str::to_owned);
    Ask {
        model: string(body, "model"),
        stream: member(body, "stream").as_bool().unwrap_or(false),
        all_text: string(body, "instructions").len()
            + input.as_str().map_or_else(
                || {
                    items
                        .iter()
                        .map(|item| text_of(member(item, "content")).len())
                        .sum()
                },
                str::len,
            ),
        prompt,
        tools: tools
            .map(|tool| AskedTool {
                name: string(tool, "name"),
                schema: tool.get("parameters").cloned().unwrap_or_else(empty_schema),
            })
            .collect(),
        forced: match choice {
            Value::String(word) if word == "required" => Some(String::new()),
            Value::Object(_) => Some(string(choice, "name")),
            _ => None,
        },
        tool_result: (last["type"] == "function_call_output")
            .then(|| text_of(member(&last, "output"))),
        schema: schema_at(body, "/text/format/schema"),
        max_tokens: member(body, "max_output_tokens").as_u64(),
        include_usage: true,
    }
}

fn message(reply: &Reply, text: &str, status: &str) -> Value {
    let content = if status == "completed" {
        json!([{"type": "output_text", "text": text, "annotations": [], "logprobs": []}])
    } else {
        json!([])
    };
    json!({"id": format!("msg_{}", reply.id), "type": "message", "status": status, "role": "assistant", "content": content})
}

fn call(reply: &Reply, at: usize, arguments: &str, status: &str) -> Value {
    let call = reply.calls.get(at);
    json!({
        "id": format!("fc_{}_{at}", reply.id),
        "type": "function_call",
        "status": status,
        "call_id": call.map(|call| &call.id),
        "name": call.map(|call| &call.name),
        "arguments": arguments,
    })
}

fn response(reply: &Reply, status: &str, output: Vec<Value>) -> Value {
    let usage = json!({
        "input_tokens": reply.input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.output,
        "output_tokens_details": {"reasoning_tokens": reply.thought.len()},
        "total_tokens": reply.input + reply.output,
    });
    let incomplete = if status == "incomplete" {
        json!({"reason": "max_output_tokens"})
    } else {
        Value::Null
    };
    json!({
        "id": format!("resp_{}", reply.id),
        "object": "response",
        "created_at": 1_750_000_000,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "max_output_tokens": null,
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if status == "in_progress" { Value::Null } else { usage },
        "user": null,
        "metadata": {},
    })
}

fn reasoning(reply: &Reply, summary: &[Value]) -> Value {
    json!({"id": format!("rs_{}", reply.id), "type": "reasoning", "summary": summary, "encrypted_content": reply.seal()})
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn output(reply: &Reply) -> Vec<Value> {
    let mut output = vec![];
    if !reply.thought.is_empty() {
        output.push(reasoning(reply, &[summary(&reply.thought.concat())]));
    }
    if reply.calls.is_empty() {
        output.push(message(reply, &reply.text(), "completed"));
    }
    let calls = reply.calls.iter().enumerate();
    output.extend(calls.map(|(at, one)| call(reply, at, &one.arguments.to_string(), "completed")));
    output
}

fn status(reply: &Reply) -> &'static str {
    if reply.stop == Stop::Length {
        "incomplete"
    } else {
        "completed"
    }
}

pub(super) fn answer(reply: &Reply) -> Value {
    response(reply, status(reply), output(reply))
}

pub(super) fn events(reply: &Reply) -> Vec<Bytes> {
    let mut events = vec![
        json!({"type": "response.created", "response": response(reply, "in_progress", vec![])}),
        json!({"type": "response.in_progress", "response": response(reply, "in_progress", vec![])}),
    ];
    if !reply.thought.is_empty() {
        events.extend(reasoning_events(reply));
    }
    let first = usize::from(!reply.thought.is_empty());
    if reply.calls.is_empty() {
        events.extend(message_events(reply, first));
    }
    for (at, one) in reply.calls.iter().enumerate() {
        let arguments = one.arguments.to_string();
        let (item, index) = (format!("fc_{}_{at}", reply.id), first + at);
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": call(reply, at, "", "in_progress")}));
        for piece in pieces(&arguments, 3) {
            events.push(json!({"type": "response.function_call_arguments.delta", "item_id": item, "output_index": index, "delta": piece}));
        }
        events.push(json!({"type": "response.function_call_arguments.done", "item_id": item, "output_index": index, "arguments": arguments}));
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": call(reply, at, &arguments, "completed")}));
    }
    let status = status(reply);
    events.push(json!({"type": format!("response.{status}"), "response": response(reply, status, output(reply))}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events.iter().map(named).collect()
}

fn reasoning_events(reply: &Reply) -> Vec<Value> {
    let item = format!("rs_{}", reply.id);
    let text = reply.thought.concat();
    let mut events = vec![
        json!({"type": "response.output_item.added", "output_index": 0, "item": reasoning(reply, &[])}),
        json!({"type": "response.reasoning_summary_part.added", "item_id": item, "output_index": 0, "summary_index": 0, "part": summary("")}),
    ];
    for word in &reply.thought {
        events.push(json!({"type": "response.reasoning_summary_text.delta", "item_id": item, "output_index": 0, "summary_index": 0, "delta": word}));
    }
    events.push(json!({"type": "response.reasoning_summary_text.done", "item_id": item, "output_index": 0, "summary_index": 0, "text": text}));
    events.push(json!({"type": "response.reasoning_summary_part.done", "item_id": item, "output_index": 0, "summary_index": 0, "part": summary(&text)}));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning(reply, &[summary(&text)])}));
    events
}

fn message_events(reply: &Reply, index: usize) -> Vec<Value> {
    let item = format!("msg_{}", reply.id);
    let text = reply.text();
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let mut events = vec![
        json!({"type": "response.output_item.added", "output_index": index, "item": message(reply, "", "in_progress")}),
        json!({"type": "response.content_part.added", "item_id": item, "output_index": index, "content_index": 0, "part": part("")}),
    ];
    for word in &reply.words {
        events.push(json!({"type": "response.output_text.delta", "item_id": item, "output_index": index, "content_index": 0, "delta": word, "logprobs": []}));
    }
    events.push(json!({"type": "response.output_text.done", "item_id": item, "output_index": index, "content_index": 0, "text": text, "logprobs": []}));
    events.push(json!({"type": "response.content_part.done", "item_id": item, "output_index": index, "content_index": 0, "part": part(&text)}));
    events.push(json!({"type": "response.output_item.done", "output_index": index, "item": message(reply, &text, "completed")}));
    events
}

pub(super) fn error_event(message: &str) -> Bytes {
    named(
        &json!({"type": "error", "code": "server_error", "message": message, "param": null, "sequence_number": 0}),
    )
}
