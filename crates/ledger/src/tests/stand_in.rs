//! A store and a disk that do as they are told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use polygate_core::Usage;
use polygate_store::error::Result;
use polygate_store::usage::{
    CallFilter, CallList, CallPage, CallRow, Filter, Group, GroupBy, State, UsageStore,
};
use polygate_store::{MemoryStore, StoreError};
use tokio::runtime::Runtime;

use crate::disk::{Disk, Machine};
use crate::{Estimate, Intent, Options};

#[derive(Clone, Debug, Default)]
pub(super) enum Mode {
    #[default]
    Well,
    Away,
    Hangs,
    Refuses(String),
}

/// A store.
#[derive(Default)]
pub(super) struct Shop {
    inner: MemoryStore,
    mode: Mutex<Mode>,
    rows: Mutex<BTreeMap<String, CallRow>>,
    /// Rows that it was given and had.
    again: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) largest: AtomicU64,
}

/// A disk with so much room.
pub(super) struct Small(pub(super) AtomicU64);

impl Shop {
    pub(super) fn new(mode: Mode) -> Arc<Self> {
        let shop = Self::default();
        shop.set(mode);
        Arc::new(shop)
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().expect("a lock") = mode;
    }

    pub(super) fn rows(&self) -> BTreeMap<String, CallRow> {
        self.rows.lock().expect("a lock").clone()
    }

    pub(super) fn again(&self) -> u64 {
        self.again.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl UsageStore for Shop {
    async fn record(&self, calls: &[CallRow]) -> Result<u64> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.largest.fetch_max(calls.len() as u64, Ordering::SeqCst);
        let mode = self.mode.lock().expect("a lock").clone();
        match mode {
            Mode::Well => {}
            Mode::Away => return Err(StoreError::Unavailable("away".into())),
            Mode::Hangs => std::future::pending().await,
            Mode::Refuses(id) if calls.iter().any(|call| call.id == id) => {
                return Err(StoreError::Refused("not this".into()));
            }
            Mode::Refuses(_) => {}
        }
        let mut rows = self.rows.lock().expect("a lock");
        let before = rows.len();
        for call in calls {
            rows.entry(call.id.clone()).or_insert_with(|| call.clone());
        }
        let new = (rows.len() - before) as u64;
        self.again
            .fetch_add(calls.len() as u64 - new, Ordering::SeqCst);
        Ok(new)
    }

    async fn totals(&self, of: &Filter, by: Option<GroupBy>) -> Result<Vec<Group>> {
        self.inner.totals(of, by).await
    }

    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<CallList> {
        self.inner.calls(of, page).await
    }

    async fn call(&self, id: &str, team: Option<&str>) -> Result<Option<CallRow>> {
        self.inner.call(id, team).await
    }

    async fn forget_calls(&self, ids: &[String]) -> Result<u64> {
        self.inner.forget_calls(ids).await
    }

    async fn forget_calls_before(&self, before: i64, limit: u32) -> Result<u64> {
        self.inner.forget_calls_before(before, limit).await
    }
}

impl Disk for Small {
    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        let room = self.0.load(Ordering::SeqCst);
        let size = bytes.len() as u64;
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if room < size {
            // What is taken in part is given back at once.
            return file.write(&bytes[..room as usize]);
        }
        self.0.fetch_sub(size, Ordering::SeqCst);
        Machine.append(file, bytes)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.fetch_sub(bytes, Ordering::SeqCst);
        fs::write(path, bytes.to_string())
    }

    fn release(&self, path: &Path) -> io::Result<()> {
        let bytes: u64 = fs::read_to_string(path)?.parse().expect("a size");
        self.0.fetch_add(bytes, Ordering::SeqCst);
        fs::remove_file(path)
    }
}

/// Options for tests: nothing that takes long.
pub(super) fn options() -> Options {
    Options {
        batch_pause: Duration::from_millis(5),
        backoff: (Duration::from_millis(2), Duration::from_millis(20)),
        store_patience: Duration::from_millis(50),
        reserve_bytes: 4096,
        ..Options::default()
    }
}

pub(super) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Until something another thread does is done.
pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

pub(super) fn intent(call: &str, attempt: u32) -> Intent<'static> {
    Intent {
        call: call.to_owned().into(),
        attempt,
        request_id: format!("req-{call}").into(),
        key: "key".into(),
        team: "team".into(),
        model: "model".into(),
        label: "label".into(),
        provider: format!("provider-{attempt}").into(),
        credential: "first".into(),
        upstream_model: "upstream".into(),
        endpoint: "chat".into(),
        stream: true,
        shadow_of: None,
        started: 1_000_000 * i64::from(attempt),
        estimate: Estimate {
            input: 10,
            output: 100,
            cost: 7,
            price: Some("{}".into()),
        },
    }
}

pub(super) fn row(call: &str) -> CallRow {
    let mut row = crate::record::aborted(&[intent(call, 1)]).expect("a row");
    row.state = State::Reported;
    row.error = None;
    row.outcome = "ok".into();
    row.usage = Usage {
        input: 11,
        output: 5,
        ..Usage::default()
    };
    row.cost = 3;
    row
}

/// The files of instances in a folder with this ending.
pub(super) fn files(folder: &Path, ending: &str) -> usize {
    let names = fs::read_dir(folder).expect("a folder");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(ending) && name != "quarantine.log")
        .count()
}
