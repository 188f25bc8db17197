//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::{Failure, Usage};
use serde_json::value::RawValue;

use super::types::{AnswerPeek, ContentBlock, Message, UsageMember, stop};
use crate::canon::{ChatResponse, Part, ToolCall};
use crate::upstream_error::{answer, in_band, member};

/// A JSON object without an error inside; returns the usage it reports.
pub(super) fn check(body: &[u8]) -> Result<Option<Usage>, Failure> {
    let peek: AnswerPeek<'_> = answer(body)?;
    match member(peek.error) {
        Some(error) => Err(in_band(error)),
        None => Ok(peek
            .usage
            .and_then(|raw| serde_json::from_str::<UsageMember>(raw.get()).ok())
            .map(|usage| usage.counts())),
    }
}

/// Reads an answer.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let message: Message<'_> = answer(body)?;
    Ok(ChatResponse {
        id: message.id.map(Into::into),
        model: message.model.map(Into::into),
        parts: message
            .content
            .unwrap_or_default()
            .iter()
            .filter_map(part)
            .collect(),
        stop: stop(
            message.stop_reason.as_deref(),
            message.stop_sequence.as_deref(),
        ),
        usage: message.usage.map(|usage| usage.counts()),
    })
}

/// A block as a part. Blocks of the vendor's own tools and hidden thinking say nothing that a chat client could show.
fn part(block: &ContentBlock<'_>) -> Option<Part> {
    match &*block.kind {
        "text" => Some(Part::Text(block.text.as_deref()?.to_owned())),
        "thinking" => Some(Part::Reasoning(block.thinking.as_deref()?.to_owned())),
        "tool_use" => Some(Part::ToolCall(ToolCall {
            id: block.id.as_deref()?.to_owned(),
            name: block.name.as_deref()?.to_owned(),
            arguments: block.input.map_or("{}", RawValue::get).to_owned(),
        })),
        _ => None,
    }
}
