//! Requests of clients, and what becomes of them for models of several makers.

use serde_json::{Value, json};

use super::*;
use crate::{Quirks, RawObject, ingress};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "us.amazon.nova-lite-v1:0";
const QWEN: &str = "qwen.qwen3-32b-v1:0";

fn sent(client: Format, model: &str, body: Value) -> Result<(Value, Vec<String>), Failure> {
    let body = RawObject::parse(Bytes::from(body.to_string())).expect("an object");
    let ingress = ingress(client).expect("clients speak it");
    let request = ingress.decode_request(&body)?;
    let quirks = Quirks::default();
    let target = Target {
        model,
        quirks: &quirks,
    };
    let (sent, losses) = encode(&request, &target)?;
    let sent = serde_json::from_slice(&sent).expect("JSON");
    Ok((sent, losses.into_iter().map(|loss| loss.0).collect()))
}

/// What an OpenAI client's request becomes, and what is lost.
#[track_caller]
fn chat(model: &str, body: Value, expected: Value, lost: &[&str]) {
    let (sent, losses) = sent(Format::OpenaiChat, model, body).expect("a request");
    assert_eq!(sent, expected);
    assert_eq!(losses, lost);
}

/// The same for Anthropic's clients, as far as one member of it.
#[track_caller]
fn messages(model: &str, body: Value, member: &str, expected: Value, lost: &[&str]) {
    let (sent, losses) = sent(Format::AnthropicMessages, model, body).expect("a request");
    assert_eq!(sent.get(member).unwrap_or(&Value::Null), &expected);
    assert_eq!(losses, lost);
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[test]
fn a_request_is_written() {
    chat(
        CLAUDE,
        json!({
            "model": "m", "stream": true, "max_tokens": 9, "temperature": 1.5, "stop": ["X", " "],
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
                {"role": "user", "content": "you"},
            ],
            "seed": 1, "user": "u", "presence_penalty": 0, "metadata": {"a": "b"},
            "service_tier": "flex", "unheard_of": 1,
        }),
        json!({
            "messages": [{"role": "user", "content": [{"text": "hi"}, {"text": "you"}]}],
            "system": [{"text": "be brief"}],
            "inferenceConfig": {"maxTokens": 9, "temperature": 1.0, "stopSequences": ["X"]},
            "additionalModelResponseFieldPaths": ["/stop_sequence", "/delta/stop_sequence"],
            "serviceTier": {"type": "flex"},
            "requestMetadata": {"a": "b"},
        }),
        &["/temperature", "/stop", "/unheard_of", "/seed", "/user"],
    );
}

#[test]
fn defaults_need_not_be_said() {
    chat(
        NOVA,
        json!({"model": "m", "messages": user("hi"), "service_tier": "auto", "tool_choice": "auto", "parallel_tool_calls": false}),
        json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        &[],
    );
}

#[test]
fn metadata_that_logs_do_not_take_is_lost() {
    chat(
        NOVA,
        json!({"model": "m", "messages": user("hi"), "metadata": {"a": "{}"}}),
        json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        &["/metadata"],
    );
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": " ", "parameters": {"properties": {}}}})
}

fn spec(name: &str) -> Value {
    json!({"toolSpec": {"name": name, "inputSchema": {"json": {"properties": {}, "type": "object"}}}})
}

fn history() -> Value {
    json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ])
}

fn history_sent() -> Value {
    json!([
        {"role": "user", "content": [{"text": "hi"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "done"}]}}]},
    ])
}

#[test]
fn tools_are_offered_and_forced() {
    for (choice, sent) in [
        (json!("required"), json!({"any": {}})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!({"tool": {"name": "f"}}),
        ),
    ] {
        chat(
            CLAUDE,
            json!({"model": "m", "messages": history(), "tools": [tool("f"), tool("g")], "tool_choice": choice, "parallel_tool_calls": false}),
            json!({
                "messages": history_sent(),
                "toolConfig": {"tools": [spec("f"), spec("g")], "toolChoice": sent},
            }),
            &["/parallel_tool_calls"],
        );
    }
}

#[test]
fn models_that_cannot_be_forced_are_not() {
    chat(
        "meta.llama3-1-70b-instruct-v1:0",
        json!({"model": "m", "messages": user("hi"), "tools": [tool("f")], "tool_choice": "required"}),
        json!({
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "toolConfig": {"tools": [spec("f")]},
        }),
        &["/tool_choice"],
    );
}

#[test]
fn no_tool_is_said_by_offering_none() {
    chat(
        CLAUDE,
        json!({"model": "m", "messages": user("hi"), "tools": [tool("f")], "tool_choice": "none"}),
        json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        &[],
    );
    chat(
        CLAUDE,
        json!({"model": "m", "messages": history(), "tools": [tool("f")], "tool_choice": "none"}),
        json!({"messages": history_sent(), "toolConfig": {"tools": [spec("f")]}}),
        &["/tool_choice"],
    );
}

#[test]
fn calls_are_never_sent_without_tools() {
    let (sent, lost) = sent(
        Format::OpenaiChat,
        CLAUDE,
        json!({"model": "m", "messages": history()}),
    )
    .expect("a request");
    assert_eq!(sent["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    assert_eq!(lost, [""; 0]);
}

fn schema() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "number"}}}}})
}

#[test]
fn answers_follow_a_schema_where_the_model_does() {
    let body = || json!({"model": "m", "messages": user("hi"), "response_format": schema()});
    for model in [CLAUDE, QWEN] {
        chat(
            model,
            body(),
            json!({
                "messages": [{"role": "user", "content": [{"text": "hi"}]}],
                "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
                    "schema": r#"{"type":"object","properties":{"a":{"type":"number"}},"additionalProperties":false}"#,
                    "name": "n",
                }}}},
            }),
            &[],
        );
    }
    for model in [NOVA, "anthropic.claude-3-haiku-20240307-v1:0"] {
        chat(
            model,
            body(),
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            &["/response_format"],
        );
    }
}

#[test]
fn claude_thinks_as_it_does_at_home() {
    let thinking = json!({"type": "enabled", "budget_tokens": 2000});
    let body = |top_k: bool| {
        let mut body =
            json!({"model": "m", "max_tokens": 4000, "messages": user("hi"), "thinking": thinking});
        if top_k {
            body["top_k"] = json!(5);
        }
        body
    };
    let fields = "additionalModelRequestFields";
    messages(
        CLAUDE,
        body(false),
        fields,
        json!({"thinking": thinking}),
        &[],
    );
    let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"}});
    messages(
        "global.anthropic.claude-opus-4-7",
        body(true),
        fields,
        adaptive,
        &["/top_k"],
    );
    let effort = json!({"effort": "medium"});
    messages(
        "global.anthropic.claude-opus-4-7",
        body(false),
        "outputConfig",
        effort,
        &[],
    );
    messages(
        NOVA,
        body(true),
        fields,
        Value::Null,
        &["/thinking/budget_tokens", "/thinking", "/top_k"],
    );
    let plain = json!({"model": "m", "max_tokens": 4000, "messages": user("hi"), "top_k": 5});
    messages(CLAUDE, plain, fields, json!({"top_k": 5}), &[]);
}

fn marked() -> Value {
    let hour = json!({"type": "ephemeral", "ttl": "1h"});
    let five = json!({"type": "ephemeral", "ttl": "5m"});
    json!({
        "model": "m", "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": hour}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "u", "cache_control": five}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": five}],
    })
}

#[test]
fn marks_stand_where_the_model_takes_them() {
    let mark = json!({"cachePoint": {"type": "default"}});
    let hour = json!({"cachePoint": {"type": "default", "ttl": "1h"}});
    let spec = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
    let (sent_claude, lost) = sent(Format::AnthropicMessages, CLAUDE, marked()).expect("a request");
    assert_eq!(sent_claude["system"], json!([{"text": "s"}, hour]));
    assert_eq!(
        sent_claude["messages"][0]["content"],
        json!([{"text": "u"}, mark])
    );
    assert_eq!(sent_claude["toolConfig"]["tools"], json!([spec, mark]));
    assert_eq!(lost, [""; 0]);
    let tools = "/tools/0/cache_control";
    messages(
        NOVA,
        marked(),
        "system",
        json!([{"text": "s"}, mark]),
        &["/system/0/cache_control/ttl", tools],
    );
    messages(
        QWEN,
        marked(),
        "toolConfig",
        json!({"tools": [spec]}),
        &[
            "/messages/0/content/0/cache_control",
            "/system/0/cache_control",
            tools,
        ],
    );
}

#[test]
fn claudes_thoughts_go_back_to_claude_only() {
    let body = || {
        json!({
            "model": "m", "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "cmVk"},
                    {"type": "text", "text": "b"},
                ]},
                {"role": "user", "content": "c"},
            ],
        })
    };
    let asked = json!({"role": "user", "content": [{"text": "a"}]});
    let next = json!({"role": "user", "content": [{"text": "c"}]});
    let thoughts = json!({"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"text": "b"},
    ]});
    messages(
        CLAUDE,
        body(),
        "messages",
        json!([asked, thoughts, next]),
        &[],
    );
    let said = json!({"role": "assistant", "content": [{"text": "b"}]});
    let lost = ["/messages/1/content/0", "/messages/1/content/1"];
    messages(NOVA, body(), "messages", json!([asked, said, next]), &lost);
}

#[test]
fn media_are_written_by_their_types() {
    let source =
        |mime: &str, data: &str| json!({"type": "base64", "media_type": mime, "data": data});
    let url = |url: &str| json!({"type": "image", "source": {"type": "url", "url": url}});
    let document =
        |source: Value| json!({"type": "document", "title": "a_b.pdf", "source": source});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "image", "source": source("image/png", "iVBO")},
        url("s3://bucket/a.png"),
        url("https://x/a.png"),
        document(source("application/pdf", "JVBE")),
        document(json!({"type": "text", "media_type": "text/plain", "data": "hello"})),
    ]}]});
    let expected = json!([{"role": "user", "content": [
        {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
        {"document": {"format": "pdf", "name": "a b", "source": {"bytes": "JVBE"}}},
        {"document": {"format": "txt", "name": "a b 2", "source": {"bytes": "aGVsbG8="}}},
        {"text": "See the attached document."},
    ]}]);
    messages(
        CLAUDE,
        body,
        "messages",
        expected,
        &["/messages/0/content/2"],
    );
}

#[test]
fn results_of_tools_are_never_empty() {
    let body = || {
        json!({
            "model": "m", "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
                    {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "", "is_error": true},
                    {"type": "tool_result", "tool_use_id": "c2", "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                    ]},
                ]},
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        })
    };
    let results = |model: &str| {
        let (sent, lost) = sent(Format::AnthropicMessages, model, body()).expect("a request");
        (sent["messages"][2]["content"].clone(), lost)
    };
    let (claude, lost) = results(CLAUDE);
    let empty = json!([{"text": "The tool gave no output."}]);
    let picture = json!([{"image": {"format": "png", "source": {"bytes": "iVBO"}}}]);
    assert_eq!(
        claude,
        json!([
            {"toolResult": {"toolUseId": "c1", "content": empty, "status": "error"}},
            {"toolResult": {"toolUseId": "c2", "content": picture}},
        ])
    );
    assert_eq!(lost, [""; 0]);
    let (qwen, lost) = results(QWEN);
    assert_eq!(qwen[0]["toolResult"].get("status"), None);
    assert_eq!(lost, ["/messages/2/content/0/is_error"]);
}

#[test]
fn the_user_begins() {
    chat(
        NOVA,
        json!({"model": "m", "messages": [
            {"role": "assistant", "content": "how can I help? "},
            {"role": "user", "content": "hi"},
        ]}),
        json!({"messages": [
            {"role": "user", "content": [{"text": "(The conversation begins.)"}]},
            {"role": "assistant", "content": [{"text": "how can I help? "}]},
            {"role": "user", "content": [{"text": "hi"}]},
        ]}),
        &[],
    );
}

#[test]
fn a_turn_of_which_nothing_is_left_fails() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
    ]}]});
    let failure = sent(Format::AnthropicMessages, CLAUDE, body).expect_err("nothing is left");
    assert_eq!(failure.kind, Kind::Untranslatable);
}
