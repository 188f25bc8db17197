//! What the gateway reads of Converse's answers and events, borrowed from their bytes. Anything may be missing or `null`.

use polygate_core::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::{Citation as Source, Issuer, Media, MediaSource, Opaque, Stop};
use crate::lenient::{Count, Text};

/// A stream event's payload; which members are there depends on its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Event<'a> {
    pub content_block_index: Option<usize>,
    #[serde(borrow)]
    pub start: Option<Start<'a>>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    pub stop_reason: Option<StopReason>,
    #[serde(borrow)]
    pub additional_model_response_fields: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// What a block that is more than text or thinking begins with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Start<'a> {
    #[serde(borrow)]
    pub tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    pub tool_result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
}

/// A piece of a block.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_use: Option<Input<'a>>,
    #[serde(borrow)]
    pub reasoning_content: Option<Thought<'a>>,
    #[serde(borrow)]
    pub citation: Option<Citation<'a>>,
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
}

impl Delta<'_> {
    /// It brings something that a client would miss.
    pub(crate) fn says_something(&self) -> bool {
        let has = |text: &Option<Text<'_>>| text.as_deref().is_some_and(|text| !text.is_empty());
        let thought = self.reasoning_content.as_ref();
        let input = self.tool_use.as_ref();
        has(&self.text)
            || thought.is_some_and(|thought| has(&thought.text) || has(&thought.redacted_content))
            || input.is_some_and(|input| has(&input.input))
            || self.image.is_some()
    }
}

/// A piece of a call's arguments.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Input<'a> {
    #[serde(borrow)]
    pub input: Option<Text<'a>>,
}

/// A call, whole or as it starts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ToolUse<'a> {
    #[serde(borrow)]
    pub tool_use_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

impl ToolUse<'_> {
    /// The arguments as JSON text; `{}` where there are none.
    pub(crate) fn input(&self) -> &str {
        let input = self.input.map(RawValue::get);
        input.filter(|text| text.starts_with('{')).unwrap_or("{}")
    }

    /// The vendor runs the tool itself: no call for the client.
    pub(crate) fn is_theirs(&self) -> bool {
        self.kind.as_deref() == Some("server_tool_use")
    }
}

/// Thinking: a whole block's has its text and signature one level deeper than a delta's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Thought<'a> {
    #[serde(borrow)]
    pub reasoning_text: Option<ReasoningText<'a>>,
    #[serde(borrow)]
    pub redacted_content: Option<Text<'a>>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub signature: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReasoningText<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    signature: Option<Text<'a>>,
}

impl Thought<'_> {
    /// What is shown.
    pub(crate) fn shown(&self) -> &str {
        let whole = self.reasoning_text.as_ref();
        let text = whole.map_or(&self.text, |whole| &whole.text);
        text.as_deref().unwrap_or_default()
    }

    /// What Claude wants back with it.
    pub(crate) fn opaque(&self) -> Option<Opaque> {
        let whole = self.reasoning_text.as_ref();
        let signature = whole.map_or(&self.signature, |whole| &whole.signature);
        let opaque = |text: &Option<Text<'_>>, is_redacted| {
            let data = text.as_deref().filter(|data| !data.is_empty())?;
            Some(Opaque {
                issuer: Issuer::Anthropic,
                data: data.to_owned(),
                id: None,
                is_redacted,
            })
        };
        opaque(&self.redacted_content, true).or_else(|| opaque(signature, false))
    }
}

/// A picture that the model made, or a piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Image<'a> {
    #[serde(borrow)]
    format: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Bytes<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bytes<'a> {
    #[serde(borrow)]
    bytes: Option<Text<'a>>,
}

impl Image<'_> {
    /// Its MIME type.
    pub(crate) fn mime(&self) -> Option<String> {
        let format = self.format.as_deref()?;
        Some(format!("image/{format}"))
    }

    /// Its base64, or a piece of that.
    pub(crate) fn data(&self) -> &str {
        let source = self.source.as_ref();
        let bytes = source.and_then(|source| source.bytes.as_deref());
        bytes.unwrap_or_default()
    }

    /// In the hub's terms; `None` where there are no bytes.
    pub(crate) fn media(&self) -> Option<Media> {
        let data = Some(self.data()).filter(|data| !data.is_empty())?;
        Some(picture(data.to_owned(), self.mime()))
    }
}

/// A picture in the hub's terms.
pub(crate) fn picture(data: String, mime: Option<String>) -> Media {
    Media {
        source: MediaSource::Base64(data),
        mime,
        ..Media::default()
    }
}

/// A whole block.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Block<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub reasoning_content: Option<Thought<'a>>,
    #[serde(borrow)]
    pub tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    pub citations_content: Option<Cited<'a>>,
    #[serde(borrow)]
    pub image: Option<Image<'a>>,
}

/// Text and where it comes from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cited<'a> {
    #[serde(borrow)]
    content: Option<Vec<Piece<'a>>>,
    #[serde(borrow)]
    citations: Option<Vec<Citation<'a>>>,
}

impl Cited<'_> {
    /// The text and its sources.
    pub(crate) fn parts(self) -> (String, Vec<Source>) {
        let text = joined(self.content);
        let chars = text.chars().count() as u64;
        let sources = self.citations.into_iter().flatten().map(Citation::source);
        let sources = sources.map(|source| source.behind(chars)).collect();
        (text, sources)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Piece<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

fn joined(pieces: Option<Vec<Piece<'_>>>) -> String {
    let pieces = pieces.unwrap_or_default();
    let texts = pieces.iter().filter_map(|piece| piece.text.as_deref());
    texts.collect()
}

/// Where a text comes from: a page, or a place in a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Citation<'a> {
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    source_content: Option<Vec<Piece<'a>>>,
    #[serde(borrow)]
    location: Option<Location<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Location<'a> {
    #[serde(borrow)]
    web: Option<Web<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Web<'a> {
    #[serde(borrow)]
    url: Option<Text<'a>>,
}

impl Citation<'_> {
    /// In the hub's terms; it stands behind the whole block.
    pub(crate) fn source(self) -> Source {
        let title = self.title.map(String::from);
        let page = self.location.and_then(|location| location.web);
        let url = page.and_then(|page| page.url).or(self.source);
        let cited = Some(joined(self.source_content)).filter(|text| !text.is_empty());
        Source {
            url: url
                .map(String::from)
                .or_else(|| title.clone())
                .unwrap_or_default(),
            title,
            cited,
            span: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
    EndTurn,
    ToolUse,
    MaxTokens,
    ModelContextWindowExceeded,
    StopSequence,
    GuardrailIntervened,
    ContentFiltered,
    Refusal,
    MalformedModelOutput,
    MalformedToolUse,
    #[serde(other)]
    Other,
}

/// What a reason makes of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stopped(Stop),
    /// The model wrote what Bedrock could not read: nobody's answer, where there is no other. With the reason's name.
    Botched(&'static str),
}

impl StopReason {
    /// In the hub's words; the stop sequence is among what the model says beside its answer.
    pub(crate) fn outcome(self, beside: Option<&RawValue>) -> Outcome {
        Outcome::Stopped(match self {
            StopReason::EndTurn | StopReason::Other => Stop::End,
            StopReason::ToolUse => Stop::ToolUse,
            StopReason::MaxTokens | StopReason::ModelContextWindowExceeded => Stop::Length,
            StopReason::StopSequence => Stop::StopSequence(stop_sequence(beside)),
            StopReason::GuardrailIntervened | StopReason::ContentFiltered => Stop::ContentFilter,
            StopReason::Refusal => Stop::Refusal,
            StopReason::MalformedModelOutput => return Outcome::Botched("malformed_model_output"),
            StopReason::MalformedToolUse => return Outcome::Botched("malformed_tool_use"),
        })
    }
}

/// Claude's own members, as they were asked for: the one of a whole answer, or of a stream's last delta.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Beside<'a> {
    #[serde(borrow)]
    stop_sequence: Option<Text<'a>>,
    #[serde(borrow)]
    delta: Option<BesideDelta<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BesideDelta<'a> {
    #[serde(borrow)]
    stop_sequence: Option<Text<'a>>,
}

fn stop_sequence(beside: Option<&RawValue>) -> Option<String> {
    let beside: Beside<'_> = serde_json::from_str(beside?.get()).ok()?;
    let last = beside.delta.and_then(|delta| delta.stop_sequence);
    beside.stop_sequence.or(last).map(Into::into)
}

/// A whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    pub output: Option<Output<'a>>,
    pub stop_reason: Option<StopReason>,
    #[serde(borrow)]
    pub additional_model_response_fields: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Output<'a> {
    #[serde(borrow)]
    pub message: Option<Message<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub content: Option<Vec<Block<'a>>>,
}

/// A whole answer as far as the gateway needs it to pass it on.
#[derive(Debug, Deserialize)]
pub(crate) struct Peek<'a> {
    #[serde(borrow)]
    pub output: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// Token counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Counts<'a> {
    input_tokens: Count,
    output_tokens: Count,
    cache_read_input_tokens: Count,
    cache_write_input_tokens: Count,
    #[serde(borrow)]
    cache_details: Option<Vec<CacheDetail<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CacheDetail<'a> {
    #[serde(borrow)]
    ttl: Option<Text<'a>>,
    input_tokens: Count,
}

/// Token counts in the hub's terms: `inputTokens` leaves out what the cache read or wrote. Counts of unknown shape are none.
pub(crate) fn usage(raw: Option<&RawValue>) -> Option<Usage> {
    let counts: Counts<'_> = serde_json::from_str(raw?.get()).ok()?;
    let cached = counts.cache_read_input_tokens.0;
    let written = counts.cache_write_input_tokens.0;
    let details = counts.cache_details.unwrap_or_default();
    let long = details
        .iter()
        .filter(|detail| detail.ttl.as_deref() == Some("1h"));
    Some(Usage {
        input: counts
            .input_tokens
            .0
            .saturating_add(cached)
            .saturating_add(written),
        output: counts.output_tokens.0,
        cache_read: cached,
        cache_write: written,
        cache_write_1h: long.fold(0, |sum: u64, detail| {
            sum.saturating_add(detail.input_tokens.0)
        }),
        ..Usage::default()
    })
}
