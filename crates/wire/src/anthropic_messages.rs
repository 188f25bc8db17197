//! Anthropic Messages.

pub(crate) mod egress;
mod error;
mod ingress;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use serde_json::value::RawValue;

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Ingress, Loss, RawObject, ReplyHead, Signal,
    StreamDecoder, StreamEncoder, Target, UpstreamError, upstream_error,
};

/// The format.
#[derive(Debug)]
pub struct AnthropicMessages;

/// Whether a model of this name keeps to schemas by itself.
pub(crate) fn keeps_to_schemas(model: &str) -> bool {
    egress::Model::named(model).schemas
}

/// Whether a schema is one that Claude can promise to keep to.
pub(crate) fn can_keep_to(schema: &RawValue) -> bool {
    egress::fit(schema).is_some()
}

impl Dialect for AnthropicMessages {
    fn encode_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        error::encode(failure, request_id)
    }

    fn encode_stream_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        [
            b"event: error\ndata: ",
            error::encode(failure, request_id).as_ref(),
            b"\n\n",
        ]
        .concat()
        .into()
    }

    fn decode_error(&self, body: &[u8]) -> Option<UpstreamError> {
        upstream_error::decode(body)
    }

    fn check_answer(&self, body: &[u8]) -> Result<Option<Usage>, Failure> {
        egress::check(body).map(|checked| checked.usage)
    }

    fn check_chat(&self, body: &[u8]) -> Result<Option<Usage>, Failure> {
        egress::check(body)?.chat()
    }

    fn sniff(&self, frame: &Frame<'_>) -> Signal {
        egress::sniff(frame)
    }

    fn marks(&self) -> &'static [&'static [u8]] {
        &[
            b"message_start",
            b"message_delta",
            b"message_stop",
            b"\"error\"",
            b"event: error",
            b"event:error",
            b"[DONE]",
        ]
    }
}

impl Egress for AnthropicMessages {
    fn encode_request(
        &self,
        request: &ChatRequest,
        target: &Target<'_>,
    ) -> Result<(Bytes, Vec<Loss>), Failure> {
        egress::encode(request, target)
    }

    fn continues_last_message(&self, request: &ChatRequest, target: &Target<'_>) -> bool {
        egress::Model::named(target.model).prefill && !request.asks_to_think()
    }

    fn decode_response(&self, body: &[u8]) -> Result<ChatResponse, Failure> {
        egress::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(egress::Decoder::default())
    }
}

impl Ingress for AnthropicMessages {
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
