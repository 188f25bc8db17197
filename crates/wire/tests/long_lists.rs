//! Lists of tens of thousands, of which each is legal: what is read in one pass takes a moment, what looks through a list for each of
//! its entries would not end before the test's time is up.

use bytes::Bytes;
use polygate_wire::{Bridge, Format, Quirks, RawObject, Target, egress, ingress};
use serde_json::{Value, json};

const MANY: usize = 40_000;

fn many(entry: impl Fn(usize) -> Value) -> Value {
    (0..MANY).map(entry).collect()
}

/// A client's request for every upstream; refusing it is fine too.
fn translate(client: Format, body: Value) {
    let body = RawObject::parse(Bytes::from(body.to_string())).expect("an object");
    let Ok(request) = ingress(client)
        .expect("clients speak it")
        .decode_request(&body)
    else {
        return;
    };
    for upstream in Format::ALL {
        let mut request = request.clone();
        let _ = Bridge::build(&mut request, upstream, "m");
        let quirks = Quirks::default();
        let target = Target {
            model: "m",
            quirks: &quirks,
        };
        let _ = egress(upstream).encode_request(&request, &target);
    }
}

#[test]
fn tools_of_which_some_are_allowed() {
    let named = |at: usize| json!({"type": "function", "name": format!("tool.{at}")});
    translate(
        Format::OpenaiResponses,
        json!({"model": "m", "input": "hi", "tools": many(named), "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": many(named)}}),
    );
    let unknown = |at: usize| json!({"type": format!("of_a_vendor_{at}"), "more": at});
    translate(
        Format::OpenaiResponses,
        json!({"model": "m", "input": "hi", "tools": many(unknown)}),
    );
}

#[test]
fn calls_and_their_answers() {
    for id in [
        |at: usize| format!("call_{at}"),
        |_: usize| "same".to_owned(),
    ] {
        let call = |at: usize| json!({"id": id(at), "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let mut messages = vec![
            json!({"role": "user", "content": "hi"}),
            json!({"role": "assistant", "tool_calls": many(call)}),
        ];
        let answers = (0..MANY)
            .rev()
            .map(|at| json!({"role": "tool", "tool_call_id": id(at), "content": "x"}));
        messages.extend(answers);
        translate(
            Format::OpenaiChat,
            json!({"model": "m", "messages": messages}),
        );
        let used = |at: usize| json!({"type": "tool_use", "id": id(at), "name": "f", "input": {}});
        let result = |at: usize| json!({"type": "tool_result", "tool_use_id": id(MANY - 1 - at), "content": "x"});
        let messages = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": many(used)},
            {"role": "user", "content": many(result)},
        ]);
        translate(
            Format::AnthropicMessages,
            json!({"model": "m", "max_tokens": 9, "messages": messages}),
        );
    }
}

#[test]
fn googles_calls_without_ids() {
    for name in [|at: usize| format!("f{at}"), |_: usize| "f".to_owned()] {
        let call = |at: usize| json!({"functionCall": {"name": name(at), "args": {}}});
        let response =
            |at: usize| json!({"functionResponse": {"name": name(MANY - 1 - at), "response": {}}});
        let contents = json!([
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": many(call)},
            {"role": "user", "parts": many(response)},
        ]);
        translate(Format::Gemini, json!({"contents": contents}));
    }
}

#[test]
fn messages_of_every_role() {
    let roles = ["system", "user", "developer", "assistant", "tool"];
    let message = |at: usize| json!({"role": roles[at % roles.len()], "content": "x", "tool_call_id": "c", "name": "n"});
    translate(
        Format::OpenaiChat,
        json!({"model": "m", "messages": many(message)}),
    );
}
