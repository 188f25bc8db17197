//! Bytes that pass unread. A break in the middle breaks the client's connection too: no clean end that lies.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::transport::AnswerBody;
use bytes::Bytes;
use http_body::Body;
use polygate_core::{Failure, Kind};
use tokio::time::{Instant, Sleep};

use crate::observe::{CallRecord, Outcome, Recorder};

/// An upstream's body on its way.
pub struct Passing {
    /// What was read before it was decided to let it pass.
    head: VecDeque<Bytes>,
    upstream: Option<AnswerBody>,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    last_chunk: Instant,
    recorder: Option<Recorder>,
    /// Why it was ended from here.
    stopped: Option<Failure>,
    /// All of it was read before it was let pass.
    is_held: bool,
}

impl Passing {
    /// Lets pass what was read and what follows.
    pub fn new(head: VecDeque<Bytes>, upstream: AnswerBody, idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            head,
            upstream: Some(upstream),
            timer: Box::pin(tokio::time::sleep_until(now + idle)),
            idle,
            last_chunk: now,
            recorder: None,
            stopped: None,
            is_held: false,
        }
    }

    /// Lets pass what was read, and nothing follows.
    pub(crate) fn whole(bytes: Bytes, idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            head: VecDeque::from([bytes]),
            upstream: None,
            timer: Box::pin(tokio::time::sleep_until(now + idle)),
            idle,
            last_chunk: now,
            recorder: None,
            stopped: None,
            is_held: true,
        }
    }

    /// All of it, where it was read before it is let pass.
    pub(crate) fn held(&self) -> Option<Bytes> {
        self.head.front().filter(|_| self.is_held).cloned()
    }

    /// What is still to come of it, to be read first; and how long that may be silent.
    pub(crate) fn open(&mut self) -> Option<(AnswerBody, Duration)> {
        Some((self.upstream.take()?, self.idle))
    }

    /// Lets pass what was read.
    pub(crate) fn hold(&mut self, bytes: Bytes) {
        self.head = VecDeque::from([bytes]);
        self.is_held = true;
    }

    /// Breaks it off.
    pub(super) fn stop(&mut self, failure: Failure) {
        if self.upstream.take().is_some() {
            self.update_record(|record| {
                record.outcome = Outcome::Failed;
                record.error = Some(failure.kind.name());
            });
            self.stopped = Some(failure);
        }
    }

    pub(super) fn release(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    fn update_record(&mut self, change: impl FnOnce(&mut CallRecord)) {
        if let Some(recorder) = &mut self.recorder {
            recorder.update(change);
        }
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Some(piece) = self.head.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        loop {
            let Some(upstream) = self.upstream.as_mut() else {
                if std::mem::take(&mut self.is_held) {
                    return self.complete();
                }
                return Poll::Ready(self.stopped.take().map(Err));
            };
            match Pin::new(upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.last_chunk = Instant::now();
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    return self.fail(
                        Kind::Broken,
                        "the connection to the provider broke in its answer",
                    );
                }
                Poll::Ready(None) => return self.complete(),
                Poll::Pending => {
                    let due = self.last_chunk + self.idle;
                    if self.timer.is_elapsed() {
                        self.timer.as_mut().reset(due);
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    if Instant::now() >= due {
                        return self.fail(
                            Kind::Timeout,
                            "the provider was silent for too long in its answer",
                        );
                    }
                }
            }
        }
    }

    fn complete(&mut self) -> Poll<Option<Result<Bytes, Failure>>> {
        self.upstream = None;
        if let Some(recorder) = &mut self.recorder {
            recorder.of_answer(|attempt| attempt.complete = true);
        }
        self.update_record(|record| {
            record.outcome = if record.status < 400 {
                Outcome::Completed
            } else {
                Outcome::Failed
            }
        });
        Poll::Ready(None)
    }

    fn fail(&mut self, kind: Kind, message: &str) -> Poll<Option<Result<Bytes, Failure>>> {
        self.upstream = None;
        let failure = Failure::new(kind, message);
        if let Some(recorder) = &mut self.recorder {
            recorder.of_answer(|attempt| attempt.broke(&failure));
        }
        self.update_record(|record| {
            record.outcome = Outcome::Failed;
            record.error = Some(kind.name());
        });
        Poll::Ready(Some(Err(failure)))
    }
}
