//! OpenAI Chat Completions: what most clients speak, and most providers.

mod error;
mod message;
mod request;
mod response;
mod stream;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};

use crate::{
    ChatRequest, ChatResponse, Dialect, Frame, Ingress, RawObject, ReplyHead, Signal,
    StreamEncoder, UpstreamError, upstream_error,
};

pub use error::encode_error;
pub(crate) use types::counts;

/// The format.
#[derive(Debug)]
pub struct OpenaiChat;

impl Dialect for OpenaiChat {
    fn encode_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        error::encode_error(failure, request_id)
    }

    fn encode_stream_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        let body = error::encode_error(failure, request_id);
        [b"data: ", body.as_ref(), b"\n\n"].concat().into()
    }

    fn decode_error(&self, body: &[u8]) -> Option<UpstreamError> {
        upstream_error::decode(body)
    }

    fn check_answer(&self, body: &[u8]) -> Result<Option<Usage>, Failure> {
        response::check(body)
    }

    fn sniff(&self, frame: &Frame<'_>) -> Signal {
        stream::sniff(frame)
    }

    /// Every chunk has `"finish_reason":null`; only one has a word there.
    fn marks(&self) -> &'static [&'static [u8]] {
        &[
            b"\"usage\"",
            b"\"error\"",
            b"[DONE]",
            b"finish_reason\":\"",
            b"finish_reason\": \"",
        ]
    }
}

impl Ingress for OpenaiChat {
    fn decode_request(&self, body: &RawObject) -> Result<ChatRequest, Failure> {
        request::decode(body)
    }

    fn encode_response(&self, answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
        response::encode(answer, reply)
    }

    fn stream_encoder(&self, reply: ReplyHead) -> Box<dyn StreamEncoder> {
        Box::new(stream::Encoder::new(reply))
    }
}
