//! The body: it owns the upstream's answer and is polled by the client's connection. Dropping it lets the upstream go;
//! not polling it slows the upstream; what it has not yet sent is not yet committed.

mod passing;
mod relay;
mod waiting;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use polygate_core::Failure;

pub use passing::Passing;
pub use relay::{Relay, RelayParts};
pub use waiting::{Hold, Running, Waiting};

use crate::observe::{CallRecord, Outcome, Recorder};

/// A comment line: what clients ignore and idle connections need.
const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// The body of a reply.
pub enum ReplyBody {
    /// A whole answer, checked before anything of it was sent.
    Whole(Whole),
    /// A chat stream.
    Stream(Box<Relay>),
    /// Bytes that pass unread: the generic proxy, and answers too long to hold.
    Passing(Box<Passing>),
    /// No answer yet.
    Waiting(Box<Waiting>),
}

/// A whole answer.
pub struct Whole {
    bytes: Option<Bytes>,
    recorder: Recorder,
}

impl ReplyBody {
    /// A whole answer with its recorder, which is sent when the client has taken the bytes.
    pub fn whole(bytes: Bytes, recorder: Recorder) -> Self {
        ReplyBody::Whole(Whole {
            bytes: Some(bytes),
            recorder,
        })
    }

    /// Ends it before its time: a stream with this failure as its last event, other bytes with a break. What is whole stays whole.
    pub fn stop(&mut self, failure: Failure) {
        match self {
            ReplyBody::Whole(_) => {}
            ReplyBody::Stream(relay) => relay.stop(failure),
            ReplyBody::Passing(passing) => passing.stop(failure),
            ReplyBody::Waiting(waiting) => waiting.stop(failure),
        }
    }

    /// Changes the record that travels with the body; one that waits has none yet.
    pub fn update_record(&mut self, change: impl FnOnce(&mut CallRecord)) {
        match self {
            ReplyBody::Whole(whole) => whole.recorder.update(change),
            ReplyBody::Stream(relay) => relay.update_record(change),
            ReplyBody::Passing(passing) => passing.update_record(change),
            ReplyBody::Waiting(_) => {}
        }
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
            ReplyBody::Stream(_) | ReplyBody::Passing(_) | ReplyBody::Waiting(_) => {
                SizeHint::default()
            }
        }
    }
}

impl Whole {
    fn take(&mut self) -> Option<Bytes> {
        let bytes = self.bytes.take()?;
        self.recorder.update(|record| {
            record.outcome = if record.status < 400 {
                Outcome::Completed
            } else {
                Outcome::Failed
            }
        });
        Some(bytes)
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReplyBody::Whole(_) => "Whole",
            ReplyBody::Stream(_) => "Stream",
            ReplyBody::Passing(_) => "Passing",
            ReplyBody::Waiting(_) => "Waiting",
        })
    }
}
