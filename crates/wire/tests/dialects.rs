//! Requests in the dialects of compatible providers: each quirk does what it says, and names what is lost by it.

use bytes::Bytes;
use polygate_wire::canon::Block;
use polygate_wire::{Bridge, ChatResponse, Format, Quirks, RawObject, Target, egress, ingress};
use serde_json::{Value, json};

/// What a client's request becomes for an upstream with these quirks, and what it lost.
fn said(client: Format, upstream: Format, quirks: Value, request: &Value) -> (Value, Vec<String>) {
    let quirks: Quirks = serde_json::from_value(quirks).expect("quirks");
    let object = RawObject::parse(Bytes::from(request.to_string())).expect("an object");
    let client = ingress(client).expect("clients speak it");
    let mut request = client.decode_request(&object).expect("a request");
    let model = request.model.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, &model);
    let target = Target {
        model: &model,
        quirks: &quirks,
    };
    let encoded = egress(upstream).encode_request(&request, &target);
    let (body, lost) = encoded.expect("a body");
    losses.extend(lost);
    let body = serde_json::from_slice(&body).expect("JSON");
    (body, losses.into_iter().map(|loss| loss.0).collect())
}

/// What a client of Messages says to a chat.
fn chat(quirks: Value, request: Value) -> (Value, Vec<String>) {
    let (client, upstream) = (Format::AnthropicMessages, Format::OpenaiChat);
    let mut whole =
        json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in request.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    said(client, upstream, quirks, &whole)
}

/// A conversation in which a tool was called, after some thinking.
fn conversation() -> Value {
    json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Look it up.", "signature": ""},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {}}
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01A", "content": "Sun"}]}
    ])
}

fn tool() -> Value {
    json!([{"name": "weather", "input_schema": {"type": "object", "properties": {}}}])
}

const NOTHING: [String; 0] = [];

#[test]
fn thinking_goes_back_where_the_provider_reads_it() {
    let before = |history: &str| {
        let quirks = json!({"reasoning_history": history});
        let (body, losses) = chat(quirks, json!({"messages": conversation()}));
        assert_eq!(losses, NOTHING, "{history}");
        body["messages"][1].clone()
    };
    for member in ["reasoning_content", "reasoning"] {
        let message = before(member);
        assert_eq!(message[member], "Look it up.");
        assert_eq!(message["content"], "One moment.");
    }
    assert_eq!(before("reasoning_details")["reasoning"], "Look it up.");
    assert_eq!(
        before("thinking")["content"],
        json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "Look it up."}]},
            {"type": "text", "text": "One moment."}
        ])
    );
    assert_eq!(
        before("tags")["content"],
        "<think>\nLook it up.\n</think>\nOne moment."
    );
    let (body, losses) = chat(json!({}), json!({"messages": conversation()}));
    assert_eq!(body["messages"][1].get("reasoning_content"), None);
    assert_eq!(losses, ["/messages/1/content/0"]);
}

#[test]
fn a_blank_stands_for_thinking_that_is_gone() {
    let quirks = json!({
        "reasoning_history": "reasoning_content",
        "reasoning_required": true,
        "thinking": {"off": {"thinking": {"type": "disabled"}}}
    });
    let mut messages = conversation();
    messages[1]["content"]
        .as_array_mut()
        .expect("parts")
        .remove(0);
    let (body, _) = chat(quirks.clone(), json!({"messages": messages.clone()}));
    assert_eq!(body["messages"][1]["reasoning_content"], " ");
    let off = json!({"messages": messages, "thinking": {"type": "disabled"}});
    let (body, _) = chat(quirks, off);
    assert_eq!(body["messages"][1].get("reasoning_content"), None);
}

#[test]
fn switches_say_on_and_off_and_how_hard() {
    let kind = json!({
        "on": {"thinking": {"type": "enabled"}}, "off": {"thinking": {"type": "disabled"}},
        "effort": "/reasoning_effort", "efforts": ["low", "high", "max"]
    });
    let flag = json!({
        "on": {"enable_thinking": true}, "off": {"enable_thinking": false}, "budget": "/thinking_budget"
    });
    let nested = json!({
        "on": {"reasoning": {"enabled": true}}, "off": {"reasoning": {"enabled": false}},
        "hidden": {"reasoning": {"exclude": true}},
        "effort": "/reasoning/effort", "budget": "/reasoning/max_tokens"
    });
    let bare = json!({"on": {"args": {"think": true}}, "off": {"args": {"think": false}}});
    let budget = json!({"type": "enabled", "budget_tokens": 5000});
    let hidden = json!({"type": "enabled", "budget_tokens": 5000, "display": "omitted"});
    let cases = [
        (
            &kind,
            json!({"type": "disabled"}),
            json!({"thinking": {"type": "disabled"}}),
            vec![],
        ),
        (
            &kind,
            budget.clone(),
            json!({"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
            vec![],
        ),
        (
            &flag,
            json!({"type": "disabled"}),
            json!({"enable_thinking": false}),
            vec![],
        ),
        (
            &flag,
            budget.clone(),
            json!({"enable_thinking": true, "thinking_budget": 5000}),
            vec![],
        ),
        (
            &nested,
            json!({"type": "adaptive"}),
            json!({"reasoning": {"enabled": true}}),
            vec![],
        ),
        (
            &nested,
            budget.clone(),
            json!({"reasoning": {"enabled": true, "max_tokens": 5000}}),
            vec![],
        ),
        (
            &nested,
            hidden,
            json!({"reasoning": {"enabled": true, "exclude": true, "max_tokens": 5000}}),
            vec![],
        ),
        (
            &bare,
            json!({"type": "adaptive"}),
            json!({"args": {"think": true}}),
            vec![],
        ),
        (
            &bare,
            budget,
            json!({"args": {"think": true}}),
            vec!["/thinking/budget_tokens"],
        ),
    ];
    for (switch, thinking, expected, lost) in cases {
        let (body, losses) = chat(json!({"thinking": switch}), json!({"thinking": thinking}));
        for (name, value) in expected.as_object().expect("members") {
            assert_eq!(&body[name], value, "{thinking}");
        }
        assert_eq!(losses, lost, "{thinking}");
    }
    let (body, _) = chat(json!({"thinking": kind}), json!({}));
    assert_eq!(
        body.get("thinking"),
        None,
        "who says nothing gets the default"
    );
    let medium = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "medium"});
    for (switch, member, expected) in [
        (&kind, "/reasoning_effort", json!("high")),
        (&nested, "/reasoning/effort", json!("medium")),
        (&flag, "/thinking_budget", json!(8192)),
    ] {
        let quirks = json!({"thinking": switch});
        // From Chat to Chat, as if it had not been native.
        let (body, losses) = said(Format::OpenaiChat, Format::OpenaiChat, quirks, &medium);
        assert_eq!(body.pointer(member), Some(&expected));
        assert_eq!(losses, NOTHING);
    }
}

#[test]
fn a_forced_tool_comes_before_thinking() {
    let quirks = json!({
        "thinks_or_forces": true,
        "thinking": {"on": {"thinking": {"type": "enabled"}}, "off": {"thinking": {"type": "disabled"}}}
    });
    let forced = json!({"tools": tool(), "tool_choice": {"type": "any"}});
    let (body, losses) = chat(quirks.clone(), forced.clone());
    assert_eq!(body["thinking"], json!({"type": "disabled"}));
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(losses, NOTHING, "nobody asked for thinking");
    let mut both = forced;
    both["thinking"] = json!({"type": "enabled", "budget_tokens": 2000});
    let (body, losses) = chat(quirks.clone(), both);
    assert_eq!(body["thinking"], json!({"type": "disabled"}));
    assert_eq!(losses, ["/thinking/budget_tokens"]);
    let free = json!({"tools": tool(), "tool_choice": {"type": "auto"}});
    let (body, _) = chat(quirks, free);
    assert_eq!(body.get("thinking"), None);
}

#[test]
fn where_only_the_model_chooses_nothing_is_forced_and_nothing_forbidden_is_offered() {
    let quirks = || json!({"lacks": ["tool_choice"]});
    let forced = json!({"tools": tool(), "tool_choice": {"type": "tool", "name": "weather"}});
    let (body, losses) = chat(quirks(), forced);
    assert_eq!(body["tool_choice"], "auto");
    assert_eq!(losses, ["/tool_choice"]);
    let (body, losses) = chat(
        quirks(),
        json!({"tools": tool(), "tool_choice": {"type": "none"}}),
    );
    assert_eq!((body.get("tools"), body.get("tool_choice")), (None, None));
    assert_eq!(losses, NOTHING);
}

#[test]
fn instructions_stand_together_and_where_it_has_to_be_first() {
    let request = json!({"model": "m", "messages": [
        {"role": "system", "content": "A"},
        {"role": "developer", "content": "B"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "system", "content": "C"},
        {"role": "user", "content": "Go"}
    ]});
    let roles = |quirks: Value| {
        let (body, _) = said(Format::OpenaiChat, Format::OpenaiChat, quirks, &request);
        let said = body["messages"].as_array().expect("messages").clone();
        let tell = |message: &Value| {
            format!("{}: {}", message["role"], message["content"]).replace('"', "")
        };
        said.iter().map(tell).collect::<Vec<_>>()
    };
    assert_eq!(
        roles(json!({})),
        [
            "system: A\\n\\nB",
            "user: Hi",
            "assistant: Yes?",
            "system: C",
            "user: Go"
        ]
    );
    assert_eq!(
        roles(json!({"developer": true})),
        [
            "system: A",
            "developer: B",
            "user: Hi",
            "assistant: Yes?",
            "system: C",
            "user: Go"
        ]
    );
    assert_eq!(
        roles(json!({"system_first": true})),
        [
            "system: A\\n\\nB\\n\\nC",
            "user: Hi",
            "assistant: Yes?",
            "user: Go"
        ]
    );
}

#[test]
fn the_assistants_last_words_are_gone_on_with() {
    let last = |quirks: Value| {
        let messages =
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]);
        let (body, _) = chat(quirks, json!({"messages": messages}));
        body["messages"][1].clone()
    };
    let plain = json!({"role": "assistant", "content": "He"});
    assert_eq!(last(json!({})), plain);
    for mark in ["prefix", "partial"] {
        assert_eq!(last(json!({"continues": mark}))[mark], true);
    }
    let (body, _) = chat(
        json!({"continues": "prefix"}),
        json!({"messages": conversation()}),
    );
    assert_eq!(
        body["messages"][1].get("prefix"),
        None,
        "it is not the last"
    );
}

#[test]
fn ids_are_as_short_as_the_provider_wants_them() {
    let (body, _) = chat(json!({"id_length": 9}), json!({"messages": conversation()}));
    let id = body["messages"][1]["tool_calls"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(
        (
            id.len(),
            id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        ),
        (9, true)
    );
    assert_eq!(body["messages"][2]["tool_call_id"], id.as_str());
    let mut own = conversation();
    own[1]["content"][2]["id"] = json!("abcDEF123");
    own[2]["content"][0]["tool_use_id"] = json!("abcDEF123");
    let (body, _) = chat(json!({"id_length": 9}), json!({"messages": own}));
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], "abcDEF123");
}

#[test]
fn media_go_in_the_providers_shapes_or_are_named_as_lost() {
    let pdf = json!({"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}});
    let link =
        json!({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}});
    let inline = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}});
    let far =
        json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
    let sent = |quirks: Value, part: &Value| {
        let content = json!([{"type": "text", "text": "See"}, part]);
        let messages = json!([{"role": "user", "content": content}]);
        let (body, losses) = chat(quirks, json!({"messages": messages}));
        (body["messages"][0]["content"][1].clone(), losses)
    };
    let document = json!({"type": "document_url", "document_url": "data:application/pdf;base64,JVBERg==", "document_name": "a.pdf"});
    assert_eq!(
        sent(json!({"document_url": true}), &pdf),
        (document, vec![])
    );
    let document = json!({"type": "document_url", "document_url": "https://example.com/a.pdf"});
    assert_eq!(
        sent(json!({"document_url": true}), &link),
        (document, vec![])
    );
    assert_eq!(sent(json!({}), &pdf).0["type"], "file");
    assert_eq!(sent(json!({}), &inline).0["type"], "image_url");
    assert_eq!(
        sent(json!({"lacks": ["image_urls"]}), &inline).0["type"],
        "image_url"
    );
    for (lack, part) in [("files", &pdf), ("images", &inline), ("image_urls", &far)] {
        let lost = vec!["/messages/0/content/1".to_owned()];
        assert_eq!(
            sent(json!({"lacks": [lack]}), part),
            (Value::Null, lost),
            "{lack}"
        );
    }
    let sound = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "Hear"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    ]}]});
    let heard = |quirks: Value| {
        let (body, losses) = said(Format::OpenaiChat, Format::OpenaiChat, quirks, &sound);
        (
            body["messages"][0]["content"][1]["input_audio"].clone(),
            losses.len(),
        )
    };
    assert_eq!(
        heard(json!({})),
        (json!({"data": "UklGRg==", "format": "wav"}), 0)
    );
    assert_eq!(heard(json!({"bare_audio": true})), (json!("UklGRg=="), 0));
    assert_eq!(heard(json!({"lacks": ["audio"]})), (Value::Null, 1));
}

#[test]
fn a_schema_is_told_in_words_where_only_json_is_promised() {
    let request = json!({"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}});
    let shaped = |quirks: Value| said(Format::OpenaiChat, Format::OpenaiChat, quirks, &request);
    let (body, losses) = shaped(json!({"lacks": ["json_schema"]}));
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    let told = body["messages"][0]["content"].as_str().expect("a text");
    assert!(
        told.starts_with("Be brief.\n\n") && told.ends_with(r#"{"type":"object"}"#),
        "{told}"
    );
    assert_eq!(losses, ["/response_format"]);
    let (body, losses) = shaped(json!({}));
    assert_eq!(body["response_format"]["type"], "json_schema");
    assert_eq!(losses, NOTHING);
}

#[test]
fn members_are_renamed_refused_and_cut_short() {
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "seed": 7, "user": "u",
        "stop": ["a", "b", "c"], "stream": true, "max_tokens": 5, "top_p": 0.5,
        "tools": [{"type": "function", "function": {"name": "t", "strict": true, "parameters": {"type": "object"}}}]});
    let spoken = |quirks: Value| said(Format::OpenaiChat, Format::OpenaiChat, quirks, &request);
    let (body, losses) = spoken(json!({"renames": {"seed": "random_seed"}}));
    assert_eq!((body.get("seed"), &body["random_seed"]), (None, &json!(7)));
    assert_eq!(losses, NOTHING);
    let (body, losses) = spoken(json!({"refuses": ["user", "stream_options", "logprobs"]}));
    assert_eq!((body.get("user"), body.get("stream_options")), (None, None));
    assert_eq!(losses, ["/user"]);
    let (body, losses) = spoken(json!({"most_stops": 2}));
    assert_eq!(body["stop"], json!(["a", "b"]));
    assert_eq!(losses, ["/stop"]);
    let (body, losses) = spoken(json!({"lacks": ["strict_tools"]}));
    assert_eq!(body["tools"][0]["function"].get("strict"), None);
    assert_eq!(losses, ["/tools/0/function/strict"]);
    let (body, _) = spoken(json!({"max_completion_tokens": true}));
    assert_eq!(
        (body.get("max_tokens"), &body["max_completion_tokens"]),
        (None, &json!(5))
    );
    let (client, upstream) = (Format::OpenaiChat, Format::OpenaiResponses);
    let (body, losses) = said(
        client,
        upstream,
        json!({"refuses": ["top_p", "store"]}),
        &request,
    );
    assert_eq!((body.get("top_p"), body.get("store")), (None, None));
    assert!(losses.contains(&"/top_p".to_owned()) && !losses.contains(&"/store".to_owned()));
}

#[test]
fn a_model_that_thinks_takes_no_stop_sequences_wherever_it_is() {
    let request = json!({"model": "openai/gpt-5", "messages": [{"role": "user", "content": "Hi"}], "stop": ["a"]});
    let (body, losses) = said(Format::OpenaiChat, Format::OpenaiChat, json!({}), &request);
    assert_eq!(body.get("stop"), None);
    assert_eq!(losses, ["/stop"]);
}

/// An answer with this message and these counts.
fn answered(message: Value, usage: Value) -> ChatResponse {
    let choice = json!({"index": 0, "finish_reason": "stop", "message": message});
    let answer =
        json!({"id": "a", "object": "chat.completion", "choices": [choice], "usage": usage});
    let answer = egress(Format::OpenaiChat).decode_response(answer.to_string().as_bytes());
    answer.expect("an answer")
}

#[test]
fn thinking_between_tags_is_thinking() {
    let blocks = |message: Value| {
        let answer = answered(message, Value::Null);
        let said = answer.said.into_iter().map(|said| (said.block, said.text));
        said.collect::<Vec<_>>()
    };
    let text = "<think>\nHm.\n</think>\n\nYes.";
    assert_eq!(
        blocks(json!({"content": text})),
        [
            (Block::Reasoning, "Hm.".to_owned()),
            (Block::Text, "Yes.".to_owned())
        ]
    );
    assert_eq!(
        blocks(json!({"content": text, "reasoning_content": "Hm."})),
        [
            (Block::Reasoning, "Hm.".to_owned()),
            (Block::Text, text.to_owned())
        ],
        "whoever takes it apart has left nothing in the text"
    );
}

#[test]
fn counts_are_read_under_every_vendors_name() {
    let base = json!({"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50});
    for (member, read, reasoning) in [
        (json!({"cached_tokens": 10}), 10, 0),
        (json!({"num_cached_tokens": 10}), 10, 0),
        (json!({"prompt_cache_hit_tokens": 10}), 10, 0),
        (
            json!({"prompt_tokens_details": {"cached_tokens": 10}, "cached_tokens": 3}),
            10,
            0,
        ),
        (json!({"reasoning_tokens": 8}), 0, 8),
    ] {
        let mut counts = base.clone();
        for (name, value) in member.as_object().expect("members") {
            counts[name] = value.clone();
        }
        let usage = answered(json!({"content": "Yes."}), counts).usage;
        let usage = usage.expect("counts");
        let told = (usage.input, usage.output, usage.cache_read, usage.reasoning);
        assert_eq!(told, (20, 30, read, reasoning), "{member}");
    }
}
