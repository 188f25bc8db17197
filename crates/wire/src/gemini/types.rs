//! What the gateway reads of Gemini's answers, borrowed from their bytes. Chunks of a stream are whole answers; anything may be
//! missing or `null`.

use polygate_core::Usage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::canon::{Citation, TokenLogprob};
use crate::lenient::{Count, Served, Text};

/// An answer, or a chunk of one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    pub prompt_feedback: Option<Feedback>,
    pub usage_metadata: Option<Counts>,
    #[serde(borrow)]
    pub model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub response_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// The only candidate that a chat answer has a place for.
    pub(crate) fn take_candidate(&mut self) -> Option<Candidate<'a>> {
        let candidates = self.candidates.take().unwrap_or_default();
        candidates
            .into_iter()
            .find(|candidate| candidate.index.unwrap_or_default().0 == 0)
    }

    /// Whether there is any.
    pub(crate) fn has_candidate(&self) -> bool {
        self.candidates
            .as_ref()
            .is_some_and(|list| !list.is_empty())
    }

    /// The prompt was not let through.
    pub(crate) fn is_blocked(&self) -> bool {
        let feedback = self.prompt_feedback.as_ref();
        feedback.is_some_and(|feedback| feedback.block_reason.is_some())
    }
}

/// An answer as far as the native lane needs it. Answers of other calls (counted tokens, embeddings) pass too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peek<'a> {
    #[serde(borrow)]
    pub usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub candidates: Option<&'a RawValue>,
    pub prompt_feedback: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Candidate<'a> {
    pub index: Option<Count>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    pub finish_reason: Option<FinishReason>,
    #[serde(borrow)]
    pub finish_message: Option<Text<'a>>,
    #[serde(borrow)]
    pub grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub logprobs_result: Option<&'a RawValue>,
}

/// What a search found, and which parts of the text stand on it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow)]
    grounding_chunks: Option<Vec<Chunk<'a>>>,
    grounding_supports: Option<Vec<Support>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    web: Option<Page<'a>>,
    #[serde(borrow)]
    retrieved_context: Option<Page<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    /// Words of a stored document.
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Support {
    segment: Option<Segment>,
    grounding_chunk_indices: Option<Vec<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Segment {
    start_index: Option<Count>,
    end_index: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cited<'a> {
    #[serde(borrow, alias = "citations")]
    citation_sources: Option<Vec<CitedSource<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CitedSource<'a> {
    start_index: Option<Count>,
    end_index: Option<Count>,
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LogprobsResult {
    top_candidates: Option<Vec<TopCandidates>>,
    chosen_candidates: Option<Vec<TokenIn>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TopCandidates {
    candidates: Option<Vec<TokenIn>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TokenIn {
    token: String,
    log_probability: f64,
}

impl From<TokenIn> for TokenLogprob {
    fn from(token: TokenIn) -> Self {
        Self {
            bytes: Some(token.token.as_bytes().to_vec()),
            token: token.token,
            logprob: token.log_probability,
            top: vec![],
        }
    }
}

impl<'a> Candidate<'a> {
    /// Where this text comes from, in the hub's terms.
    pub(crate) fn take_citations(&mut self, text: &str) -> Vec<Citation> {
        let grounding: Grounding<'_> = read(self.grounding_metadata.take());
        let cited: Cited<'_> = read(self.citation_metadata.take());
        let pages: Vec<Page<'_>> = grounding
            .grounding_chunks
            .unwrap_or_default()
            .into_iter()
            .map(|chunk| chunk.web.or(chunk.retrieved_context).unwrap_or_default())
            .collect();
        let mut citations = Vec::new();
        for support in grounding.grounding_supports.unwrap_or_default() {
            let segment = support.segment.unwrap_or_default();
            let span = span(text, segment.start_index, segment.end_index);
            let indices = support.grounding_chunk_indices.unwrap_or_default();
            let pages = indices.into_iter().filter_map(|index| pages.get(index));
            citations.extend(pages.map(|page| Citation {
                url: page.uri.as_deref().unwrap_or_default().to_owned(),
                title: page.title.as_deref().map(str::to_owned),
                cited: page.text.as_deref().map(str::to_owned),
                span,
            }));
        }
        let sources = cited.citation_sources.unwrap_or_default().into_iter();
        citations.extend(sources.map(|source| Citation {
            url: source.uri.map(Into::into).unwrap_or_default(),
            title: source.title.map(Into::into),
            cited: None,
            span: span(text, source.start_index, source.end_index),
        }));
        citations
    }

    /// Log probabilities, in the hub's terms.
    pub(crate) fn take_logprobs(&mut self) -> Vec<TokenLogprob> {
        let result: LogprobsResult = read(self.logprobs_result.take());
        let mut top = result.top_candidates.unwrap_or_default().into_iter();
        let chosen = result.chosen_candidates.unwrap_or_default().into_iter();
        chosen
            .map(|token| {
                let beside = top
                    .next()
                    .and_then(|top| top.candidates)
                    .unwrap_or_default();
                TokenLogprob {
                    top: beside.into_iter().map(Into::into).collect(),
                    ..token.into()
                }
            })
            .collect()
    }

    pub(crate) fn take_parts(&mut self) -> Vec<PartIn<'a>> {
        let content = self.content.take();
        content
            .and_then(|content| content.parts)
            .unwrap_or_default()
    }

    /// Whether a client would miss something of it.
    pub(crate) fn has_content(&self) -> bool {
        let parts = self
            .content
            .as_ref()
            .and_then(|content| content.parts.as_ref());
        parts.is_some_and(|parts| parts.iter().any(PartIn::has_content))
    }
}

fn read<'a, T: Default + Deserialize<'a>>(raw: Option<&'a RawValue>) -> T {
    let read = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
    read.unwrap_or_default()
}

/// A place in characters: Google counts bytes.
fn span(text: &str, start: Option<Count>, end: Option<Count>) -> Option<(u64, u64)> {
    let place = |bytes: Option<Count>| {
        let bytes = usize::try_from(bytes.unwrap_or_default().0).unwrap_or(usize::MAX);
        let before = text.char_indices().take_while(|(at, _)| *at < bytes);
        before.count() as u64
    };
    let (start, end) = (place(start), place(end));
    (end > start).then_some((start, end))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Content<'a> {
    #[serde(borrow)]
    pub parts: Option<Vec<PartIn<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartIn<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    pub thought: Option<bool>,
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub inline_data: Option<Blob<'a>>,
    pub file_data: Option<IgnoredAny>,
    pub executable_code: Option<IgnoredAny>,
    pub code_execution_result: Option<IgnoredAny>,
}

impl PartIn<'_> {
    pub(crate) fn has_content(&self) -> bool {
        let others = [
            self.inline_data.as_ref().map(|_| IgnoredAny),
            self.file_data,
            self.executable_code,
            self.code_execution_result,
        ];
        self.text.as_deref().is_some_and(|text| !text.is_empty())
            || self.function_call.is_some()
            || others.iter().any(Option::is_some)
    }
}

/// Bytes inline.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blob<'a> {
    #[serde(borrow)]
    pub mime_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// A call: whole, or a fragment of one whose arguments come piece by piece.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FunctionCall<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
    #[serde(borrow)]
    pub partial_args: Option<Vec<PartialArg<'a>>>,
    pub will_continue: Option<bool>,
}

/// A piece of an argument.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartialArg<'a> {
    #[serde(borrow)]
    pub json_path: Option<Text<'a>>,
    #[serde(borrow)]
    pub string_value: Option<Text<'a>>,
    pub number_value: Option<serde_json::Number>,
    pub bool_value: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Feedback {
    pub block_reason: Option<IgnoredAny>,
}

/// Why a candidate ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum FinishReason {
    Stop,
    MaxTokens,
    Safety,
    Recitation,
    Language,
    Blocklist,
    ProhibitedContent,
    Spii,
    ModelArmor,
    ImageSafety,
    ImageProhibitedContent,
    ImageRecitation,
    MalformedFunctionCall,
    UnexpectedToolCall,
    TooManyToolCalls,
    MalformedResponse,
    Other,
    #[serde(other)]
    Unknown,
}

/// What a reason means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Length,
    Filtered,
    /// The model wrote what Google could not read: whatever came before is no whole answer. With the reason's name.
    Botched(&'static str),
    /// Google broke off: words that came before stand, without any it is nobody's answer. With the reason's name.
    BrokenOff(&'static str),
}

impl FinishReason {
    pub(crate) fn outcome(self) -> Outcome {
        use FinishReason as R;
        match self {
            R::Stop | R::Unknown => Outcome::Done,
            R::MaxTokens => Outcome::Length,
            R::Safety | R::Recitation | R::Language | R::Blocklist | R::ProhibitedContent => {
                Outcome::Filtered
            }
            R::Spii | R::ModelArmor => Outcome::Filtered,
            R::ImageSafety | R::ImageProhibitedContent | R::ImageRecitation => Outcome::Filtered,
            R::MalformedFunctionCall => Outcome::Botched("MALFORMED_FUNCTION_CALL"),
            R::UnexpectedToolCall => Outcome::BrokenOff("UNEXPECTED_TOOL_CALL"),
            R::TooManyToolCalls => Outcome::BrokenOff("TOO_MANY_TOOL_CALLS"),
            R::MalformedResponse => Outcome::Botched("MALFORMED_RESPONSE"),
            R::Other => Outcome::BrokenOff("OTHER"),
        }
    }
}

/// Token counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Counts {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    cached_content_token_count: Count,
    prompt_tokens_details: Option<Vec<OfModality>>,
    candidates_tokens_details: Option<Vec<OfModality>>,
    service_tier: Served,
    /// What Vertex calls it.
    traffic_type: Served,
}

/// Tokens of one kind of media.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OfModality {
    modality: Modality,
    token_count: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Modality {
    Audio,
    #[default]
    #[serde(other)]
    Other,
}

fn of_sound(details: &Option<Vec<OfModality>>) -> u64 {
    let all = details.iter().flatten();
    let sound = all.filter(|tokens| tokens.modality == Modality::Audio);
    sound.map(|tokens| tokens.token_count.0).sum()
}

impl Counts {
    /// In the hub's terms: thoughts are output that Google counts apart, prompts of its tools are input.
    pub(crate) fn usage(&self) -> Usage {
        let thoughts = self.thoughts_token_count.0;
        Usage {
            input: self
                .prompt_token_count
                .0
                .saturating_add(self.tool_use_prompt_token_count.0),
            output: self.candidates_token_count.0.saturating_add(thoughts),
            cache_read: self.cached_content_token_count.0,
            cache_write: 0,
            reasoning: thoughts,
            input_audio: of_sound(&self.prompt_tokens_details),
            output_audio: of_sound(&self.candidates_tokens_details),
            cache_write_1h: 0,
            served: self.service_tier.0.or(self.traffic_type.0),
        }
    }
}
