//! Whole chat answers: checking one without a tree, writing one from the hub.

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use serde::Serialize;

use super::types::{AnswerPeek, counts};
use crate::ReplyHead;
use crate::canon::{ChatResponse, Part, Stop};
use crate::upstream_error::{answer, in_band, member};

/// A JSON object without an error inside; returns the usage it reports. Embeddings and legacy completions too.
pub(super) fn check(body: &[u8]) -> Result<Option<Usage>, Failure> {
    let peek: AnswerPeek<'_> = answer(body)?;
    match member(peek.error) {
        Some(error) => Err(in_band(error)),
        None => Ok(counts(peek.usage)),
    }
}

/// Writes an answer.
pub(super) fn encode(answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
    let text = |wanted: fn(&Part) -> Option<&str>| {
        let found: Vec<&str> = answer.parts.iter().filter_map(wanted).collect();
        (!found.is_empty()).then(|| found.concat())
    };
    let content = text(|part| {
        if let Part::Text(text) = part {
            Some(text)
        } else {
            None
        }
    });
    let refusal = text(|part| {
        if let Part::Refusal(text) = part {
            Some(text)
        } else {
            None
        }
    });
    let reasoning_content = text(|part| {
        if let Part::Reasoning(text) = part {
            Some(text)
        } else {
            None
        }
    });
    let calls: Vec<Call<'_>> = answer.parts.iter().filter_map(call).collect();
    let tool_calls = (!calls.is_empty()).then_some(calls);
    // Clients expect text where nothing else was said.
    let content = content.or_else(|| (tool_calls.is_none() && refusal.is_none()).then(String::new));
    let finish_reason = finish_reason(&answer.stop, refusal.is_some());
    let id = answer
        .id
        .as_deref()
        .map_or_else(|| reply.fallback_id.clone(), answer_id);
    let completion = Completion {
        id,
        object: "chat.completion",
        created: reply.created,
        model: &reply.model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content,
                refusal,
                reasoning_content,
                tool_calls,
            },
            logprobs: None,
            finish_reason,
        }],
        usage: answer.usage.map(UsageOut::from),
    };
    serde_json::to_vec(&completion).unwrap_or_default().into()
}

fn call(part: &Part) -> Option<Call<'_>> {
    let Part::ToolCall(call) = part else {
        return None;
    };
    Some(Call {
        id: &call.id,
        kind: "function",
        function: Function {
            name: &call.name,
            arguments: &call.arguments,
        },
    })
}

/// An upstream's id as one of this format.
pub(super) fn answer_id(id: &str) -> String {
    if id.starts_with("chatcmpl") {
        id.to_owned()
    } else {
        format!("chatcmpl-{id}")
    }
}

/// Why it stopped, in this format's words. A refusal that was said in `refusal` ends like an answer.
pub(super) fn finish_reason(stop: &Stop, refused: bool) -> &'static str {
    match stop {
        Stop::End | Stop::StopSequence(_) | Stop::Pause => "stop",
        Stop::Length => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refusal if refused => "stop",
        Stop::ContentFilter | Stop::Refusal => "content_filter",
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageOut>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// Usage in this format's words.
#[derive(Clone, Copy, Serialize)]
pub(super) struct UsageOut {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cache_read,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning,
            },
        }
    }
}
