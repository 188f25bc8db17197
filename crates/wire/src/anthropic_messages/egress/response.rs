//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::Failure;
use serde_json::value::RawValue;

use super::super::types::{Answer, Block, BlockKind, Counts, Peek, StopReason};
use crate::canon::{self as hub, CallKind, ChatResponse, Said};
use crate::upstream_error::{Checked, decode as decode_error, in_band, junk, member, object};

/// A JSON object without an error inside.
pub(crate) fn check(body: &[u8]) -> Result<Checked, Failure> {
    let peek: Peek<'_> = object(body)?;
    // Hosts of other makes say their errors bare: `{"message": …}`.
    let bare = || decode_error(body).filter(|_| peek.content.is_none());
    match member(peek.error).or_else(bare) {
        Some(error) => Err(in_band(error)),
        None => Ok(Checked {
            usage: peek.usage.and_then(counts).map(Counts::usage),
            has_turn: peek.content.is_some(),
        }),
    }
}

fn counts(raw: &RawValue) -> Option<Counts> {
    serde_json::from_str(raw.get()).ok()
}

/// Reads an answer.
pub(crate) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = object(body)?;
    if let Some(error) = member(answer.error) {
        return Err(in_band(error));
    }
    let Some(content) = answer.content else {
        return Err(junk("the provider's answer has no content"));
    };
    let said: Vec<Said> = content.into_iter().filter_map(said).collect();
    let known = answer
        .stop_reason
        .filter(|reason| *reason != StopReason::Other);
    let reason = known.unwrap_or_else(|| presumed(&said));
    Ok(ChatResponse {
        id: answer.id.map(Into::into),
        model: answer.model.map(Into::into),
        said,
        stop: reason.stop(answer.stop_sequence),
        usage: answer.usage.map(Counts::usage),
    })
}

/// Imitations leave the reason out, and new ones may come: what was said tells it.
fn presumed(said: &[Said]) -> StopReason {
    let called = |said: &Said| matches!(said.block, hub::Block::ToolCall { .. });
    if said.iter().any(called) {
        StopReason::ToolUse
    } else {
        StopReason::EndTurn
    }
}

fn said(mut block: Block<'_>) -> Option<Said> {
    let mut said = match block.kind? {
        BlockKind::Text => Said::new(hub::Block::Text, block.text()),
        BlockKind::Thinking | BlockKind::RedactedThinking => {
            Said::new(hub::Block::Reasoning, block.text())
        }
        BlockKind::ToolUse => {
            let call = hub::Block::ToolCall {
                id: block.id.as_deref().unwrap_or_default().to_owned(),
                name: block.name.as_deref().unwrap_or_default().to_owned(),
                kind: CallKind::Function,
            };
            return Some(Said::new(call, block.input()));
        }
        BlockKind::Other => return None,
    };
    said.opaque = block.opaque();
    let chars = said.text.chars().count() as u64;
    let citations = block.citations().into_iter();
    said.citations = citations.map(|source| source.behind(chars)).collect();
    (!said.text.is_empty() || said.opaque.is_some()).then_some(said)
}
