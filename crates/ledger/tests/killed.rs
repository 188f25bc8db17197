//! A process that is killed in the middle of its calls: the next one finds every call that it had begun.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use polygate_core::Usage;
use polygate_ledger::{Estimate, Fsync, Intent, Ledger, Options};
use polygate_store::error::Result;
use polygate_store::usage::{
    CallFilter, CallList, CallPage, CallRow, Filter, Group, GroupBy, State,
};
use polygate_store::{MemoryStore, StoreError, UsageStore};
use rand::RngExt;
use tokio::runtime::{Builder, Runtime};

/// Where the child finds its folder. Unset: this is no child.
const FOLDER: &str = "POLYGATE_TEST_LEDGER";

/// A store that is never there: all that the child writes stays in its log.
struct Nowhere;

/// The child has said what it was about to do.
#[derive(Default)]
struct Heard {
    /// Calls whose intent was written.
    intended: Vec<String>,
    /// So many calls had been settled in the log.
    settled: usize,
}

#[async_trait]
impl UsageStore for Nowhere {
    async fn record(&self, _: &[CallRow]) -> Result<u64> {
        away()
    }

    async fn totals(&self, _: &Filter, _: Option<GroupBy>) -> Result<Vec<Group>> {
        away()
    }

    async fn calls(&self, _: &CallFilter, _: CallPage) -> Result<CallList> {
        away()
    }

    async fn call(&self, _: &str, _: Option<&str>) -> Result<Option<CallRow>> {
        away()
    }

    async fn forget_calls(&self, _: &[String]) -> Result<u64> {
        away()
    }

    async fn forget_calls_before(&self, _: i64, _: u32) -> Result<u64> {
        away()
    }
}

fn away<T>() -> Result<T> {
    Err(StoreError::Unavailable("it is nowhere".into()))
}

#[test]
fn a_killed_process_loses_no_call() {
    for round in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = killed_after(folder.path(), rand::rng().random_range(1..1500));
        let rows = taken_over(folder.path());
        let reported = rows.values().filter(|state| **state == State::Reported);
        assert!(reported.count() >= heard.settled, "round {round}");
        for id in &heard.intended {
            let state = rows.get(id);
            let is_known = matches!(state, Some(State::Reported | State::Aborted));
            assert!(is_known, "round {round}: {id} is lost: {state:?}");
        }
    }
}

/// Not a test: what `a_killed_process_loses_no_call` starts, until it is killed.
#[test]
#[ignore = "a child of another test"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let (runtime, options) = (runtime(), options());
    let ledger = Ledger::open(
        &folder,
        options,
        Arc::new(Nowhere),
        runtime.handle().clone(),
    );
    let ledger = ledger.expect("a ledger");
    let mut running = Vec::new();
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        let id = format!("call-{number}");
        let Some(slot) = ledger.reserve() else {
            continue;
        };
        slot.intend(&intent(&id)).expect("room");
        writeln!(out, "intended {id}").expect("a pipe");
        running.push((id, slot));
        if running.len() > 5 {
            let place = rand::rng().random_range(0..running.len());
            let (id, slot) = running.swap_remove(place);
            slot.settle(row(&id));
        }
        writeln!(out, "settled {}", ledger.stats().waiting).expect("a pipe");
    }
}

/// Runs a child until it has said so much, kills it, and hears it out.
fn killed_after(folder: &Path, lines: usize) -> Heard {
    let myself = std::env::current_exe().expect("a path");
    let child = Command::new(myself)
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child: Child = child.expect("a child");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut heard = Heard::default();
    for (number, line) in output.lines().enumerate() {
        let line = line.expect("a line");
        // The last line may be half a one.
        match line.split_once(' ') {
            Some(("intended", id)) if number < lines => heard.intended.push(id.to_owned()),
            Some(("settled", count)) if number < lines => {
                heard.settled = count.parse().expect("a number");
            }
            _ => {}
        }
        if number == lines {
            child.kill().expect("a kill");
        }
    }
    child.wait().expect("an end");
    assert!(!heard.intended.is_empty() || lines < 10);
    heard
}

/// What a store has once another process has opened the log.
fn taken_over(folder: &Path) -> BTreeMap<String, State> {
    let (runtime, store) = (runtime(), Arc::new(MemoryStore::default()));
    let ledger = Ledger::open(folder, options(), store.clone(), runtime.handle().clone());
    let stats = ledger.expect("a ledger").close(Duration::from_secs(20));
    let page = CallPage {
        offset: 0,
        limit: u32::MAX,
        ..CallPage::default()
    };
    let all = CallFilter::default();
    let found = runtime.block_on(store.calls(&all, page)).expect("rows");
    let (rows, total) = (found.calls, found.total);
    // The store's count is of calls by their ids: nothing was shipped twice.
    assert_eq!(i64::try_from(stats.shipped), Ok(total));
    assert_eq!((stats.waiting, stats.damaged), (0, 0));
    rows.into_iter().map(|row| (row.id, row.state)).collect()
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).build().expect("a runtime")
}

fn options() -> Options {
    Options {
        slots: 64,
        segment_bytes: 64 * 1024,
        fsync: Fsync::Never,
        ..Options::default()
    }
}

fn intent(id: &str) -> Intent<'_> {
    Intent {
        call: id.into(),
        attempt: 1,
        request_id: id.into(),
        key: "key".into(),
        team: "team".into(),
        model: "model".into(),
        label: "model".into(),
        provider: "provider".into(),
        credential: "credential".into(),
        upstream_model: "model".into(),
        endpoint: "chat".into(),
        stream: false,
        shadow_of: None,
        started: 1,
        estimate: Estimate::default(),
    }
}

fn row(id: &str) -> CallRow {
    CallRow {
        id: id.to_owned(),
        request_id: id.to_owned(),
        started: 1,
        duration: 1,
        first_event: None,
        endpoint: "chat".into(),
        key: "key".into(),
        team: "team".into(),
        model: "model".into(),
        label: "model".into(),
        provider: "provider".into(),
        credential: "credential".into(),
        upstream_model: "model".into(),
        client: String::new(),
        stream: false,
        status: 200,
        outcome: "ok".into(),
        error: None,
        state: State::Reported,
        usage: Usage::default(),
        cost: 0,
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
        attempts: Vec::new(),
    }
}
