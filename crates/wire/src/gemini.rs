//! Gemini `generateContent`.

mod egress;
mod error;
mod ingress;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Ingress, Loss, RawObject, ReplyHead, Signal,
    StreamDecoder, StreamEncoder, Target, UpstreamError, upstream_error,
};

/// The format.
#[derive(Debug)]
pub struct Gemini;

impl Dialect for Gemini {
    fn encode_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        error::encode(failure, request_id)
    }

    /// Twice: as an event, and bare, as Google itself writes it into its streams. Its JavaScript and Go clients take no error from an
    /// event, and parsers of events see nothing but events: to them a bare line is a field that they do not know.
    fn encode_stream_error(&self, failure: &Failure, request_id: &str) -> Bytes {
        let error = error::encode(failure, request_id);
        let error = error.as_ref();
        [b"data: ".as_slice(), error, b"\n\n", error, b"\n\n"]
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

    /// Every chunk has usage; there is no end mark, only a reason to finish.
    fn marks(&self) -> &'static [&'static [u8]] {
        &[
            b"usageMetadata",
            b"finishReason",
            b"blockReason",
            b"\"error\"",
        ]
    }
}

impl Egress for Gemini {
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

impl Ingress for Gemini {
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
