//! The one body type of every answer, and answers made here.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use polygate_engine::body::ReplyBody;
use polygate_engine::seats::Seat;

use crate::life::Life;
use crate::refusal::stopping;

/// What goes out.
pub enum AnswerBody {
    /// Bytes made here.
    Whole(Option<Bytes>),
    /// A call's answer.
    Reply(Reply),
    /// A page of the web framework.
    Page(axum::body::Body),
}

/// A call's answer with its seat among the calls.
pub struct Reply {
    body: ReplyBody,
    life: Life,
    is_stopped: bool,
    _seat: Seat,
}

/// An answer.
pub type Answer = Response<AnswerBody>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a type.
pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(
        Some(body.into()).filter(|body| !body.is_empty()),
    ));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A JSON value.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    bytes(status, "application/json", value.to_string())
}

impl Reply {
    /// An answer that ends when the gateway cannot wait for it any longer.
    pub fn new(body: ReplyBody, life: Life, seat: Seat) -> Self {
        Self {
            body,
            life,
            is_stopped: false,
            _seat: seat,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.life.is_cut() && !std::mem::replace(&mut self.is_stopped, true) {
            self.body.stop(stopping());
        }
        Pin::new(&mut self.body)
            .poll_frame(cx)
            .map_err(BoxError::from)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            AnswerBody::Whole(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerBody::Reply(reply) => reply.poll_frame(cx),
            AnswerBody::Page(page) => Pin::new(page).poll_frame(cx).map_err(BoxError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_none(),
            AnswerBody::Reply(reply) => reply.body.is_end_stream(),
            AnswerBody::Page(page) => page.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            AnswerBody::Reply(reply) => reply.body.size_hint(),
            AnswerBody::Page(page) => page.size_hint(),
        }
    }
}
