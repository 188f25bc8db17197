//! Native and translated calls through real sockets: what goes up, what comes down, what is named as lost.

use http::Method;
use polygate_mock_provider::Endpoint;
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, mock};

fn config(kind: &str, url: &str) -> String {
    format!(
        "providers: [{{name: p, type: {kind}, api_base: '{url}', api_key: k, model_mapping: {{m: upstream-m}}}}]\nhealth_check: {{enabled: false}}"
    )
}

fn with_tools(text: &str, stream: bool) -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}});
    json!({
        "model": "m",
        "stream": stream,
        "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null },
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "tools": [tool("get_weather"), tool("get_time")],
        "max_tokens": 200,
        "seed": 7,
    })
}

/// What a chat stream adds up to: content, calls as (name, arguments), finish reason, usage.
fn added_up(reply: &Reply) -> (String, Vec<(String, String)>, String, Value) {
    let (mut content, mut calls, mut finish, mut usage) = (
        String::new(),
        Vec::<(String, String)>::new(),
        String::new(),
        Value::Null,
    );
    for event in reply.events().iter().filter(|event| *event != "[DONE]") {
        let chunk: Value = serde_json::from_str(event).expect("a chunk");
        if chunk["usage"].is_object() {
            usage = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for call in choice["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = call["index"].as_u64().expect("an index") as usize;
            calls.resize(calls.len().max(index + 1), Default::default());
            calls[index]
                .0
                .push_str(call["function"]["name"].as_str().unwrap_or_default());
            calls[index]
                .1
                .push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        finish.push_str(choice["finish_reason"].as_str().unwrap_or_default());
    }
    (content, calls, finish, usage)
}

#[tokio::test]
async fn translated_chat_says_the_same_streaming_or_not() {
    for (kind, endpoint) in [
        ("anthropic", Endpoint::Messages),
        ("gemini", Endpoint::Generate),
        ("response_api", Endpoint::Responses),
    ] {
        let mock = mock("p").await;
        let gate = Gate::start(&config(kind, &mock.url()));
        for text in ["Hello there", "What is the weather, in parallel?"] {
            let whole = gate
                .post("/v1/chat/completions", &with_tools(text, false))
                .await;
            let streamed = gate
                .post("/v1/chat/completions", &with_tools(text, true))
                .await;
            assert_eq!(
                (whole.status, streamed.status),
                (http::StatusCode::OK, http::StatusCode::OK),
                "{kind} {} {}",
                whole.text(),
                streamed.text()
            );
            let (content, calls, finish, usage) = added_up(&streamed);
            let body = whole.json();
            let choice = &body["choices"][0];
            assert_eq!(
                (choice["finish_reason"].as_str(), body["model"].as_str()),
                (Some(finish.as_str()), Some("m")),
                "{kind}"
            );
            assert_eq!(body["usage"], usage, "{kind}: usage is the same");
            if calls.is_empty() {
                // The mock numbers its answers, not their texts.
                assert_eq!(choice["message"]["content"], content, "{kind}");
                assert!(content.contains("Hello there"), "{kind} {content}");
            } else {
                let told: Vec<(String, String)> = choice["message"]["tool_calls"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|call| {
                        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                        (
                            text(&call["function"]["name"]),
                            text(&call["function"]["arguments"]),
                        )
                    })
                    .collect();
                assert_eq!(told, calls, "{kind}");
                assert_eq!(calls.len(), 2, "{kind}: parallel calls");
                assert_eq!(
                    serde_json::from_str::<Value>(&calls[0].1).expect("arguments"),
                    json!({"city": "Paris"})
                );
                assert_eq!(finish, "tool_calls");
            }
            let lost = whole.header("x-polygate-dropped");
            assert_eq!(lost.contains("/seed"), kind != "gemini", "{kind}: {lost}");
        }
        let first = calls(&mock).remove(0);
        assert_eq!(
            (first.endpoint, first.model.as_str()),
            (endpoint, "upstream-m"),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn strictness_is_a_matter_of_the_model_the_key_or_the_request() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "
providers: [{{name: p, type: anthropic, api_base: '{}', api_key: k, model_mapping: [m]}}]
models: {{careful: {{targets: [{{provider: p, model: m}}], strict: true}}}}
master_keys: [{{key: easy-key, name: easy}}, {{key: strict-key, name: strict, strict: true}}]
health_check: {{enabled: false}}
",
        mock.url()
    ));
    let ask = async |model: &str, key: &str, header: &str, seed: Value| {
        let body = json!({"model": model, "seed": seed, "messages": [{"role": "user", "content": "Hello"}]});
        let key = format!("Bearer {key}");
        let headers = [
            ("authorization", key.as_str()),
            ("x-polygate-strict", header),
        ];
        let path = "/v1/chat/completions";
        gate.ask(Method::POST, path, &headers, body.to_string())
            .await
    };
    let reply = ask("m", "easy-key", "false", json!(7)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-polygate-dropped")),
        (200, "/seed")
    );
    for (model, key, header) in [
        ("careful", "easy-key", "false"),
        ("m", "strict-key", "false"),
        ("m", "easy-key", "true"),
    ] {
        let reply = ask(model, key, header, json!(7)).await;
        let text = reply.text();
        assert_eq!(reply.status, 400, "{model} {key} {header}: {text}");
        assert!(text.contains("/seed"), "the loss is named: {text}");
        // What loses nothing passes.
        let reply = ask(model, key, header, Value::Null).await;
        assert_eq!(
            reply.status,
            200,
            "{model} {key} {header}: {}",
            reply.text()
        );
    }
    assert_eq!(calls(&mock).len(), 4, "what is refused asks nobody");
}

#[tokio::test]
async fn a_tool_result_finds_its_way() {
    for kind in ["anthropic", "gemini", "response_api", "openai"] {
        let mock = mock("p").await;
        let gate = Gate::start(&config(kind, &mock.url()));
        let mut body = with_tools("What is the weather?", false);
        let reply = gate.post("/v1/chat/completions", &body).await.json();
        let message = reply["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        let messages = body["messages"].as_array_mut().expect("messages");
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "21 degrees"}));
        let reply = gate.post("/v1/chat/completions", &body).await;
        let text = reply.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(text.contains("21 degrees"), "{kind}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_native_lane_changes_nothing_but_the_model() {
    let mock = mock("p").await;
    let gate = Gate::start(&config("mock", &mock.url()));
    let cases = [
        (
            "/v1/chat/completions",
            r#"{ "messages":[{"role":"user","content":"a\u00e9\ud83d\ude00"}],  "model" : "m", "x":1e5, "big":12345678901234567890123 }"#,
        ),
        (
            "/v1/messages",
            r#"{"max_tokens":5,"model":"m","messages":[{"role":"user","content":"x"}],"metadata":{"z":1,"a":2}}"#,
        ),
        (
            "/v1/responses",
            r#"{"input":"x", "model":"m" , "metadata":{}}"#,
        ),
        ("/v1/completions", r#"{"prompt":"x","model":"m"}"#),
        (
            "/v1/embeddings",
            r#"{"input":["x","y"],"model":"m","encoding_format":null}"#,
        ),
    ];
    for (path, body) in cases {
        let reply = gate
            .ask(
                Method::POST,
                path,
                &[
                    ("content-type", "application/json"),
                    ("anthropic-beta", "b1"),
                    ("anthropic-version", "2023-06-01"),
                ],
                body,
            )
            .await;
        assert_eq!(reply.status, 200, "{path}");
        let sent = calls(&mock)
            .pop()
            .and_then(|call| call.body)
            .expect("a body");
        assert_eq!(
            String::from_utf8_lossy(&sent),
            body.replace("\"m\"", "\"upstream-m\""),
            "{path}"
        );
    }
}

#[tokio::test]
async fn usage_is_asked_for_and_taken_out_again_where_nobody_wanted_it() {
    let mock = mock("p").await;
    let gate = Gate::start(&config("openai", &mock.url()));
    let quiet = gate
        .post(
            "/v1/chat/completions",
            &json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}),
        )
        .await;
    assert!(!quiet.text().contains("prompt_tokens"), "{}", quiet.text());
    let asked = gate
        .post("/v1/chat/completions", &with_tools("Hi", true))
        .await;
    assert!(asked.text().contains("prompt_tokens"), "{}", asked.text());
    let sent = calls(&mock);
    assert!(sent.iter().all(|call| {
        String::from_utf8_lossy(call.body.as_ref().expect("a body"))
            .contains("\"include_usage\":true")
    }));
    let metrics = gate.get("/metrics").await.text();
    let tokens = metrics
        .lines()
        .find(|line| line.starts_with("llm_proxy_tokens_total") && line.contains("total_tokens"))
        .expect("tokens are counted");
    let served: u64 = sent
        .iter()
        .map(|call| call.input_tokens + call.output_tokens)
        .sum();
    assert!(
        tokens.ends_with(&format!(" {served}")),
        "{tokens} but the provider served {served}"
    );
}

#[tokio::test]
async fn azure_gets_its_own_paths_and_key() {
    let mock = mock("p").await;
    let gate = Gate::start(&config("azure", &mock.url()));
    let ask = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(gate.post("/v1/chat/completions", &ask).await.status, 200);
    assert_eq!(
        gate.post("/v1/embeddings", &json!({"model": "m", "input": "x"}))
            .await
            .status,
        200
    );
    let sent = calls(&mock);
    assert_eq!(
        sent[0].path,
        "/openai/deployments/upstream-m/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(
        sent[1].path,
        "/openai/deployments/upstream-m/embeddings?api-version=2024-10-21"
    );
    assert!(
        sent[0]
            .headers
            .contains(&("api-key".to_owned(), "k".to_owned()))
    );
}

#[tokio::test]
async fn what_a_provider_does_not_speak_is_said_so() {
    let mock = mock("p").await;
    let gate = Gate::start(&config("anthropic", &mock.url()));
    let reply = gate
        .post("/v1/embeddings", &json!({"model": "m", "input": "x"}))
        .await;
    assert_eq!(
        (
            reply.status.as_u16(),
            reply.json()["error"]["code"].as_str()
        ),
        (400, Some("untranslatable")),
        "{}",
        reply.text()
    );
    let lists = [
        ("", "\"object\":\"list\""),
        ("anthropic-version", "\"has_more\":false"),
        ("x-goog-api-key", "\"models\":["),
    ];
    for (header, sign) in lists {
        let headers: Vec<(&str, &str)> = if header.is_empty() {
            vec![]
        } else {
            vec![(header, "x")]
        };
        let list = gate
            .ask(Method::GET, "/v1/models", &headers, "")
            .await
            .text();
        assert!(
            list.contains(sign) && list.contains('m'),
            "{header}: {list}"
        );
    }
    assert_eq!(gate.get("/v1/models/m").await.json()["id"], "m");
    assert_eq!(gate.get("/v1/models/none").await.status, 404);
    assert_eq!(
        gate.get("/v1beta/models/m").await.json()["name"],
        "models/m"
    );
}

#[tokio::test]
async fn google_streams_without_events_are_an_array_that_ends_or_says_why_not() {
    use polygate_mock_provider::{Behaviour, Fault, Rule};
    let mock = mock("p").await;
    let gate = Gate::start(&config("gemini", &mock.url()));
    let ask = json!({"contents": [{"parts": [{"text": "Hello there"}]}]});
    let array = |events: &str| {
        let chunks: Vec<String> = events
            .split("data: ")
            .map(|chunk| chunk.trim().to_owned())
            .filter(|chunk| !chunk.is_empty())
            .collect();
        format!("[{}]", chunks.join(",\r\n"))
    };
    let events = gate
        .post("/v1beta/models/m:streamGenerateContent?alt=sse", &ask)
        .await;
    let body = array(&events.text());
    let script = |body: &str, fault: Option<Fault>| {
        mock.clear();
        let then = Behaviour {
            body: Some(body.to_owned()),
            content_type: Some("application/json".to_owned()),
            fault,
            ..Behaviour::default()
        };
        mock.script(Rule {
            then,
            ..Rule::default()
        });
    };
    script(&body, None);
    let whole = gate
        .post("/v1beta/models/m:streamGenerateContent", &ask)
        .await;
    assert_eq!(
        (whole.header("content-type"), whole.text()),
        ("application/json", body.clone()),
        "byte for byte"
    );
    assert_eq!(
        calls(&mock).pop().map(|call| call.path),
        Some("/v1beta/models/upstream-m:streamGenerateContent".to_owned())
    );
    script(&body, Some(Fault::CutAfter(1)));
    let cut = gate
        .post("/v1beta/models/m:streamGenerateContent", &ask)
        .await;
    let told = cut.json();
    let last = told
        .as_array()
        .and_then(|all| all.last())
        .cloned()
        .unwrap_or_default();
    assert_eq!(
        last["error"]["details"][0]["metadata"]["origin"],
        "provider",
        "{}",
        cut.text()
    );
}

#[tokio::test]
async fn silence_is_filled_with_comments_between_events() {
    use polygate_mock_provider::{Behaviour, Rule};
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            token_ms: 250,
            tokens: Some(4),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let config = |kind: &str| {
        format!(
            "{}\ntimeouts: {{keepalive: 50ms}}",
            config(kind, &mock.url())
        )
    };
    for kind in ["openai", "anthropic"] {
        let gate = Gate::start(&config(kind));
        let reply = gate
            .post("/v1/chat/completions", &with_tools("Hello there", true))
            .await;
        let text = reply.text();
        assert!(text.matches(": keepalive\n\n").count() >= 4, "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"));
        let frames: Vec<&str> = text
            .split("\n\n")
            .filter(|frame| !frame.is_empty())
            .collect();
        assert!(
            frames
                .iter()
                .all(|frame| *frame == ": keepalive" || frame.starts_with("data: ")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_answer_too_long_to_hold_passes_whole() {
    use polygate_mock_provider::{Behaviour, Rule};
    let mock = mock("p").await;
    let text = format!(
        "{{\"object\":\"list\",\"data\":\"{}\"}}",
        "x".repeat(20_000_000)
    );
    mock.script(Rule {
        then: Behaviour {
            body: Some(text.clone()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config("openai", &mock.url()));
    let reply = gate
        .post("/v1/embeddings", &json!({"model": "m", "input": "x"}))
        .await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, text.len()));
}

#[tokio::test]
async fn google_is_told_one_model_wherever_it_is_named() {
    let mock = mock("p").await;
    let gate = Gate::start(&config("gemini", &mock.url()));
    let cases = [
        (
            "embedContent",
            r#"{"model":"models/m","content":{"parts":[]}}"#,
        ),
        (
            "batchEmbedContents",
            r#"{"requests":[{"model":"models/m", "content":{}},{"content":{}}]}"#,
        ),
        (
            "countTokens",
            r#"{"generateContentRequest":{"model":"models/m","contents":[]}}"#,
        ),
        ("countTokens", r#"{"contents":[ ]}"#),
    ];
    for (method, body) in cases {
        let reply = gate
            .ask(
                Method::POST,
                &format!("/v1beta/models/m:{method}"),
                &[],
                body,
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let sent = calls(&mock).pop().expect("a call");
        assert_eq!(sent.path, format!("/v1beta/models/upstream-m:{method}"));
        let expected = body.replace("models/m", "models/upstream-m");
        assert_eq!(
            String::from_utf8_lossy(&sent.body.expect("a body")),
            expected
        );
    }
}
