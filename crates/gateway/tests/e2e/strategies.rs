//! Strategies, tiers and affinity: who of several is asked.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, chat, mock};

fn config(routing: &str, providers: &[(&str, &Mock, &str)]) -> String {
    let providers: String = providers
        .iter()
        .map(|(name, mock, rest)| {
            format!(
                "  - {{name: {name}, type: mock, api_base: '{}', api_key: k, {rest}}}\n",
                mock.url()
            )
        })
        .collect();
    format!("routing: {{{routing}}}\nhealth_check: {{enabled: false}}\nproviders:\n{providers}")
}

async fn asked(gate: &Gate, model: &str, times: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..times {
        let reply = gate.post("/v1/chat/completions", &chat(model, false)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        seen.push(reply.header("x-polygate-provider").to_owned());
    }
    seen
}

fn count(seen: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for one in seen {
        *counts.entry(one.as_str()).or_default() += 1;
    }
    counts
}

fn then(then: Behaviour) -> Rule {
    Rule {
        then,
        ..Rule::default()
    }
}

fn broken() -> Rule {
    then(Behaviour {
        status: Some(503),
        ..Behaviour::default()
    })
}

fn slow(latency_ms: u64) -> Rule {
    then(Behaviour {
        latency_ms,
        ..Behaviour::default()
    })
}

#[tokio::test]
async fn turns_chance_and_order_each_have_their_shares() {
    let mock = mock("p").await;
    let providers = [
        ("a", &mock, "weight: 3, model_mapping: [m]"),
        ("b", &mock, "weight: 1, model_mapping: [m]"),
    ];
    let shares = async |strategy: &str, times| {
        let gate = Gate::start(&config(&format!("strategy: {strategy}"), &providers));
        let seen = asked(&gate, "m", times).await;
        let counts = count(&seen);
        ["a", "b"].map(|name| counts.get(name).copied().unwrap_or_default())
    };
    assert_eq!(shares("round_robin", 8).await, [4, 4]);
    assert_eq!(shares("fill-first", 4).await, [4, 0]);
    assert_eq!(shares("priority", 4).await, [4, 0]);
    let [a, b] = shares("random", 80).await;
    assert!(
        (40..80).contains(&a) && b > 0,
        "60 and 20 are expected, five deviations are allowed: {a} and {b}"
    );
}

#[tokio::test]
async fn the_least_busy_is_asked_while_answers_run() {
    let mock = mock("p").await;
    mock.script(Rule {
        model: Some("long".to_owned()),
        then: Behaviour {
            token_ms: 50,
            tokens: Some(10_000),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(
        "strategy: least-busy",
        &[
            ("a", &mock, "model_mapping: [long, m]"),
            ("b", &mock, "model_mapping: [m]"),
        ],
    ));
    let long = async || {
        let json = [("content-type", "application/json")];
        let body = chat("long", true).to_string();
        gate.send(Method::POST, "/v1/chat/completions", &json, body)
            .await
    };
    let running = long().await;
    assert_eq!(asked(&gate, "m", 4).await, ["b"; 4]);
    drop(running);
    // When the gateway sees that the client has gone is its own business; then they take turns again.
    for _ in 0..500 {
        if asked(&gate, "m", 2).await.contains(&"a".to_owned()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a call that ended still counts");
}

#[tokio::test]
async fn the_quicker_one_is_asked_once_both_are_known() {
    let (a, b) = (mock("a").await, mock("b").await);
    a.script(slow(600));
    let providers = [
        ("a", &a, "model_mapping: [m]"),
        ("b", &b, "model_mapping: [m]"),
    ];
    let gate = Gate::start(&config("strategy: latency", &providers));
    let seen = asked(&gate, "m", 6).await;
    assert_eq!(count(&seen), BTreeMap::from([("a", 1), ("b", 5)]));
    assert!(seen[..2].contains(&"a".to_owned()), "each gets a try first");
}

#[tokio::test]
async fn the_cheapest_is_asked_and_an_unknown_price_is_the_dearest() {
    let (a, b, c) = (mock("a").await, mock("b").await, mock("c").await);
    let priced = |input: u32| {
        format!("model_mapping: {{m: {{mapped_model: x, price: {{input: {input}, output: 10}}}}}}")
    };
    let (dear, cheap) = (priced(3), priced(1));
    let providers = [
        ("unknown", &c, "model_mapping: {m: x}"),
        ("dear", &a, dear.as_str()),
        ("cheap", &b, cheap.as_str()),
    ];
    let gate = Gate::start(&config("strategy: cheapest", &providers));
    assert_eq!(asked(&gate, "m", 3).await, ["cheap"; 3]);
    b.script(broken());
    assert_eq!(asked(&gate, "m", 1).await, ["dear"]);
    a.script(broken());
    assert_eq!(asked(&gate, "m", 1).await, ["unknown"]);
}

#[tokio::test]
async fn list_prices_are_known() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "
providers: [{{name: o, type: openai, api_base: '{}', api_key: k}}]
models:
  any: {{strategy: cost, targets: [{{provider: o, model: gpt-4o}}, {{provider: o, model: gpt-4o-mini}}]}}
  sale: {{strategy: cost, targets: [{{provider: o, model: gpt-4o, price: {{input: 0, output: 0.1}}}}, {{provider: o, model: gpt-4o-mini}}]}}
health_check: {{enabled: false}}",
        mock.url()
    ));
    for (model, chosen) in [("any", "gpt-4o-mini"), ("sale", "gpt-4o")] {
        for _ in 0..3 {
            let reply = gate.post("/v1/chat/completions", &chat(model, false)).await;
            assert_eq!(reply.header("x-polygate-model"), chosen);
        }
    }
}

#[tokio::test]
async fn tiers_are_asked_in_order_whatever_the_strategy() {
    let (first, spare) = (mock("first").await, mock("spare").await);
    for strategy in ["weighted", "round-robin", "random", "least-busy", "latency"] {
        first.clear();
        let gate = Gate::start(&config(
            &format!("strategy: {strategy}"),
            &[
                ("spare", &spare, "priority: 1, model_mapping: [m]"),
                ("first", &first, "model_mapping: [m]"),
                ("second", &first, "priority: 0, model_mapping: [m]"),
            ],
        ));
        assert!(
            !asked(&gate, "m", 6).await.contains(&"spare".to_owned()),
            "{strategy}"
        );
        first.script(broken());
        assert_eq!(asked(&gate, "m", 1).await, ["spare"], "{strategy}");
    }
}

/// Each with its own way to name a session: (path, headers, body).
fn in_session(client: &str, session: &str) -> (&'static str, Vec<(String, String)>, Value) {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let (path, body) = match client {
        "header" => {
            headers.push(("x-session-id".to_owned(), session.to_owned()));
            let body = json!({"model": "m", "messages": messages});
            ("/v1/chat/completions", body)
        }
        "chat" => (
            "/v1/chat/completions",
            json!({"model": "m", "messages": messages, "user": session}),
        ),
        "messages" => (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": messages, "metadata": {"user_id": session}}),
        ),
        "responses" => (
            "/v1/responses",
            json!({"model": "m", "input": "Hi", "prompt_cache_key": session}),
        ),
        _ => (
            "/v1beta/models/m:generateContent",
            json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "cachedContent": session}),
        ),
    };
    (path, headers, body)
}

async fn ask_in(gate: &Gate, client: &str, session: &str) -> Reply {
    let (path, headers, body) = in_session(client, session);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let reply = gate
        .ask(Method::POST, path, &headers, body.to_string())
        .await;
    assert_eq!(reply.status, 200, "{client}: {}", reply.text());
    reply
}

/// Three providers of one mock that is slow enough for the machine's own moods to be noise.
async fn three(affinity: &str) -> (Gate, Vec<Mock>) {
    let mocks = vec![mock("a").await, mock("b").await, mock("c").await];
    for mock in &mocks {
        mock.script(slow(150));
    }
    let serves = "model_mapping: [m]";
    let gate = Gate::start(&config(
        &format!("affinity: {affinity}"),
        &[
            ("a", &mocks[0], serves),
            ("b", &mocks[1], serves),
            ("c", &mocks[2], serves),
        ],
    ));
    (gate, mocks)
}

#[tokio::test]
async fn a_session_stays_where_it_is_in_every_clients_words() {
    let (gate, _mocks) = three("session").await;
    for client in ["header", "chat", "messages", "responses", "gemini"] {
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let reply = ask_in(&gate, client, "cachedContents/1").await;
            seen.insert(reply.header("x-polygate-provider").to_owned());
        }
        assert_eq!(seen.len(), 1, "{client}: {seen:?}");
    }
}

#[tokio::test]
async fn only_the_sessions_of_a_broken_provider_move() {
    let (gate, mocks) = three("[session, prefix]").await;
    let sessions: Vec<String> = (0..14).map(|number| format!("s{number}")).collect();
    let places = async || {
        let mut places = Vec::new();
        for session in &sessions {
            let reply = ask_in(&gate, "header", session).await;
            places.push(reply.header("x-polygate-provider").to_owned());
        }
        places
    };
    let before = places().await;
    let broken_one = before[0].clone();
    assert!(
        count(&before).len() > 1,
        "one of two million runs has them all in one place"
    );
    let at = ["a", "b", "c"].iter().position(|name| *name == broken_one);
    let mock = &mocks[at.expect("one of three")];
    mock.clear();
    mock.script(broken());
    let after = places().await;
    for (before, after) in before.iter().zip(&after) {
        if *before == broken_one {
            assert_ne!(before, after);
        } else {
            assert_eq!(before, after);
        }
    }
}

#[tokio::test]
async fn prompts_that_begin_alike_go_to_one_place() {
    let (gate, _mocks) = three("prefix").await;
    let mut seen = BTreeSet::new();
    for turn in 0..4 {
        let mut messages = vec![json!({"role": "user", "content": "Tell me a story"})];
        for number in 0..turn {
            messages.push(json!({"role": "assistant", "content": format!("part {number}")}));
            messages.push(json!({"role": "user", "content": "Go on"}));
        }
        let body = json!({"model": "m", "messages": messages});
        let reply = gate.post("/v1/chat/completions", &body).await;
        seen.insert(reply.header("x-polygate-provider").to_owned());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}
