//! OpenAI Responses.

mod egress;
mod ingress;
mod thoughts;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use serde_json::json;

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Ingress, Loss, RawObject, ReplyHead, Signal,
    StreamDecoder, StreamEncoder, Target, UpstreamError, openai_chat, upstream_error,
};

pub use thoughts::without_strange_thoughts;

/// The format.
#[derive(Debug)]
pub struct OpenaiResponses;

impl Dialect for OpenaiResponses {
    /// The same as in Chat.
    fn encode_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        openai_chat::encode_error(failure, request_id)
    }

    fn encode_stream_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        error_event(failure, request_id, None)
    }

    fn decode_error(&self, body: &[u8]) -> Option<UpstreamError> {
        upstream_error::decode(body)
    }

    fn check_answer(&self, body: &[u8]) -> Result<Option<Usage>, Failure> {
        egress::check(body)
    }

    fn sniff(&self, frame: &Frame<'_>) -> Signal {
        egress::sniff(frame)
    }

    fn marks(&self) -> &'static [&'static [u8]] {
        &[
            b"response.completed",
            b"response.incomplete",
            b"response.failed",
            b"\"error\"",
            b"[DONE]",
        ]
    }
}

impl Egress for OpenaiResponses {
    fn encode_request(
        &self,
        request: &ChatRequest,
        target: &Target<'_>,
    ) -> Result<(Bytes, Vec<Loss>), Failure> {
        egress::encode(request, target)
    }

    fn decode_response(&self, body: &[u8]) -> Result<ChatResponse, Failure> {
        egress::decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(egress::Decoder::default())
    }
}

impl Ingress for OpenaiResponses {
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

/// A failure as an event, with its number where the events before it were counted.
fn error_event(failure: &Failure, request_id: &str, number: Option<u64>) -> Bytes {
    let mut event = json!({
        "type": "error",
        "code": failure.code.as_deref().unwrap_or_else(|| failure.kind.name()),
        "message": failure.message,
        "param": failure.param,
        "origin": failure.origin.name(),
        "request_id": request_id,
    });
    if let Some(number) = number {
        event["sequence_number"] = number.into();
    }
    format!("event: error\ndata: {event}\n\n").into()
}
