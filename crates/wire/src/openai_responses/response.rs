//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::{Failure, Usage};
use serde_json::value::RawValue;

use super::types::{Answer, AnswerPeek, Item};
use crate::UpstreamError;
use crate::canon::{ChatResponse, Part, Stop, ToolCall};
use crate::openai_chat::counts;
use crate::upstream_error::{answer, in_band, member};

/// A JSON object without an error inside; returns the usage it reports.
pub(super) fn check(body: &[u8]) -> Result<Option<Usage>, Failure> {
    let peek: AnswerPeek<'_> = answer(body)?;
    if let Some(error) = member(peek.error) {
        return Err(in_band(error));
    }
    if peek.status.map(RawValue::get) == Some("\"failed\"") {
        return Err(in_band(UpstreamError {
            message: "the provider's answer failed without saying why".to_owned(),
            ..UpstreamError::default()
        }));
    }
    Ok(counts(peek.usage))
}

/// Reads an answer.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = answer(body)?;
    let parts: Vec<Part> = answer.output.iter().flatten().flat_map(parts).collect();
    let called = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    Ok(ChatResponse {
        stop: stop(&answer, called),
        usage: counts(answer.usage),
        id: answer.id.map(Into::into),
        model: answer.model.map(Into::into),
        parts,
    })
}

/// What an item says that a chat client can show; the vendor's own tools are not among it.
fn parts(item: &Item<'_>) -> Vec<Part> {
    match &*item.kind {
        "message" => item
            .content
            .iter()
            .flatten()
            .filter_map(|part| match (&*part.kind, &part.text, &part.refusal) {
                ("refusal", _, Some(text)) => Some(Part::Refusal(text.to_string())),
                (_, Some(text), _) => Some(Part::Text(text.to_string())),
                _ => None,
            })
            .collect(),
        "reasoning" => {
            let texts = item
                .summary
                .iter()
                .flatten()
                .chain(item.content.iter().flatten())
                .filter_map(|part| part.text.as_ref());
            texts
                .map(|text| Part::Reasoning(text.to_string()))
                .collect()
        }
        "function_call" => vec![Part::ToolCall(ToolCall {
            id: item.call_id.as_deref().unwrap_or_default().to_owned(),
            name: item.name.as_deref().unwrap_or_default().to_owned(),
            arguments: item.arguments(),
        })],
        _ => vec![],
    }
}

/// Why it stopped, in the hub's words.
pub(super) fn stop(answer: &Answer<'_>, called: bool) -> Stop {
    let reason = answer
        .incomplete_details
        .as_ref()
        .and_then(|details| details.reason.as_deref());
    match (answer.status.as_deref(), reason) {
        (Some("incomplete"), Some("content_filter")) => Stop::ContentFilter,
        (Some("incomplete"), _) => Stop::Length,
        _ if called => Stop::ToolUse,
        _ => Stop::End,
    }
}
