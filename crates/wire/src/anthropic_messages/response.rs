//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::{Failure, Usage};
use serde_json::value::RawValue;

use super::types::{Answer, Block, BlockKind, Counts, Peek, StopReason};
use crate::canon::{ChatResponse, Part, ToolCall};
use crate::upstream_error::{answer, in_band, junk, member};

/// A JSON object without an error inside; returns the usage it reports.
pub(super) fn check(body: &[u8]) -> Result<Option<Usage>, Failure> {
    let peek: Peek<'_> = answer(body)?;
    match member(peek.error) {
        Some(error) => Err(in_band(error)),
        None => Ok(peek.usage.and_then(counts).map(Counts::usage)),
    }
}

fn counts(raw: &RawValue) -> Option<Counts> {
    serde_json::from_str(raw.get()).ok()
}

/// Reads an answer.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = answer(body)?;
    if let Some(error) = member(answer.error) {
        return Err(in_band(error));
    }
    let Some(content) = answer.content else {
        return Err(junk("the provider's answer has no content"));
    };
    let parts: Vec<Part> = content.into_iter().filter_map(part).collect();
    let reason = answer.stop_reason.unwrap_or_else(|| presumed(&parts));
    Ok(ChatResponse {
        id: answer.id.map(Into::into),
        model: answer.model.map(Into::into),
        parts,
        stop: reason.stop(answer.stop_sequence),
        usage: answer.usage.map(Counts::usage),
    })
}

/// Imitations leave the reason out: what was said tells it.
fn presumed(parts: &[Part]) -> StopReason {
    if parts.iter().any(|part| matches!(part, Part::ToolCall(_))) {
        StopReason::ToolUse
    } else {
        StopReason::EndTurn
    }
}

fn part(block: Block<'_>) -> Option<Part> {
    match block.kind? {
        BlockKind::Text => said(block.text()).map(Part::Text),
        BlockKind::Thinking => said(block.text()).map(Part::Reasoning),
        BlockKind::ToolUse => Some(Part::ToolCall(ToolCall {
            arguments: block.input().to_owned(),
            id: block.id.map(Into::into).unwrap_or_default(),
            name: block.name.map(Into::into).unwrap_or_default(),
        })),
        BlockKind::Other => None,
    }
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
