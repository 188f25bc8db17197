//! A reply whose head went out before there was an answer: signs of life, then the answer, or its failure in the client's format.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body, Frame};
use polygate_core::Failure;
use polygate_wire::{Format, dialect};
use tokio::time::{Instant, Sleep};

use super::{KEEPALIVE, ReplyBody};
use crate::attempt::Reply;
use crate::call::{Call, Endpoint};
use crate::config::Timeouts;
use crate::engine::Answered;

/// How long a head is held, and what goes out behind it.
#[derive(Clone, Debug)]
pub struct Hold {
    longest: Duration,
    /// Time between signs of life; `None`: there are none.
    every: Option<Duration>,
    shape: Shape,
    client: Format,
    request_id: Arc<str>,
}

/// What the client's answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Server-sent events.
    Events,
    /// Elements of one JSON array.
    Array,
    /// One JSON object.
    Object,
}

/// A call under way.
pub type Running = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// A call behind its head.
pub struct Waiting {
    state: State,
    hold: Hold,
    beat: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// The call goes on.
    Calling(Running),
    /// It has an answer.
    Answering(ReplyBody),
    /// It has none.
    Failed(Failure),
    Over,
}

impl Hold {
    /// For this call; `None` where its head waits as long as the call does.
    pub fn of(call: &Call, timeouts: &Timeouts) -> Option<Self> {
        let endpoint = &call.inbound.endpoint;
        let shape = match endpoint {
            Endpoint::Proxy(_) => return None,
            Endpoint::Generate {
                stream: true,
                sse: false,
            } => Shape::Array,
            _ if call.stream => Shape::Events,
            _ => Shape::Object,
        };
        let (longest, every) = match shape {
            Shape::Object => (timeouts.non_stream_keepalive, timeouts.non_stream_keepalive),
            Shape::Events | Shape::Array => (timeouts.hold, timeouts.keepalive),
        };
        if longest.is_zero() {
            return None;
        }
        Some(Self {
            longest,
            every: Some(every).filter(|every| !every.is_zero()),
            shape,
            client: endpoint.format(),
            request_id: call.inbound.request_id.clone(),
        })
    }

    /// Waits for the call, and no longer than this allows: then the head goes out, and the call goes on in the reply's body.
    pub async fn wait(self, mut call: Running) -> Answered {
        match tokio::time::timeout(self.longest, &mut call).await {
            Ok(answered) => answered,
            Err(_) => {
                let headers = self.headers();
                let body = Box::new(Waiting::new(call, self));
                let reply = Reply {
                    status: StatusCode::OK,
                    headers,
                    body: ReplyBody::Waiting(body),
                    guarded: None,
                    failure: None,
                };
                Answered {
                    explanation: None,
                    result: Ok(reply),
                    trail: None,
                    limits: Vec::new(),
                }
            }
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let content_type = match self.shape {
            Shape::Events => "text/event-stream",
            Shape::Array | Shape::Object => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.shape != Shape::Object {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        headers
    }

    fn sign_of_life(&self) -> Bytes {
        Bytes::from_static(match self.shape {
            Shape::Events => KEEPALIVE,
            Shape::Array | Shape::Object => b"\n",
        })
    }

    fn failed(&self, failure: &Failure) -> Bytes {
        let dialect = dialect(self.client);
        match self.shape {
            Shape::Events => dialect.encode_stream_error(failure, &self.request_id),
            Shape::Object => dialect.encode_error(failure, &self.request_id),
            Shape::Array => {
                let error = dialect.encode_error(failure, &self.request_id);
                [b"[", &*error, b"]"].concat().into()
            }
        }
    }
}

impl Waiting {
    fn new(call: Running, hold: Hold) -> Self {
        // The first one at once: the client sees that the head is all there is.
        let beat = hold
            .every
            .map(|_| Box::pin(tokio::time::sleep_until(Instant::now())));
        Self {
            state: State::Calling(call),
            hold,
            beat,
        }
    }

    /// Ends it before its time.
    pub(super) fn stop(&mut self, failure: Failure) {
        match &mut self.state {
            State::Answering(body) => body.stop(failure),
            // The call hears of it by itself, and its record has it.
            State::Calling(_) | State::Failed(_) | State::Over => {}
        }
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            match &mut self.state {
                State::Answering(body) => return Pin::new(body).poll_frame(cx),
                State::Over => return Poll::Ready(None),
                State::Failed(failure) => {
                    let last = self.hold.failed(failure);
                    self.state = State::Over;
                    return Poll::Ready(Some(Ok(Frame::data(last))));
                }
                State::Calling(call) => {
                    if let Poll::Ready(answered) = call.as_mut().poll(cx) {
                        self.state = match answered.result {
                            Ok(reply) => State::Answering(reply.body),
                            Err(failure) => State::Failed(failure),
                        };
                        continue;
                    }
                    let (Some(beat), Some(every)) = (&mut self.beat, self.hold.every) else {
                        return Poll::Pending;
                    };
                    ready!(beat.as_mut().poll(cx));
                    beat.as_mut().reset(Instant::now() + every);
                    return Poll::Ready(Some(Ok(Frame::data(self.hold.sign_of_life()))));
                }
            }
        }
    }
}
