//! The admin API of several replicas on one PostgreSQL: what one writes is in force on the others within a second.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Rule};
use polygate_test_services::Postgres;
use serde_json::{Value, json};

use crate::admin_documents::{DELETE, GET, POST, PUT, ask, asked, call, file};
use crate::support::{Gate, chat, mock};

const KEY: &str = "a secret key of some length";

/// How long another replica may take: what the contract says.
const SECOND: Duration = Duration::from_secs(1);

/// Waits until a call comes to this; how long that took.
async fn until_call(gate: &Gate, key: &str, model: &str, status: u16) -> Duration {
    let start = Instant::now();
    loop {
        let said = call(gate, key, model).await;
        if said == status {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{model}: {said}: {}",
            gate.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_one_replica_writes_is_in_force_on_the_others_within_a_second() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let (own, other) = (mock("own").await, mock("other").await);
    let url = postgres.url();
    let variables = [("DB_URL", &*url), ("POLYGATE_SECRET_KEY", KEY)];
    let [one, two] = [0, 1].map(|_| Gate::start_with(&file(&own), &variables));
    let provider = json!({"id": "p", "provider_type": "mock", "api_base": other.url(), "api_key": "sk-of-the-database", "model_mapping": {"theirs": "m"}});
    asked(&one, POST, "providers", provider, 201).await;
    assert_eq!(
        call(&one, "sk-file-key", "theirs").await,
        200,
        "at once where it was written"
    );
    let took = until_call(&two, "sk-file-key", "theirs", 200).await;
    assert!(took < SECOND, "{took:?}");

    // A key that is revoked: at once here, within a second there, and a stream under way goes on to its end.
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let made = asked(
            &one,
            POST,
            "master-keys",
            json!({"id": format!("k{round}")}),
            201,
        )
        .await;
        let key = made["key"].as_str().expect("a key").to_owned();
        slowest = slowest.max(until_call(&two, &key, "theirs", 200).await);
        other.script(Rule {
            times: Some(1),
            then: Behaviour {
                token_ms: 300,
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", &*bearer),
            ("content-type", "application/json"),
        ];
        let stream = two
            .send(
                POST,
                "/v1/chat/completions",
                &headers,
                chat("theirs", true).to_string(),
            )
            .await;
        assert_eq!(stream.status(), 200);
        let path = format!("master-keys/k{round}");
        asked(&one, DELETE, &path, Value::Null, 204).await;
        assert_eq!(
            call(&one, &key, "theirs").await,
            401,
            "at once where it was revoked"
        );
        slowest = slowest.max(until_call(&two, &key, "theirs", 401).await);
        let rest = stream
            .into_body()
            .collect()
            .await
            .expect("a whole stream")
            .to_bytes();
        assert!(String::from_utf8_lossy(&rest).ends_with("data: [DONE]\n\n"));
    }
    assert!(slowest < SECOND, "{slowest:?}");

    // Two that write the same at once: one version each, none lost.
    asked(&one, POST, "teams", json!({"name": "t"}), 201).await;
    let puts = (0..10).map(|number| {
        let gate = if number % 2 == 0 { &one } else { &two };
        let body = json!({"metadata": {"n": number.to_string()}});
        async move { ask(gate, PUT, "teams/t", body).await.status.as_u16() }
    });
    let statuses = futures_util::future::join_all(puts).await;
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 409)),
        "{statuses:?}"
    );
    let done = statuses.iter().filter(|status| **status == 200).count();
    assert!(done >= 2, "{statuses:?}");
    let history = asked(&one, GET, "config/history?limit=500", Value::Null, 200).await;
    let updates = history["versions"].as_array().expect("a list").iter();
    let updates = updates.filter(|one| one["action"] == "update team").count();
    assert_eq!(updates, done);
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_written_and_calls_go_on() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let own = mock("own").await;
    let url = postgres.url();
    let gate = Gate::start_with(
        &file(&own),
        &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)],
    );
    asked(&gate, POST, "teams", json!({"name": "t"}), 201).await;
    postgres.crash();
    for (method, path, body) in [
        (GET, "providers", Value::Null),
        (POST, "teams", json!({"name": "u"})),
        (DELETE, "teams/t", Value::Null),
        (GET, "audit", Value::Null),
    ] {
        let start = Instant::now();
        let reply = ask(&gate, method, path, body).await;
        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "store_unavailable");
        assert!(!reply.header("retry-after").is_empty());
        assert!(start.elapsed() < Duration::from_secs(8), "{path}");
    }
    let version = asked(&gate, GET, "config/version", Value::Null, 200).await;
    assert_eq!(
        (&version["version"], &version["store_version"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(call(&gate, "sk-file-key", "own-model").await, 200);
    postgres.restart();
    let start = Instant::now();
    while ask(&gate, POST, "teams", json!({"name": "u"})).await.status != 201 {
        assert!(start.elapsed() < Duration::from_secs(15));
    }
}
