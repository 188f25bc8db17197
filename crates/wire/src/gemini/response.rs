//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::{Failure, Usage};

use super::types::{Answer, AnswerPeek, PartMember, UsageMember, stop};
use crate::canon::{ChatResponse, Part, Stop, ToolCall};
use crate::upstream_error::{answer, in_band, junk, member};

/// A JSON object without an error inside; returns the usage it reports.
pub(super) fn check(body: &[u8]) -> Result<Option<Usage>, Failure> {
    let peek: AnswerPeek<'_> = answer(body)?;
    match member(peek.error) {
        Some(error) => Err(in_band(error)),
        None => Ok(peek
            .usage_metadata
            .and_then(|raw| serde_json::from_str::<UsageMember>(raw.get()).ok())
            .map(|usage| usage.counts())),
    }
}

/// Reads an answer: its first candidate, or that the prompt was blocked.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = answer(body)?;
    let blocked = answer
        .prompt_feedback
        .is_some_and(|feedback| feedback.block_reason.is_some());
    let candidate = answer
        .candidates
        .unwrap_or_default()
        .into_iter()
        .find(|candidate| candidate.index == 0);
    if candidate.is_none() && !blocked {
        return Err(junk("the provider's answer has no candidate"));
    }
    let reason = candidate
        .as_ref()
        .and_then(|candidate| candidate.finish_reason.clone());
    let members = candidate
        .and_then(|candidate| candidate.content?.parts)
        .unwrap_or_default();
    let id = answer.response_id.as_deref();
    let mut parts: Vec<Part> = Vec::new();
    for member in &members {
        push(&mut parts, member, id);
    }
    let called = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let stop = if blocked {
        Stop::ContentFilter
    } else {
        stop(reason.as_deref().unwrap_or("STOP"), called)
    };
    let usage = answer.usage_metadata.map(|usage| usage.counts());
    Ok(ChatResponse {
        id: id.map(str::to_owned),
        model: answer.model_version.map(Into::into),
        parts,
        stop,
        usage,
    })
}

/// Adds a part; neighbours of one kind are one text, as they are in a stream.
fn push(parts: &mut Vec<Part>, member: &PartMember<'_>, id: Option<&str>) {
    if let Some(text) = member.text.as_deref().filter(|text| !text.is_empty()) {
        match (parts.last_mut(), member.thought == Some(true)) {
            (Some(Part::Reasoning(known)), true) | (Some(Part::Text(known)), false) => {
                known.push_str(text)
            }
            (_, true) => parts.push(Part::Reasoning(text.to_owned())),
            (_, false) => parts.push(Part::Text(text.to_owned())),
        }
    }
    if let Some(call) = &member.function_call {
        let number = parts
            .iter()
            .filter(|part| matches!(part, Part::ToolCall(_)))
            .count();
        parts.push(Part::ToolCall(ToolCall {
            id: call.id(id, number),
            name: call.name.as_ref().to_owned(),
            arguments: call.arguments().to_owned(),
        }));
    }
}
