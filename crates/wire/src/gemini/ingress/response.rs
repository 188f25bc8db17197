//! Whole answers, from the hub.

use std::borrow::Cow;

use bytes::Bytes;
use polygate_core::Usage;
use serde::Serialize;

use crate::ReplyHead;
use crate::canon::{
    Block, CallKind, ChatResponse, Citation, Issuer, Media, MediaSource, Opaque, Said, Stop,
    TokenLogprob,
};
use crate::turns::Object;

/// Writes an answer.
pub(crate) fn encode(answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
    let mut parts: Vec<PartOut<'_>> = answer.said.iter().filter_map(part).collect();
    if parts.is_empty() {
        // Clients expect text where nothing else was said.
        parts.push(PartOut::text("", false));
    }
    let logprobs = answer.said.iter().flat_map(|said| &said.logprobs);
    let whole = Answer {
        candidates: [Candidate {
            finish_reason: Some(finish_reason(&answer.stop)),
            citation_metadata: Citations::new(sources(&answer.said)),
            logprobs_result: Logprobs::new(logprobs),
            ..Candidate::new(&parts)
        }],
        usage_metadata: Some(UsageOut::from(answer.usage.unwrap_or_default())),
        model_version: &reply.model,
        response_id: answer.id.as_deref().unwrap_or(&reply.request_id),
    };
    serde_json::to_vec(&whole).unwrap_or_default().into()
}

/// A block as a part; `None` where it says nothing.
fn part(said: &Said) -> Option<PartOut<'_>> {
    let part = match &said.block {
        Block::Text | Block::Refusal => PartOut::text(&said.text, false),
        Block::Reasoning => PartOut::text(&said.text, true),
        Block::ToolCall { id, name, kind } => PartOut::call(id, name, *kind, &said.text),
        Block::Media(media) => PartOut::media(media)?,
    };
    let part = part.signed(said.opaque.as_ref());
    (!part.says_nothing()).then_some(part)
}

/// Sources of all texts, their places counted in bytes over the whole text, as Google counts.
fn sources(said: &[Said]) -> Vec<Source<'_>> {
    let mut before = 0;
    let mut all = Vec::new();
    for said in said.iter().filter(|said| is_text(&said.block)) {
        let each = said.citations.iter();
        all.extend(each.map(|citation| Source::new(citation, &said.text, before)));
        before += said.text.len();
    }
    all
}

/// Whether the block is part of the answer's text.
pub(super) fn is_text(block: &Block) -> bool {
    matches!(block, Block::Text | Block::Refusal)
}

/// Why it stopped, in this format's words.
pub(super) fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::ToolUse | Stop::StopSequence(_) | Stop::Pause => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::ContentFilter | Stop::Refusal => "SAFETY",
    }
}

/// An answer, or a chunk of one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    pub candidates: [Candidate<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_metadata: Option<UsageOut>,
    pub model_version: &'a str,
    pub response_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<&'static str>,
    pub index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation_metadata: Option<Citations<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs_result: Option<Logprobs<'a>>,
}

impl<'a> Candidate<'a> {
    /// One with these parts and nothing beside them.
    pub(super) fn new(parts: &'a [PartOut<'a>]) -> Self {
        Self {
            content: Content {
                parts,
                role: "model",
            },
            finish_reason: None,
            index: 0,
            citation_metadata: None,
            logprobs_result: None,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Content<'a> {
    parts: &'a [PartOut<'a>],
    role: &'static str,
}

/// A part: one of its contents, and what stands beside them.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

/// What stands where a chunk says nothing: an empty text, as Google writes it.
pub(super) const NOTHING: &[PartOut<'static>] = &[PartOut::text("", false)];

impl<'a> PartOut<'a> {
    pub(super) const fn text(text: &'a str, thought: bool) -> Self {
        Self {
            text: Some(text),
            thought,
            inline_data: None,
            file_data: None,
            function_call: None,
            thought_signature: None,
        }
    }

    pub(super) fn call(id: &'a str, name: &'a str, kind: CallKind, text: &'a str) -> Self {
        let args = Args::new(kind, text);
        Self {
            function_call: Some(Call { id, name, args }),
            ..Self::default()
        }
    }

    /// Media that the model made, where its type is known.
    pub(super) fn media(media: &'a Media) -> Option<Self> {
        let mime_type = crate::media::mime(media);
        let part = match &media.source {
            MediaSource::Base64(data) => Self {
                inline_data: Some(Blob {
                    mime_type: mime_type?,
                    data,
                }),
                ..Self::default()
            },
            MediaSource::Url(file_uri) | MediaSource::FileId { id: file_uri, .. } => Self {
                file_data: Some(FileRef {
                    mime_type,
                    file_uri,
                }),
                ..Self::default()
            },
            MediaSource::Text(text) => Self::text(text, false),
        };
        Some(part)
    }

    /// With its state, where Google made that: nobody else's can be read by a client of this format.
    pub(super) fn signed(mut self, opaque: Option<&'a Opaque>) -> Self {
        let googles = opaque.filter(|opaque| opaque.issuer == Issuer::Google);
        self.thought_signature = googles.map(|opaque| opaque.data.as_str());
        self
    }

    pub(super) fn is_signed(&self) -> bool {
        self.thought_signature.is_some()
    }

    fn says_nothing(&self) -> bool {
        self.text == Some("") && !self.is_signed()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileRef<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<Cow<'a, str>>,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    name: &'a str,
    args: Args<'a>,
}

/// A call's arguments; always an object here.
#[derive(Serialize)]
#[serde(untagged)]
enum Args<'a> {
    Object(Object<'a>),
    Freeform { input: &'a str },
    Unreadable { arguments: &'a str },
}

impl<'a> Args<'a> {
    fn new(kind: CallKind, text: &'a str) -> Self {
        match (kind, Object::of(text), text.trim()) {
            (CallKind::Custom, ..) => Args::Freeform { input: text },
            (CallKind::Function, Some(object), _) => Args::Object(object),
            (CallKind::Function, None, "" | "null") => Args::Object(Object::Empty {}),
            (CallKind::Function, None, _) => Args::Unreadable { arguments: text },
        }
    }
}

/// Where the text comes from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Citations<'a> {
    citation_sources: Vec<Source<'a>>,
}

impl<'a> Citations<'a> {
    pub(super) fn new(citation_sources: Vec<Source<'a>>) -> Option<Self> {
        (!citation_sources.is_empty()).then_some(Self { citation_sources })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_index: Option<usize>,
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// A source of this text, which stands behind so many bytes.
    pub(super) fn new(citation: &'a Citation, text: &str, before: usize) -> Self {
        let place = |chars: u64| {
            let chars = usize::try_from(chars).unwrap_or(usize::MAX);
            let bytes = text
                .char_indices()
                .nth(chars)
                .map_or(text.len(), |(at, _)| at);
            before.saturating_add(bytes)
        };
        Self {
            start_index: citation.span.map(|(start, _)| place(start)),
            end_index: citation.span.map(|(_, end)| place(end)),
            uri: &citation.url,
            title: citation.title.as_deref(),
        }
    }
}

/// How likely the tokens were.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logprobs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_candidates: Vec<Top<'a>>,
    chosen_candidates: Vec<Token<'a>>,
}

#[derive(Serialize)]
struct Top<'a> {
    candidates: Vec<Token<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    token: &'a str,
    log_probability: f64,
}

impl<'a> Token<'a> {
    fn new(token: &'a TokenLogprob) -> Self {
        Self {
            token: &token.token,
            log_probability: token.logprob,
        }
    }
}

impl<'a> Logprobs<'a> {
    pub(super) fn new(tokens: impl IntoIterator<Item = &'a TokenLogprob>) -> Option<Self> {
        let tokens: Vec<&TokenLogprob> = tokens.into_iter().collect();
        let has_others = tokens.iter().any(|token| !token.top.is_empty());
        let tops = tokens.iter().filter(|_| has_others).map(|token| Top {
            candidates: token.top.iter().map(Token::new).collect(),
        });
        (!tokens.is_empty()).then(|| Self {
            top_candidates: tops.collect(),
            chosen_candidates: tokens.iter().copied().map(Token::new).collect(),
        })
    }
}

/// Token counts, as this format counts: thoughts apart from the answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageOut {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cached_content_token_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    thoughts_token_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompt_tokens_details: Vec<OfModality>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates_tokens_details: Vec<OfModality>,
}

/// Tokens of one kind of media.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfModality {
    modality: &'static str,
    token_count: u64,
}

/// Told where there is sound: else all is text.
fn by_modality(all: u64, sound: u64) -> Vec<OfModality> {
    let rows = [("TEXT", all.saturating_sub(sound)), ("AUDIO", sound)];
    let rows = rows
        .into_iter()
        .filter(|(_, count)| sound > 0 && *count > 0);
    let rows = rows.map(|(modality, token_count)| OfModality {
        modality,
        token_count,
    });
    rows.collect()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        let said = usage.output.saturating_sub(usage.reasoning);
        Self {
            prompt_token_count: usage.input,
            candidates_token_count: said,
            total_token_count: usage.total(),
            cached_content_token_count: usage.cache_read,
            thoughts_token_count: usage.reasoning,
            prompt_tokens_details: by_modality(usage.input, usage.input_audio),
            candidates_tokens_details: by_modality(said, usage.output_audio),
        }
    }
}

#[cfg(test)]
mod tests;
