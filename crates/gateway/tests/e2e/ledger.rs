//! The ledger: what the gateway says of its calls is what the providers say, whatever happened to either.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use polygate_mock_provider::{Behaviour, Entry, Fault, Mock, Outcome, Rule};
use polygate_store::UsageStore;
use polygate_store::audit::{AuditStore, EventFilter};
use polygate_store::config::{ConfigStore, Expect, Kind, Put, Write};
use polygate_store::usage::{AttemptRow, CallFilter, CallPage, CallRow, Filter, State, Totals};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ADMIN_KEY, Gate, calls, chat, mock, until};
use crate::wall::clients::CLIENTS;

pub const KEY: &str = "a secret key of some length";

/// A micro-dollar for a token of input, ten for one of output.
const PRICE: &str = "price_overrides: [{model: '*', price: {input: 1, output: 10}}]";

/// Every row of a store, with its attempts.
pub async fn rows(url: &str) -> Vec<CallRow> {
    let store = SqlStore::new(url).expect("a store");
    let page = CallPage {
        offset: 0,
        limit: 100_000,
        ..CallPage::default()
    };
    let found = store.calls(&CallFilter::default(), page).await;
    let mut rows = Vec::new();
    for row in found.map(|found| found.calls).unwrap_or_default() {
        let whole = store.call(&row.id, None).await.expect("the store answers");
        rows.push(whole.expect("a row"));
    }
    rows
}

/// How many rows there are; none where the store does not answer.
pub async fn count(url: &str) -> usize {
    let store = SqlStore::new(url).expect("a store");
    let page = CallPage {
        offset: 0,
        limit: 1,
        ..CallPage::default()
    };
    let found = store.calls(&CallFilter::default(), page).await;
    found.map_or(0, |found| usize::try_from(found.total).expect("a count"))
}

/// Waits until there are so many rows.
pub async fn until_count(url: &str, wanted: usize, gate: &Gate) {
    let start = Instant::now();
    loop {
        let found = count(url).await;
        if found == wanted {
            return;
        }
        let log = || format!("{found} of {wanted} rows: {}", gate.log());
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn attempts<'a>(rows: &'a [CallRow], provider: &str) -> Vec<&'a AttemptRow> {
    let attempts = rows.iter().flat_map(|row| &row.attempts);
    attempts.filter(|one| one.provider == provider).collect()
}

pub fn script(mock: &Mock, model: &str, then: Behaviour) {
    mock.script(Rule {
        model: Some(model.to_owned()),
        then,
        ..Rule::default()
    });
}

/// Asks for a stream over a connection of its own, reads its first words, and goes.
async fn leave(gate: &Gate, model: &str) {
    let mut socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let body = chat(model, true).to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let sent = socket.write_all(format!("{head}{body}").as_bytes()).await;
    sent.expect("it is sent");
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while text.windows(9).filter(|at| at == b"\"content\"").count() < 4 {
        let read = socket.read(&mut piece).await.expect("an answer");
        assert!(read > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
    }
}

/// What holds of either database: calls of every kind, and at the end both sides say the same.
async fn accounts(url: &str) {
    let (one, two) = (mock("one").await, mock("two").await);
    let config = format!(
        "
providers:
  - {{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: [m, flaky, silent, long]}}
  - {{name: two, type: mock, api_base: '{}', api_key: k, model_mapping: [m, flaky, silent, long]}}
models:
  silent: {{targets: [{{provider: one}}, {{provider: two}}], hedge: {{after: 100ms, max_percent: 100}}}}
routing: {{strategy: fill-first}}
retry: {{breaker_threshold: 100000}}
health_check: {{enabled: false}}
master_keys: [{{name: team-key, key: sk-of-the-team}}]
{PRICE}
",
        one.url(),
        two.url()
    );
    let failing = Behaviour {
        status: Some(500),
        ..Behaviour::default()
    };
    let stalling = Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    };
    let long = Behaviour {
        token_ms: 20,
        tokens: Some(500),
        ..Behaviour::default()
    };
    script(&one, "flaky", failing);
    script(&one, "silent", stalling);
    script(&one, "long", long);
    let mut gate = Gate::start_with(&config, &[("DB_URL", url), ("POLYGATE_SECRET_KEY", KEY)]);
    let asking = async |model: &str, stream: bool| {
        join_all(CLIENTS.iter().map(async |client| {
            let headers = [
                ("authorization", "Bearer sk-of-the-team"),
                ("content-type", "application/json"),
            ];
            let (path, body) = ((client.path)(model, stream), (client.ask)(model, stream));
            let reply = gate
                .ask(Method::POST, &path, &headers, body.to_string())
                .await;
            assert_eq!(reply.status, 200, "{model}: {}", reply.text());
        }))
        .await;
    };
    let refused = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(refused.status, 401, "no key, no call, no row");
    for _ in 0..5 {
        for model in ["m", "flaky"] {
            tokio::join!(asking(model, true), asking(model, false));
        }
    }
    tokio::join!(asking("silent", true), asking("silent", false));
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    // Without keys, for a connection of one's own.
    let open = config.replace("master_keys", "#");
    let mut gate = Gate::start_with(&open, &[("DB_URL", url), ("POLYGATE_SECRET_KEY", KEY)]);
    join_all((0..6).map(|_| leave(&gate, "long"))).await;
    until("the providers see it", || {
        let mut long = calls(&one).into_iter().filter(|call| call.model == "long");
        long.all(|call| call.outcome == Outcome::ClientGone)
    })
    .await;
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    compare(&rows(url).await, &[("one", &one), ("two", &two)]);
    totals(url).await;
}

fn compare(rows: &[CallRow], providers: &[(&str, &Mock)]) {
    let (each, silent) = (CLIENTS.len() * 2, CLIENTS.len() * 2);
    assert_eq!(rows.len(), 2 * 5 * each + silent + 6);
    for (name, mock) in providers {
        let (ours, theirs) = (attempts(rows, name), calls(mock));
        assert_eq!(
            ours.len(),
            theirs.len(),
            "{name}: as many attempts as calls"
        );
        let reported = ours.iter().filter(|one| one.state == State::Reported);
        let tokens = |tokens: (u64, u64), (input, output)| (tokens.0 + input, tokens.1 + output);
        let ours = reported
            .clone()
            .map(|one| (one.usage.input, one.usage.output))
            .fold((0, 0), tokens);
        let is_served = |entry: &&Entry| entry.outcome == Outcome::Completed && entry.status == 200;
        let served = theirs.iter().filter(is_served);
        let theirs = served
            .clone()
            .map(|entry| (entry.input_tokens, entry.output_tokens))
            .fold((0, 0), tokens);
        assert_eq!(reported.clone().count(), served.count(), "{name}");
        assert_eq!(ours, theirs, "{name}: to the token");
        let cost: i64 = reported.map(|one| one.cost).sum();
        let (input, output) = ours;
        assert_eq!(
            cost.unsigned_abs(),
            input + 10 * output,
            "{name}: to the unit"
        );
    }
    for row in rows {
        let sum: i64 = row.attempts.iter().map(|one| one.cost).sum();
        assert_eq!(row.cost, sum, "{row:?}");
        let states: Vec<State> = row.attempts.iter().map(|one| one.state).collect();
        let price = row.price.as_deref().unwrap_or_default();
        assert!(price.contains("\"source\":\"configuration\""), "{row:?}");
        assert_eq!(
            (row.label.as_str(), row.model.as_str()),
            (row.model.as_str(), row.model.as_str())
        );
        match row.model.as_str() {
            "m" => assert_eq!(
                (row.state, states),
                (State::Reported, vec![State::Reported])
            ),
            "flaky" => {
                assert_eq!(states, [State::Failed, State::Reported], "{row:?}");
                assert_eq!((row.state, row.attempts[0].cost), (State::Reported, 0));
                assert_eq!(row.attempts[0].status, 500);
            }
            "silent" => {
                assert_eq!(states, [State::Aborted, State::Reported], "{row:?}");
                assert_eq!(row.state, State::Estimated);
                assert!(row.attempts[0].cost > 0 && row.attempts[0].outcome == "hedge_lost");
            }
            _ => {
                assert_eq!((row.state, &*row.outcome), (State::Aborted, "client_gone"));
                let words = 3..200;
                assert!(words.contains(&row.usage.output), "what had come: {row:?}");
                assert_eq!(row.key, "anonymous");
            }
        }
        if row.model != "long" {
            assert_eq!((&*row.key, row.status), ("team-key", 200));
        }
    }
}

async fn totals(url: &str) {
    let store = SqlStore::new(url).expect("a store");
    let groups = store.totals(&Filter::default(), None).await.expect("sums");
    let mut sum = Totals::default();
    for row in rows(url).await {
        sum.add(&row.totals());
    }
    assert_eq!(groups.first().map(|group| &group.totals), Some(&sum));
}

#[tokio::test]
async fn both_sides_say_the_same_with_sqlite() {
    let dir = tempfile::tempdir().expect("a directory");
    accounts(&format!(
        "sqlite:{}",
        dir.path().join("shared.db").display()
    ))
    .await;
}

#[tokio::test]
async fn both_sides_say_the_same_with_postgresql() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    accounts(&postgres.url()).await;
}

/// One provider, one price; the head for whatever else.
pub fn plain(mock: &Mock, more: &str) -> String {
    format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\n{PRICE}\n{more}\n",
        mock.url()
    )
}

pub fn database_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("polygate.db").display())
}

#[tokio::test]
async fn what_has_no_price_is_told_and_never_nothing_in_silence() {
    let mock = mock("p").await;
    let config = plain(&mock, "").replace(PRICE, "");
    let data = tempfile::tempdir().expect("a directory");
    let variables = [("POLYGATE_DATA_DIR", data.path().to_str().expect("text"))];
    let mut gate = Gate::start_with(&config, &variables);
    for _ in 0..3 {
        let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
        assert_eq!(reply.status, 200);
    }
    let metrics = gate.get("/metrics").await.text();
    let counted = "polygate_unpriced_calls_total{model=\"m\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
    let warnings = gate
        .log()
        .matches("nobody knows what calls of this model cost")
        .count();
    assert_eq!(warnings, 1, "{}", gate.log());
    gate.signal("TERM");
    assert!(gate.wait().success());
    let rows = rows(&database_in(data.path())).await;
    assert_eq!(rows.len(), 3);
    assert!(
        rows.iter()
            .all(|row| row.price.is_none() && row.usage.output > 0)
    );
}

/// A call that began then.
fn call_at(id: &str, started: i64) -> CallRow {
    let row = json!({
        "id": id, "request_id": id, "started": started, "duration": 1, "endpoint": "e", "key": "k", "team": "", "model": "m",
        "label": "m", "provider": "p", "credential": "c", "upstream_model": "m", "client": "curl", "stream": false, "status": 200,
        "outcome": "completed", "state": "reported", "usage": {}, "cost": 1, "attempts": [],
    });
    serde_json::from_value(row).expect("a row")
}

#[tokio::test]
async fn old_calls_are_forgotten_and_sums_stay() {
    let mock = mock("p").await;
    let data = tempfile::tempdir().expect("a directory");
    let url = database_in(data.path());
    let store = SqlStore::new(&url).expect("a store");
    store.migrate_up().await.expect("tables");
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(since.expect("a time").as_micros()).expect("a moment");
    let days = |days: i64| now - days * 86_400_000_000;
    let mut calls: Vec<CallRow> = (0..2500)
        .map(|at| call_at(&format!("old-{at}"), days(31) - at))
        .collect();
    calls.push(call_at("new", days(29)));
    store.record(&calls).await.expect("recorded");
    let variables = [("POLYGATE_DATA_DIR", data.path().to_str().expect("text"))];
    let gate = Gate::start_with(&plain(&mock, "ledger: {retention_days: 30}"), &variables);
    until_count(&url, 1, &gate).await;
    assert_eq!(rows(&url).await[0].id, "new");
    let sums = store.totals(&Filter::default(), None).await.expect("sums");
    assert_eq!(sums[0].totals.calls, 2501);
}

/// Entries of the audit log by their age, versions by their number; what is in force stays.
#[tokio::test]
async fn old_entries_and_versions_are_forgotten() {
    let mock = mock("p").await;
    let data = tempfile::tempdir().expect("a directory");
    let url = database_in(data.path());
    let store = SqlStore::new(&url).expect("a store");
    store.migrate_up().await.expect("tables");
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(since.expect("a time").as_micros()).expect("a moment");
    for (number, days) in [(1, 9), (2, 8), (3, 1), (4, 0)] {
        let put = Put {
            kind: Kind::Team,
            name: "kept".to_owned(),
            body: Some(json!({"description": format!("the {number}.")}).to_string()),
            expect: Expect::Anything,
        };
        let write = Write {
            actor: "tester".to_owned(),
            action: "test".to_owned(),
            at: now - days * 86_400_000_000,
            puts: vec![put],
        };
        assert_eq!(store.write(write).await.expect("written"), number);
    }
    let variables = [("POLYGATE_DATA_DIR", data.path().to_str().expect("text"))];
    let config = plain(&mock, "audit: {retention_days: 7, config_versions: 1}");
    let gate = Gate::start_with(&config, &variables);
    let start = Instant::now();
    let left = loop {
        let versions = store.versions(i64::MAX, 9).await.expect("versions");
        if versions.len() == 1 {
            break versions;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{}", gate.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(left[0].version, 4);
    let entries = store.entries(&EventFilter::default(), i64::MAX, 9).await;
    let versions: Vec<_> = entries
        .expect("entries")
        .iter()
        .map(|entry| entry.event.version)
        .collect();
    assert_eq!(versions, [Some(4), Some(3)]);
    let team = gate.admin("/admin/v1/teams/kept").await.json();
    assert_eq!(team["description"], "the 4.", "{team}");
    let gone = gate.admin("/admin/v1/config/history/2").await;
    assert_eq!(gone.status, 404, "{}", gone.text());
    let body = json!({"version": 1}).to_string();
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    let path = "/admin/v1/config/rollback";
    let refused = gate.ask(Method::POST, path, &headers, body).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
}
