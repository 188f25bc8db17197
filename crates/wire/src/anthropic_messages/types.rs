//! What the gateway reads of Anthropic's answers and events, borrowed from their bytes. Anything may be missing or `null`.

use polygate_core::Usage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::canon::{Citation as Source, Issuer, Opaque, Stop};
use crate::lenient::{Count, Served, Text};

/// A stream event; which members are there depends on its type.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Event<'a> {
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
pub(crate) enum EventKind {
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
pub(crate) struct Head<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    pub usage: Option<Counts>,
}

/// A block, whole or as it starts.
#[derive(Debug, Deserialize)]
pub(crate) struct Block<'a> {
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
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
    #[serde(borrow)]
    pub citations: Option<Vec<Citation<'a>>>,
}

/// Where a text comes from: a page that was searched, or a place in a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Citation<'a> {
    #[serde(borrow)]
    url: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    document_title: Option<Text<'a>>,
    #[serde(borrow)]
    cited_text: Option<Text<'a>>,
}

impl Citation<'_> {
    /// In the hub's terms; it stands behind the whole block.
    pub(crate) fn source(self) -> Source {
        let title = self.title.or(self.document_title).map(String::from);
        let url = self.url.or(self.source).map(String::from);
        Source {
            url: url.or_else(|| title.clone()).unwrap_or_default(),
            title,
            cited: self
                .cited_text
                .filter(|text| !text.is_empty())
                .map(Into::into),
            span: None,
        }
    }
}

/// Kinds of blocks that the hub has a name for. Tools that run at the vendor are not among them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BlockKind {
    Text,
    Thinking,
    RedactedThinking,
    ToolUse,
    #[serde(other)]
    Other,
}

impl Block<'_> {
    /// Text that is there already.
    pub(crate) fn text(&self) -> &str {
        let text = match self.kind {
            Some(BlockKind::Thinking) => &self.thinking,
            Some(BlockKind::Text) => &self.text,
            _ => &None,
        };
        text.as_deref().unwrap_or_default()
    }

    /// What Claude wants back with it.
    pub(crate) fn opaque(&self) -> Option<Opaque> {
        let is_redacted = self.kind == Some(BlockKind::RedactedThinking);
        let sealed = if is_redacted {
            &self.data
        } else {
            &self.signature
        };
        let data = sealed.as_deref().filter(|data| !data.is_empty())?;
        Some(opaque(data, is_redacted))
    }

    /// Where its text comes from.
    pub(crate) fn citations(&mut self) -> Vec<Source> {
        let citations = self.citations.take().unwrap_or_default();
        citations.into_iter().map(Citation::source).collect()
    }

    /// The input of a call as JSON text; `{}` where there is none.
    pub(crate) fn input(&self) -> &str {
        let input = self.input.map(RawValue::get);
        input.filter(|text| text.starts_with('{')).unwrap_or("{}")
    }
}

/// State that Claude wants back.
pub(crate) fn opaque(data: &str, is_redacted: bool) -> Opaque {
    Opaque {
        issuer: Issuer::Anthropic,
        data: data.to_owned(),
        id: None,
        is_redacted,
    }
}

/// What `content_block_delta` and `message_delta` bring.
#[derive(Debug, Deserialize)]
pub(crate) struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub partial_json: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub citation: Option<Citation<'a>>,
    pub stop_reason: Option<StopReason>,
    #[serde(borrow)]
    pub stop_sequence: Option<Text<'a>>,
}

impl<'a> Delta<'a> {
    /// Why the message ended, and the stop sequence if that is why.
    pub(crate) fn reason(self) -> Option<(StopReason, Option<Text<'a>>)> {
        Some((self.stop_reason?, self.stop_sequence))
    }

    /// The piece of text or JSON, whichever it is; signatures and citations are none.
    pub(crate) fn piece(&self) -> &str {
        let pieces = [&self.text, &self.thinking, &self.partial_json];
        let piece = pieces.into_iter().find_map(Option::as_deref);
        piece.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
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
    pub(crate) fn stop(self, sequence: Option<Text<'_>>) -> Stop {
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
pub(crate) struct Answer<'a> {
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
pub(crate) struct Peek<'a> {
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    pub content: Option<IgnoredAny>,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    input_tokens: Count,
    output_tokens: Option<Count>,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<Details>,
    service_tier: Served,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    thinking_tokens: Count,
}

impl Counts {
    /// Takes the output away: that of a stream's beginning is a first guess, which the last count stands for if one comes.
    pub(crate) fn take_output(&mut self) -> Option<u64> {
        self.output_tokens.take().map(|count| count.0)
    }

    pub(crate) fn has_output(&self) -> bool {
        self.output_tokens.is_some()
    }

    /// In the hub's terms: `input_tokens` leaves out what the cache read or wrote.
    pub(crate) fn usage(self) -> Usage {
        let cached = self.cache_read_input_tokens.0;
        let written = self.cache_creation_input_tokens.0;
        Usage {
            input: self
                .input_tokens
                .0
                .saturating_add(cached)
                .saturating_add(written),
            output: self.output_tokens.unwrap_or_default().0,
            cache_read: cached,
            cache_write: written,
            cache_write_1h: self
                .cache_creation
                .unwrap_or_default()
                .ephemeral_1h_input_tokens
                .0,
            reasoning: self
                .output_tokens_details
                .unwrap_or_default()
                .thinking_tokens
                .0,
            served: self.service_tier.0,
            ..Usage::default()
        }
    }
}
