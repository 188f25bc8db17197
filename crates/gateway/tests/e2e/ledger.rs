//! The ledger: what the gateway says of its calls is what the providers say, whatever happened to either.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use polygate_mock_provider::{Behaviour, Entry, Fault, Mock, Outcome, Rule};
use polygate_store::UsageStore;
use polygate_store::usage::{AttemptRow, CallFilter, CallPage, CallRow, Filter, State, Totals};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Gate, calls, chat, mock, until};
use crate::wall::clients::CLIENTS;

const KEY: &str = "a secret key of some length";

/// A micro-dollar for a token of input, ten for one of output.
const PRICE: &str = "price_overrides: [{model: '*', price: {input: 1, output: 10}}]";

/// Every row of a store, with its attempts.
async fn rows(url: &str) -> Vec<CallRow> {
    let store = SqlStore::new(url).expect("a store");
    let page = CallPage {
        offset: 0,
        limit: 100_000,
        ..CallPage::default()
    };
    let found = store.calls(&CallFilter::default(), page).await;
    let mut rows = Vec::new();
    for row in found.map(|found| found.calls).unwrap_or_default() {
        let whole = store.call(&row.id).await.expect("the store answers");
        rows.push(whole.expect("a row"));
    }
    rows
}

/// How many rows there are; none where the store does not answer.
async fn count(url: &str) -> usize {
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
async fn until_count(url: &str, wanted: usize, gate: &Gate) {
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

fn script(mock: &Mock, model: &str, then: Behaviour) {
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
fn plain(mock: &Mock, more: &str) -> String {
    format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\n{PRICE}\n{more}\n",
        mock.url()
    )
}

/// A stream whose id its provider hears too.
async fn ask_as(gate: &Gate, id: &str) -> Option<Vec<u8>> {
    let body = json!({"model": "m", "stream": true, "user": id, "messages": [{"role": "user", "content": "Hello there"}]}).to_string();
    let mut socket = TcpStream::connect(gate.address()).await.ok()?;
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {id}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let sent = socket.write_all(format!("{head}{body}").as_bytes()).await;
    sent.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    let is_whole = answer.windows(6).any(|at| at == b"[DONE]");
    is_whole.then_some(answer)
}

/// Calls for ever until the gateway is gone; the ids of those that were answered to the end.
async fn load(gate: &Gate, clients: usize, name: &str) -> Vec<String> {
    let clients = (0..clients).map(async |client| {
        let mut whole = Vec::new();
        for number in 0..100_000 {
            let id = format!("{name}-{client}-{number}");
            match ask_as(gate, &id).await {
                Some(_) => whole.push(id),
                None => break,
            }
        }
        whole
    });
    join_all(clients).await.concat()
}

/// The ids of the calls that a provider got.
fn asked(mock: &Mock) -> Vec<String> {
    let id = |entry: Entry| {
        let body: Value = serde_json::from_slice(&entry.body?).ok()?;
        Some(body["user"].as_str()?.to_owned())
    };
    calls(mock).into_iter().filter_map(id).collect()
}

/// Every call that a provider got has a row, and those that nobody saw end are charged by an estimate.
fn check_cut(rows: &[CallRow], mock: &Mock, whole: &[String], clients: usize) {
    let by_id: HashMap<&str, &CallRow> = rows.iter().map(|row| (&*row.request_id, row)).collect();
    for id in asked(mock) {
        assert!(
            by_id.contains_key(&*id),
            "{id} was asked for and has no row"
        );
    }
    let aborted = |row: &&&CallRow| row.state == State::Aborted;
    // A client may have had the last byte of an answer that nobody could note any more.
    let unsure = whole
        .iter()
        .filter_map(|id| by_id.get(&**id))
        .filter(aborted);
    assert!(unsure.count() <= clients);
    let cut: Vec<_> = rows
        .iter()
        .filter(|row| !whole.contains(&row.request_id))
        .collect();
    assert!(!cut.is_empty(), "some were cut off");
    for row in cut.iter().filter(|row| row.state == State::Aborted) {
        assert!(row.cost > 0 && row.usage.input > 0, "{row:?}");
        let outcome = (&*row.outcome, row.error.as_deref());
        assert_eq!(outcome, ("aborted", Some("gateway_ended")), "{row:?}");
    }
    let states: BTreeMap<&str, usize> = rows.iter().fold(BTreeMap::new(), |mut counts, row| {
        *counts.entry(row.state.as_str()).or_default() += 1;
        counts
    });
    assert!(states["reported"] + clients >= whole.len(), "{states:?}");
}

fn database_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("polygate.db").display())
}

#[tokio::test]
async fn a_killed_gateway_loses_no_call() {
    const CLIENTS: usize = 20;
    let mock = mock("p").await;
    let slow = Behaviour {
        token_ms: 5,
        tokens: Some(12),
        ..Behaviour::default()
    };
    script(&mock, "m", slow);
    let data = tempfile::tempdir().expect("a directory");
    let variables = [("POLYGATE_DATA_DIR", data.path().to_str().expect("text"))];
    let mut whole = Vec::new();
    for round in 0..3 {
        let mut gate = Gate::start_with(&plain(&mock, ""), &variables);
        let before = calls(&mock).len();
        let killing = async {
            until("there is traffic", || calls(&mock).len() > before + 200).await;
            gate.signal("KILL");
        };
        let name = format!("round-{round}");
        let (answered, ()) = tokio::join!(load(&gate, CLIENTS, &name), killing);
        gate.wait();
        whole.extend(answered);
    }
    let mut gate = Gate::start_with(&plain(&mock, ""), &variables);
    let url = database_in(data.path());
    let start = Instant::now();
    while count(&url).await < asked(&mock).len() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", gate.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gate.signal("TERM");
    assert!(gate.wait().success());
    check_cut(&rows(&url).await, &mock, &whole, 3 * CLIENTS);
    let left = std::fs::read_dir(data.path().join("ledger")).expect("a folder");
    let logs = left.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().ends_with(".log")
    });
    assert_eq!(logs.count(), 0, "all is shipped");
}

#[tokio::test]
async fn a_dead_replicas_log_is_taken_over_by_one_that_lives() {
    let mock = mock("p").await;
    let slow = Behaviour {
        token_ms: 5,
        tokens: Some(12),
        ..Behaviour::default()
    };
    script(&mock, "m", slow);
    let data = tempfile::tempdir().expect("a directory");
    let variables = [("POLYGATE_DATA_DIR", data.path().to_str().expect("text"))];
    let url = database_in(data.path());
    let mut dying = Gate::start_with(&plain(&mock, ""), &variables);
    let living = Gate::start_with(&plain(&mock, ""), &variables);
    let killing = async {
        until("there is traffic", || calls(&mock).len() > 60).await;
        dying.signal("KILL");
    };
    let (whole, ()) = tokio::join!(load(&dying, 8, "dying"), killing);
    dying.wait();
    assert!(ask_as(&living, "living").await.is_some());
    let start = Instant::now();
    while count(&url).await < asked(&mock).len() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            living.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_cut(&rows(&url).await, &mock, &whole, 8);
    let metrics = living.get("/metrics").await.text();
    let aborted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("polygate_ledger_aborted_total "));
    let aborted: usize = aborted.and_then(|text| text.parse().ok()).expect("a count");
    assert!((1..=8).contains(&aborted), "{aborted}");
}

#[tokio::test]
async fn what_a_database_missed_it_gets() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let mock = mock("p").await;
    let url = postgres.url();
    let variables = [("DB_URL", &*url), ("POLYGATE_SECRET_KEY", KEY)];
    let gate = Gate::start_with(&plain(&mock, ""), &variables);
    postgres.crash();
    for number in 0..50 {
        assert!(ask_as(&gate, &format!("away-{number}")).await.is_some());
    }
    let metrics = gate.get("/metrics").await.text();
    assert!(metrics.contains("polygate_ledger_waiting 50"), "{metrics}");
    postgres.restart();
    until_count(&url, 50, &gate).await;
    let rows = rows(&url).await;
    let output: u64 = rows.iter().map(|row| row.usage.output).sum();
    let served: u64 = calls(&mock).iter().map(|entry| entry.output_tokens).sum();
    assert_eq!(output, served);
}

#[tokio::test]
async fn a_full_log_sheds_calls_and_drops_none_that_was_paid() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let mock = mock("p").await;
    let url = postgres.url();
    let variables = [("DB_URL", &*url), ("POLYGATE_SECRET_KEY", KEY)];
    let gate = Gate::start_with(&plain(&mock, "ledger: {max_bytes: 64KiB}"), &variables);
    postgres.crash();
    let (answered, shed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shed_first = Arc::new(tokio::sync::Mutex::new(None));
    join_all((0..4).map(async |_| {
        for _ in 0..100 {
            let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
            if reply.status == 200 {
                answered.fetch_add(1, Ordering::SeqCst);
            } else {
                shed.fetch_add(1, Ordering::SeqCst);
                shed_first.lock().await.get_or_insert(reply);
            }
        }
    }))
    .await;
    let reply = shed_first.lock().await.take().expect("the log is full");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().contains("ledger"), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "1");
    let answered = answered.into_inner();
    assert_eq!(answered, calls(&mock).len(), "what was shed reached nobody");
    postgres.restart();
    let start = Instant::now();
    while gate
        .post("/v1/chat/completions", &chat("m", false))
        .await
        .status
        != 200
    {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", gate.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let paid = async || {
        let rows = rows(&url).await;
        rows.iter().filter(|row| !row.attempts.is_empty()).count()
    };
    let start = Instant::now();
    while paid().await < answered + 1 {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", gate.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(paid().await, calls(&mock).len());
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

#[tokio::test]
async fn an_absent_store_does_not_keep_a_gateway_from_ending() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let mock = mock("p").await;
    let url = postgres.url();
    let data = tempfile::tempdir().expect("a directory");
    let variables = [
        ("DB_URL", &*url),
        ("POLYGATE_SECRET_KEY", KEY),
        ("POLYGATE_DATA_DIR", data.path().to_str().expect("text")),
    ];
    let mut gate = Gate::start_with(&plain(&mock, ""), &variables);
    postgres.crash();
    for number in 0..10 {
        assert!(ask_as(&gate, &format!("away-{number}")).await.is_some());
    }
    let start = Instant::now();
    gate.signal("TERM");
    assert!(gate.wait().success());
    // The contract says one second; the machine may be busy.
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(gate.log().contains("the next process ships those left"));
    postgres.restart();
    let gate = Gate::start_with(&plain(&mock, ""), &variables);
    until_count(&url, 10, &gate).await;
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
