//! An answer's body with the connection it comes on: read to its end it gives the connection back, dropped before it ends the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{OneStream, Pool, Single};

/// The body of an upstream's answer.
pub struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

pub(super) enum Lease {
    Single(Single, Arc<Pool>),
    /// Held for its count alone.
    Stream(#[expect(dead_code, reason = "dropping it is its use")] OneStream),
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
        };
        if body.incoming.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(Lease::Single(single, pool)) = self.lease.take() {
            pool.give_back(single);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            Some(Err(_)) => this.lease = None,
            Some(Ok(_)) if !this.incoming.is_end_stream() => {}
            _ => this.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerBody")
    }
}
