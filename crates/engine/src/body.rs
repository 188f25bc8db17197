//! The body: it owns the upstream's answer and is polled by the client's connection. Dropping it lets the upstream go;
//! not polling it slows the upstream; what it has not yet sent is not yet committed.

mod live;
mod passing;
mod relay;
mod replayed;
mod waiting;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use polygate_core::{Failure, Usage};
use polygate_wire::{Dialect, Frame as Said};

pub use live::{Listener, Live};
pub use passing::Passing;
pub use relay::{Relay, RelayParts};
pub use replayed::Replayed;
pub use waiting::{Hold, Running, Waiting};

use crate::observe::{Outcome, Recorder};

/// A comment line: what clients ignore and idle connections need.
const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// The body of a reply.
pub enum ReplyBody {
    /// A whole answer, checked before anything of it was sent.
    Whole(Box<Whole>),
    /// A chat stream.
    Stream(Box<Relay>),
    /// Bytes that pass unread: the generic proxy, and answers too long to hold.
    Passing(Box<Passing>),
    /// No answer yet.
    Waiting(Box<Waiting>),
    /// A stream that was kept.
    Replayed(Box<Replayed>),
    /// A stream that others get too.
    Live(Box<Listener>),
}

/// A whole answer.
pub struct Whole {
    bytes: Option<Bytes>,
    usage: Option<Usage>,
    recorder: Option<Recorder>,
    /// What was answered and is paid, where the client gets something else.
    answered: Option<Bytes>,
}

impl ReplyBody {
    /// A whole answer with the usage that it reports.
    pub fn whole(bytes: Bytes, usage: Option<Usage>) -> Self {
        ReplyBody::Whole(Box::new(Whole {
            bytes: Some(bytes),
            usage,
            recorder: None,
            answered: None,
        }))
    }

    /// Ends it before its time: a stream with this failure as its last event, other bytes with a break. What is whole stays whole.
    pub fn stop(&mut self, failure: Failure) {
        match self {
            ReplyBody::Whole(_) | ReplyBody::Replayed(_) => {}
            ReplyBody::Stream(relay) => relay.stop(failure),
            ReplyBody::Passing(passing) => passing.stop(failure),
            ReplyBody::Waiting(waiting) => waiting.stop(failure),
            ReplyBody::Live(listener) => listener.stop(failure),
        }
    }

    /// From here on the answer is the client's: the recorder goes with it, and is sent when the client has all of it, or goes. What it
    /// costs, where that is known already.
    pub fn release(&mut self, mut recorder: Recorder, status: StatusCode) -> Option<u64> {
        recorder.first_event();
        let mut cost = None;
        match self {
            ReplyBody::Whole(whole) => {
                recorder.update(|record| {
                    record.usage = whole.usage;
                    record.status = status.as_u16();
                });
                let answered = whole.answered.take().or(whole.bytes.clone());
                recorder.answered(whole.usage, &answered.unwrap_or_default());
                recorder.update(|record| cost = record.cost());
                whole.recorder = Some(recorder);
            }
            ReplyBody::Stream(relay) => relay.release(recorder),
            ReplyBody::Passing(passing) => {
                recorder.update(|record| record.status = status.as_u16());
                recorder.of_answer(|attempt| attempt.status = status.as_u16());
                passing.release(recorder);
            }
            ReplyBody::Replayed(replayed) => {
                recorder.update(|record| record.status = status.as_u16());
                replayed.release(recorder);
            }
            ReplyBody::Live(listener) => {
                recorder.update(|record| record.status = status.as_u16());
                listener.release(recorder);
            }
            // It brings its own.
            ReplyBody::Waiting(_) => {}
        }
        cost
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            ReplyBody::Whole(whole) => {
                Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            ReplyBody::Stream(relay) => relay
                .poll_piece(cx)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
            ReplyBody::Passing(passing) => passing
                .poll_piece(cx)
                .map(|piece| piece.map(|bytes| bytes.map(Frame::data))),
            ReplyBody::Waiting(waiting) => waiting.poll_piece(cx),
            ReplyBody::Replayed(replayed) => {
                Poll::Ready(replayed.next().map(|bytes| Ok(Frame::data(bytes))))
            }
            ReplyBody::Live(listener) => listener
                .poll_piece(cx)
                .map(|piece| piece.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(whole) if whole.bytes.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(whole) => {
                SizeHint::with_exact(whole.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            ReplyBody::Stream(_)
            | ReplyBody::Passing(_)
            | ReplyBody::Waiting(_)
            | ReplyBody::Replayed(_)
            | ReplyBody::Live(_) => SizeHint::default(),
        }
    }
}

impl Whole {
    /// What the client gets.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone().unwrap_or_default()
    }

    /// The client gets this instead.
    pub fn replace(&mut self, bytes: Bytes) {
        let answered = self.bytes.replace(bytes);
        self.answered = self.answered.take().or(answered);
    }

    fn take(&mut self) -> Option<Bytes> {
        let bytes = self.bytes.take()?;
        if let Some(recorder) = &mut self.recorder {
            recorder.answers(&bytes);
            recorder.update(|record| {
                record.outcome = if record.status < 400 {
                    Outcome::Completed
                } else {
                    Outcome::Failed
                }
            });
            recorder.ends_well();
        }
        Some(bytes)
    }

    /// Whether it says no more than that the provider did not let the prompt through.
    pub(crate) fn is_blocked(&self, dialect: &dyn Dialect) -> bool {
        let data = self.bytes.as_deref().unwrap_or_default();
        let said = Said {
            event: None,
            data: data.into(),
        };
        dialect.sniff(&said).is_blocked
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReplyBody::Whole(_) => "Whole",
            ReplyBody::Stream(_) => "Stream",
            ReplyBody::Passing(_) => "Passing",
            ReplyBody::Waiting(_) => "Waiting",
            ReplyBody::Replayed(_) => "Replayed",
            ReplyBody::Live(_) => "Live",
        })
    }
}
