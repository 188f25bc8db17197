//! The thread that writes settlements, and waits with them where the disk is full.

use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use polygate_store::usage::CallRow;

use super::{Fsync, Seat, Shared};
use crate::frame::{self, Kind};
use crate::fresh::Place;
use crate::record;

/// How often a full disk is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// With less room than this a full disk is still full.
const PROBE: u64 = 64 * 1024;

/// How long the writer lets messages come together: who sends one in that time wakes nobody, and they are written at one go.
const NAP: Duration = Duration::from_millis(4);

/// So many are written at one go.
const TOGETHER: usize = 256;

/// How a call ended.
pub(crate) enum Ending {
    /// As this row says.
    Made(Box<CallRow>),
    /// As the row says that this makes.
    ToMake(Box<dyn FnOnce() -> CallRow + Send>),
}

impl Ending {
    fn row(self) -> Box<CallRow> {
        match self {
            Ending::Made(row) => row,
            Ending::ToMake(make) => Box::new(make()),
        }
    }
}

/// A call that ended, with its row.
struct Ended {
    call: u64,
    row: Box<CallRow>,
    /// Free once this is written.
    seat: Seat,
}

/// What is not written, and why.
type Unwritten = (Vec<Message>, io::Error);

impl From<Ended> for Message {
    fn from(Ended { call, row, seat }: Ended) -> Self {
        let ending = Ending::Made(row);
        Message::Settle { call, ending, seat }
    }
}

/// How calls end.
pub(crate) enum Message {
    /// With a row.
    Settle {
        call: u64,
        ending: Ending,
        seat: Seat,
    },
    /// Without one.
    Abandon { call: u64, seat: Seat },
    /// No further call begins.
    Stop,
}

impl Shared {
    /// Writes until it is told to stop.
    pub(crate) fn write(&self) {
        let queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let mut backlog = VecDeque::new();
        let mut synced = Instant::now();
        let mut asked = Instant::now();
        let mut goes_on = true;
        while goes_on {
            match queued.recv_timeout(self.tick()) {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(message) => {
                    thread::park_timeout(NAP);
                    let more = std::iter::once(message).chain(queued.try_iter());
                    let before = backlog.len();
                    for message in more {
                        match message {
                            Message::Stop => goes_on = false,
                            message => backlog.push_back(message),
                        }
                    }
                    // Others wait before them where the disk is full.
                    if before == 0 {
                        self.clear(&mut backlog);
                    }
                }
            }
            if self.full.load(Ordering::SeqCst) && asked.elapsed() >= ASK_AGAIN {
                self.clear(&mut backlog);
                self.recover(backlog.is_empty());
                asked = Instant::now();
            }
            if let Fsync::Interval(interval) = self.options.fsync
                && synced.elapsed() >= interval
            {
                self.log.sync();
                synced = Instant::now();
            }
        }
        drop(queued);
        self.writing.store(false, Ordering::SeqCst);
        backlog
            .into_iter()
            .for_each(|message| self.write_now(message));
        self.drain();
        if self.options.fsync != Fsync::Never {
            self.log.sync();
        }
    }

    /// Writes what is queued, where the writer has ended.
    pub(super) fn drain(&self) {
        let queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(message) = queued.try_recv() {
            self.write_now(message);
        }
    }

    /// Writes it, or says that it could not be: its intents are still there then.
    pub(super) fn write_now(&self, message: Message) {
        if let Err((_, error)) = self.put_somehow(vec![message]) {
            tracing::error!(%error, "the ledger cannot write how a call ended: its estimate counts");
        }
    }

    fn tick(&self) -> Duration {
        let interval = match self.options.fsync {
            Fsync::Interval(interval) => interval,
            Fsync::Never | Fsync::Always => Duration::from_secs(1),
        };
        interval.clamp(Duration::from_millis(1), ASK_AGAIN)
    }

    /// Writes what waits, in order, as far as there is room.
    fn clear(&self, backlog: &mut VecDeque<Message>) {
        let mut together = TOGETHER;
        while !backlog.is_empty() {
            let some = backlog.drain(..together.min(backlog.len())).collect();
            let Err((some, error)) = self.put_somehow(some) else {
                continue;
            };
            self.is_full(&error);
            let is_alone = some.len() == 1;
            some.into_iter()
                .rev()
                .for_each(|message| backlog.push_front(message));
            if is_alone {
                return;
            }
            // There may be room for one.
            together = 1;
        }
    }

    /// Takes calls again once there is room, and the reserve is whole.
    fn recover(&self, is_clear: bool) {
        let instance = self.log.instance();
        let (reserve, probe) = (instance.reserve(), instance.probe());
        let has_room = || {
            if !reserve.exists() {
                return self
                    .disk
                    .reserve(&reserve, self.options.reserve_bytes)
                    .is_ok();
            }
            self.disk.reserve(&probe, PROBE).is_ok() && self.disk.release(&probe).is_ok()
        };
        if is_clear && has_room() {
            self.full.store(false, Ordering::SeqCst);
            tracing::info!("the ledger's disk has room again");
        }
    }

    /// Writes them, into the room of the reserve where there is no other.
    fn put_somehow(&self, messages: Vec<Message>) -> Result<(), Unwritten> {
        let (ended, error) = match self.put(self.ended(messages)) {
            Ok(()) => return Ok(()),
            Err(unwritten) => unwritten,
        };
        self.is_full(&error);
        let written = match self.disk.release(&self.log.instance().reserve()) {
            Ok(()) => self.put(ended),
            Err(_) => Err((ended, error)),
        };
        written.map_err(|(ended, error)| (ended.into_iter().map(Message::from).collect(), error))
    }

    /// The rows of those that have one.
    fn ended(&self, messages: Vec<Message>) -> Vec<Ended> {
        let ended = messages.into_iter().filter_map(|message| match message {
            Message::Settle { call, ending, seat } => Some(Ended {
                call,
                row: ending.row(),
                seat,
            }),
            Message::Abandon { call, seat } => {
                let Some(row) = record::aborted(&self.log.intents(call)) else {
                    self.log.close(call);
                    return None;
                };
                self.counts.aborted.fetch_add(1, Ordering::SeqCst);
                let row = Box::new(row);
                Some(Ended { call, row, seat })
            }
            Message::Stop => None,
        });
        ended.collect()
    }

    fn put(&self, ended: Vec<Ended>) -> Result<(), (Vec<Ended>, io::Error)> {
        let Some(first) = ended.first() else {
            return Ok(());
        };
        let oldest = first.row.started.saturating_add(first.row.duration);
        let (last, ends) = match self.append(&ended) {
            Ok(written) => written,
            Err(error) => return Err((ended, error)),
        };
        if self.options.fsync == Fsync::Always {
            self.log.sync();
        }
        let count = ended.len() as u64;
        let length = ends.last().copied().unwrap_or_default();
        let start = last.offset.saturating_sub(length as u64);
        let rows = ended.into_iter().zip(ends).map(|(ended, end)| {
            let offset = start + end as u64;
            (Place { offset, ..last }, *ended.row)
        });
        // Counted before they are to be had, and before their seats are free.
        let before = self.counts.waiting.fetch_add(count, Ordering::SeqCst);
        if before == 0 {
            self.counts.oldest.store(oldest, Ordering::Relaxed);
        }
        self.fresh.put(rows);
        // Who ships waits for the first of a batch, and then for the last.
        let batch = self.options.batch_rows as u64;
        if before == 0 || (before < batch && before + count >= batch) {
            self.wake.notify();
        }
        Ok(())
    }

    /// Writes their rows at one go: where the last ends in the log, and where each ends among them.
    fn append(&self, ended: &[Ended]) -> io::Result<(Place, Vec<usize>)> {
        let mut frames = Vec::with_capacity(ended.len() * frame::USUAL);
        let mut ends = Vec::with_capacity(ended.len());
        for Ended { row, .. } in ended {
            frame::encode_into(&mut frames, Kind::Settled, row)?;
            ends.push(frames.len());
        }
        let calls = ended.iter().map(|ended| ended.call);
        Ok((self.log.settle(calls, &frames)?, ends))
    }
}
