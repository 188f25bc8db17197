//! Bedrock's Converse and ConverseStream, spoken by upstreams only. Events come out of AWS's binary framing as server-sent ones, their
//! type in the event's name.

mod egress;
mod error;
mod types;

use bytes::Bytes;
use polygate_core::{Failure, Usage};

use crate::{
    ChatRequest, ChatResponse, Dialect, Egress, Frame, Loss, Signal, StreamDecoder, Target,
    UpstreamError,
};

/// Whether a model of this name keeps to schemas by itself.
pub(crate) fn keeps_to_schemas(model: &str) -> bool {
    egress::Facts::named(model).schemas
}

/// Whether a model of this name can be told to call a tool.
pub(crate) fn can_be_forced(model: &str) -> bool {
    egress::Facts::named(model).forces
}

/// The format.
#[derive(Debug)]
pub struct BedrockConverse;

impl Dialect for BedrockConverse {
    fn encode_error(&self, failure: &Failure, _request_id: &str) -> Bytes {
        error::encode(failure)
    }

    fn encode_stream_error(&self, failure: &Failure, _request_id: &str) -> Bytes {
        error::encode_event(failure)
    }

    fn decode_error(&self, body: &[u8]) -> Option<UpstreamError> {
        error::decode(body)
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
        &[b"messageStop", b"metadata", b"exception:"]
    }
}

impl Egress for BedrockConverse {
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
