//! The way from dropped calls to sinks: a bounded queue that is emptied in batches. A full queue is counted, never waited for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polygate_ledger::{Ledger, Slot};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::content::Content;
use super::log;
use super::metrics::Metrics;
use super::record::CallRecord;
use super::recount::{Ended, Kept, Recounter};
use super::refused::Refused;
use super::row;

/// Records in flight between calls and sinks.
const QUEUE: usize = 65_536;

/// How often the queue is emptied. Waking somebody for each call would cost more than the call's whole record.
const BEAT: Duration = Duration::from_millis(50);

/// What is put into the queue.
enum Note {
    Call(Finished),
    Refused(Refused),
}

/// A call that is over: what is known of it, and what was said in it, each of which who is told may keep without the other.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What is known of it.
    pub record: Arc<CallRecord>,
    /// What was said, where anybody is told.
    pub content: Option<Arc<Content>>,
}

/// Where calls leave their records.
#[derive(Clone)]
pub struct Recorders {
    queue: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
    ledger: Option<Arc<Ledger>>,
    recounter: Option<Recounter>,
}

/// Empties the queue into metrics, the log and further sinks.
pub struct Pump {
    queue: mpsc::Receiver<Note>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    metrics: Arc<Metrics>,
    sinks: Vec<Box<dyn Sink>>,
}

/// Who else is told of calls that are over: off the request path, and never so that it holds up the next. What it has no room for it drops,
/// and counts.
pub trait Sink: Send {
    /// A call is over.
    fn take(&mut self, call: &Finished);
}

/// Asks for everything so far to be in the sinks.
#[derive(Clone)]
pub struct Flush {
    pump: mpsc::Sender<oneshot::Sender<()>>,
    recounter: Option<Recounter>,
}

impl Recorders {
    /// The queue's two ends.
    pub fn new(metrics: Arc<Metrics>) -> (Self, Pump, Flush) {
        let (queue, records) = mpsc::channel(QUEUE);
        let (flush, flushes) = mpsc::channel(8);
        let pump = Pump {
            queue: records,
            flushes,
            metrics: metrics.clone(),
            sinks: Vec::new(),
        };
        let recorders = Self {
            queue,
            metrics,
            ledger: None,
            recounter: None,
        };
        let flush = Flush {
            pump: flush,
            recounter: None,
        };
        (recorders, pump, flush)
    }

    /// The same, and a tokenizer counts what nobody reports. Without it that goes by length.
    pub fn recounting(metrics: Arc<Metrics>) -> (Self, Pump, Flush) {
        let (mut recorders, pump, mut flush) = Self::new(metrics);
        let recounter = Recounter::default();
        recorders.recounter = Some(recounter.clone());
        flush.recounter = Some(recounter);
        (recorders, pump, flush)
    }

    /// The same with a ledger, which gets every call that was made.
    pub(crate) fn with(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    pub(crate) fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.as_ref()
    }

    /// A body that may have to be counted, if there is room for it and anybody who counts.
    pub(super) fn keep(&self, bytes: &Bytes) -> Option<Kept> {
        self.recounter.as_ref()?.keep(bytes)
    }

    /// The call is over. It is settled by what is known of it, or counted first.
    pub(super) fn end(&self, mut ended: Ended) {
        self.metrics.call_ended(&ended.record);
        ended.record.settle();
        let recounter = self.recounter.as_ref().filter(|_| ended.is_countable());
        let left = match recounter {
            Some(recounter) => recounter.take(ended).err(),
            None => Some(ended),
        };
        if let Some(ended) = left {
            ended.finish();
        }
    }

    /// The call is settled. One that nobody was asked for is written where there is plenty of room.
    pub(super) fn send(
        &self,
        mut record: Box<CallRecord>,
        content: Option<Box<Content>>,
        mut slot: Option<Slot>,
    ) {
        if record.attempts.is_empty() && !record.is_replayed() {
            slot = self
                .ledger
                .as_ref()
                .and_then(|ledger| ledger.reserve_spare());
            record.id = slot
                .as_ref()
                .map(|slot| slot.id(record.began))
                .unwrap_or_default();
        }
        let record: Arc<CallRecord> = record.into();
        if let Some(slot) = slot {
            let record = record.clone();
            slot.settle_with(move || row::row(&record));
        }
        let content = content.map(|mut content| {
            content.end();
            Arc::from(content)
        });
        self.put(Note::Call(Finished { record, content }));
    }

    /// A request was refused before it became a call.
    pub(crate) fn refused(&self, refused: Refused) {
        self.put(Note::Refused(refused));
    }

    fn put(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.metrics.record_dropped();
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// So long readers of metrics wait for calls whose tokens are being counted, and the end of the process does.
const COUNTING: Duration = Duration::from_secs(1);

impl Flush {
    /// Returns when all records sent before are in the sinks, but those that take long to count, or when the pump is gone.
    pub async fn flush(&self) {
        if let Some(recounter) = &self.recounter {
            let _ = timeout(COUNTING, recounter.passed()).await;
        }
        self.pumped().await;
    }

    /// The same when nothing follows: what takes long to count is settled by its length.
    pub async fn end(&self) {
        if let Some(recounter) = &self.recounter
            && timeout(COUNTING, recounter.passed()).await.is_err()
        {
            recounter.end();
            recounter.passed().await;
        }
        self.pumped().await;
    }

    async fn pumped(&self) {
        let (done, wait) = oneshot::channel();
        if self.pump.send(done).await.is_ok() {
            let _ = wait.await;
        }
    }
}

impl Pump {
    /// One more is told.
    pub fn telling(&mut self, sink: impl Sink + 'static) {
        self.sinks.push(Box::new(sink));
    }

    /// The next record, where there is one: for who wants the records themselves, and runs no pump.
    pub fn take(&mut self) -> Option<Arc<CallRecord>> {
        loop {
            if let Note::Call(call) = self.queue.try_recv().ok()? {
                return Some(call.record);
            }
        }
    }

    /// Runs until every sender is gone.
    pub async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => if !self.drain() { return },
                flush = self.flushes.recv() => {
                    let open = self.drain();
                    if let Some(done) = flush {
                        let _ = done.send(());
                    }
                    if !open { return }
                }
            }
        }
    }

    /// Empties the queue; false when nobody can fill it any more.
    fn drain(&mut self) -> bool {
        loop {
            match self.queue.try_recv() {
                Ok(Note::Call(call)) => {
                    self.metrics.observe(&call.record);
                    log::write(&call.record);
                    self.sinks.iter_mut().for_each(|sink| sink.take(&call));
                }
                Ok(Note::Refused(refused)) => {
                    self.metrics.refused(&refused);
                    refused.write();
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }
}
