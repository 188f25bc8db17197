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
use crate::record;

/// How often a full disk is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// With less room than this a full disk is still full.
const PROBE: u64 = 64 * 1024;

/// How long the writer lets messages come together: who sends one in that time wakes nobody.
const NAP: Duration = Duration::from_millis(1);

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
                    goes_on = self.take(message, &mut backlog);
                    thread::sleep(NAP);
                    let mut more = queued.try_iter();
                    goes_on &= more.all(|message| self.take(message, &mut backlog));
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
        if let Err((_, error)) = self.put_somehow(message) {
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

    /// Writes it, unless others wait before it; false where it is the last.
    fn take(&self, message: Message, backlog: &mut VecDeque<Message>) -> bool {
        if matches!(message, Message::Stop) {
            return false;
        }
        backlog.push_back(message);
        if backlog.len() == 1 {
            self.clear(backlog);
        }
        true
    }

    /// Writes what waits, in order, as far as there is room.
    fn clear(&self, backlog: &mut VecDeque<Message>) {
        while let Some(message) = backlog.pop_front() {
            if let Err((message, error)) = self.put_somehow(message) {
                self.is_full(&error);
                backlog.push_front(message);
                return;
            }
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

    /// Writes it, into the room of the reserve where there is no other.
    fn put_somehow(&self, message: Message) -> Result<(), (Message, io::Error)> {
        self.put(message).or_else(|(message, error)| {
            self.is_full(&error);
            match self.disk.release(&self.log.instance().reserve()) {
                Ok(()) => self.put(message),
                Err(_) => Err((message, error)),
            }
        })
    }

    fn put(&self, message: Message) -> Result<(), (Message, io::Error)> {
        let (call, row, seat) = match message {
            Message::Settle { call, ending, seat } => (call, ending.row(), seat),
            Message::Abandon { call, seat } => {
                let Some(row) = record::aborted(&self.log.intents(call)) else {
                    self.log.close(call);
                    return Ok(());
                };
                self.counts.aborted.fetch_add(1, Ordering::SeqCst);
                let row = Box::new(row);
                (call, row, seat)
            }
            Message::Stop => return Ok(()),
        };
        let written =
            frame::encode(Kind::Settled, &row).and_then(|frame| self.log.settle(call, &frame));
        if let Err(error) = written {
            let ending = Ending::Made(row);
            return Err((Message::Settle { call, ending, seat }, error));
        }
        if self.options.fsync == Fsync::Always {
            self.log.sync();
        }
        let ended = row.started.saturating_add(row.duration);
        let before = self.counts.waiting.fetch_add(1, Ordering::SeqCst);
        if before == 0 {
            self.counts.oldest.store(ended, Ordering::Relaxed);
        }
        // Who ships waits for the first of a batch, and then for the last.
        if before == 0 || before + 1 == self.options.batch_rows as u64 {
            self.wake.notify();
        }
        Ok(())
    }
}
