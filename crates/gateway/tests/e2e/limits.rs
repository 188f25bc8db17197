//! How many calls at a time, and how long one may take.

use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};

use crate::support::{Gate, Reply, calls, chat, mock, until};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Speaks for ever.
async fn talker(name: &str) -> Mock {
    let mock = mock(name).await;
    mock.script(Rule {
        then: Behaviour {
            token_ms: 20,
            tokens: Some(100_000),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    mock
}

async fn ask(gate: &Gate, model: &str, key: &str) -> Reply {
    let (body, key) = (chat(model, false).to_string(), format!("Bearer {key}"));
    let headers = [JSON, ("authorization", key.as_str())];
    gate.ask(Method::POST, "/v1/chat/completions", &headers, body)
        .await
}

#[tokio::test]
async fn what_is_over_is_refused_at_once_and_seats_come_back() {
    let (first, next) = (talker("first").await, mock("next").await);
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: k, model_mapping: [m, capped, of-key], max_concurrent: 2}}
  - {{name: next, type: mock, api_base: '{}', api_key: k, model_mapping: [m, capped, of-key]}}
models:
  only: {{targets: [{{provider: first, model: m}}]}}
  capped: {{targets: [{{provider: first, model: m}}, {{provider: next, model: m}}], max_concurrent: 1}}
master_keys:
  - {{name: narrow, key: narrow-key, max_concurrent: 1}}
  - {{name: wide, key: wide-key}}
routing: {{strategy: fill-first}}
health_check: {{enabled: false}}
",
        first.url(),
        next.url()
    ));
    let open = async |model: &str, key: &str| {
        let (body, key) = (chat(model, true).to_string(), format!("Bearer {key}"));
        let headers = [JSON, ("authorization", key.as_str())];
        let answer = gate.send(Method::POST, "/v1/chat/completions", &headers, body);
        let answer = answer.await;
        assert_eq!(answer.status(), 200, "{model}");
        answer
    };
    let refused = async |model: &str, key: &str, status: u16, says: &str| {
        let asked = Instant::now();
        let reply = ask(&gate, model, key).await;
        // The promise is 50 ms; a loaded machine gets more.
        assert!(asked.elapsed() < Duration::from_millis(500));
        assert_eq!(reply.status, status, "{model} {}", reply.text());
        assert_eq!(reply.header("retry-after"), "1");
        assert!(reply.text().contains(says), "{}", reply.text());
    };

    let held = [
        open("capped", "wide-key").await,
        open("of-key", "narrow-key").await,
    ];
    refused("capped", "wide-key", 503, "calls of this model").await;
    refused("m", "narrow-key", 429, "key 'narrow'").await;
    refused("only", "wide-key", 503, "providers of this model").await;
    // A provider that is full is passed over where there is another.
    let reply = ask(&gate, "m", "wide-key").await;
    assert_eq!(
        reply.header("x-polygate-provider"),
        "next",
        "{}",
        reply.text()
    );

    drop(held);
    until("the first sees them go", || {
        let calls = calls(&first);
        calls
            .iter()
            .filter(|call| call.outcome == Outcome::ClientGone)
            .count()
            == 2
    })
    .await;
    first.clear();
    for (model, key) in [
        ("capped", "wide-key"),
        ("m", "narrow-key"),
        ("only", "wide-key"),
    ] {
        let reply = ask(&gate, model, key).await;
        assert_eq!(reply.status, 200, "{model} {}", reply.text());
        assert_eq!(reply.header("x-polygate-provider"), "first", "{model}");
    }
}

fn silent(fault: Fault) -> Rule {
    Rule {
        then: Behaviour {
            fault: Some(fault),
            token_ms: 50,
            tokens: Some(1000),
            ..Behaviour::default()
        },
        ..Rule::default()
    }
}

/// Everything waits for a minute, but for what the case says.
fn patient(mock: &Mock, provider: &str, model: &str) -> Gate {
    Gate::start(&format!(
        "
providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [n]{provider}}}]
models: {{m: {{targets: [{{provider: p, model: n}}]{model}}}}}
timeouts: {{first_event: 60, idle: 60, request: 60, keepalive: 0}}
retry: {{max_retries: 0}}
health_check: {{enabled: false}}
",
        mock.url()
    ))
}

#[tokio::test]
async fn times_of_providers_models_and_calls_come_before_those_of_all() {
    let mock = mock("p").await;
    let own = ", timeouts: {first_event: 200ms, request: 200ms, idle: 200ms}";
    let cases = [(own, ""), ("", own), (", timeouts: {first_event: 60}", own)];
    for (provider, model) in cases {
        let gate = patient(&mock, provider, model);
        for stream in [false, true] {
            mock.clear();
            mock.script(silent(Fault::Stall));
            let reply = gate.post("/v1/chat/completions", &chat("m", stream)).await;
            assert_eq!(reply.status, 504, "{provider}{model} {}", reply.text());
        }
        mock.clear();
        mock.script(silent(Fault::StallAfter(4)));
        let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
        assert_eq!(reply.status, 200);
        assert!(
            reply.text().contains("silent for too long"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_call_says_how_long_it_may_take() {
    let mock = mock("p").await;
    let gate = patient(&mock, "", "");
    let ask = async |stream: bool, name: &str, value: &str| {
        let body = chat("m", stream).to_string();
        gate.ask(
            Method::POST,
            "/v1/chat/completions",
            &[JSON, (name, value)],
            body,
        )
        .await
    };
    mock.script(silent(Fault::Stall));
    for (stream, name) in [
        (false, "x-polygate-timeout"),
        (true, "x-polygate-timeout"),
        (true, "x-polygate-first-event-timeout"),
    ] {
        let reply = ask(stream, name, "200ms").await;
        assert_eq!(reply.status, 504, "{name} {}", reply.text());
    }
    // It speaks all the time, and is cut off all the same.
    mock.clear();
    mock.script(silent(Fault::StallAfter(900)));
    let reply = ask(true, "x-polygate-timeout", "0.5").await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.text().contains("longer than it may take"),
        "{}",
        reply.text()
    );
    assert!(!reply.text().contains("[DONE]"));
    for value in ["0", "-1", "soon", "1e9", ""] {
        let reply = ask(false, "x-polygate-timeout", value).await;
        assert_eq!(reply.status, 400, "{value}: {}", reply.text());
        assert!(reply.text().contains("x-polygate-timeout"));
    }
    until("every call is given up upstream", || {
        calls(&mock)
            .iter()
            .all(|call| call.outcome != Outcome::Running)
    })
    .await;
}

#[tokio::test]
async fn streams_may_be_tried_less_often() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "
claude-api-key: [{{api-key: k, base-url: '{}', name: bad}}, {{api-key: k, base-url: '{}', name: good}}]
routing: {{strategy: fill-first}}
host: 127.0.0.1
port: 0
streaming: {{bootstrap-retries: 0}}
",
        bad.url(),
        good.url()
    ));
    let ask = |stream| {
        let body = serde_json::json!({"model": "claude-m", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let gate = &gate;
        async move { gate.post("/v1/messages", &body).await }
    };
    let reply = ask(true).await;
    assert_eq!(reply.status, 500, "{}", reply.text());
    assert_eq!(calls(&good).len(), 0);
    let reply = ask(false).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn a_key_takes_no_more_than_its_limits_and_is_told_how_they_stand() {
    let provider = mock("provider").await;
    provider.script(Rule {
        then: Behaviour {
            text: Some("one two three".to_owned()),
            latency_ms: 150,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: provider, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
master_keys:
  - {{name: few, key: few-key, limits: {{requests_per_day: 3}}}}
  - {{name: small, key: small-key, limits: {{tokens_per_day: 1000}}}}
health_check: {{enabled: false}}
",
        provider.url()
    ));
    let ask = async |key: &str, path: &str, body: &serde_json::Value| {
        let bearer = format!("Bearer {key}");
        let headers = [JSON, ("authorization", bearer.as_str())];
        gate.ask(Method::POST, path, &headers, body.to_string())
            .await
    };
    let chat_path = "/v1/chat/completions";
    let unknown = ask("few-key", chat_path, &chat("nobody", false)).await;
    assert_eq!(unknown.status, 404);
    for left in ["2", "1", "0"] {
        let reply = ask("few-key", chat_path, &chat("m", left == "1")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-ratelimit-limit-requests"), "3");
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), left);
    }
    let refused = ask("few-key", chat_path, &chat("m", false)).await;
    assert_eq!((refused.status.as_u16(), calls(&provider).len()), (429, 3));
    let text = refused.text();
    assert!(
        text.contains("key 'few' may take 3 requests a day"),
        "{text}"
    );
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=86_400).contains(&wait));

    // More than there is, whatever it would have taken in the end.
    let mut much = chat("m", false);
    much["max_tokens"] = 1000.into();
    let refused = ask("small-key", chat_path, &much).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    much["max_tokens"] = 900.into();
    for client in 0..5 {
        let reply = ask("small-key", chat_path, &much).await;
        assert_eq!(reply.status, 200, "{client}: {}", reply.text());
        let left: u64 = reply
            .header("x-ratelimit-remaining-tokens")
            .parse()
            .expect("a number");
        assert!(left < 1000, "what is reserved is taken");
    }
    // Two at a time are one too many.
    let (one, other) = tokio::join!(
        ask("small-key", chat_path, &much),
        ask("small-key", chat_path, &much)
    );
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
}
