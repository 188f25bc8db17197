//! Models that lead to others: aliases, routes by what a call is, shares of calls, and contexts that are too small.

use std::collections::BTreeMap;

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::admin_documents::{POST, asked};
use crate::support::{Gate, Reply, calls, chat, mock};
use crate::wall::clients::{CLIENTS, Client};

/// A pixel.
const PNG: &str = "iVBORw0KGgo=";

/// A model with a route a condition, at a provider that has all the names that they lead to.
fn config(mock: &Mock, kind: &str) -> String {
    let base = match kind {
        "openai" => format!("{}/v1", mock.url()),
        _ => mock.url(),
    };
    format!(
        "
providers: [{{name: p, type: {kind}, api_base: '{base}', api_key: k, model_mapping: ['to-*']}}]
models:
  alias: smart
  smart:
    routes:
      - {{when: {{images: true}}, model: to-pictures}}
      - {{when: {{tools: true}}, model: to-tools}}
      - {{when: {{headers: {{x-tier: 'gold*'}}}}, model: to-gold}}
      - {{when: {{tokens_above: 500}}, model: to-long}}
      - {{when: {{keys: [other]}}, model: to-other}}
      - {{when: {{stream: true, formats: [gemini, anthropic-messages]}}, model: to-streams}}
      - {{percent: 0, model: to-nobody}}
      - {{model: to-rest}}
master_keys:
  - {{name: dev, key: sk-dev-0123456789, allowed_models: [alias, smart], explain: true}}
  - {{name: other, key: sk-other-0123456789}}
health_check: {{enabled: false}}"
    )
}

/// The model that it goes to, whether it streams, what is asked, and a header of it.
type Case = (
    &'static str,
    bool,
    Value,
    Option<(&'static str, &'static str)>,
);

async fn ask(
    gate: &Gate,
    client: &Client,
    stream: bool,
    body: &Value,
    more: &[(&str, &str)],
) -> Reply {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(more);
    if !more.iter().any(|(name, _)| *name == "authorization") {
        headers.push(("authorization", "Bearer sk-dev-0123456789"));
    }
    let path = (client.path)("alias", stream);
    gate.ask(Method::POST, &path, &headers, body.to_string())
        .await
}

/// The client's question with these words.
fn saying(client: &Client, stream: bool, text: &str) -> Value {
    let body = (client.ask)("alias", stream).to_string();
    serde_json::from_str(&body.replace("Hello there", text)).expect("JSON")
}

fn with_tools(client: &Client) -> Value {
    let schema = json!({"type": "object"});
    let tools = match client.name {
        "openai-chat" => {
            json!([{"type": "function", "function": {"name": "f", "parameters": schema}}])
        }
        "openai-responses" => json!([{"type": "function", "name": "f", "parameters": schema}]),
        "anthropic-messages" => json!([{"name": "f", "input_schema": schema}]),
        _ => json!([{"functionDeclarations": [{"name": "f"}]}]),
    };
    let mut body = (client.ask)("alias", false);
    body["tools"] = tools;
    body
}

fn with_a_picture(client: &Client) -> Value {
    let url = format!("data:image/png;base64,{PNG}");
    let mut body = (client.ask)("alias", false);
    match client.name {
        "openai-chat" => {
            let part = json!([{"type": "image_url", "image_url": {"url": url}}]);
            body["messages"][0]["content"] = part;
        }
        "openai-responses" => {
            let part = json!([{"type": "input_image", "image_url": url}]);
            body["input"] = json!([{"role": "user", "content": part}]);
        }
        "anthropic-messages" => {
            let source = json!({"type": "base64", "media_type": "image/png", "data": PNG});
            body["messages"][0]["content"] = json!([{"type": "image", "source": source}]);
        }
        _ => {
            let data = json!({"mimeType": "image/png", "data": PNG});
            body["contents"][0]["parts"] = json!([{"inlineData": data}]);
        }
    }
    body
}

#[tokio::test]
async fn each_condition_chooses_in_every_clients_format_and_on_both_lanes() {
    for kind in ["mock", "openai"] {
        let mock = mock("p").await;
        let gate = Gate::start(&config(&mock, kind));
        for client in &CLIENTS {
            let plain = (client.ask)("alias", false);
            let streams = ["anthropic-messages", "gemini"].contains(&client.name);
            let other = ("authorization", "Bearer sk-other-0123456789");
            let long = saying(client, false, &"many words ".repeat(300));
            let cases: [Case; 7] = [
                ("to-rest", false, plain.clone(), None),
                ("to-gold", false, plain.clone(), Some(("x-tier", "gold-2"))),
                ("to-other", false, plain, Some(other)),
                ("to-long", false, long, None),
                ("to-tools", false, with_tools(client), None),
                ("to-pictures", false, with_a_picture(client), None),
                (
                    if streams { "to-streams" } else { "to-rest" },
                    true,
                    (client.ask)("alias", true),
                    None,
                ),
            ];
            for (model, stream, body, header) in cases {
                let headers: Vec<_> = header.into_iter().collect();
                let reply = ask(&gate, client, stream, &body, &headers).await;
                let what = format!("{kind} {} {model}: {}", client.name, reply.text());
                assert_eq!(reply.status, 200, "{what}");
                assert_eq!(reply.header("x-polygate-model"), model, "{what}");
                assert_eq!(calls(&mock).last().map(|call| &*call.model), Some(model));
                assert!((client.is_complete)(&reply, stream), "{what}");
            }
        }
        assert!(calls(&mock).iter().all(|call| call.model != "to-nobody"));
    }
}

#[tokio::test]
async fn what_a_key_may_call_is_the_name_it_says_and_lists_have_it() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "mock"));
    let dev = ("authorization", "Bearer sk-dev-0123456789");
    let post = async |body: Value| {
        let headers = [dev, ("content-type", "application/json")];
        let path = "/v1/chat/completions";
        gate.ask(Method::POST, path, &headers, body.to_string())
            .await
    };
    assert_eq!(post(chat("smart", false)).await.status, 200);
    let refused = post(chat("to-rest", false)).await;
    assert_eq!(
        refused.status, 403,
        "the operator may lead there, the key may not go"
    );
    let list = gate.ask(Method::GET, "/v1/models", &[dev], "").await.json();
    let names = list["data"].as_array().expect("a list").iter();
    let names: Vec<_> = names.map(|one| (&one["id"], &one["providers"])).collect();
    let expected = (json!("alias"), json!(["p"]));
    assert!(names.contains(&(&expected.0, &expected.1)), "{list}");
    // Metrics know the name that was said, and the record the way.
    let metrics = gate.get("/metrics").await.text();
    let said = metrics
        .lines()
        .filter(|line| line.contains("llm_proxy_requests_total{"));
    let said: Vec<_> = said
        .filter(|line| line.contains("model=\"smart\""))
        .collect();
    assert!(
        !said.is_empty() && !metrics.contains("model=\"to-rest\""),
        "{said:?}"
    );
    assert!(gate.log().contains("smart#8 -> to-rest"), "{}", gate.log());
}

#[tokio::test]
async fn further_models_of_a_request_and_fallbacks_lead_on_too() {
    let mock = mock("p").await;
    mock.script(Rule {
        model: Some("to-broken".to_owned()),
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "
providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: ['to-*']}}]
models:
  broken: {{routes: [{{model: to-broken}}], fallbacks: [smart]}}
  smart: {{routes: [{{when: {{stream: true}}, model: to-streams}}], targets: [{{provider: p, model: to-own}}]}}
health_check: {{enabled: false}}",
        mock.url()
    ));
    for (stream, model) in [(false, "to-own"), (true, "to-streams")] {
        let mut body = chat("to-broken", stream);
        body["models"] = json!(["smart"]);
        for body in [body, chat("broken", stream)] {
            let reply = gate.post("/v1/chat/completions", &body).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("x-polygate-model"), model, "{body}");
        }
    }
}

#[tokio::test]
async fn limits_of_the_said_model_and_of_the_one_it_leads_to_both_hold() {
    let mock = mock("p").await;
    let of = |outer: u32, inner: u32| {
        format!(
            "
providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [x]}}]
models:
  outer: {{routes: [{{model: inner}}], limits: {{requests_per_day: {outer}}}}}
  inner: {{targets: [{{provider: p}}], limits: {{requests_per_day: {inner}}}}}
health_check: {{enabled: false}}",
            mock.url()
        )
    };
    for (outer, inner) in [(1, 5), (5, 1)] {
        let gate = Gate::start(&of(outer, inner));
        let first = gate
            .post("/v1/chat/completions", &chat("outer", false))
            .await;
        assert_eq!(first.status, 200, "{}", first.text());
        let second = gate
            .post("/v1/chat/completions", &chat("outer", false))
            .await;
        assert_eq!(second.status, 429, "{}", second.text());
        let short = if outer == 1 { "outer" } else { "inner" };
        assert!(second.text().contains(short), "{}", second.text());
    }
}

#[tokio::test]
async fn shares_are_kept_by_session_and_explanations_say_which_route() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "
providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: ['to-*']}}]
models:
  smart: {{routes: [{{when: {{tools: true}}, model: to-tools}}, {{percent: 30, model: to-candidate}}, {{model: to-usual}}]}}
health_check: {{enabled: false}}",
        mock.url()
    ));
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for session in 0..100 {
        let session = format!("s-{session}");
        let headers = [
            ("content-type", "application/json"),
            ("x-session-id", &*session),
        ];
        let mut ways = Vec::new();
        for _ in 0..2 {
            let body = chat("smart", false).to_string();
            let path = "/v1/chat/completions";
            let reply = gate.ask(Method::POST, path, &headers, body).await;
            ways.push(reply.header("x-polygate-model").to_owned());
        }
        assert_eq!(ways[0], ways[1], "a session stays");
        *shares.entry(ways.remove(0)).or_default() += 1;
    }
    // Sessions are hashed, so that these are always the same.
    assert!((15..45).contains(&shares["to-candidate"]), "{shares:?}");
    let body = chat("smart", false);
    let explained = asked(&gate, POST, "explain", json!({"body": body}), 200).await;
    let routes = explained["routes"].as_array().expect("a list");
    let words: Vec<_> = routes.iter().map(|one| one["verdict"].clone()).collect();
    assert_eq!(words[0], "condition", "{explained}");
    assert_eq!(
        (&routes[0]["when"], &routes[0]["model"]),
        (&json!("tools true"), &json!("smart"))
    );
    assert_eq!(routes[1]["percent"], "30");
    let by_chance = routes.iter().filter(|one| one["by_chance"] == true);
    assert_eq!(
        by_chance.count(),
        1,
        "no session, no certainty: {explained}"
    );
    assert!(
        [json!("taken"), json!("percent")].contains(&words[1]),
        "{explained}"
    );
}

#[tokio::test]
async fn models_whose_context_is_too_small_come_last() {
    let mock = mock("p").await;
    let of = |context_aware: bool, models: &str| {
        Gate::start(&format!(
            "
providers: [{{name: p, type: openai, api_base: '{}/v1', api_key: k, model_mapping: [x]}}]
models: {{smart: {{strategy: fill-first, targets: [{models}]}}}}
routing: {{context_aware: {context_aware}}}
health_check: {{enabled: false}}",
            mock.url()
        ))
    };
    const BOTH: &str = "{provider: p, model: gpt-4}, {provider: p, model: gpt-4o}";
    let long = "many words ".repeat(5000);
    let asking = |text: &str| {
        let body = chat("smart", false).to_string();
        serde_json::from_str::<Value>(&body.replace("Hello there", text)).expect("JSON")
    };
    let goes_to = async |gate: &Gate, body: &Value| {
        let reply = gate.post("/v1/chat/completions", body).await;
        reply.header("x-polygate-model").to_owned()
    };
    let aware = of(true, BOTH);
    assert_eq!(goes_to(&aware, &asking("Hi")).await, "gpt-4");
    assert_eq!(goes_to(&aware, &asking(&long)).await, "gpt-4o");
    let mut answer = asking("Hi");
    answer["max_tokens"] = json!(9000);
    assert_eq!(
        goes_to(&aware, &answer).await,
        "gpt-4o",
        "the answer needs room too"
    );
    let body = json!({"body": asking(&long)});
    let explained = asked(&aware, POST, "explain", body, 200).await;
    let candidates = &explained["candidates"];
    assert_eq!(candidates[0]["model"], "gpt-4o");
    let why = candidates[1]["why"].as_str().unwrap_or_default();
    assert!(why.contains("8192 tokens"), "{explained}");
    assert_eq!(goes_to(&of(false, BOTH), &asking(&long)).await, "gpt-4");
    let alone = of(true, "{provider: p, model: gpt-4}");
    assert_eq!(
        goes_to(&alone, &asking(&long)).await,
        "gpt-4",
        "never the last one"
    );
}
