//! Whole messages, from the hub.

use bytes::Bytes;
use polygate_core::Usage;
use serde::Serialize;

use crate::ReplyHead;
use crate::canon::{Block, CallKind, ChatResponse, Citation, Issuer, Opaque, Said, Stop};
use crate::turns::Object;

/// A message.
#[derive(Serialize)]
pub(crate) struct MessageOut<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<BlockOut<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: UsageOut,
}

/// A block, whole or as it starts.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BlockOut<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<CitationOut<'a>>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Input<'a>,
    },
}

/// The input of a call, always an object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Input<'a> {
    Object(Object<'a>),
    /// Of a freeform tool.
    Freeform {
        input: &'a str,
    },
}

impl<'a> Input<'a> {
    pub(crate) fn of(kind: CallKind, text: &'a str) -> Self {
        match (kind, text.trim()) {
            (CallKind::Custom, _) => Input::Freeform { input: text },
            (CallKind::Function, "" | "null") => Input::Object(Object::Empty {}),
            _ => Input::Object(Object::of(text).unwrap_or(Object::Invalid { text })),
        }
    }
}

/// A source: of all that Anthropic names, the one kind that holds nothing only Anthropic could have made.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "search_result_location")]
pub(crate) struct CitationOut<'a> {
    source: &'a str,
    title: Option<&'a str>,
    cited_text: &'a str,
    search_result_index: u32,
    start_block_index: u32,
    end_block_index: u32,
}

impl<'a> CitationOut<'a> {
    pub(crate) fn of(citation: &'a Citation) -> Self {
        Self {
            source: &citation.url,
            title: citation.title.as_deref(),
            cited_text: citation.cited.as_deref().unwrap_or_default(),
            search_result_index: 0,
            start_block_index: 0,
            end_block_index: 0,
        }
    }
}

/// Usage in this format's words: `input_tokens` leaves out what the cache read or wrote.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct UsageOut {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<CacheCreation>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        Self {
            input_tokens: usage.input.saturating_sub(cached),
            cache_creation_input_tokens: usage.cache_write,
            cache_read_input_tokens: usage.cache_read,
            cache_creation: (usage.cache_write > 0).then(|| CacheCreation {
                ephemeral_5m_input_tokens: usage.cache_write.saturating_sub(usage.cache_write_1h),
                ephemeral_1h_input_tokens: usage.cache_write_1h,
            }),
            output_tokens: usage.output,
            output_tokens_details: (usage.reasoning > 0).then_some(OutputDetails {
                thinking_tokens: usage.reasoning,
            }),
        }
    }
}

/// Writes an answer.
pub(crate) fn encode(answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
    let (stop_reason, stop_sequence) = stop_reason(&answer.stop);
    let content = answer.said.iter().filter_map(block).collect();
    let usage = UsageOut::from(answer.usage.unwrap_or_default());
    let message = MessageOut {
        stop_reason: Some(stop_reason),
        stop_sequence,
        content,
        ..empty(answer.id.as_deref(), reply, usage)
    };
    serde_json::to_vec(&message).unwrap_or_default().into()
}

/// A message that has not said anything yet.
pub(crate) fn empty<'a>(id: Option<&str>, reply: &'a ReplyHead, usage: UsageOut) -> MessageOut<'a> {
    let id = id.unwrap_or(&reply.request_id);
    MessageOut {
        id: if id.starts_with("msg_") {
            id.to_owned()
        } else {
            format!("msg_{id}")
        },
        kind: "message",
        role: "assistant",
        model: &reply.model,
        content: vec![],
        stop_reason: None,
        stop_sequence: None,
        usage,
    }
}

/// What was said as a block; `None` where this format has none for it.
fn block(said: &Said) -> Option<BlockOut<'_>> {
    Some(match &said.block {
        Block::Text | Block::Refusal if said.text.is_empty() => return None,
        Block::Text | Block::Refusal => BlockOut::Text {
            text: &said.text,
            citations: said.citations.iter().map(CitationOut::of).collect(),
        },
        Block::Reasoning => thought(&said.text, said.opaque.as_ref())?,
        Block::ToolCall { id, name, kind } => BlockOut::ToolUse {
            id,
            name,
            input: Input::of(*kind, &said.text),
        },
        Block::Media(_) => return None,
    })
}

/// Thinking with Claude's own signature, or with none: nobody else's is passed off as one.
fn thought<'a>(text: &'a str, opaque: Option<&'a Opaque>) -> Option<BlockOut<'a>> {
    let opaque = opaque.filter(|opaque| opaque.issuer == Issuer::Anthropic);
    match opaque {
        Some(opaque) if opaque.is_redacted => {
            Some(BlockOut::RedactedThinking { data: &opaque.data })
        }
        None if text.is_empty() => None,
        _ => Some(BlockOut::Thinking {
            thinking: text,
            signature: opaque.map_or("", |opaque| &opaque.data),
        }),
    }
}

/// Why it stopped, in this format's words.
pub(crate) fn stop_reason(stop: &Stop) -> (&'static str, Option<&str>) {
    match stop {
        Stop::End => ("end_turn", None),
        Stop::Length => ("max_tokens", None),
        Stop::ToolUse => ("tool_use", None),
        Stop::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Stop::ContentFilter | Stop::Refusal => ("refusal", None),
        Stop::Pause => ("pause_turn", None),
    }
}
