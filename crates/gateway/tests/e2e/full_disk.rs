//! A real file system that is full: the local log takes no more calls before anything is spent, and goes on when there is room.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::Mock;
use polygate_store::UsageStore;
use polygate_store::usage::{CallFilter, CallPage, State};
use polygate_store_sql::SqlStore;
use serde_json::json;

use crate::support::{Gate, Reply, mock};

/// A namespace of its own, in which nobody else sees what is mounted.
const APART: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// Mounts the data directory, and becomes the gateway.
const SCRIPT: &str = "mount -t tmpfs -o size=64m none data && exec \"$0\" --port 0";

/// Whether file systems can be mounted here.
#[expect(
    clippy::print_stderr,
    reason = "what is not tested is said to whoever runs the tests"
)]
fn may_mount() -> bool {
    let done = Command::new("unshare")
        .args(APART)
        .args(["mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    let may = done.is_ok_and(|status| status.success());
    if !may {
        eprintln!("\n*** nothing can be mounted here: a full file system is NOT tested ***\n");
    }
    may
}

/// A gateway whose data directory is a small file system, and its database elsewhere.
fn start(mock: &Mock) -> Gate {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("data")).expect("a directory");
    let config = format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\n",
        mock.url()
    );
    std::fs::write(dir.path().join("config.yaml"), config).expect("a configuration");
    let mut command = Command::new("unshare");
    command
        .args(APART)
        .args(["/bin/sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_polygate")])
        .stdin(Stdio::null());
    let variables = [("POLYGATE_DATA_DIR", "data"), ("DB_URL", "sqlite:calls.db")];
    Gate::start_as(dir, command, &variables)
}

/// A file in the gateway's data directory, as the gateway sees it.
fn ballast(gate: &Gate) -> PathBuf {
    let dir = gate.dir().strip_prefix("/").expect("a whole path");
    let root = PathBuf::from(format!("/proc/{}/root", gate.pid()));
    root.join(dir).join("data/ballast")
}

/// Leaves no room at all.
fn fill(gate: &Gate) {
    let mut file = File::create(ballast(gate)).expect("a file");
    for block in [1 << 16, 1] {
        let error = loop {
            if let Err(error) = file.write_all(&vec![0; block]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
}

async fn call(gate: &Gate) -> Reply {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello there"}]});
    let headers = [("content-type", "application/json")];
    let path = "/v1/chat/completions";
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

/// Calls until an answer has this status; how many others were served before.
async fn until(gate: &Gate, status: u16) -> (usize, Reply) {
    let start = Instant::now();
    let mut served = 0;
    loop {
        let reply = call(gate).await;
        if reply.status == status {
            return (served, reply);
        }
        served += usize::from(reply.status == 200);
        let log = || format!("{}: {}", reply.text(), gate.log());
        assert!(start.elapsed() < Duration::from_secs(30), "{}", log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn metric(gate: &Gate, line: &str) -> bool {
    let text = gate.get("/metrics").await.text();
    text.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_full_file_system_sheds_calls_loses_none_and_is_recovered_from() {
    if !may_mount() {
        return;
    }
    let mock = mock("p").await;
    let gate = start(&mock);
    assert_eq!(call(&gate).await.status, 200, "{}", gate.log());
    fill(&gate);
    let (served, refused) = until(&gate, 503).await;
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert!(metric(&gate, "polygate_ledger_full 1").await);
    let asked = mock.ledger().len();
    assert_eq!(asked, 1 + served, "what was refused was not paid");
    for _ in 0..5 {
        assert_eq!(call(&gate).await.status, 503);
    }
    assert_eq!(mock.ledger().len(), asked);
    std::fs::remove_file(ballast(&gate)).expect("room");
    let (_, recovered) = until(&gate, 200).await;
    assert_eq!(recovered.status, 200);
    assert!(metric(&gate, "polygate_ledger_full 0").await);
    let paid = mock.ledger().len();
    assert_eq!(paid, asked + 1);

    let store = SqlStore::sqlite(&gate.dir().join("calls.db")).expect("a store");
    let start = Instant::now();
    loop {
        let page = CallPage {
            limit: 1000,
            ..CallPage::default()
        };
        let found = store.calls(&CallFilter::default(), page).await;
        let calls = found.expect("calls").calls;
        let states: Vec<_> = calls.iter().map(|call| call.state).collect();
        let reported = states.iter().filter(|state| **state == State::Reported);
        if reported.count() == paid {
            assert!(!states.contains(&State::Aborted), "{states:?}");
            break;
        }
        let log = || format!("{states:?} of {paid}: {}", gate.log());
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
