//! Replicas on one PostgreSQL, or one Redis: what one answered another goes on from, and what rests for one rests for the others.

use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use polygate_test_services::{Postgres, Redis};
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Gate, Reply, calls, chat, mock};

/// The most that the contract lets a change take to every replica, with a little for a busy machine.
const SOON: Duration = Duration::from_millis(1500);

fn replica(config: &str, url: &str) -> Gate {
    let variables = [
        ("DB_URL", url),
        ("POLYGATE_SECRET_KEY", "a secret key of some length"),
    ];
    Gate::start_with(config, &variables)
}

/// Two providers for one model, the second for when the first is out.
fn two(first: &Mock, second: &Mock, more: &str) -> String {
    format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_keys: [{{key: k, name: one}}], model_mapping: [m], priority: 0}}
  - {{name: second, type: mock, api_base: '{}', api_key: k, model_mapping: [m], priority: 1}}
health_check: {{enabled: false}}
{more}",
        first.url(),
        second.url()
    )
}

async fn asks(gate: &Gate) -> String {
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-polygate-provider").to_owned()
}

async fn signals(gate: &Gate, fate: &str) -> u64 {
    let series = format!("polygate_health_signals_total{{fate=\"{fate}\"}} ");
    let text = gate.get("/metrics").await.text();
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix(&series));
    let count = count.unwrap_or_else(|| panic!("{series} in {text}"));
    count.trim().parse().expect("a number")
}

/// Waits until a replica heard so many signals; how long that took.
async fn until_heard(gate: &Gate, count: u64) -> Duration {
    let start = Instant::now();
    while signals(gate, "heard").await < count {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", gate.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

async fn health(gate: &Gate) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let headers = [("authorization", &*key)];
    let reply = gate
        .ask(Method::GET, "/admin/v1/health", &headers, "")
        .await;
    reply.json()["providers"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_for_one_rests_for_the_others() {
    if let Some(postgres) = Postgres::start() {
        let url = postgres.url();
        rests_are_shared(|config| replica(config, &url)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_carries_the_word_of_rests_without_a_database_too() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let url = redis.url();
    let replica = |config: &str| {
        let variables = [("DB_URL", "none"), ("REDIS_URL", &*url)];
        Gate::start_with(config, &variables)
    };
    rests_are_shared(replica).await;
    // Frozen or gone, nobody waits for it.
    let (first, second) = (mock("first").await, mock("second").await);
    let gate = replica(&two(&first, &second, ""));
    redis.process().freeze();
    first.script(Rule {
        times: Some(20),
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let start = Instant::now();
    for _ in 0..20 {
        asks(&gate).await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    redis.process().thaw();
    redis.process().kill();
    asks(&gate).await;
}

/// What rests at one of two replicas rests at the other, and not where it is not shared.
async fn rests_are_shared(replica: impl Fn(&str) -> Gate) {
    let (first, second) = (mock("first").await, mock("second").await);
    let config = two(&first, &second, "");
    let (one, other) = (replica(&config), replica(&config));
    let alone = replica(&two(&first, &second, "shared_health: false"));
    // Each listens once another's word came through: the first may be told before.
    for gate in [&one, &other, &alone] {
        assert_eq!(asks(gate).await, "first");
    }
    first.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(429),
            headers: [("retry-after".to_owned(), "60".to_owned())].into(),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let before = calls(&first).len();
    assert_eq!(asks(&one).await, "second", "it was refused");
    let took = until_heard(&other, 1).await;
    assert!(took < SOON, "heard after {took:?}");
    for _ in 0..5 {
        assert_eq!(asks(&other).await, "second");
    }
    assert_eq!(calls(&first).len(), before + 1, "the other did not ask");
    let seen = health(&other).await;
    let key = &seen["credentials"][0];
    assert_eq!(
        (&key["status"], &key["reason"]),
        (&json!("resting"), &json!("limit"))
    );
    assert!(
        key["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 50.0),
        "{key}"
    );
    assert!(key["learnt_from"].is_string(), "{key}");
    assert!(health(&one).await["credentials"][0]["learnt_from"].is_null());
    assert_eq!(signals(&one, "heard").await, 0, "it does not hear itself");

    // The one that shares nothing finds out by itself.
    assert_eq!(asks(&alone).await, "first");
    assert_eq!(
        (
            signals(&alone, "heard").await,
            signals(&alone, "told").await
        ),
        (0, 0)
    );

    // An end is told too: the first is good again where somebody found out.
    let reset = json!({"provider": "first"}).to_string();
    let key = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("authorization", &*key),
        ("content-type", "application/json"),
    ];
    let done = one
        .ask(Method::POST, "/admin/v1/health/reset", &headers, reset)
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(asks(&one).await, "first");
    let took = until_heard(&other, 2).await;
    assert!(took < SOON, "heard after {took:?}");
    assert_eq!(asks(&other).await, "first");
}

fn response(input: &str, before: Option<&str>) -> Value {
    let mut body = json!({"model": "m", "input": input});
    if let Some(before) = before {
        body["previous_response_id"] = before.into();
    }
    body
}

async fn get(gate: &Gate, id: &str) -> Reply {
    gate.get(&format!("/v1/responses/{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_answered_another_goes_on_from() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let provider = mock("first").await;
    let config = format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: k, wire_api: chat, model_mapping: [m]}}
health_check: {{enabled: false}}
",
        provider.url()
    );
    let url = postgres.url();
    let (one, other) = (replica(&config, &url), replica(&config, &url));
    let answer = one
        .post("/v1/responses", &response("the colour is teal", None))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();

    let start = Instant::now();
    while get(&other, &id).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", one.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(&other, &id).await.json(), answer.json());
    // Another one that never saw it goes on from it without having been asked for it.
    let third = replica(&config, &url);
    let next = third
        .post("/v1/responses", &response("which colour?", Some(&id)))
        .await;
    assert_eq!(next.status, 200, "{}", next.text());
    let asked = format!("{:?}", calls(&provider).pop().expect("a call"));
    assert!(
        asked.contains("the colour is teal") && asked.contains("which colour?"),
        "{asked}"
    );
    let rows = postgres.sql("SELECT string_agg(body, ' ') FROM kept_answers");
    assert!(
        rows.contains("sealed:1:") && !rows.contains("teal"),
        "{rows}"
    );

    // What nobody knows is answered as by a gateway alone, and soon, whatever the database does.
    let unknown = response("more", Some("resp_of_nobody"));
    let usual = third.post("/v1/responses", &unknown).await;
    postgres.freeze();
    let mut slow = 0;
    for _ in 0..10 {
        let start = Instant::now();
        let reply = third.post("/v1/responses", &unknown).await;
        assert_eq!(reply.status, usual.status, "{}", reply.text());
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        slow += usize::from(start.elapsed() >= Duration::from_millis(100));
        // What it knows itself needs nobody.
        assert_eq!(get(&one, &id).await.status, 200);
    }
    assert!(
        slow <= 3,
        "one call waits for a silent database, not all: {slow}"
    );
    assert!(
        third
            .log()
            .contains("answers of other replicas cannot be looked for"),
        "{}",
        third.log()
    );
    postgres.thaw();

    let gone = other
        .ask(Method::DELETE, &format!("/v1/responses/{id}"), &[], "")
        .await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    let start = Instant::now();
    let left = format!("SELECT count(*) FROM kept_answers WHERE id = '{id}@anonymous'");
    while postgres.sql(&left).trim() != "0" {
        assert!(start.elapsed() < Duration::from_secs(15), "{}", other.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(&other, &id).await.status, 404);
    assert_eq!(get(&replica(&config, &url), &id).await.status, 404);
    // The one that made it had it in memory, and is told.
    while get(&one, &id).await.status != 404 {
        assert!(start.elapsed() < Duration::from_secs(15), "{}", one.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
