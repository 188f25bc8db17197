//! A stream that several clients get as it comes. Whoever has got all that there is reads on in the provider's answer, for all: so there
//! is no task for it, it goes on as long as one client wants it, and its upstream is let go with the last of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use http_body::Body;
use polygate_core::{Failure, Kind};

use super::ReplyBody;
use crate::observe::{End, Outcome, Recorder};

/// A stream that several clients get.
pub struct Live {
    state: Mutex<State>,
    listeners: Arc<Listeners>,
    next: AtomicU64,
    /// So many bytes of it are held, for those who come later or read slower.
    most: usize,
    /// How it ended, once it has.
    end: Arc<OnceLock<End>>,
}

struct State {
    /// The provider's answer, as long as there may be more of it.
    body: Option<ReplyBody>,
    pieces: VecDeque<Bytes>,
    /// The number of the first of these.
    first: usize,
    bytes: usize,
}

/// One client's part in it.
pub struct Listener {
    live: Arc<Live>,
    id: u64,
    /// The number of the piece that comes next.
    at: usize,
    /// Of a call that is not the one that asked: that one's is with the answer.
    recorder: Option<Recorder>,
}

/// Who is to be woken when there is more.
#[derive(Default)]
struct Listeners(Mutex<Vec<(u64, Waker)>>);

impl Live {
    /// Of this answer, whose record says how it ends.
    pub(crate) fn new(body: ReplyBody, most: usize, end: Arc<OnceLock<End>>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                body: Some(body),
                pieces: VecDeque::new(),
                first: 0,
                bytes: 0,
            }),
            listeners: Arc::default(),
            next: AtomicU64::new(0),
            most,
            end,
        })
    }

    /// One more client, from the beginning; `None` where that is gone, or where the stream has failed.
    pub(crate) fn listen(self: &Arc<Self>) -> Option<Listener> {
        let has_failed = self.end.get().is_some_and(|end| !end.is_good());
        let is_whole = self.state().first == 0;
        (is_whole && !has_failed).then(|| self.listener())
    }

    /// Somebody who has nothing of it yet.
    pub(crate) fn listener(self: &Arc<Self>) -> Listener {
        Listener {
            live: self.clone(),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            at: 0,
            recorder: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads on. `false`: there is no more.
    fn poll_more(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<bool, Failure>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(false));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        let piece = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
        match piece.transpose() {
            Ok(Some(piece)) => {
                self.bytes += piece.len();
                self.pieces.push_back(piece);
                while self.bytes > most && self.pieces.len() > 1 {
                    let gone = self.pieces.pop_front().unwrap_or_default();
                    self.bytes -= gone.len();
                    self.first += 1;
                }
                Poll::Ready(Ok(true))
            }
            Ok(None) => {
                // Here its record is sent, with how it ended.
                self.body = None;
                Poll::Ready(Ok(false))
            }
            Err(failure) => {
                self.body = None;
                Poll::Ready(Err(failure))
            }
        }
    }
}

impl Listener {
    /// From here on the answer is the client's.
    pub(super) fn release(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Ends it before its time, for all: only a gateway that goes does that.
    pub(super) fn stop(&mut self, failure: Failure) {
        if let Some(body) = &mut self.live.state().body {
            body.stop(failure);
        }
        self.live.listeners.wake_all();
    }

    /// The client's next piece.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        let live = self.live.clone();
        let mut state = live.state();
        loop {
            let Some(number) = self.at.checked_sub(state.first) else {
                return self.failed(too_slow());
            };
            if let Some(piece) = state.pieces.get(number).cloned() {
                self.at += 1;
                if let Some(recorder) = &mut self.recorder {
                    recorder.answers(&piece);
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            live.listeners.add(self.id, cx.waker());
            // Whoever reads on now may be gone, or have a client that takes nothing, when there is more: all are woken.
            let waker = Waker::from(live.listeners.clone());
            let more = ready!(state.poll_more(&mut Context::from_waker(&waker), live.most));
            live.listeners.wake_all();
            match more {
                Ok(true) => {}
                Ok(false) => {
                    self.ended();
                    return Poll::Ready(None);
                }
                Err(failure) => return self.failed(failure),
            }
        }
    }

    /// Its record says what the stream's own does.
    fn ended(&mut self) {
        let end = self.live.end.get().copied();
        if let (Some(mut recorder), Some(end)) = (self.recorder.take(), end) {
            recorder.update(|record| {
                record.outcome = end.outcome;
                record.error = end.error;
                record.saved = end.usage;
            });
        }
    }

    fn failed(&mut self, failure: Failure) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Some(mut recorder) = self.recorder.take() {
            recorder.update(|record| {
                record.outcome = Outcome::Failed;
                record.error = Some(failure.kind.name());
            });
        }
        Poll::Ready(Some(Err(failure)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.live.listeners.remove(self.id);
    }
}

impl Listeners {
    fn all(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: u64, waker: &Waker) {
        let mut all = self.all();
        match all.iter_mut().find(|(of, _)| *of == id) {
            Some((_, known)) => known.clone_from(waker),
            None => all.push((id, waker.clone())),
        }
    }

    fn remove(&self, id: u64) {
        self.all().retain(|(of, _)| *of != id);
    }

    fn wake_all(&self) {
        let all = std::mem::take(&mut *self.all());
        all.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Wake for Listeners {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

fn too_slow() -> Failure {
    let message = "the client reads so slowly that what it has not got yet is held no longer";
    Failure::new(Kind::ClientTimeout, message)
}
