//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::Failure;
use serde_json::value::RawValue;

use super::super::types::{Answer, AnswerPeek};
use super::stream::Decoder;
use crate::UpstreamError;
use crate::canon::{ChatResponse, Stop};
use crate::openai_chat::counts;
use crate::upstream_error::{Checked, decode as decode_error, in_band, member, object};

/// A JSON object without an error inside.
pub(crate) fn check(body: &[u8]) -> Result<Checked, Failure> {
    let peek: AnswerPeek<'_> = object(body)?;
    let usage = counts(peek.usage, peek.service_tier);
    // Some vendors say their errors bare: `{"message": …}`.
    let bare = || decode_error(body).filter(|_| peek.output.is_none());
    if let Some(error) = member(peek.error).or_else(bare) {
        return Err(in_band(error).counted(usage));
    }
    if peek.status.map(RawValue::get) == Some("\"failed\"") {
        return Err(in_band(UpstreamError {
            message: "the provider's answer failed without saying why".to_owned(),
            ..UpstreamError::default()
        })
        .counted(usage));
    }
    Ok(Checked {
        usage,
        has_turn: peek.output.is_some(),
    })
}

/// Reads an answer the way its stream's last event would be read.
pub(crate) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = object(body)?;
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    decoder.whole(&answer, &mut events);
    ChatResponse::gather(events)
}

/// Why it stopped, in the hub's words.
pub(crate) fn stop(answer: &Answer<'_>, called: bool, refused: bool) -> Stop {
    let reason = answer
        .incomplete_details
        .as_ref()
        .and_then(|details| details.reason.as_deref());
    match (answer.status.as_deref(), reason) {
        (Some("incomplete"), Some("content_filter")) => Stop::ContentFilter,
        (Some("incomplete"), _) => Stop::Length,
        _ if called => Stop::ToolUse,
        _ if refused => Stop::Refusal,
        _ => Stop::End,
    }
}
