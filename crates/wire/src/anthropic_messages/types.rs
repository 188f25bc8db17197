//! What the gateway reads of Anthropic's answers and events, borrowed from their bytes. Anything may be missing or `null`.

use polygate_core::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::Stop;
use crate::lenient::{Count, Text};

/// A stream event; which members are there depends on its type.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub kind: Option<EventKind>,
    pub index: Option<usize>,
    #[serde(borrow)]
    pub message: Option<Head<'a>>,
    #[serde(borrow)]
    pub content_block: Option<Block<'a>>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    pub usage: Option<Counts>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventKind {
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Error,
    #[serde(other)]
    Other,
}

/// The message as it starts.
#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    pub usage: Option<Counts>,
}

/// A block, whole or as it starts.
#[derive(Debug, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type")]
    pub kind: Option<BlockKind>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
}

/// Kinds of blocks that the hub has a name for. Tools that run at the vendor and hidden thinking are not among them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum BlockKind {
    Text,
    Thinking,
    ToolUse,
    #[serde(other)]
    Other,
}

impl Block<'_> {
    /// Text that is there already.
    pub(super) fn text(&self) -> &str {
        let text = match self.kind {
            Some(BlockKind::Thinking) => &self.thinking,
            _ => &self.text,
        };
        text.as_deref().unwrap_or_default()
    }

    /// The input of a call as JSON text; `{}` where there is none.
    pub(super) fn input(&self) -> &str {
        let input = self.input.map(RawValue::get);
        input.filter(|text| text.starts_with('{')).unwrap_or("{}")
    }
}

/// What `content_block_delta` and `message_delta` bring.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub partial_json: Option<Text<'a>>,
    pub stop_reason: Option<StopReason>,
    #[serde(borrow)]
    pub stop_sequence: Option<Text<'a>>,
}

impl<'a> Delta<'a> {
    /// Why the message ended, and the stop sequence if that is why.
    pub(super) fn reason(self) -> Option<(StopReason, Option<Text<'a>>)> {
        Some((self.stop_reason?, self.stop_sequence))
    }

    /// The piece of text or JSON, whichever it is; signatures and citations are none.
    pub(super) fn piece(&self) -> &str {
        let pieces = [&self.text, &self.thinking, &self.partial_json];
        let piece = pieces.into_iter().find_map(Option::as_deref);
        piece.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StopReason {
    EndTurn,
    MaxTokens,
    ModelContextWindowExceeded,
    StopSequence,
    ToolUse,
    PauseTurn,
    Refusal,
    #[serde(other)]
    Other,
}

impl StopReason {
    /// In the hub's words.
    pub(super) fn stop(self, sequence: Option<Text<'_>>) -> Stop {
        match self {
            StopReason::EndTurn | StopReason::Other => Stop::End,
            StopReason::MaxTokens | StopReason::ModelContextWindowExceeded => Stop::Length,
            StopReason::StopSequence => Stop::StopSequence(sequence.map(Into::into)),
            StopReason::ToolUse => Stop::ToolUse,
            StopReason::PauseTurn => Stop::Pause,
            StopReason::Refusal => Stop::Refusal,
        }
    }
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    #[serde(borrow)]
    pub content: Option<Vec<Block<'a>>>,
    pub stop_reason: Option<StopReason>,
    #[serde(borrow)]
    pub stop_sequence: Option<Text<'a>>,
    pub usage: Option<Counts>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// A whole answer as far as the native lane needs it. Answers of other calls (counted tokens) pass too.
#[derive(Debug, Deserialize)]
pub(super) struct Peek<'a> {
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    input_tokens: Count,
    output_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    thinking_tokens: Count,
}

impl Counts {
    /// In the hub's terms: `input_tokens` leaves out what the cache read or wrote.
    pub(super) fn usage(self) -> Usage {
        let cached = self.cache_read_input_tokens.0;
        let written = self.cache_creation_input_tokens.0;
        Usage {
            input: self
                .input_tokens
                .0
                .saturating_add(cached)
                .saturating_add(written),
            output: self.output_tokens.0,
            cache_read: cached,
            cache_write: written,
            reasoning: self
                .output_tokens_details
                .unwrap_or_default()
                .thinking_tokens
                .0,
        }
    }
}
