//! OpenAI Chat Completions: what most clients speak, and most providers.

mod details;
mod egress;
mod error;
mod ingress;
mod peek;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Ingress, Loss, RawObject, ReplyHead, Signal,
    StreamDecoder, StreamEncoder, Target, UpstreamError, upstream_error,
};

pub(crate) use egress::{effort_of, in_dialect, is_tier, model::Model, titled};
pub use error::encode_error;
pub(crate) use ingress::{Token, data_url, decode_member, grammar, thinking};
pub(crate) use types::{Token as TokenIn, UsageOut, counts};

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
        peek::check(body).map(|checked| checked.usage)
    }

    fn check_chat(&self, body: &[u8]) -> Result<Option<Usage>, Failure> {
        peek::check(body)?.chat()
    }

    fn sniff(&self, frame: &Frame<'_>) -> Signal {
        peek::sniff(frame)
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
        ingress::decode(body)
    }

    fn encode_response(&self, answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
        ingress::encode(answer, reply)
    }

    fn stream_encoder(&self, reply: ReplyHead) -> Box<dyn StreamEncoder> {
        Box::new(ingress::Encoder::new(reply))
    }
}

impl Egress for OpenaiChat {
    fn encode_request(
        &self,
        request: &ChatRequest,
        target: &Target<'_>,
    ) -> Result<(Bytes, Vec<Loss>), Failure> {
        egress::encode(request, target)
    }

    fn continues_last_message(&self, _request: &ChatRequest, target: &Target<'_>) -> bool {
        target.quirks.continues.is_some()
    }

    fn decode_response(&self, body: &[u8]) -> Result<ChatResponse, Failure> {
        egress::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(egress::Decoder::default())
    }
}
