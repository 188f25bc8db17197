//! Shadow traffic: another model gets calls too, at the operator's cost, and nobody who calls can tell.

use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use polygate_store::usage::{CallRow, State};
use serde_json::Value;

use crate::ledger::{KEY, rows, until_count};
use crate::support::{Gate, Reply, calls, chat, mock, until};
use crate::wall::clients::{CLIENTS, Client};

/// `m` is at `real`, and its shadow, whose settings these are, at `other`, which speaks one format alone.
fn config(real: &Mock, other: &Mock, shadow: &str) -> String {
    format!(
        "
providers:
  - {{name: real, type: mock, api_base: '{}', api_key: k, model_mapping: [real]}}
  - {{name: other, type: anthropic, api_base: '{}', api_key: k, model_mapping: [tried]}}
models:
  m: {{targets: [{{provider: real, model: real}}], shadow: {{model: tried{shadow}}}}}
master_keys: [{{name: team-key, key: sk-of-the-team, limits: {{requests_per_day: 1000, usd_per_day: 1}}}}]
health_check: {{enabled: false}}
price_overrides: [{{model: '*', price: {{input: 1, output: 10}}}}]",
        real.url(),
        other.url()
    )
}

async fn ask(gate: &Gate, client: &Client, stream: bool) -> Reply {
    let headers = [
        ("authorization", "Bearer sk-of-the-team"),
        ("content-type", "application/json"),
    ];
    let (path, body) = ((client.path)("m", stream), (client.ask)("m", stream));
    gate.ask(Method::POST, &path, &headers, body.to_string())
        .await
}

fn address(dir: &Path) -> String {
    format!("sqlite://{}", dir.join("ledger.db").display())
}

fn started(config: &str, url: &str) -> Gate {
    Gate::start_with(config, &[("DB_URL", url), ("POLYGATE_SECRET_KEY", KEY)])
}

fn always(mock: &Mock, then: Behaviour) {
    mock.script(Rule {
        then,
        ..Rule::default()
    });
}

/// The rows of clients, and those of shadows.
fn parted(rows: Vec<CallRow>) -> (Vec<CallRow>, Vec<CallRow>) {
    rows.into_iter().partition(|row| row.shadow_of.is_none())
}

/// The value of a metric with these labels in its line.
fn metric(page: &str, name: &str, labels: &[&str]) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(name));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

#[tokio::test]
async fn every_call_goes_there_too_and_both_ledgers_say_so() {
    let (real, other) = (mock("real").await, mock("other").await);
    let dir = tempfile::tempdir().expect("a directory");
    let url = address(dir.path());
    let mut gate = started(&config(&real, &other, ""), &url);
    for client in &CLIENTS {
        for stream in [false, true] {
            let reply = ask(&gate, client, stream).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!((client.is_complete)(&reply, stream), "{}", reply.text());
            assert_eq!(reply.header("x-polygate-provider"), "real");
        }
    }
    until_count(&url, 16, &gate).await;
    let metrics = gate.get("/metrics").await.text();
    assert_eq!(metric(&metrics, "llm_proxy_requests_total", &[]), 8);
    assert_eq!(metric(&metrics, "llm_proxy_active_requests", &[]), 0);
    let completed = ["model=\"tried\"", "outcome=\"completed\""];
    assert_eq!(
        metric(&metrics, "polygate_shadow_calls_total", &completed),
        8
    );
    for (query, total) in [("is_shadow=true", 8), ("is_shadow=false", 8), ("", 16)] {
        let list = gate.admin(&format!("/admin/v1/logs?{query}")).await.json();
        assert_eq!(list["total"], total, "{query}");
        let shadows = list["items"].as_array().into_iter().flatten();
        let shadows = shadows.filter(|item| !item["shadow_of"].is_null());
        assert_eq!(
            shadows.count(),
            if query == "is_shadow=false" { 0 } else { 8 }
        );
    }
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    let (clients, shadows) = parted(rows(&url).await);
    assert_eq!((clients.len(), shadows.len()), (8, 8));
    for (name, mock, ours) in [("real", &real, &clients), ("other", &other, &shadows)] {
        let theirs = calls(mock);
        assert_eq!(theirs.len(), 8, "{name}");
        let sum = |tokens: (u64, u64), (input, output)| (tokens.0 + input, tokens.1 + output);
        let served = theirs
            .iter()
            .map(|one| (one.input_tokens, one.output_tokens));
        let (input, output) = served.fold((0, 0), sum);
        let charged = ours.iter().map(|row| (row.usage.input, row.usage.output));
        assert_eq!(
            charged.fold((0, 0), sum),
            (input, output),
            "{name}: to the token"
        );
        let cost: i64 = ours.iter().map(|row| row.cost).sum();
        assert_eq!(
            cost.unsigned_abs(),
            input + 10 * output,
            "{name}: to the unit"
        );
        assert!(
            ours.iter().all(|row| row.state == State::Reported),
            "{name}"
        );
    }
    for shadow in &shadows {
        let of = shadow.shadow_of.as_deref().unwrap_or_default();
        let of = clients.iter().find(|row| row.id == of);
        let of = of.expect("the call that it is the shadow of");
        assert_eq!(shadow.request_id, format!("{}-shadow", of.request_id));
        assert_eq!((&*shadow.key, &*shadow.model), ("shadow", "tried"));
        assert_eq!((&*of.key, &*of.model), ("team-key", "m"));
    }
}

#[tokio::test]
async fn what_the_caller_has_left_and_what_is_kept_know_nothing_of_it() {
    let (real, other) = (mock("real").await, mock("other").await);
    let gate = Gate::start(&config(&real, &other, ""));
    let chat = &CLIENTS[0];
    let first = ask(&gate, chat, false).await;
    until("the shadow is there", || calls(&other).len() == 1).await;
    let second = ask(&gate, chat, false).await;
    let left = |reply: &Reply| {
        let left = reply.header("x-ratelimit-remaining-requests");
        left.parse::<u32>().unwrap_or_else(|_| panic!("{reply:?}"))
    };
    assert_eq!(left(&first) - left(&second), 1);
    // The shadow of a Responses call goes on from what the real one was answered.
    let answered = ask(&gate, &CLIENTS[1], false).await.json();
    let id = answered["id"].as_str().unwrap_or_default().to_owned();
    let headers = [("authorization", "Bearer sk-of-the-team")];
    let body = serde_json::json!({"model": "m", "input": "And then?", "previous_response_id": id});
    let reply = gate
        .ask(Method::POST, "/v1/responses", &headers, body.to_string())
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn one_that_fails_or_hangs_touches_nobody() {
    let failing = Behaviour {
        status: Some(500),
        ..Behaviour::default()
    };
    let fault = |fault| Behaviour {
        fault: Some(fault),
        ..Behaviour::default()
    };
    for then in [
        failing,
        fault(Fault::Stall),
        fault(Fault::StallAfter(2)),
        fault(Fault::Reset),
        fault(Fault::Junk),
    ] {
        let (real, other) = (mock("real").await, mock("other").await);
        always(&other, then.clone());
        let mut gate = Gate::start(&config(&real, &other, ", max_concurrent: 2"));
        for stream in [false, true, false, true] {
            let began = Instant::now();
            let reply = ask(&gate, &CLIENTS[0], stream).await;
            assert_eq!(reply.status, 200, "{then:?}: {}", reply.text());
            assert!((CLIENTS[0].is_complete)(&reply, stream), "{then:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{then:?}");
        }
        until("it was asked", || !calls(&other).is_empty()).await;
        let metrics = gate.get("/metrics").await.text();
        let dropped = ["model=\"m\"", "outcome=\"dropped\""];
        let dropped = metric(&metrics, "polygate_shadow_calls_total", &dropped);
        if then.fault == Some(Fault::Stall) {
            assert_eq!((dropped, calls(&other).len()), (2, 2), "no more at a time");
        }
        gate.signal("TERM");
        let began = Instant::now();
        assert!(gate.wait().success(), "{}", gate.log());
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "nobody waits for it"
        );
    }
}

#[tokio::test]
async fn it_goes_on_when_the_client_is_gone_and_ends_with_the_gateway() {
    let (real, other) = (mock("real").await, mock("other").await);
    let stalling = Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    };
    always(&real, stalling.clone());
    let slow = Behaviour {
        latency_ms: 300,
        ..Behaviour::default()
    };
    always(&other, slow);
    let dir = tempfile::tempdir().expect("a directory");
    let url = address(dir.path());
    let mut gate = started(&config(&real, &other, ""), &url);
    {
        let asking = std::pin::pin!(ask(&gate, &CLIENTS[0], true));
        let asked = until("both are asked", || {
            !calls(&real).is_empty() && !calls(&other).is_empty()
        });
        tokio::select! {
            reply = asking => panic!("it was to wait: {reply:?}"),
            () = asked => {}
        }
    }
    let ended = |mock: &Mock, outcome| calls(mock).iter().all(|call| call.outcome == outcome);
    until("the provider sees that the client went", || {
        ended(&real, Outcome::ClientGone)
    })
    .await;
    until("the shadow is answered", || {
        ended(&other, Outcome::Completed)
    })
    .await;
    until_count(&url, 2, &gate).await;
    // One that hangs has its row when the gateway has gone.
    other.clear();
    always(&other, stalling);
    real.clear();
    let reply = ask(&gate, &CLIENTS[0], false).await;
    assert_eq!(reply.status, 200);
    until("the shadow is asked", || calls(&other).len() == 2).await;
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    let (clients, shadows) = parted(rows(&url).await);
    assert_eq!((clients.len(), shadows.len()), (2, 2));
    let states: Vec<State> = shadows.iter().map(|row| row.state).collect();
    assert!(
        states.contains(&State::Reported) && states.contains(&State::Aborted),
        "{states:?}"
    );
}

#[tokio::test]
async fn shares_are_drawn_and_counts_and_proxied_calls_have_no_shadow() {
    let (real, other) = (mock("real").await, mock("other").await);
    let gate = Gate::start(&config(&real, &other, ", percent: 50, max_concurrent: 100"));
    let headers = [
        ("authorization", "Bearer sk-of-the-team"),
        ("content-type", "application/json"),
    ];
    let count = &CLIENTS[2];
    let mut body: Value = (count.ask)("m", false);
    body["stream"] = Value::Null;
    for (path, body) in [
        ("/v1/messages/count_tokens", body),
        ("/v1/m/anything", chat("m", false)),
    ] {
        for _ in 0..20 {
            gate.ask(Method::POST, path, &headers, body.to_string())
                .await;
        }
    }
    assert!(calls(&other).is_empty());
    for _ in 0..100 {
        let reply = ask(&gate, &CLIENTS[0], false).await;
        assert_eq!(reply.status, 200);
    }
    let shadows = || calls(&other).len();
    until("some are there", || shadows() > 20).await;
    assert!(shadows() < 80, "{}", shadows());
}
