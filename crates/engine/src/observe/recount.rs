//! Calls whose tokens nobody reported: a thread of its own counts them by the tokenizer, and settles them then.
//!
//! A call waits for nothing here: what there is no room for is settled by its length, as all are where nobody recounts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use polygate_ledger::Slot;
use tokio::sync::oneshot;

use super::charge::ATTEMPT;
use super::content::Content;
use super::pump::Recorders;
use super::record::CallRecord;
use crate::count::{Heard, Question};
use crate::quota::Reservation;

/// So many calls wait to be counted.
const QUEUE: usize = 1024;

/// How soon it is looked again whether a full queue has room.
const AGAIN: Duration = Duration::from_millis(5);

/// The most bytes of a body that is kept until its call is over, and of all of them.
const MOST_OF_ONE: usize = 4 << 20;
const MOST: usize = 32 << 20;

/// Counts what ended without a report. The thread begins with the first such call, and reads the tokenizer's vocabulary then.
#[derive(Clone, Default)]
pub struct Recounter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// `None` where the system has no thread left.
    queue: OnceLock<Option<SyncSender<Job>>>,
    kept: Arc<AtomicUsize>,
    /// Nothing is counted any more.
    is_over: Arc<AtomicBool>,
}

enum Job {
    Settle(Box<Ended>, Room),
    /// All before this are settled.
    Tell(oneshot::Sender<()>),
}

/// A body that is kept.
pub(super) struct Kept {
    bytes: Bytes,
    _room: Room,
}

/// So many bytes, of all that may be kept.
struct Room {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

/// What an attempt said.
pub(super) enum Said {
    /// A stream.
    Heard(Heard),
    /// A whole answer, as the client has it.
    Whole(Kept),
}

/// By what a call can be counted.
#[derive(Default)]
pub(super) struct Evidence {
    /// What it asked.
    pub(super) asked: Option<(Question, Kept)>,
    /// What was said, by the attempts' numbers.
    pub(super) said: Vec<(usize, Said)>,
}

/// A call that is over, with all that hangs on how it is settled.
pub(super) struct Ended {
    pub(super) record: Box<CallRecord>,
    pub(super) evidence: Evidence,
    /// What was said, where somebody is told.
    pub(super) content: Option<Box<Content>>,
    /// What is reserved for the call.
    pub(super) reserved: Reservation,
    /// The same for attempts, by their numbers.
    pub(super) reserved_for: Vec<(usize, Reservation)>,
    /// The call's place in the ledger, where there is one.
    pub(super) slot: Option<Slot>,
    pub(super) recorders: Recorders,
}

impl Recounter {
    /// A body, if there is room for it.
    pub(super) fn keep(&self, bytes: &Bytes) -> Option<Kept> {
        Some(Kept {
            _room: self.room(bytes.len())?,
            bytes: bytes.clone(),
        })
    }

    fn room(&self, bytes: usize) -> Option<Room> {
        let all = self.0.kept.clone();
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, all };
        (bytes <= MOST_OF_ONE && before <= MOST - MOST_OF_ONE).then_some(room)
    }

    /// Counts and settles it, some time. `Err`: there is no room.
    pub(super) fn take(&self, ended: Ended) -> Result<(), Ended> {
        let content = ended.content.as_ref().map_or(0, |content| content.size());
        let Some((queue, room)) = self.queue().zip(self.room(content)) else {
            return Err(ended);
        };
        match queue.try_send(Job::Settle(Box::new(ended), room)) {
            Err(
                TrySendError::Full(Job::Settle(ended, _))
                | TrySendError::Disconnected(Job::Settle(ended, _)),
            ) => Err(*ended),
            _ => Ok(()),
        }
    }

    /// From here on all are settled by their length: nobody waits any more for what is better.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Returns when all that were taken before are settled.
    pub(super) async fn passed(&self) {
        let Some(Some(queue)) = self.0.queue.get() else {
            return;
        };
        let (tell, told) = oneshot::channel();
        let mut job = Job::Tell(tell);
        while let Err(TrySendError::Full(unsent)) = queue.try_send(job) {
            job = unsent;
            tokio::time::sleep(AGAIN).await;
        }
        let _ = told.await;
    }

    fn queue(&self) -> Option<&SyncSender<Job>> {
        let start = || {
            let (queue, jobs) = sync_channel(QUEUE);
            let is_over = self.0.is_over.clone();
            let named = thread::Builder::new().name("recounter".to_owned());
            let started = named.spawn(move || run(&jobs, &is_over));
            started.ok().map(|_| queue)
        };
        self.0.queue.get_or_init(start).as_ref()
    }
}

/// Until nobody has anything more to count.
fn run(jobs: &Receiver<Job>, is_over: &AtomicBool) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Settle(mut ended, _room) => {
                // The tokenizer is not ours. Where it fails on a text, the call is settled by its length.
                let count = || ended.evidence.count(&mut ended.record);
                let is_counted = !is_over.load(Ordering::Relaxed);
                let counted = is_counted.then(|| catch_unwind(AssertUnwindSafe(count)));
                if matches!(counted, Some(Err(_))) {
                    tracing::warn!("the tokenizer failed: a call is charged by its length");
                }
                ended.record.settle();
                ended.finish();
            }
            Job::Tell(tell) => {
                let _ = tell.send(());
            }
        }
    }
}

impl Evidence {
    fn count(&self, record: &mut CallRecord) {
        for (number, attempt) in record.attempts.iter_mut().enumerate() {
            if !attempt.is_guessed() {
                continue;
            }
            let is_told = attempt.usage.is_some_and(|usage| usage.input > 0);
            if let Some((question, body)) = self.asked.as_ref().filter(|_| !is_told) {
                attempt.sent = question.count(&body.bytes, &attempt.model);
            }
            if attempt.complete && attempt.usage.is_some_and(|usage| usage.output > 0) {
                continue;
            }
            let mut said = self.said.iter();
            let came = said
                .find(|(of, _)| *of == number)
                .and_then(|(_, said)| self.came(said, &attempt.model));
            // An answer in which nothing is found to count may be of a shape that is not known here, unless its provider counts nothing
            // either.
            let came = came.filter(|came| *came > 0 || attempt.usage.is_some());
            attempt.came = came.unwrap_or(attempt.came);
        }
    }

    fn came(&self, said: &Said, model: &str) -> Option<u64> {
        match said {
            Said::Heard(heard) => Some(heard.count(model)),
            Said::Whole(body) => {
                let (question, _) = self.asked.as_ref()?;
                question.count_answer(&body.bytes, model)
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.asked.is_none() && self.said.is_empty()
    }
}

impl Ended {
    /// A tokenizer could say better what it took.
    pub(super) fn is_countable(&self) -> bool {
        !self.evidence.is_empty() && self.record.is_guessed()
    }

    /// Settles by what the record says. A call that nobody was asked for never was, unless its answer was kept.
    pub(super) fn finish(self) {
        if !self.record.attempts.is_empty() || self.record.is_replayed() {
            self.reserved.settle(self.record.charge.amounts());
        }
        for (number, reserved) in self.reserved_for {
            let attempt = self.record.attempts.get(number);
            reserved.settle(attempt.map_or(ATTEMPT, |attempt| attempt.charge.amounts()));
        }
        self.recorders.send(self.record, self.content, self.slot);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_as_far_as_there_is_room() {
        let recounter = Recounter::default();
        let held = || recounter.0.kept.load(Ordering::Relaxed);
        let body = Bytes::from(vec![b'a'; MOST_OF_ONE]);
        assert!(
            recounter
                .keep(&Bytes::from(vec![b'a'; MOST_OF_ONE + 1]))
                .is_none()
        );
        assert_eq!(held(), 0);
        let mut kept: Vec<Kept> = std::iter::from_fn(|| recounter.keep(&body)).collect();
        assert_eq!((kept.len(), held()), (MOST / MOST_OF_ONE, MOST));
        kept.pop();
        assert!(recounter.keep(&body).is_some());
        drop(kept);
        assert_eq!(held(), 0);
    }
}
