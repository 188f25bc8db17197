//! Fallbacks by cause, further models that a request names itself, and calls that go round in a circle of gateways.

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, chat, mock};

const CLIENTS: [&str; 4] = ["chat", "responses", "messages", "gemini"];

/// A question in each client's format: (path, body).
fn question(client: &str, model: &str) -> (String, Value) {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    match client {
        "chat" => (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "messages": messages}),
        ),
        "responses" => (
            "/v1/responses".to_owned(),
            json!({"model": model, "input": "Hi"}),
        ),
        "messages" => (
            "/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": 9, "messages": messages}),
        ),
        _ => (
            format!("/v1beta/models/{model}:generateContent"),
            json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
        ),
    }
}

async fn ask(gate: &Gate, client: &str, model: &str) -> Reply {
    let (path, body) = question(client, model);
    gate.post(&path, &body).await
}

fn fails(mock: &Mock, model: &str, status: u16, error: &str) {
    mock.script(Rule {
        model: Some(model.to_owned()),
        then: Behaviour {
            status: Some(status),
            error: Some(error.to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
}

/// `smart` has a fallback a cause, `plain` one for any failure; both are `big` upstream, of which each has a provider of its own.
fn config(mock: &Mock, kind: &str) -> String {
    let url = mock.url();
    format!(
        "
providers:
  - {{name: p, type: {kind}, api_base: '{url}', api_key: k, model_mapping: [x]}}
  - {{name: q, type: mock, api_base: '{url}', api_key: q, model_mapping: [x]}}
models:
  smart:
    targets: [{{provider: p, model: big}}]
    fallbacks: {{quota: [spare], any: [other], context_length: [long], content_policy: [loose]}}
  plain: {{targets: [{{provider: p, model: big}}], fallbacks: [other]}}
  spare: {{targets: [{{provider: q, model: spare}}]}}
  other: {{targets: [{{provider: q, model: other}}]}}
  long: {{targets: [{{provider: q, model: long}}], fallbacks: {{content_policy: [loose]}}}}
  loose: {{targets: [{{provider: q, model: loose}}]}}
health_check: {{enabled: false}}"
    )
}

const TOO_LONG: &str = "This model's maximum context length is 8192 tokens";
const REFUSED: &str =
    "The response was filtered due to the prompt triggering the content management policy";

#[tokio::test]
async fn each_cause_has_its_own_fallbacks_in_every_clients_format() {
    for client in CLIENTS {
        for (status, error, answers) in [
            (400, TOO_LONG, "long"),
            (413, TOO_LONG, "long"),
            (400, REFUSED, "loose"),
            (429, "slow down", "spare"),
            (402, "no money", "spare"),
            (503, "down", "other"),
        ] {
            let mock = mock("p").await;
            fails(&mock, "big", status, error);
            // The provider speaks one format: three clients of four are translated.
            let gate = Gate::start(&config(&mock, "openai"));
            let reply = ask(&gate, client, "smart").await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("x-polygate-model")),
                (200, answers),
                "{client} {status} {error}: {}",
                reply.text()
            );
        }
    }
}

#[tokio::test]
async fn what_no_fallback_is_meant_for_is_final() {
    for client in CLIENTS {
        let mock = mock("p").await;
        let gate = Gate::start(&config(&mock, "mock"));
        fails(&mock, "big", 400, TOO_LONG);
        let reply = ask(&gate, client, "plain").await;
        assert_eq!(reply.status, 400, "{client}");
        assert!(reply.text().contains(TOO_LONG), "{}", reply.text());
        assert_eq!(calls(&mock).len(), 1, "{client}: nobody else was asked");
    }
}

#[tokio::test]
async fn a_fallback_for_a_cause_may_have_one_for_another() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "mock"));
    fails(&mock, "big", 400, TOO_LONG);
    fails(&mock, "long", 400, REFUSED);
    let reply = ask(&gate, "chat", "smart").await;
    assert_eq!(reply.header("x-polygate-model"), "loose");
    fails(&mock, "loose", 400, "the last word");
    let reply = ask(&gate, "chat", "smart").await;
    assert!(reply.text().contains("the last word"), "{}", reply.text());
}

#[tokio::test]
async fn after_a_spent_quota_its_fallbacks_come_before_those_of_any_failure() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "mock"));
    fails(&mock, "big", 429, "slow down");
    fails(&mock, "spare", 503, "down");
    let reply = ask(&gate, "chat", "smart").await;
    assert_eq!(reply.header("x-polygate-model"), "other");
    let order: Vec<String> = calls(&mock).into_iter().map(|call| call.model).collect();
    assert_eq!(order, ["big", "spare", "other"]);
}

#[tokio::test]
async fn a_prompt_that_is_not_let_through_goes_on_where_a_fallback_is_meant_for_it() {
    let mock = mock("p").await;
    let said = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
    for (path, body, content_type) in [
        (":generateContent", said.to_owned(), "application/json"),
        (
            ":streamGenerateContent",
            format!("data: {said}\r\n\r\n"),
            "text/event-stream",
        ),
    ] {
        mock.script(Rule {
            model: Some("big".to_owned()),
            path: Some(path.to_owned()),
            then: Behaviour {
                body: Some(body),
                content_type: Some(content_type.to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
    }
    let gate = Gate::start(&config(&mock, "gemini"));
    for client in CLIENTS {
        for (model, answers) in [("smart", "loose"), ("plain", "big")] {
            let (path, mut body) = question(client, model);
            let reply = gate.post(&path, &body).await;
            let told = (reply.status.as_u16(), reply.header("x-polygate-model"));
            assert_eq!(told, (200, answers), "{client}: {}", reply.text());
            let path = path.replace(":generateContent", ":streamGenerateContent?alt=sse");
            if client != "gemini" {
                body["stream"] = json!(true);
            }
            let reply = gate.post(&path, &body).await;
            let told = (reply.status.as_u16(), reply.header("x-polygate-model"));
            assert_eq!(told, (200, answers), "{path}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn fallbacks_may_lead_back_and_a_call_goes_through_each_model_once() {
    let (first, second) = (mock("p").await, mock("p").await);
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: k}}
  - {{name: second, type: mock, api_base: '{}', api_key: k}}
models:
  a: {{targets: [{{provider: first, model: a}}], fallbacks: [b]}}
  b: {{targets: [{{provider: second, model: b}}], fallbacks: {{any: [a], context_length: [a]}}}}
retry: {{max_retries: 1, cooldown_error: 0s, breaker_threshold: 100}}
health_check: {{enabled: false}}",
        first.url(),
        second.url()
    ));
    fails(&first, "a", 500, "down");
    let reply = ask(&gate, "chat", "a").await;
    let told = (reply.status.as_u16(), reply.header("x-polygate-model"));
    assert_eq!(told, (200, "b"), "{}", reply.text());
    let reply = ask(&gate, "chat", "b").await;
    assert_eq!(reply.header("x-polygate-model"), "b");
    fails(&second, "b", 500, "down");
    for model in ["a", "b"] {
        let before = (calls(&first).len(), calls(&second).len());
        let reply = ask(&gate, "chat", model).await;
        assert!(reply.status.is_server_error(), "{}", reply.text());
        let after = (calls(&first).len(), calls(&second).len());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{model}");
    }
}

fn two(first: &Mock, second: &Mock, kind: &str) -> Gate {
    Gate::start(&format!(
        "
providers:
  - {{name: first, type: {kind}, api_base: '{}', api_key: k, model_mapping: [one]}}
  - {{name: second, type: mock, api_base: '{}', api_key: k, model_mapping: [two, three]}}
master_keys: [{{name: all, key: sk-all}}, {{name: some, key: sk-some, allowed_models: [one, two]}}]
health_check: {{enabled: false}}",
        first.url(),
        second.url()
    ))
}

async fn ask_as(gate: &Gate, key: &str, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

#[tokio::test]
async fn a_request_may_name_further_models_and_no_upstream_sees_them() {
    for client in CLIENTS {
        for member in ["models", "fallbacks"] {
            let (first, second) = (mock("first").await, mock("second").await);
            fails(&first, "one", 503, "down");
            fails(&second, "three", 503, "down");
            let gate = two(&first, &second, "openai");
            let (path, mut body) = question(client, "one");
            body[member] = json!(["one", "three", "two"]);
            let reply = ask_as(&gate, "sk-all", &path, &body).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("x-polygate-model")),
                (200, "two"),
                "{client}: {}",
                reply.text()
            );
            assert_eq!(reply.header("x-polygate-dropped"), "", "{client}");
            let seen = [calls(&first), calls(&second)].concat();
            assert_eq!(seen.len(), 3, "each was asked once");
            for call in seen {
                let body = call.body.unwrap_or_default();
                assert!(!String::from_utf8_lossy(&body).contains(member), "{body:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_list_of_models_is_enough_and_its_first_is_the_model() {
    for client in ["chat", "responses", "messages"] {
        let (path, mut body) = question(client, "one");
        body.as_object_mut().expect("an object").remove("model");
        let (first, second) = (mock("first").await, mock("second").await);
        fails(&first, "one", 503, "down");
        let gate = two(&first, &second, "openai");
        body["models"] = json!(["one", "three", "two"]);
        fails(&second, "three", 503, "down");
        let reply = ask_as(&gate, "sk-all", &path, &body).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-polygate-model")),
            (200, "two"),
            "{client}: {}",
            reply.text()
        );
        assert_eq!((calls(&first).len(), calls(&second).len()), (1, 2));
        for list in [json!([]), json!([""]), json!("one"), json!([1])] {
            body["models"] = list;
            let reply = ask_as(&gate, "sk-all", &path, &body).await;
            assert_eq!(reply.status, 400, "{client}: {}", reply.text());
        }
        body["models"] = json!(["three"]);
        let reply = ask_as(&gate, "sk-some", &path, &body).await;
        assert_eq!(reply.status, 403, "{client}: {}", reply.text());
    }
}

#[tokio::test]
async fn further_models_help_where_the_conversation_is_too_long() {
    let (first, second) = (mock("first").await, mock("second").await);
    fails(&first, "one", 400, TOO_LONG);
    let gate = two(&first, &second, "mock");
    let mut body = chat("one", false);
    body["models"] = json!(["two"]);
    let reply = ask_as(&gate, "sk-all", "/v1/chat/completions", &body).await;
    assert_eq!(reply.header("x-polygate-model"), "two", "{}", reply.text());
}

#[tokio::test]
async fn further_models_have_to_be_there_and_allowed() {
    let (first, second) = (mock("first").await, mock("second").await);
    let gate = two(&first, &second, "mock");
    let chat_path = "/v1/chat/completions";
    let mut body = chat("one", false);
    body["models"] = json!(["two", "nine", "ten"]);
    let reply = ask_as(&gate, "sk-all", chat_path, &body).await;
    assert_eq!(reply.status, 400);
    let said = reply.text();
    assert!(
        said.contains("'nine', 'ten'") && !said.contains("'two'"),
        "{said}"
    );
    body["models"] = json!(["two", "three"]);
    assert_eq!(ask_as(&gate, "sk-some", chat_path, &body).await.status, 403);
    body["models"] = json!(vec!["two"; 17]);
    assert_eq!(ask_as(&gate, "sk-all", chat_path, &body).await.status, 400);
    assert!(calls(&first).is_empty(), "nobody was asked");
}

#[tokio::test]
async fn who_tries_further_models_itself_is_told_of_them() {
    let (first, second) = (mock("first").await, mock("second").await);
    let gate = two(&first, &second, "openrouter");
    let mut body = chat("one", false);
    body["models"] = json!(["maker/unknown-here"]);
    body["fallbacks"] = json!(["two"]);
    let reply = ask_as(&gate, "sk-all", "/v1/chat/completions", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = calls(&first)[0].body.clone().unwrap_or_default();
    let sent: Value = serde_json::from_slice(&sent).expect("JSON");
    assert_eq!(sent["models"], json!(["maker/unknown-here"]));
    assert!(sent.get("fallbacks").is_none());
}

#[tokio::test]
async fn gateways_in_a_row_are_counted_and_too_many_are_refused() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "mock"));
    for client in CLIENTS {
        let (path, body) = question(client, "plain");
        let hops = async |hops: &str| {
            let headers = [
                ("content-type", "application/json"),
                ("x-polygate-hops", hops),
            ];
            gate.ask(Method::POST, &path, &headers, body.to_string())
                .await
        };
        assert_eq!(hops("7").await.status, 200, "{client}");
        let refused = hops("8").await;
        assert_eq!(refused.status, 508, "{client}");
        let error = refused.json();
        // As each client knows its errors.
        assert_eq!(error["type"] == "error", client == "messages", "{error}");
        assert_eq!(error["error"]["code"] == 508, client == "gemini", "{error}");
    }
    let told: Vec<String> = calls(&mock)
        .into_iter()
        .flat_map(|call| call.headers)
        .filter(|(name, _)| name == "x-polygate-hops")
        .map(|(_, hops)| hops)
        .collect();
    assert_eq!(told, ["8"; 4]);
    ask(&gate, "chat", "plain").await;
    let last = calls(&mock).pop().expect("a call");
    assert!(
        last.headers
            .contains(&("x-polygate-hops".to_owned(), "1".to_owned()))
    );
}

#[tokio::test]
async fn a_gateway_that_is_its_own_provider_says_so_at_once() {
    let gate = Gate::start(
        "health_check: {enabled: false}\nproviders: [{name: p, type: mock, api_base: 'http://127.0.0.1:9', api_key: k, model_mapping: [m]}]\n",
    );
    let to_itself = format!(
        "health_check: {{enabled: false}}\nproviders: [{{name: me, type: mock, api_base: '{}', api_key: k, model_mapping: [circle]}}]\n",
        gate.url
    );
    std::fs::write(gate.config_path(), to_itself).expect("written");
    let mut reply = ask(&gate, "chat", "circle").await;
    // Until the file is read again nobody has the model.
    for _ in 0..500 {
        if reply.status != 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        reply = ask(&gate, "chat", "circle").await;
    }
    assert_eq!(reply.status, 508, "{}", reply.text());
    assert!(reply.text().contains("lead"), "{}", reply.text());
}
