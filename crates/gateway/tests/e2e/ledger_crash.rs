//! The ledger and what ends in the middle: gateways and databases that are killed, logs that are full.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use polygate_mock_provider::{Behaviour, Entry, Mock};
use polygate_store::usage::{CallRow, State};
use polygate_test_services::Postgres;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ledger::{KEY, count, database_in, plain, rows, script, until_count};
use crate::support::{Gate, calls, chat, mock, until};

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
    // Each client may have had one answer that was not noted yet, and one that was cut off.
    assert!((1..=16).contains(&aborted), "{aborted}");
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
    // A row is written behind the answer.
    let start = Instant::now();
    while !gate
        .get("/metrics")
        .await
        .text()
        .contains("polygate_ledger_waiting 50\n")
    {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", gate.log());
    }
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
