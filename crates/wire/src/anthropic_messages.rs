//! Anthropic Messages.

mod blocks;
mod error;
mod model;
mod request;
mod response;
mod schema;
mod stream;
mod thinking;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Loss, Signal, StreamDecoder, UpstreamError,
    upstream_error,
};

/// The format.
#[derive(Debug)]
pub struct AnthropicMessages;

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
        response::check(body)
    }

    fn sniff(&self, frame: &Frame<'_>) -> Signal {
        stream::sniff(frame)
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
        model: &str,
    ) -> Result<(Bytes, Vec<Loss>), Failure> {
        request::encode(request, model)
    }

    fn decode_response(&self, body: &[u8]) -> Result<ChatResponse, Failure> {
        response::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::Decoder::default())
    }
}
