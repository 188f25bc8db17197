//! What becomes of an answer whose stream breaks off: its end, or another's words behind it in the same block.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use tokio::sync::oneshot;

use super::{KEEPALIVE, Relay, Silence};
use crate::engine::{Asking, Continuation, Cut, Further, Lent, out_of_time};
use crate::observe::Recorder;

/// Who is being asked has deadlines of its own.
const NO_IDLE: Duration = Duration::from_secs(365 * 86_400);

/// What becomes of the answer if the stream breaks off.
pub(super) enum Rest {
    /// It ends there.
    None,
    /// Another may be asked to go on.
    Others(Box<Continuation>),
    /// Another is being asked.
    Asked(Asked),
    /// Nobody went on.
    Failed,
}

/// Another is being asked to go on. Dropped, it closes whatever was opened for that.
pub(super) struct Asked {
    asking: Asking,
    /// Here the recorder comes back, however that ends.
    recorder: oneshot::Receiver<Recorder>,
}

impl Relay {
    /// Should it break off, others may be asked to go on with it.
    pub fn may_continue(&mut self, continuation: Box<Continuation>) {
        if self.lane.may_continue() {
            self.rest = Rest::Others(continuation);
        }
    }

    /// All tokens of the answer so far, whoever wrote it.
    pub(super) fn usage(&self) -> Option<Usage> {
        match (self.before, self.meter.usage) {
            (Some(before), Some(own)) => Some(before.plus(own)),
            (before, own) => before.or(own),
        }
    }

    /// Asks another to go on where the stream broke off; false where that cannot be.
    pub(super) fn go_on(&mut self) -> bool {
        let said = match (&self.rest, self.lane.said()) {
            (Rest::Others(_), Some(said)) if self.failure.is_some() => said.to_owned(),
            _ => return false,
        };
        // The model was done: there is nothing to go on with.
        if self.meter.finished {
            return false;
        }
        let usage = self.usage();
        let rest = std::mem::replace(&mut self.rest, Rest::Failed);
        let (Rest::Others(others), Some(mut failure), Some(mut recorder)) =
            (rest, self.failure.take(), self.recorder.take())
        else {
            return false;
        };
        self.parts.candidate.credential.secrets.redact(&mut failure);
        self.parts.rest(&failure);
        recorder.land();
        recorder.update(|record| record.usage = usage);
        recorder.heard(self.meter.usage, std::mem::take(&mut self.meter.heard));
        recorder.of_answer(|attempt| attempt.broke(&failure));
        tracing::debug!(
            request_id = &*self.parts.request_id,
            candidate = ?self.parts.candidate,
            failure = failure.logged(),
            "stream broke off: another is asked to go on"
        );
        let (lent, recorder) = Lent::new(recorder);
        let asking = others.ask(Cut { said, failure }, lent);
        self.rest = Rest::Asked(Asked { asking, recorder });
        self.before = usage;
        self.meter.usage = None;
        self.watch.idle = NO_IDLE;
        true
    }

    /// Waits for whoever is asked to go on; meanwhile the client gets its signs of life.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Rest::Asked(asked) = &mut self.rest else {
            return Poll::Ready(());
        };
        if let Poll::Ready(answered) = asked.asking.as_mut().poll(cx) {
            self.ask_no_more();
            match answered {
                Ok(further) => self.take_over(further),
                Err(failure) => self.failure = Some(failure),
            }
            return Poll::Ready(());
        }
        match ready!(self.watch.poll(cx, false)) {
            Silence::Comment => self.out.push(Bytes::from_static(KEEPALIVE)),
            Silence::Over => self.fail_for_good(out_of_time()),
            Silence::Bearable | Silence::TooLong => {}
        }
        Poll::Ready(())
    }

    /// The answer ends here with this, though others could have gone on.
    pub(super) fn fail_for_good(&mut self, failure: Failure) {
        self.ask_no_more();
        self.fail(failure);
    }

    fn ask_no_more(&mut self) {
        let rest = std::mem::replace(&mut self.rest, Rest::None);
        let Rest::Asked(Asked {
            asking,
            mut recorder,
        }) = rest
        else {
            return;
        };
        drop(asking);
        self.recorder = recorder.try_recv().ok();
        self.rest = Rest::Failed;
    }

    fn take_over(&mut self, further: Further) {
        let Further {
            relay: mut next,
            guarded,
            continuation,
        } = further;
        if let Some(guarded) = guarded {
            self.guard_also(&guarded);
        }
        self.rest = Rest::Others(continuation);
        self.upstream = next.upstream.take();
        self.first = std::mem::take(&mut next.first);
        self.meter = std::mem::take(&mut next.meter);
        self.failure = next.failure.take();
        self.parts.candidate = next.parts.candidate.clone();
        self.watch.idle = next.parts.idle;
        self.watch.chunk();
        self.watch.said();
        let before = self.before.unwrap_or_default();
        self.lane.take_over(&mut next.lane, before, &mut self.out);
    }
}
