//! The members of Anthropic's answers that the gateway reads, borrowed from the bytes.

use std::borrow::Cow;

use polygate_core::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::Stop;

/// A stream event; which members are there depends on `type`.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(default)]
    pub index: usize,
    #[serde(borrow, default)]
    pub message: Option<MessageStart<'a>>,
    #[serde(borrow, default)]
    pub content_block: Option<ContentBlock<'a>>,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
    #[serde(default)]
    pub usage: Option<UsageMember>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MessageStart<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(default)]
    pub usage: Option<UsageMember>,
}

/// A piece of content, whole or at its start.
#[derive(Debug, Deserialize)]
pub(super) struct ContentBlock<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub stop_sequence: Option<Cow<'a, str>>,
}

impl Delta<'_> {
    /// The text that this delta adds, whatever its kind.
    pub(super) fn piece(&self) -> Option<&str> {
        [&self.text, &self.thinking, &self.partial_json]
            .into_iter()
            .find_map(|piece| piece.as_deref())
    }
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub content: Option<Vec<ContentBlock<'a>>>,
    #[serde(borrow, default)]
    pub stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub stop_sequence: Option<Cow<'a, str>>,
    #[serde(default)]
    pub usage: Option<UsageMember>,
}

/// A whole answer, as far as it is checked without translating. Token counts have `input_tokens` beside the answer.
#[derive(Debug, Deserialize)]
pub(super) struct AnswerPeek<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UsageMember {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

impl UsageMember {
    /// The counts; Anthropic's `input_tokens` leaves out what the cache read or wrote.
    pub(super) fn counts(&self) -> Usage {
        let cache_read = self.cache_read_input_tokens.unwrap_or_default();
        let cache_write = self.cache_creation_input_tokens.unwrap_or_default();
        Usage {
            input: self
                .input_tokens
                .unwrap_or_default()
                .saturating_add(cache_read)
                .saturating_add(cache_write),
            output: self.output_tokens.unwrap_or_default(),
            cache_read,
            cache_write,
            reasoning: 0,
        }
    }
}

/// Why it stopped, in the hub's words.
pub(super) fn stop(reason: Option<&str>, sequence: Option<&str>) -> Stop {
    match reason.unwrap_or("end_turn") {
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::ToolUse,
        "stop_sequence" => Stop::StopSequence(sequence.map(str::to_owned)),
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        _ => Stop::End,
    }
}
