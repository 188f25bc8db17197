//! What callers say of themselves is seen again wherever calls are told of, and by no provider; and what answers' headers say.

use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, chat, mock, until};
use crate::telemetry::{Collector, said};

const PATH: &str = "/v1/chat/completions";
const KEYS: [&str; 3] = ["x-litellm-api-key", "x-bf-vk", "x-portkey-api-key"];

/// A call's headers and members of its body; its user, session, tags and metadata; what is passed over.
type Case = (
    &'static [(&'static str, &'static str)],
    Value,
    Option<&'static str>,
    Option<&'static str>,
    Value,
    Value,
    &'static str,
);

fn cases() -> Vec<Case> {
    let no = || Value::Null;
    let team = || json!(["of-key"]);
    vec![
        (&[], json!({}), None, None, team(), no(), ""),
        (
            &[
                ("x-polygate-user", "ann"),
                ("x-polygate-session", "s-1"),
                ("x-polygate-tags", "blue, of-key"),
                ("x-polygate-metadata", r#"{"plan":"gold","seats":3}"#),
            ],
            json!({"user": "somebody else"}),
            Some("ann"),
            Some("s-1"),
            json!(["of-key", "blue"]),
            json!({"plan": "gold", "seats": 3}),
            "",
        ),
        (
            &[
                ("x-litellm-end-user-id", "bea"),
                ("x-litellm-session-id", "s-2"),
                ("x-litellm-tags", "green"),
                ("x-litellm-spend-logs-metadata", r#"{"job":"7"}"#),
            ],
            json!({}),
            Some("bea"),
            Some("s-2"),
            json!(["of-key", "green"]),
            json!({"job": "7"}),
            "",
        ),
        (
            &[
                ("helicone-user-id", "cem"),
                ("helicone-session-id", "s-3"),
                ("helicone-property-app", "mail"),
            ],
            json!({}),
            Some("cem"),
            Some("s-3"),
            team(),
            json!({"app": "mail"}),
            "",
        ),
        (
            &[
                ("x-portkey-metadata", r#"{"_user":"dan"}"#),
                ("x-bf-session-id", "s-4"),
            ],
            json!({}),
            Some("dan"),
            Some("s-4"),
            team(),
            json!({"_user": "dan"}),
            "",
        ),
        (
            &[
                ("x-openwebui-user-id", "eve"),
                ("x-openwebui-chat-id", "s-5"),
            ],
            json!({}),
            Some("eve"),
            Some("s-5"),
            team(),
            no(),
            "",
        ),
        (
            &[],
            json!({"user": "fay", "prompt_cache_key": "s-6", "metadata": {"tags": "red,blue"}}),
            Some("fay"),
            Some("s-6"),
            json!(["of-key", "red", "blue"]),
            no(),
            "",
        ),
        (
            &[
                ("x-polygate-user", "gus\tgus"),
                ("x-polygate-metadata", "no JSON"),
                ("x-polygate-tags", "blue"),
            ],
            json!({"safety_identifier": "gus", "metadata": {"user_id": 5}}),
            Some("gus"),
            None,
            json!(["of-key", "blue"]),
            no(),
            "x-polygate-user, x-polygate-metadata, metadata.user_id",
        ),
    ]
}

fn config(mock: &Mock, more: &str) -> String {
    format!(
        "
providers:
  - {{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m, free], priority: 1}}
#
health_check: {{enabled: false}}
master_keys: [{{key: sk-of-alice, name: alice, tags: [of-key], limits: {{requests_per_minute: 1000}}}}]
price_overrides: [{{model: m, price: {{input: 1, output: 10}}, date: 2026-11}}]
retry: {{initial_backoff_ms: 1, cooldown_5xx_secs: 0}}
{more}
",
        mock.url()
    )
}

async fn ask(gate: &Gate, body: Value, headers: &[(&str, &str)]) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    if !headers.iter().any(|(name, _)| KEYS.contains(name)) {
        all.push(("authorization", "Bearer sk-of-alice"));
    }
    gate.ask(Method::POST, PATH, &all, body.to_string()).await
}

/// The row of a call, once it is in the store.
async fn row(gate: &Gate, reply: &Reply) -> Value {
    let start = Instant::now();
    let path = format!("/admin/v1/logs/{}", reply.header("x-request-id"));
    loop {
        let row = gate.admin(&path).await;
        if row.status == 200 {
            return row.json();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{}", row.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_say_is_seen_again_everywhere_and_by_no_provider() {
    let (collector, mock) = (Collector::default(), mock("p").await);
    let url = collector.start().await;
    let told = format!("otlp: {{endpoint: '{url}', metrics: false}}");
    let variables = [("JSONL_LOG_ENABLED", "true")];
    let gate = Gate::start_with(&config(&mock, &told), &variables);
    let cases = cases();
    let mut replies = Vec::new();
    for (headers, members, ..) in &cases {
        let mut body = chat("m", false);
        let members = members.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(members);
        let reply = ask(&gate, body, headers).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        replies.push(reply);
    }
    let spans = collector.spans(2 * cases.len()).await;
    let log = gate.dir().join("logs/requests.jsonl");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the request log", || lines().lines().count() == cases.len()).await;
    for ((_, _, user, session, tags, metadata, ignored), reply) in cases.iter().zip(&replies) {
        let id = reply.header("x-request-id");
        assert_eq!(reply.header("x-polygate-ignored"), *ignored);
        let row = row(&gate, reply).await;
        let lines = lines();
        let mut lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let line: Value = lines
            .find(|line: &Value| line["request_id"] == id)
            .expect("a line");
        for told in [&row, &line] {
            assert_eq!(told["end_user"], json!(user), "{told}");
            assert_eq!(told["session"], json!(session), "{told}");
            assert_eq!(told["tags"], *tags, "{told}");
            assert_eq!(told["metadata"], *metadata, "{told}");
        }
        let span = spans
            .iter()
            .find(|span| said(&span.attributes, "polygate.request_id") == id);
        let span = span.expect("a span");
        assert_eq!(said(&span.attributes, "user.id"), user.unwrap_or("alice"));
        for name in ["session.id", "gen_ai.conversation.id"] {
            assert_eq!(said(&span.attributes, name), json!(session));
        }
        assert_eq!(said(&span.attributes, "polygate.tags"), *tags);
        for (key, value) in metadata.as_object().into_iter().flatten() {
            let shown = said(&span.attributes, &format!("polygate.metadata.{key}"));
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            assert_eq!(shown, value);
        }
    }
    let metrics = gate.get("/metrics").await.text();
    for word in ["\"ann\"", "\"s-1\"", "\"blue\"", "gold"] {
        assert!(!metrics.contains(word), "{word}");
    }
    for entry in calls(&mock) {
        let told = entry.headers.iter().map(|(name, _)| &**name);
        let told: Vec<&str> = told
            .filter(|name| !["traceparent", "x-polygate-hops", "host"].contains(name))
            .collect();
        let usual = [
            "user-agent",
            "content-type",
            "content-length",
            "authorization",
        ];
        assert!(told.iter().all(|name| usual.contains(name)), "{told:?}");
    }
}

#[tokio::test]
async fn calls_are_found_by_what_their_callers_said() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, ""));
    for (user, tags) in [("ann", "a"), ("ann", "a,b"), ("bea", "b")] {
        let headers = [
            ("x-polygate-user", user),
            ("x-polygate-tags", tags),
            ("x-session-id", user),
        ];
        let reply = ask(&gate, chat("m", true), &headers).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        row(&gate, &reply).await;
    }
    for (query, total) in [
        ("end_user=ann", 2),
        ("session=bea", 1),
        ("tag=a", 2),
        ("tag=of-key", 3),
        ("tag=a&end_user=ann&is_streaming=true&page_size=1", 2),
        ("tag=a&session=bea", 0),
        ("tag=b&credential_name=nobody", 0),
    ] {
        let found = gate.admin(&format!("/admin/v1/logs?{query}")).await.json();
        assert_eq!(found["total"], total, "{query}: {found}");
    }
}

#[tokio::test]
async fn answers_say_what_they_cost_and_how_long_the_gateway_took() {
    let (bad, mock) = (mock("bad").await, mock("p").await);
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    mock.script(Rule {
        then: Behaviour {
            latency_ms: 300,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let bad = format!(
        "  - {{name: bad, type: mock, api_base: '{}', api_key: k, model_mapping: [m], priority: 0}}",
        bad.url()
    );
    let gate = Gate::start(&config(&mock, "").replace("#", &bad));
    let reply = ask(&gate, chat("m", false), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-polygate-attempts"), "2");
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), "999");
    let row_of = row(&gate, &reply).await;
    let micros = row_of["cost_micro_usd"].as_u64().expect("a cost");
    assert!(micros > 0, "{row_of}");
    let cost = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    assert_eq!(reply.header("x-polygate-cost"), cost);
    let overhead: f64 = reply
        .header("x-polygate-overhead-ms")
        .parse()
        .expect("a number");
    let whole = row_of["total_duration_ms"].as_f64().expect("a number");
    assert!(whole >= 300.0 && overhead > 0.0, "{overhead} of {whole}");
    assert!(overhead <= whole - 300.0 + 1.0, "{overhead} of {whole}");
    assert_eq!(reply.header("x-litellm-response-cost"), "");

    let headers = [("x-litellm-api-key", "Bearer sk-of-alice")];
    let reply = ask(&gate, chat("m", false), &headers).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    for (ours, theirs) in [
        ("x-polygate-cost", "x-litellm-response-cost"),
        ("x-polygate-overhead-ms", "x-litellm-overhead-duration-ms"),
        ("x-request-id", "x-litellm-call-id"),
    ] {
        assert!(!reply.header(ours).is_empty(), "{ours}");
        assert_eq!(reply.header(ours), reply.header(theirs));
    }
    for (body, what) in [
        (chat("m", true), "a stream"),
        (chat("free", false), "no price"),
    ] {
        let reply = ask(&gate, body, &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-polygate-cost"), "", "{what}");
        assert_ne!(reply.header("x-polygate-overhead-ms"), "", "{what}");
    }
}

#[tokio::test]
async fn keys_and_times_of_other_gateways_callers_are_understood() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, ""));
    for name in KEYS {
        let reply = ask(&gate, chat("m", false), &[(name, "sk-of-alice")]).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let reply = ask(&gate, chat("m", false), &[(name, "sk-of-nobody")]).await;
        assert_eq!(reply.status, 401, "{name}: {}", reply.text());
    }
    mock.script(Rule {
        then: Behaviour {
            latency_ms: 5000,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    for (name, stream) in [
        ("x-litellm-timeout", false),
        ("x-litellm-stream-timeout", true),
    ] {
        let reply = ask(&gate, chat("m", stream), &[(name, "0.05")]).await;
        assert_eq!(reply.status, 504, "{name}: {}", reply.text());
        let reply = ask(&gate, chat("m", stream), &[(name, "soon")]).await;
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        assert!(reply.text().contains(name), "{}", reply.text());
    }
    for entry in calls(&mock) {
        let shown =
            |(name, value): &(String, String)| name != "authorization" && value.contains("sk-of");
        assert!(!entry.headers.iter().any(shown), "{:?}", entry.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn langfuse_files_a_trace_under_the_end_user_and_the_session() {
    let (collector, mock) = (Collector::default(), mock("p").await);
    let url = collector.start().await;
    let variables = [
        ("LANGFUSE_ENABLED", "true"),
        ("LANGFUSE_PUBLIC_KEY", "pk-lf-1"),
        ("LANGFUSE_SECRET_KEY", "sk-lf-2"),
        ("LANGFUSE_HOST", &*url),
        ("LANGFUSE_FLUSH_INTERVAL", "0.1"),
    ];
    let gate = Gate::start_with(&config(&mock, ""), &variables);
    let headers = [
        ("langfuse_trace_user_id", "ann"),
        ("langfuse_session_id", "s-1"),
        ("x-litellm-tags", "blue"),
        (
            "x-litellm-spend-logs-metadata",
            r#"{"job":7,"endpoint":"mine"}"#,
        ),
    ];
    let reply = ask(&gate, chat("m", false), &headers).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    for span in collector.spans(2).await {
        for (name, value) in [
            ("langfuse.user.id", "ann"),
            ("langfuse.session.id", "s-1"),
            ("langfuse.trace.metadata.job", "7"),
            ("langfuse.trace.metadata.endpoint", PATH),
        ] {
            assert_eq!(said(&span.attributes, name), value);
        }
        let tags = said(&span.attributes, "langfuse.trace.tags");
        let tags = tags.as_array().expect("tags");
        for tag in ["of-key", "blue", "credential:alice"] {
            assert!(tags.contains(&tag.into()), "{tags:?}");
        }
    }
}
