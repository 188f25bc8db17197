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

    fn encode_stream_error_after(
        &self,
        events: &[u8],
        failure: &Failure,
        request_id: &str,
    ) -> Bytes {
        let number = last_number(events).map(|last| last.saturating_add(1));
        error_event(failure, request_id, number)
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

/// The number of the last of these events.
fn last_number(events: &[u8]) -> Option<u64> {
    const MEMBER: &[u8] = b"\"sequence_number\":";
    let at = memchr::memmem::rfind_iter(events, MEMBER)
        // In a text its quotes are escaped.
        .find(|at| at.checked_sub(1).and_then(|before| events.get(before)) != Some(&b'\\'))?;
    let digits = events.get(at + MEMBER.len()..)?.trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit());
    let digits = digits.get(..end.unwrap_or(digits.len()))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_events_and_not_of_texts() {
        for (events, number) in [
            (r#"data: {"type":"a","sequence_number":7}"#, Some(7)),
            (
                r#"data: {"sequence_number": 12,"delta":"\"sequence_number\":99"}"#,
                Some(12),
            ),
            (r#"data: {"sequence_number":"x"}"#, None),
            ("", None),
        ] {
            assert_eq!(last_number(events.as_bytes()), number, "{events}");
        }
    }
}
