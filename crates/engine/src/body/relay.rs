//! A chat stream on its way from upstream to client: read a chunk, cut whole frames, let the lane read them, send.
//!
//! Two phases over one machine. Before the commit point every failure is an `Err` of [`Relay::commit`], nothing has been sent,
//! and another candidate may be asked. After it a failure is the stream's last event, in the client's format.

mod guarding;
mod rest;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::transport::AnswerBody;
use bytes::Bytes;
use http_body::Body;
use polygate_core::{Failure, Kind, Scope, Usage};
use polygate_wire::Format;
use tokio::time::{Instant, Sleep};

use self::rest::Rest;
use super::KEEPALIVE;
use crate::engine::out_of_time;
use crate::lane::{Meter, Output, StreamLane};
use crate::observe::{Outcome, Recorder};
use crate::route::Candidate;
use crate::snapshot::Snapshot;

/// The most that is held back before the commit point.
const PREAMBLE_LIMIT: usize = 16 * 1024 * 1024;

/// How long a stream that is complete waits for the upstream to close, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(1);

/// How long after a finish reason an upstream may be silent before the stream counts as complete without its end mark.
const FINISH_GRACE: Duration = Duration::from_secs(10);

/// A stream with everything it needs to end well or badly.
pub struct Relay {
    /// What was read before it was clear that this is a stream.
    first: Bytes,
    upstream: Option<AnswerBody>,
    lane: StreamLane,
    meter: Meter,
    out: Output,
    failure: Option<Failure>,
    watch: Watch,
    parts: RelayParts,
    recorder: Option<Recorder>,
    /// Tokens of those whose answer this goes on with.
    before: Option<Usage>,
    rest: Rest,
    /// Looks at what the client gets.
    guard: Option<Box<guarding::Guard>>,
}

/// What a relay knows of its call.
pub struct RelayParts {
    /// The client's format.
    pub client: Format,
    /// `x-request-id`.
    pub request_id: Arc<str>,
    /// Who answers: rests when the stream fails.
    pub candidate: Candidate,
    /// The configuration the call began with.
    pub snapshot: Arc<Snapshot>,
    /// For rests.
    pub clock: Arc<dyn polygate_core::Clock>,
    /// How long the upstream may be silent.
    pub idle: Duration,
    /// When the call's own time is over.
    pub until: Option<Instant>,
}

/// When silence becomes a comment or a failure. One timer, moved only when it fires.
struct Watch {
    timer: Pin<Box<Sleep>>,
    last_chunk: Instant,
    /// Something was said: pings are chunks, but say nothing.
    last_said: Instant,
    last_sent: Instant,
    idle: Duration,
    keepalive: Option<Duration>,
    until: Option<Instant>,
}

enum Silence {
    Bearable,
    Comment,
    TooLong,
    /// Not silence: the call's own time is over.
    Over,
}

impl Relay {
    /// Takes over an upstream's answer.
    pub fn new(upstream: AnswerBody, first: Bytes, lane: StreamLane, parts: RelayParts) -> Self {
        let timeouts = &parts.snapshot.config.timeouts;
        let keepalive =
            Some(timeouts.keepalive).filter(|every| !every.is_zero() && lane.takes_comments());
        let watch = Watch::new(parts.idle, keepalive, parts.until);
        Self {
            first,
            upstream: Some(upstream),
            lane,
            meter: Meter::default(),
            out: Output::default(),
            failure: None,
            watch,
            parts,
            recorder: None,
            before: None,
            rest: Rest::None,
            guard: None,
        }
    }

    /// Reads until the first good event is in hand. `Err`: nothing has been sent, and nothing of this stream will be.
    pub async fn commit(&mut self, deadline: Instant) -> Result<(), Failure> {
        let committed = std::future::poll_fn(|cx| self.poll_commit(cx));
        tokio::time::timeout_at(deadline, committed)
            .await
            .unwrap_or_else(|_| {
                Err(
                    Failure::new(Kind::Timeout, "the provider sent nothing of worth in time")
                        .ambiguous(),
                )
            })
    }

    /// Whether the first good event is that the provider did not let the prompt through.
    pub fn is_blocked(&self) -> bool {
        self.meter.is_blocked
    }

    /// What the client is told the stream is.
    pub fn content_type(&self) -> &'static str {
        self.lane.content_type()
    }

    /// From here on the stream is the client's: the recorder goes with it.
    pub fn release(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
        self.watch.sent();
    }

    /// Ends a stream that has not ended with a failure that is nobody's but ours.
    pub(super) fn stop(&mut self, failure: Failure) {
        let goes_on = self.upstream.is_some() || matches!(self.rest, Rest::Asked(_));
        if goes_on && !self.meter.ended {
            self.fail_for_good(failure);
        }
    }

    fn poll_commit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.meter.good {
            if !ready!(self.poll_chunk(cx)) {
                let failure = self.failure.take();
                return Poll::Ready(if self.meter.good {
                    self.keep(failure)
                } else {
                    Err(failure.unwrap_or_else(polygate_wire::ended_early))
                });
            }
            if self.out.len() > PREAMBLE_LIMIT {
                return Poll::Ready(Err(Failure::new(
                    Kind::UpstreamJunk,
                    "the provider's stream has no end of preamble",
                )
                .ambiguous()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The block that brought the first good event brought a failure behind it: it is told after what is good.
    fn keep(&mut self, failure: Option<Failure>) -> Result<(), Failure> {
        self.failure = failure;
        Ok(())
    }

    /// The client's next piece.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(piece) = self.next_piece() {
                self.watch.sent();
                if let Some(recorder) = &mut self.recorder {
                    recorder.answers(&piece);
                }
                return Poll::Ready(Some(piece));
            }
            if matches!(self.rest, Rest::Asked(_)) {
                ready!(self.poll_rest(cx));
                continue;
            }
            if self.upstream.is_none() {
                if self.go_on() {
                    continue;
                }
                ready!(self.poll_guard(cx));
                self.settle();
                if self.out.is_empty() {
                    return Poll::Ready(None);
                }
                continue;
            }
            if self.watch.is_over() && !self.meter.finished {
                self.fail_for_good(out_of_time());
                continue;
            }
            if self.poll_chunk(cx).is_ready() {
                continue;
            }
            if self.meter.ended {
                self.let_go();
                continue;
            }
            match ready!(self.watch.poll(cx, self.meter.finished)) {
                Silence::Bearable => {}
                Silence::Comment => self.out.push(Bytes::from_static(KEEPALIVE)),
                Silence::TooLong | Silence::Over if self.meter.finished => self.end(),
                Silence::Over => self.fail_for_good(out_of_time()),
                Silence::TooLong => {
                    self.fail(
                        Failure::new(
                            Kind::Timeout,
                            "the provider was silent for too long in the middle of its stream",
                        )
                        .ambiguous(),
                    );
                }
            }
        }
    }

    /// Reads one chunk into `out`. False when there will be no more: the stream ended or failed.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(upstream) = self.upstream.as_mut() else {
            return Poll::Ready(false);
        };
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Poll::Ready(self.read(first));
        }
        match ready!(Pin::new(upstream).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.watch.chunk();
                if let Ok(chunk) = frame.into_data() {
                    return Poll::Ready(self.read(chunk));
                }
            }
            Some(Err(_)) if self.meter.ended => self.end(),
            Some(Err(_)) => self.fail(
                Failure::new(
                    Kind::Broken,
                    "the connection to the provider broke in its stream",
                )
                .ambiguous(),
            ),
            None => self.end(),
        }
        Poll::Ready(self.upstream.is_some())
    }

    /// Reads one chunk. False when the stream failed on it.
    fn read(&mut self, chunk: Bytes) -> bool {
        let said = self.meter.heard.said;
        let block = self.lane.cut(chunk);
        if let Err(failure) = block.and_then(|block| self.block(block)) {
            self.fail(failure);
        }
        if self.meter.heard.said != said {
            self.watch.said();
        }
        self.upstream.is_some()
    }

    fn block(&mut self, block: Bytes) -> Result<(), Failure> {
        if block.is_empty() {
            return Ok(());
        }
        self.lane.block(block, &mut self.meter, &mut self.out)
    }

    /// The upstream closed: a last frame without its blank line, then whatever a proper end still owes.
    fn end(&mut self) {
        self.upstream = None;
        let last = match self.lane.cut_last() {
            // What is broken off behind the end mark is nobody's loss.
            Err(_) if self.meter.ended => Ok(()),
            rest => rest.and_then(|rest| self.lane.last(rest, &mut self.meter, &mut self.out)),
        };
        if let Err(failure) = last.and_then(|()| self.lane.finish(&mut self.meter, &mut self.out)) {
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.upstream = None;
        self.failure.get_or_insert(failure);
    }

    /// The stream is complete, the upstream has not closed: someone else waits for that.
    fn let_go(&mut self) {
        let Some(mut upstream) = self.upstream.take() else {
            return;
        };
        self.end();
        tokio::spawn(async move {
            let drained =
                std::future::poll_fn(|cx| match ready!(Pin::new(&mut upstream).poll_frame(cx)) {
                    Some(Ok(_)) => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    _ => Poll::Ready(()),
                });
            let _ = tokio::time::timeout(LINGER, drained).await;
        });
    }

    /// Writes the outcome into the record, once; a failure becomes the last event.
    fn settle(&mut self) {
        let usage = self.usage();
        // Others were asked to go on, and none did: theirs is the failure, and all that there was of them is told.
        let nobody_went_on = matches!(self.rest, Rest::Failed);
        let mut failure = self.failure.take();
        if let Some(failure) = &mut failure {
            self.parts.candidate.credential.secrets.redact(failure);
            self.lane.fail(
                failure,
                self.parts.client,
                &self.parts.request_id,
                &mut self.out,
            );
            if !nobody_went_on {
                self.parts.rest(failure);
            }
        }
        if let Some(mut recorder) = self.recorder.take() {
            if !nobody_went_on {
                recorder.heard(self.meter.usage, std::mem::take(&mut self.meter.heard));
                let has_ended = self.meter.ended;
                recorder.of_answer(|attempt| match &failure {
                    None => attempt.complete = true,
                    Some(failure) if is_ours(failure) => attempt.complete = has_ended,
                    Some(failure) => attempt.broke(failure),
                });
            }
            recorder.update(|record| {
                record.usage = usage;
                record.status = 200;
                record.outcome = if failure.is_some() {
                    Outcome::Failed
                } else {
                    Outcome::Completed
                };
                record.error = failure.as_ref().map(|failure| failure.kind.name());
            });
            if failure.is_none() {
                recorder.ends_well();
            }
        }
    }
}

/// Whether the gateway itself ended the stream: its guards, its own end, or the call's time.
fn is_ours(failure: &Failure) -> bool {
    match failure.kind {
        Kind::Blocked | Kind::Unavailable | Kind::Internal => true,
        kind => kind == Kind::Timeout && failure.scope == Scope::Request,
    }
}

impl RelayParts {
    /// What rests after this failure.
    fn rest(&self, failure: &Failure) {
        let (retry, now) = (&self.snapshot.config.retry, self.clock.now());
        self.candidate.failed(failure, retry, now);
    }
}

impl Drop for Relay {
    /// The client went first: what was counted so far goes into the record.
    fn drop(&mut self) {
        self.note_guard();
        let usage = self.usage();
        let Meter {
            usage: own, ended, ..
        } = self.meter;
        let heard = std::mem::take(&mut self.meter.heard);
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.update(|record| record.usage = usage);
            recorder.heard(own, heard);
            recorder.of_answer(|attempt| attempt.complete = ended);
        }
    }
}

impl Watch {
    fn new(idle: Duration, keepalive: Option<Duration>, until: Option<Instant>) -> Self {
        let now = Instant::now();
        let first = keepalive.map_or(idle, |every| every.min(idle));
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + first)),
            last_chunk: now,
            last_said: now,
            last_sent: now,
            idle,
            keepalive,
            until,
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn chunk(&mut self) {
        self.last_chunk = Instant::now();
    }

    fn said(&mut self) {
        self.last_said = Instant::now();
    }

    fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    /// Ready when the silence must be answered in some way.
    fn poll(&mut self, cx: &mut Context<'_>, finished: bool) -> Poll<Silence> {
        // After the finish reason a ping is no life: some upstreams go on pinging for ever.
        let silent_until = if finished {
            self.last_said + FINISH_GRACE.min(self.idle)
        } else {
            self.last_chunk + self.idle
        };
        let mut due = silent_until;
        if let Some(every) = self.keepalive {
            due = due.min(self.last_sent + every);
        }
        if let Some(until) = self.until {
            due = due.min(until);
        }
        if self.timer.deadline() > due || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        if self.is_over() {
            return Poll::Ready(Silence::Over);
        }
        if now >= silent_until {
            return Poll::Ready(Silence::TooLong);
        }
        if self
            .keepalive
            .is_some_and(|every| now >= self.last_sent + every)
        {
            return Poll::Ready(Silence::Comment);
        }
        Poll::Ready(Silence::Bearable)
    }
}
