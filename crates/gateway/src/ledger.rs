//! The ledger of this process: opened beside the store, asked for nothing by requests, emptied at the end.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use polygate_engine::config::Config;
use polygate_ledger::{Ledger, LedgerError, Options};
use polygate_store::error::Result;
use polygate_store::usage::{CallFilter, CallList, CallPage, CallRow, Filter, Group, GroupBy};
use polygate_store::{StoreError, UsageStore};
use tokio::runtime::Handle;

use crate::storage::Opened;

/// How often it is looked whether another process has left something.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The end waits for the store as long as it takes rows, and so long where it takes none.
const STALLED: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(50);

/// The longest that the end waits for the store.
const LONGEST_END: Duration = Duration::from_secs(10);

/// The store once its tables and its key are the right ones: before, it takes no rows.
struct Settled(Arc<Opened>);

/// Opens the ledger in the data directory; `None` where nothing can be written, and nobody asked for a database.
pub fn open(
    opened: &Arc<Opened>,
    data_dir: &Path,
    config: &Config,
    bearable: usize,
) -> anyhow::Result<Option<Arc<Ledger>>> {
    let folder = data_dir.join("ledger");
    let calls = config.server.max_concurrent_requests.unwrap_or(bearable);
    let own = &config.ledger;
    let defaults = Options::default();
    let options = Options {
        // Health checks call as well.
        slots: calls.saturating_add(defaults.slots),
        fsync: own.fsync,
        most_bytes: own.max_bytes,
        // What is shipped makes room a segment at a time.
        segment_bytes: defaults.segment_bytes.min(own.max_bytes / 8).max(1),
        look_again: LOOK_AGAIN,
        ..defaults
    };
    let store = Arc::new(Settled(opened.clone()));
    match Ledger::open(&folder, options, store, Handle::current()) {
        Ok(ledger) => Ok(Some(Arc::new(ledger))),
        Err(error) if !opened.is_asked_for && is_unwritable(&error) => {
            tracing::warn!(%error, "no ledger can be kept here: calls are not accounted for");
            Ok(None)
        }
        Err(error) => Err(error)
            .context("calls cannot be accounted for: POLYGATE_DATA_DIR must be a directory that can be written"),
    }
}

fn is_unwritable(error: &LedgerError) -> bool {
    let LedgerError::Folder { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// Ships what there is as long as the store takes it, and ends. What is left the next process finds.
pub async fn end(ledger: Arc<Ledger>, grace: Duration) {
    let within = grace.clamp(STALLED, LONGEST_END);
    let ending = ledger.clone();
    let mut ended = tokio::task::spawn_blocking(move || ending.end(within));
    let mut shipped = ledger.stats().shipped;
    let mut since = tokio::time::Instant::now();
    let stats = loop {
        if let Ok(stats) = tokio::time::timeout(GLANCE, &mut ended).await {
            break stats.ok();
        }
        let now = ledger.stats().shipped;
        if now != shipped {
            (shipped, since) = (now, tokio::time::Instant::now());
        } else if since.elapsed() >= STALLED {
            ledger.hurry();
        }
    };
    if let Some(waiting) = stats.map(|stats| stats.waiting).filter(|left| *left > 0) {
        tracing::warn!(
            waiting,
            "the store did not take all calls: the next process ships those left in the local log"
        );
    }
}

#[async_trait]
impl UsageStore for Settled {
    async fn record(&self, calls: &[CallRow]) -> Result<u64> {
        if !self.0.is_settled() {
            let why = "its tables are not known to be the right ones yet";
            return Err(StoreError::Unavailable(why.to_owned()));
        }
        self.0.store.record(calls).await
    }

    async fn totals(&self, of: &Filter, by: Option<GroupBy>) -> Result<Vec<Group>> {
        self.0.store.totals(of, by).await
    }

    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<CallList> {
        self.0.store.calls(of, page).await
    }

    async fn call(&self, id: &str, team: Option<&str>) -> Result<Option<CallRow>> {
        self.0.store.call(id, team).await
    }

    async fn forget_calls(&self, ids: &[String]) -> Result<u64> {
        self.0.store.forget_calls(ids).await
    }

    async fn forget_calls_before(&self, before: i64, limit: u32) -> Result<u64> {
        self.0.store.forget_calls_before(before, limit).await
    }
}
