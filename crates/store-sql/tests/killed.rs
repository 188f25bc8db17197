//! SQLite after its process was killed, a hundred times at any moment: what was acknowledged is there, and nothing is there by half.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use polygate_core::Usage;
use polygate_store::config::{ConfigStore, Expect, Kind, Put, Write};
use polygate_store::usage::{AttemptRow, CallRow, Filter, State, UsageStore};
use polygate_store_sql::SqlStore;

const KILLS: u64 = 100;
/// Rows of a batch, and documents of a version.
const BATCH: i64 = 5;

/// Which file the writer writes, in the process that is killed.
const FILE: &str = "STORE_SQL_KILLED_FILE";

fn row(id: i64) -> CallRow {
    let usage = Usage {
        input: 3,
        output: 2,
        ..Usage::default()
    };
    let attempt = AttemptRow {
        started: 0,
        provider: "p".to_owned(),
        credential: "c".to_owned(),
        model: "m".to_owned(),
        outcome: "ok".to_owned(),
        status: 200,
        duration: 1,
        state: State::Reported,
        usage,
        cost: 7,
    };
    CallRow {
        id: format!("call-{id}"),
        request_id: format!("request-{id}"),
        started: id,
        duration: 1,
        first_event: None,
        endpoint: "/v1/chat/completions".to_owned(),
        key: "k".to_owned(),
        team: String::new(),
        model: "m".to_owned(),
        label: "m".to_owned(),
        provider: "p".to_owned(),
        credential: "c".to_owned(),
        upstream_model: "m".to_owned(),
        client: "test".to_owned(),
        stream: false,
        status: 200,
        outcome: "completed".to_owned(),
        error: None,
        state: State::Reported,
        usage,
        cost: 7,
        price: None,
        losses: None,
        tags: None,
        end_user: None,
        session: None,
        metadata: None,
        passed_over: None,
        cached: None,
        saved: None,
        decision: None,
        shadow_of: None,
        attempts: vec![attempt],
    }
}

fn batch(number: i64) -> Vec<CallRow> {
    (number * BATCH..(number + 1) * BATCH).map(row).collect()
}

fn version(number: i64) -> Write {
    let put = |one| Put {
        kind: Kind::Model,
        name: format!("model-{one}"),
        body: Some(format!("{{\"number\":{number}}}")),
        expect: Expect::Anything,
    };
    Write {
        actor: "test".to_owned(),
        action: "test".to_owned(),
        at: 1,
        puts: (0..BATCH).map(put).collect(),
    }
}

/// Writes until it is killed: a batch of calls and a version by turns, and says the number of each pair that the store has taken.
#[tokio::test]
#[ignore = "the writer that the other test starts"]
async fn writes() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = SqlStore::sqlite(Path::new(&file)).unwrap();
    store.migrate_up().await.unwrap();
    let first = store.version().await.unwrap();
    for number in first.. {
        store.record(&batch(number)).await.unwrap();
        store.write(version(number)).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "done {number}").unwrap();
        out.flush().unwrap();
    }
}

/// Runs the writer up to some moment; the last pair that it said was taken.
async fn killed(file: &Path, seed: u64) -> Option<i64> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes", "--ignored", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut last = None;
    let (pairs, moment) = (seed * 7 % 5, seed * 311 % 4000);
    let mut said = 0;
    while said < pairs {
        let line = lines.next().unwrap().unwrap();
        if let Some(number) = line.strip_prefix("done ") {
            last = number.parse().ok();
            said += 1;
        }
    }
    // Not to wait for anything: somewhere within the next writes.
    tokio::time::sleep(Duration::from_micros(moment)).await;
    writer.kill().unwrap();
    writer.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("done ") {
            last = number.parse().ok();
        }
    }
    last
}

#[tokio::test]
async fn what_was_taken_is_there_and_nothing_by_half() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("killed.db");
    let mut known = -1;
    for seed in 0..KILLS {
        known = killed(&file, seed)
            .await
            .map_or(known, |last| last.max(known));
        let store = SqlStore::sqlite(&file).unwrap();
        store.migrate_up().await.unwrap();
        let documents = store.documents().await.unwrap();
        assert!(documents.version > known, "kill {seed}: {known} was taken");
        for document in &documents.documents {
            let expected = format!("{{\"number\":{}}}", documents.version - 1);
            assert_eq!(document.body, expected, "kill {seed}: a version by half");
        }
        let sums = store.totals(&Filter::default(), None).await.unwrap();
        let sums = sums.first().unwrap().totals.clone();
        assert_eq!(sums.calls % BATCH, 0, "kill {seed}: a batch by half");
        let batches = sums.calls / BATCH;
        // The batch comes before the version, which may not have been reached.
        assert!(
            (0..=1).contains(&(batches - documents.version)),
            "kill {seed}"
        );
        assert_eq!(
            (sums.attempts, sums.cost_micro_usd),
            (sums.calls, sums.calls * 7)
        );
        if batches > 0 {
            let last = batches * BATCH - 1;
            let found = store.call(&format!("call-{last}"), None).await.unwrap();
            assert_eq!(found, Some(row(last)), "kill {seed}");
        }
    }
    assert!(known > 50, "{known}: the writer was hardly let write");
}
