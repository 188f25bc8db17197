//! The thread that ships rows to the store, in batches, until it has them: a store that is away or hangs is waited for here only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use polygate_store::usage::CallRow;
use polygate_store::{StoreError, UsageStore};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::instance::{self, Orphan};
use crate::ledger::Shared;
use crate::replay::Replay;
use crate::tail::Tail;

/// Where is kept what cannot be shipped.
const QUARANTINE: &str = "quarantine.log";

/// How often a pending answer is left to see whether the ledger is closed.
const GLANCE: Duration = Duration::from_millis(50);

/// Ships rows.
pub(crate) struct Shipper {
    shared: Arc<Shared>,
    store: Arc<dyn UsageStore>,
    handle: Handle,
}

/// What wakes the shipper.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// When it has to have ended.
    stop: Mutex<Option<Instant>>,
    rung: Condvar,
}

/// There is no time left.
struct Stopped;

impl Wake {
    /// There is something to ship.
    pub(crate) fn notify(&self) {
        drop(self.lock());
        self.rung.notify_one();
    }

    /// To end by then.
    pub(crate) fn stop(&self, until: Instant) {
        let mut stop = self.lock();
        *stop = Some(stop.map_or(until, |earlier| earlier.min(until)));
        drop(stop);
        self.rung.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.lock().is_some()
    }

    fn is_over(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() >= until)
    }

    /// Waits, so long at most, until it is so or the ledger is to end.
    fn wait(&self, most: Duration, is_so: impl Fn() -> bool) {
        let goes_on = |stop: &mut Option<Instant>| stop.is_none() && !is_so();
        // A poisoned lock is no reason to spin: there is nothing to panic under it.
        let _ = self.rung.wait_timeout_while(self.lock(), most, goes_on);
    }

    /// Waits all of it, or until there is no time left.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut stop = self.lock();
        loop {
            let end = stop.map_or(until, |stop| stop.min(until));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.rung.wait_timeout(stop, left);
            stop = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shipper {
    /// Of a ledger, to a store.
    pub(crate) fn new(shared: Arc<Shared>, store: Arc<dyn UsageStore>, handle: Handle) -> Self {
        Self {
            shared,
            store,
            handle,
        }
    }

    /// Ships what the dead left, then what comes, until the ledger is closed.
    pub(crate) fn run(self, orphans: Vec<Orphan>) {
        let mut tail = Tail::default();
        let mut orphans = orphans;
        let mut looked = Instant::now();
        loop {
            for orphan in orphans.drain(..) {
                if self.replay(orphan).is_err() {
                    return;
                }
            }
            if self.ship_new(&mut tail).is_err() || self.shared.wake.is_stopping() {
                return;
            }
            self.rest();
            let is_due = looked.elapsed() >= self.shared.options.look_again;
            if is_due && !self.shared.wake.is_stopping() {
                looked = Instant::now();
                orphans = instance::orphans(&self.shared.folder)
                    .inspect_err(|error| tracing::warn!(%error, "the ledger's folder cannot be looked through"))
                    .unwrap_or_default();
            }
        }
    }

    /// Waits for rows, and a little for more of them.
    fn rest(&self) {
        let Shared {
            wake,
            options,
            counts,
            ..
        } = &*self.shared;
        let waiting = || counts.waiting.load(Ordering::SeqCst);
        wake.wait(options.look_again, || waiting() > 0);
        if waiting() > 0 {
            let batch = options.batch_rows as u64;
            wake.wait(options.batch_pause, || waiting() >= batch);
        }
    }

    /// Ships what this process has written: whole batches, and what is left behind them.
    fn ship_new(&self, tail: &mut Tail) -> Result<(), Stopped> {
        let Shared {
            log,
            fresh,
            counts,
            options,
            wake,
            ..
        } = &*self.shared;
        loop {
            let rows = tail.next(log, fresh, options.batch_rows);
            counts
                .damaged
                .fetch_add(tail.take_damaged(), Ordering::SeqCst);
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(%error, "the ledger's log cannot be read");
                    self.pause(options.backoff.1)?;
                    continue;
                }
            };
            let count = rows.len();
            self.ship(rows)?;
            log.shipped_before(tail.segment());
            // Few rows wait for others, so that a busy gateway sends no small batches.
            let is_last = count < options.batch_rows && !wake.is_stopping();
            if count == 0 || is_last {
                return Ok(());
            }
        }
    }

    /// Ships what a dead process left, and removes it.
    fn replay(&self, orphan: Orphan) -> Result<(), Stopped> {
        let Orphan { instance, segments } = orphan;
        let counts = &self.shared.counts;
        let mut replay = Replay::default();
        let mut done = Vec::new();
        for number in segments {
            let path = instance.segment(number);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a segment of the ledger cannot be read: left there, and what follows it");
                    return Ok(());
                }
            };
            self.ship_read(replay.segment(&bytes))?;
            for body in replay.unread.drain(..) {
                tracing::error!(path = %path.display(), "the ledger has a record that this version cannot read");
                self.put_aside(&json!({ "reason": "unreadable", "record": body }))?;
                counts.quarantined.fetch_add(1, Ordering::SeqCst);
            }
            done.push(path);
            if replay.is_even() {
                done.drain(..).for_each(|path| instance::remove(&path));
            }
        }
        let aborted = replay.aborted();
        counts
            .aborted
            .fetch_add(aborted.len() as u64, Ordering::SeqCst);
        counts.damaged.fetch_add(replay.damaged, Ordering::SeqCst);
        counts.torn.fetch_add(replay.torn, Ordering::SeqCst);
        self.ship_read(aborted)?;
        done.iter().for_each(|path| instance::remove(path));
        instance.remove();
        Ok(())
    }

    /// Ships rows of another, which count as waiting from here on.
    fn ship_read(&self, mut rows: Vec<CallRow>) -> Result<(), Stopped> {
        let waiting = &self.shared.counts.waiting;
        waiting.fetch_add(rows.len() as u64, Ordering::SeqCst);
        while !rows.is_empty() {
            let most = self.shared.options.batch_rows.clamp(1, rows.len());
            let rest = rows.split_off(most);
            self.ship(std::mem::replace(&mut rows, rest))?;
        }
        Ok(())
    }

    /// Ships a batch; what in it is refused is found and put aside.
    fn ship(&self, rows: Vec<CallRow>) -> Result<(), Stopped> {
        let counts = &self.shared.counts;
        if let Some(first) = rows.first() {
            let ended = first.started.saturating_add(first.duration);
            counts.oldest.store(ended, Ordering::Relaxed);
        }
        let rows: Arc<[CallRow]> = rows.into();
        let mut parts = Vec::new();
        parts.push(0..rows.len());
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let settled = part.len() as u64;
            match self.send(&rows, part.clone())? {
                Ok(()) => counts.shipped.fetch_add(settled, Ordering::SeqCst),
                Err(reason) if settled == 1 => {
                    let row = rows.get(part.start);
                    let call = row.map(|row| row.id.as_str());
                    tracing::error!(call, %reason, "the store refuses a row of the ledger: see quarantine.log");
                    self.put_aside(&json!({ "reason": reason, "row": row }))?;
                    counts.quarantined.fetch_add(1, Ordering::SeqCst)
                }
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                    continue;
                }
            };
            counts.waiting.fetch_sub(settled, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Sends rows until the store takes or refuses them.
    fn send(
        &self,
        rows: &Arc<[CallRow]>,
        part: Range<usize>,
    ) -> Result<Result<(), String>, Stopped> {
        let (first, longest) = self.shared.options.backoff;
        let mut pause = first;
        loop {
            let error = match self.record(rows, part.clone())? {
                Ok(_) => return Ok(Ok(())),
                Err(StoreError::Refused(reason)) => return Ok(Err(reason)),
                Err(error) => error,
            };
            tracing::warn!(%error, "the ledger's rows wait for the store");
            self.pause(pause)?;
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    /// Asks the store once. It runs elsewhere: where it hangs, or ends with its runtime, this goes on.
    fn record(
        &self,
        rows: &Arc<[CallRow]>,
        part: Range<usize>,
    ) -> Result<polygate_store::error::Result<u64>, Stopped> {
        let (answer, answered) = mpsc::sync_channel(1);
        let store = Arc::clone(&self.store);
        let rows = Arc::clone(rows);
        let task = self.handle.spawn(async move {
            let rows = rows.get(part).unwrap_or_default();
            let _ = answer.send(store.record(rows).await);
        });
        let until = Instant::now() + self.shared.options.store_patience;
        let away = |why: &str| Ok(Err(StoreError::Unavailable(why.to_owned())));
        loop {
            match answered.recv_timeout(GLANCE) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return away("its task has ended"),
                Err(RecvTimeoutError::Timeout) if self.shared.wake.is_over() => {
                    task.abort();
                    return Err(Stopped);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    task.abort();
                    return away("it does not answer");
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Keeps what cannot be shipped, for someone to look at.
    fn put_aside(&self, what: &Value) -> Result<(), Stopped> {
        let path = self.shared.folder.join(QUARANTINE);
        while let Err(error) = append_line(&path, what) {
            tracing::warn!(%error, path = %path.display(), "what cannot be shipped cannot be kept yet");
            self.pause(self.shared.options.backoff.1)?;
        }
        Ok(())
    }

    fn pause(&self, pause: Duration) -> Result<(), Stopped> {
        self.shared.wake.pause(pause);
        if self.shared.wake.is_over() {
            return Err(Stopped);
        }
        Ok(())
    }
}

fn append_line(path: &Path, line: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}
