//! Requests as the rows of the table want them: what recorded traffic and the vendors' own words show to be refused is not sent,
//! and what they call otherwise goes under their names.

use bytes::Bytes;
use polygate_providers::{row_named, table};
use polygate_wire::{Bridge, Format, Quirks, RawObject, Target, egress, ingress};
use serde_json::{Value, json};

/// What this provider's chat is sent for a request of a client of Messages, and what got lost.
fn sent(provider: &str, request: Value) -> (Value, Vec<String>) {
    let mut whole =
        json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in request.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    translated(Format::AnthropicMessages, provider, &whole)
}

fn translated(client: Format, provider: &str, request: &Value) -> (Value, Vec<String>) {
    let quirks = &row_named(provider).expect("a row").quirks;
    let written = written(client, Format::OpenaiChat, quirks, request);
    let (body, losses) = written.expect("a body");
    (serde_json::from_slice(&body).expect("JSON"), losses)
}

/// The bytes for an upstream with these quirks; `None` where nothing can be sent.
fn written(
    client: Format,
    upstream: Format,
    quirks: &Quirks,
    request: &Value,
) -> Option<(Bytes, Vec<String>)> {
    let object = RawObject::parse(Bytes::from(request.to_string())).expect("an object");
    let client = ingress(client).expect("clients speak it");
    let mut request = client.decode_request(&object).expect("a request");
    let model = request.model.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, &model);
    let target = Target {
        model: &model,
        quirks,
    };
    let (body, lost) = egress(upstream).encode_request(&request, &target).ok()?;
    losses.extend(lost);
    Some((body, losses.into_iter().map(|loss| loss.0).collect()))
}

/// A client of Chat says it, and it is not passed as it is.
fn from_chat(provider: &str, request: Value) -> (Value, Vec<String>) {
    let mut whole = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in request.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    translated(Format::OpenaiChat, provider, &whole)
}

fn conversation() -> Value {
    json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Look it up.", "signature": ""},
            {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {}}
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01A", "content": "Sun"}]}
    ])
}

fn forced() -> Value {
    json!({
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any"}
    })
}

#[test]
fn rows_agree_with_themselves() {
    for row in table() {
        let quirks = &row.quirks;
        let off = quirks.thinking.as_ref().map(|switch| &switch.off);
        assert!(
            !quirks.thinks_or_forces || off.is_some_and(|off| !off.is_empty()),
            "{}: thinking has to end before a tool is forced",
            row.name
        );
        assert!(
            !quirks.reasoning_required || quirks.reasoning_history.is_some(),
            "{}: thinking that is required has a place",
            row.name
        );
        let like = row
            .dialect
            .as_deref()
            .map(|name| row_named(name).expect("a row"));
        assert!(
            like.is_none_or(|like| &like.quirks == quirks),
            "{}",
            row.name
        );
        let refused = quirks.refuses.iter().any(|name| name == "stream_options");
        assert_eq!(refused, !row.stream_options, "{}", row.name);
    }
}

#[test]
fn the_limit_of_output_has_the_name_that_is_accepted() {
    for (provider, name) in [
        ("openai", "max_completion_tokens"),
        ("azure", "max_completion_tokens"),
        ("xiaomi", "max_completion_tokens"),
        ("baseten", "max_completion_tokens"),
        ("cerebras", "max_completion_tokens"),
        ("groq", "max_completion_tokens"),
        ("mistral", "max_tokens"),
        ("deepseek", "max_tokens"),
        ("together", "max_tokens"),
    ] {
        let (body, _) = sent(provider, json!({}));
        assert_eq!(body[name], 100, "{provider}");
    }
}

#[test]
fn thinking_is_switched_as_each_provider_switches_it() {
    for (provider, off) in [
        ("deepseek", json!({"thinking": {"type": "disabled"}})),
        ("moonshot", json!({"thinking": {"type": "disabled"}})),
        ("zai", json!({"thinking": {"type": "disabled"}})),
        ("zhipu", json!({"thinking": {"type": "disabled"}})),
        ("xiaomi", json!({"thinking": {"type": "disabled"}})),
        ("volcengine", json!({"thinking": {"type": "disabled"}})),
        ("alibaba", json!({"enable_thinking": false})),
        (
            "baseten",
            json!({"chat_template_args": {"enable_thinking": false}}),
        ),
        (
            "vllm",
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
        ),
        (
            "llamacpp",
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
        ),
        (
            "venice",
            json!({"venice_parameters": {"disable_thinking": true}}),
        ),
        ("openrouter", json!({"reasoning": {"enabled": false}})),
    ] {
        let (body, losses) = sent(provider, json!({"thinking": {"type": "disabled"}}));
        for (name, value) in off.as_object().expect("members") {
            assert_eq!(&body[name], value, "{provider}");
        }
        assert!(losses.is_empty(), "{provider}: {losses:?}");
    }
    for (provider, at, value) in [
        ("deepseek", "/reasoning_effort", json!("high")),
        ("alibaba", "/thinking_budget", json!(5000)),
        ("openrouter", "/reasoning/max_tokens", json!(5000)),
    ] {
        let thinking = json!({"type": "enabled", "budget_tokens": 5000});
        let (body, losses) = sent(provider, json!({"thinking": thinking}));
        assert_eq!(body.pointer(at), Some(&value), "{provider}");
        assert!(losses.is_empty(), "{provider}: {losses:?}");
    }
}

#[test]
fn earlier_thinking_goes_where_it_is_read_and_nowhere_else() {
    for (provider, at) in [
        ("deepseek", "/messages/1/reasoning_content"),
        ("xai", "/messages/1/reasoning_content"),
        ("xiaomi", "/messages/1/reasoning_content"),
        ("llamacpp", "/messages/1/reasoning_content"),
        ("doubleword", "/messages/1/reasoning_content"),
        ("venice", "/messages/1/reasoning_content"),
        ("ollama", "/messages/1/reasoning"),
        ("cerebras", "/messages/1/reasoning"),
        ("openrouter", "/messages/1/reasoning"),
        ("mistral", "/messages/1/content/0/thinking/0/text"),
    ] {
        let (body, losses) = sent(provider, json!({"messages": conversation()}));
        assert_eq!(body.pointer(at), Some(&json!("Look it up.")), "{provider}");
        assert!(losses.is_empty(), "{provider}: {losses:?}");
    }
    for provider in ["groq", "mistral", "cerebras"] {
        let (body, _) = sent(provider, json!({"messages": conversation()}));
        assert_eq!(
            body.pointer("/messages/1/reasoning_content"),
            None,
            "{provider}"
        );
    }
}

#[test]
fn calls_come_back_with_their_thinking_or_a_blank() {
    let mut messages = conversation();
    messages[1]["content"]
        .as_array_mut()
        .expect("parts")
        .remove(0);
    for provider in ["deepseek", "moonshot", "xiaomi"] {
        let (body, _) = sent(provider, json!({"messages": messages.clone()}));
        assert_eq!(body["messages"][1]["reasoning_content"], " ", "{provider}");
    }
}

#[test]
fn a_tool_is_forced_as_far_as_it_can_be() {
    let (body, _) = sent("deepseek", forced());
    assert_eq!(
        (&body["tool_choice"], &body["thinking"]["type"]),
        (&json!("required"), &json!("disabled"))
    );
    let (body, _) = sent("alibaba", forced());
    assert_eq!(
        (&body["tool_choice"], &body["enable_thinking"]),
        (&json!("required"), &json!(false))
    );
    for provider in ["zai", "xiaomi"] {
        let (body, losses) = sent(provider, forced());
        assert_eq!(body["tool_choice"], "auto", "{provider}");
        assert_eq!(losses, ["/tool_choice"], "{provider}");
    }
    let (body, _) = sent("mistral", forced());
    assert_eq!(body["tool_choice"], "required");
}

#[test]
fn deepseek_reads_text_only_and_promises_json_without_a_schema() {
    let picture = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}});
    let content = json!([{"type": "text", "text": "See"}, picture]);
    let (body, losses) = sent(
        "deepseek",
        json!({"messages": [{"role": "user", "content": content}]}),
    );
    assert_eq!(body["messages"][0]["content"], "See");
    assert_eq!(losses, ["/messages/0/content/1"]);
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
    let (body, losses) = from_chat("deepseek", json!({"response_format": schema}));
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    assert_eq!(losses, ["/response_format"]);
}

#[test]
fn mistral_gets_its_own_names_and_shapes_and_nothing_it_refuses() {
    let (body, losses) = from_chat(
        "mistral",
        json!({"seed": 42, "user": "u", "logprobs": true, "stream": true, "max_completion_tokens": 5}),
    );
    let mut names: Vec<&String> = body.as_object().expect("an object").keys().collect();
    names.sort();
    assert_eq!(
        names,
        ["max_tokens", "messages", "model", "random_seed", "stream"]
    );
    assert_eq!(losses, ["/logprobs", "/user"]);
    let (body, _) = sent("mistral", json!({"messages": conversation()}));
    let id = body["messages"][1]["tool_calls"][0]["id"]
        .as_str()
        .expect("an id");
    assert_eq!(id.len(), 9);
    assert_eq!(body["messages"][2]["tool_call_id"], id);
    let pdf = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}});
    let (body, _) = sent(
        "mistral",
        json!({"messages": [{"role": "user", "content": [pdf]}]}),
    );
    assert_eq!(body["messages"][0]["content"][0]["type"], "document_url");
    let audio =
        json!({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}});
    let (body, _) = from_chat(
        "mistral",
        json!({"messages": [{"role": "user", "content": [audio]}]}),
    );
    assert_eq!(body["messages"][0]["content"][0]["input_audio"], "UklGRg==");
    let begun = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]);
    let (body, _) = sent("mistral", json!({"messages": begun}));
    assert_eq!(body["messages"][1]["prefix"], true);
}

#[test]
fn strict_providers_get_no_member_they_do_not_know() {
    for (provider, refused) in [
        ("groq", json!({"logprobs": true, "top_logprobs": 2})),
        (
            "cerebras",
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}),
        ),
        (
            "xai",
            json!({"presence_penalty": 0.5, "frequency_penalty": 0.5, "stop": ["x"]}),
        ),
        ("moonshot", json!({"temperature": 0.2, "top_p": 0.5})),
    ] {
        let (body, losses) = from_chat(provider, refused.clone());
        for name in refused.as_object().expect("members").keys() {
            assert_eq!(body.get(name), None, "{provider} {name}");
        }
        assert!(!losses.is_empty(), "{provider}");
    }
    let codex = json!({"model": "m", "input": "Hi", "prompt_cache_key": "k"});
    for provider in ["groq", "mistral", "cerebras"] {
        let (body, losses) = translated(Format::OpenaiResponses, provider, &codex);
        assert_eq!(body.get("prompt_cache_key"), None, "{provider}");
        assert_eq!(losses, ["/prompt_cache_key"], "{provider}");
    }
    let (body, losses) = translated(Format::OpenaiResponses, "openai", &codex);
    assert_eq!(body["prompt_cache_key"], "k");
    assert!(losses.is_empty());
}

#[test]
fn usage_is_asked_for_only_where_it_may_be() {
    for provider in ["mistral", "perplexity", "xiaomi", "databricks"] {
        let (body, _) = sent(provider, json!({"stream": true}));
        assert_eq!(body.get("stream_options"), None, "{provider}");
    }
    let (body, _) = sent("deepseek", json!({"stream": true}));
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
}

#[test]
fn templates_get_their_instructions_first() {
    let messages = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Go"}
    ]);
    for provider in [
        "vllm",
        "sglang",
        "llamacpp",
        "lmstudio",
        "perplexity",
        "openai-compatible",
    ] {
        let (body, _) = from_chat(provider, json!({"messages": messages}));
        let first = json!({"role": "system", "content": "Be brief."});
        assert_eq!(body["messages"][0], first, "{provider}");
    }
    let (body, _) = from_chat("openai", json!({"messages": messages}));
    assert_eq!(body["messages"][2]["role"], "developer");
}

#[test]
fn cache_marks_reach_those_who_know_them() {
    let marked = json!([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]);
    let messages = json!([{"role": "user", "content": marked}]);
    for provider in ["openrouter", "vercel", "alibaba", "litellm", "requesty"] {
        let (body, losses) = sent(provider, json!({"messages": messages}));
        let mark = &body["messages"][0]["content"][0]["cache_control"]["type"];
        assert_eq!((mark, losses.len()), (&json!("ephemeral"), 0), "{provider}");
    }
    let (body, losses) = sent("together", json!({"messages": messages}));
    assert_eq!(body["messages"][0]["content"], "Hi");
    assert_eq!(losses.len(), 1);
}

/// Requests that between them say all that a quirk can be about.
fn everything() -> Vec<(Format, Value)> {
    let stops: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let function = json!({"name": "t", "strict": true, "parameters": {"type": "object"}});
    let chat = json!({"model": "m", "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "See"},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
        ]}],
        "stream": true, "max_completion_tokens": 9, "stop": stops, "seed": 1, "user": "u", "temperature": 0.5, "top_p": 0.5,
        "presence_penalty": 0.5, "frequency_penalty": 0.5, "logprobs": true, "top_logprobs": 2, "parallel_tool_calls": false,
        "verbosity": "low", "tools": [{"type": "function", "function": function}], "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    });
    let codex = json!({"model": "m", "input": "Hi", "metadata": {"a": "b"}, "service_tier": "flex", "prompt_cache_key": "k",
        "prompt_cache_retention": "24h", "safety_identifier": "s"});
    let source =
        |kind: &str, data: &str| json!({"type": "base64", "media_type": kind, "data": data});
    let far = json!({"type": "url", "url": "https://example.com/a.png"});
    let media = json!([
        {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": source("image/png", "iVBORw==")},
        {"type": "image", "source": far},
        {"type": "document", "source": source("application/pdf", "JVBERg==")}
    ]);
    let mut claude = forced();
    for (name, value) in json!({
        "model": "m", "max_tokens": 9000, "top_k": 5, "messages": [{"role": "user", "content": media}],
        "thinking": {"type": "enabled", "budget_tokens": 5000}
    })
    .as_object()
    .expect("members")
    {
        claude[name] = value.clone();
    }
    let mut without = conversation();
    without[1]["content"]
        .as_array_mut()
        .expect("parts")
        .remove(0);
    let begun = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]);
    let talk = |messages: Value| json!({"model": "m", "max_tokens": 9000, "messages": messages});
    let mut off = talk(begun.clone());
    off["thinking"] = json!({"type": "disabled"});
    vec![
        (Format::OpenaiChat, chat),
        (Format::OpenaiResponses, codex),
        (Format::AnthropicMessages, claude),
        (Format::AnthropicMessages, talk(conversation())),
        (Format::AnthropicMessages, talk(without)),
        (Format::AnthropicMessages, talk(begun)),
        (Format::AnthropicMessages, off),
    ]
}

/// These quirks with one of them left out, each in turn.
fn each_left_out(quirks: &Quirks) -> Vec<(String, Quirks)> {
    type Leave = fn(&mut Quirks);
    let columns: [(&str, Leave); 14] = [
        ("max_completion_tokens", |quirks| {
            quirks.max_completion_tokens = false
        }),
        ("developer", |quirks| quirks.developer = false),
        ("cache_control", |quirks| quirks.cache_control = false),
        ("top_k", |quirks| quirks.top_k = false),
        ("reasoning_history", |quirks| {
            quirks.reasoning_history = None
        }),
        ("reasoning_required", |quirks| {
            quirks.reasoning_required = false
        }),
        ("thinking", |quirks| quirks.thinking = None),
        ("thinks_or_forces", |quirks| quirks.thinks_or_forces = false),
        ("system_first", |quirks| quirks.system_first = false),
        ("continues", |quirks| quirks.continues = None),
        ("id_length", |quirks| quirks.id_length = None),
        ("most_stops", |quirks| quirks.most_stops = None),
        ("document_url", |quirks| quirks.document_url = false),
        ("bare_audio", |quirks| quirks.bare_audio = false),
    ];
    let mut left = Vec::new();
    for (name, leave) in columns {
        let mut fewer = quirks.clone();
        leave(&mut fewer);
        left.push((name.to_owned(), fewer));
    }
    for (index, lack) in quirks.lacks.iter().enumerate() {
        let mut fewer = quirks.clone();
        fewer.lacks.remove(index);
        left.push((format!("lacks {lack:?}"), fewer));
    }
    for (index, refused) in quirks.refuses.iter().enumerate() {
        let mut fewer = quirks.clone();
        fewer.refuses.remove(index);
        left.push((format!("refuses {refused}"), fewer));
    }
    for renamed in quirks.renames.keys() {
        let mut fewer = quirks.clone();
        fewer.renames.remove(renamed);
        left.push((format!("renames {renamed}"), fewer));
    }
    left.retain(|(_, fewer)| fewer != quirks);
    left
}

#[test]
fn no_quirk_of_any_row_is_there_for_nothing() {
    let requests = everything();
    for row in table() {
        let all = |quirks: &Quirks| {
            let formats = row.formats.iter().copied();
            let open = formats
                .filter(|format| matches!(format, Format::OpenaiChat | Format::OpenaiResponses));
            let written = open.flat_map(|upstream| {
                let each = requests.iter();
                each.map(move |(client, request)| written(*client, upstream, quirks, request))
            });
            written.collect::<Vec<_>>()
        };
        let whole = all(&row.quirks);
        for (name, fewer) in each_left_out(&row.quirks) {
            assert_ne!(all(&fewer), whole, "{}: {name} does nothing", row.name);
        }
    }
}
