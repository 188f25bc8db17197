//! The ledger as calls see it: a slot before anything is spent, an intent before an upstream is asked, a settlement that cannot fail.

mod settle;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use polygate_store::UsageStore;
use polygate_store::usage::CallRow;
use tokio::runtime::Handle;

use crate::disk::{Disk, Machine};
use crate::error::{LedgerError, Result};
use crate::frame::{self, Kind};
use crate::fresh::Fresh;
use crate::instance::{self, Instance};
use crate::log::{AppendError, Log};
use crate::record::Intent;
use crate::ship::{Shipper, Wake};
use crate::spare::Spares;
use settle::{Ending, Message};

/// So many batches of rows stay in memory for the shipper.
const BATCHES_AT_HAND: usize = 4;

/// When the disk has to have what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// When the system likes: a crash of the machine costs what it had not written yet, one of the process nothing.
    Never,
    /// So often.
    Interval(Duration),
    /// Before an upstream is asked. Costs a write to the disk per attempt.
    Always,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// So many calls at a time.
    pub slots: usize,
    /// When the disk has to have what was written.
    pub fsync: Fsync,
    /// A segment is followed by another from here on.
    pub segment_bytes: u64,
    /// With so many unshipped bytes no further call is taken; those that run are still settled.
    pub most_bytes: u64,
    /// Room that is kept for settlements where the disk is full.
    pub reserve_bytes: u64,
    /// So many rows are shipped together.
    pub batch_rows: usize,
    /// So long rows wait for others.
    pub batch_pause: Duration,
    /// So long the store may take for a batch.
    pub store_patience: Duration,
    /// The first pause after a store was away, and the longest.
    pub backoff: (Duration, Duration),
    /// How often it is looked whether another process has left something.
    pub look_again: Duration,
    /// So many calls a second are written that nobody has to pay.
    pub spares_per_second: u32,
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that have a slot.
    pub slots_taken: usize,
    /// Rows in the log that the store does not have yet, those of processes not yet taken over aside.
    pub waiting: u64,
    /// Rows that the store has.
    pub shipped: u64,
    /// Rows that the store refused, and records of a later version: now in `quarantine.log`.
    pub quarantined: u64,
    /// Calls that nobody ended, settled by their estimates.
    pub aborted: u64,
    /// Calls that nobody has to pay, and that were not written since there were too many of them.
    pub passed_over: u64,
    /// Damaged stretches of the log that were stepped over.
    pub damaged: u64,
    /// Segments whose end was cut off.
    pub torn: u64,
    /// Bytes of this process's log.
    pub bytes: u64,
    /// With so many no further call is taken.
    pub most_bytes: u64,
    /// No new call is taken, since the disk is full.
    pub full: bool,
    /// When about the oldest call ended that the store does not have; microseconds since 1970.
    pub oldest_unshipped: Option<i64>,
}

/// The local log of one process.
pub struct Ledger {
    shared: Arc<Shared>,
    writer: Thread,
    shipper: Thread,
}

/// A thread that can be waited for once.
type Thread = Mutex<Option<JoinHandle<()>>>;

/// A place in the ledger for one call. Dropped unsettled, the call counts as aborted where it had an intent.
pub struct Slot {
    seat: Option<Seat>,
    call: u64,
    intends: AtomicBool,
}

/// What calls and both threads share.
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) fresh: Fresh,
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    pub(crate) counts: Counts,
    pub(crate) wake: Wake,
    disk: Arc<dyn Disk>,
    /// Tells this process's calls from others'.
    number: u32,
    spares: Spares,
    taken: AtomicUsize,
    calls: AtomicU64,
    full: AtomicBool,
    closed: AtomicBool,
    /// The writer reads the queue; where it does not, whoever settles writes.
    writing: AtomicBool,
    /// As long as there are slots, since a slot sends one message.
    queue: Sender<Message>,
    queued: Mutex<Receiver<Message>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) waiting: AtomicU64,
    pub(crate) shipped: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) passed_over: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) torn: AtomicU64,
    pub(crate) oldest: AtomicI64,
}

/// One of the slots, free again once this is dropped.
struct Seat(Arc<Shared>);

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 10_000,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            segment_bytes: 16 << 20,
            most_bytes: 8 << 30,
            reserve_bytes: 4 << 20,
            batch_rows: 500,
            batch_pause: Duration::from_millis(250),
            store_patience: Duration::from_secs(30),
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            look_again: Duration::from_secs(30),
            spares_per_second: 100,
        }
    }
}

impl Ledger {
    /// Opens the log in a folder, which is made where it is not there. Rows go to the store on `handle`.
    pub fn open(
        folder: &Path,
        options: Options,
        store: Arc<dyn UsageStore>,
        handle: Handle,
    ) -> Result<Self> {
        Self::open_on(folder, options, store, handle, Arc::new(Machine))
    }

    pub(crate) fn open_on(
        folder: &Path,
        options: Options,
        store: Arc<dyn UsageStore>,
        handle: Handle,
        disk: Arc<dyn Disk>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(LedgerError::folder("create", folder))?;
        let orphans = instance::orphans(folder)?;
        let shared = Arc::new(Shared::new(folder, options, disk)?);
        let shipper = Shipper::new(Arc::clone(&shared), store, handle);
        let writer = Arc::clone(&shared);
        let ledger = Self {
            shared,
            writer: Mutex::default(),
            shipper: Mutex::default(),
        };
        start(&ledger.writer, "ledger-writer", move || writer.write())?;
        start(&ledger.shipper, "ledger-shipper", move || {
            shipper.run(orphans);
        })?;
        Ok(ledger)
    }

    /// A slot for a call; `None`: all are taken, or the disk is full, and the call is to be refused before anything is spent.
    pub fn reserve(&self) -> Option<Slot> {
        let shared = &self.shared;
        let is_first = shared.taken.fetch_add(1, Ordering::SeqCst) < shared.options.slots;
        let seat = Seat(Arc::clone(shared));
        let is_open = !shared.full.load(Ordering::Relaxed) && !shared.closed.load(Ordering::SeqCst);
        (is_first && is_open).then(|| Slot {
            seat: Some(seat),
            call: shared.calls.fetch_add(1, Ordering::Relaxed),
            intends: AtomicBool::new(false),
        })
    }

    /// A slot for a call that is over and that nobody has to pay: where there is plenty of room, and for so many a second. `None`: it
    /// is counted, and not written.
    pub fn reserve_spare(&self) -> Option<Slot> {
        let Shared {
            options,
            taken,
            log,
            spares,
            counts,
            ..
        } = &*self.shared;
        let has_room = || {
            taken.load(Ordering::Relaxed) < options.slots / 4
                && log.bytes() < options.most_bytes / 4
        };
        let spare = || spares.take(options.spares_per_second) && has_room();
        let slot = spare().then(|| self.reserve()).flatten();
        if slot.is_none() {
            counts.passed_over.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    /// [`Ledger::end`] waits no longer.
    pub fn hurry(&self) {
        self.shared.wake.stop(Instant::now());
    }

    /// How it goes.
    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let waiting = counts.waiting.load(Ordering::SeqCst);
        let oldest = counts.oldest.load(Ordering::Relaxed);
        Stats {
            slots_taken: self.shared.taken.load(Ordering::SeqCst),
            waiting,
            shipped: counts.shipped.load(Ordering::SeqCst),
            quarantined: counts.quarantined.load(Ordering::SeqCst),
            aborted: counts.aborted.load(Ordering::SeqCst),
            passed_over: counts.passed_over.load(Ordering::SeqCst),
            damaged: counts.damaged.load(Ordering::SeqCst),
            torn: counts.torn.load(Ordering::SeqCst),
            bytes: self.shared.log.bytes(),
            most_bytes: self.shared.options.most_bytes,
            full: self.shared.full.load(Ordering::Relaxed),
            oldest_unshipped: (waiting > 0).then_some(oldest),
        }
    }

    /// Ends; see [`Ledger::end`].
    pub fn close(self, within: Duration) -> Stats {
        self.end(within)
    }

    /// Takes no further calls, ships what there is, for so long at most, and ends its threads. What is left, and calls that end later,
    /// the next process finds. Blocks: not for async code.
    pub fn end(&self, within: Duration) -> Stats {
        let until = Instant::now() + within;
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = self.shared.queue.send(Message::Stop);
        join(&self.writer);
        self.shared.wake.stop(until);
        join(&self.shipper);
        let stats = self.stats();
        if stats.slots_taken == 0 && stats.waiting == 0 {
            self.shared.log.remove();
        }
        stats
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = self.shared.queue.send(Message::Stop);
        self.shared.wake.stop(Instant::now());
    }
}

impl Slot {
    /// Writes down what the call is about to do. Where this fails, the upstream may not be asked.
    pub fn intend(&self, intent: &Intent<'_>) -> Result<()> {
        let Some(Seat(shared)) = &self.seat else {
            return Ok(());
        };
        let full = |error: std::io::Error| LedgerError::Full(error.to_string());
        let frame = frame::encode(Kind::Intent, intent).map_err(full)?;
        if shared.full.load(Ordering::Relaxed) {
            return Err(LedgerError::Full("its disk is full".to_owned()));
        }
        let written = shared.log.intend(self.call, frame);
        written.map_err(|error| shared.refuses(error))?;
        self.intends.store(true, Ordering::Relaxed);
        if shared.options.fsync == Fsync::Always {
            shared.log.sync();
        }
        Ok(())
    }

    /// An id for its call, which began at this moment (microseconds since 1970): no other call has it, and later ones have a greater.
    pub fn id(&self, began: i64) -> String {
        let number = self.seat.as_ref().map_or(0, |Seat(shared)| shared.number);
        let (began, count) = (began.unsigned_abs(), self.call as u32);
        format!("{began:016x}{number:08x}{count:08x}")
    }

    /// How the call ended. Never waits, and takes the place of its intents.
    pub fn settle(self, row: CallRow) {
        self.end(Ending::Made(Box::new(row)));
    }

    /// The same where the row is made by who writes it.
    pub fn settle_with(self, row: impl FnOnce() -> CallRow + Send + 'static) {
        self.end(Ending::ToMake(Box::new(row)));
    }

    fn end(mut self, ending: Ending) {
        if let Some(seat) = self.seat.take() {
            let call = self.call;
            seat.send(|seat| Message::Settle { call, ending, seat });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let seat = self.seat.take().filter(|_| *self.intends.get_mut());
        if let Some(seat) = seat {
            let call = self.call;
            seat.send(|seat| Message::Abandon { call, seat });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Seat {
    fn send(self, message: impl FnOnce(Seat) -> Message) {
        let shared = Arc::clone(&self.0);
        if let Err(mpsc::SendError(message)) = shared.queue.send(message(self)) {
            shared.write_now(message);
        }
        if !shared.writing.load(Ordering::SeqCst) {
            shared.drain();
        }
    }
}

impl Shared {
    fn new(folder: &Path, mut options: Options, disk: Arc<dyn Disk>) -> Result<Self> {
        options.batch_rows = options.batch_rows.max(1);
        let instance = Instance::new(folder)?;
        let reserve = disk.reserve(&instance.reserve(), options.reserve_bytes);
        if let Err(error) = &reserve {
            tracing::warn!(%error, "the ledger's disk has no room for its reserve: no call is taken");
        }
        let (segment, most) = (options.segment_bytes, options.most_bytes);
        let (queue, queued) = mpsc::channel();
        Ok(Self {
            log: Log::new(instance, Arc::clone(&disk), segment, most)?,
            fresh: Fresh::new(options.batch_rows.saturating_mul(BATCHES_AT_HAND)),
            folder: folder.to_owned(),
            options,
            counts: Counts::default(),
            wake: Wake::default(),
            disk,
            number: rand::random(),
            spares: Spares::default(),
            taken: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            full: AtomicBool::new(reserve.is_err()),
            closed: AtomicBool::new(false),
            writing: AtomicBool::new(true),
            queue,
            queued: Mutex::new(queued),
        })
    }

    fn refuses(&self, error: AppendError) -> LedgerError {
        if let AppendError::Disk(error) = &error {
            self.is_full(error);
        }
        LedgerError::Full(error.to_string())
    }

    fn is_full(&self, error: &dyn std::fmt::Display) {
        if !self.full.swap(true, Ordering::SeqCst) {
            tracing::warn!(%error, "the ledger's log cannot be written: no call is taken until it can");
        }
    }
}

fn start(thread: &Thread, what: &'static str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let named = thread::Builder::new().name(what.to_owned());
    let started = named.spawn(run);
    let started = started.map_err(|source| LedgerError::Start { what, source })?;
    *thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    Ok(())
}

fn join(thread: &Thread) {
    let mut thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = thread.take();
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the ledger has panicked");
    }
}
