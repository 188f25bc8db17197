//! What the gateway reads of Gemini's answers, borrowed from their bytes. Chunks of a stream are whole answers; anything may be
//! missing or `null`.

use polygate_core::Usage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::lenient::{Count, Text};

/// An answer, or a chunk of one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
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
    pub(super) fn take_candidate(&mut self) -> Option<Candidate<'a>> {
        let candidates = self.candidates.take().unwrap_or_default();
        candidates
            .into_iter()
            .find(|candidate| candidate.index.unwrap_or_default().0 == 0)
    }

    /// Whether there is any.
    pub(super) fn has_candidate(&self) -> bool {
        self.candidates
            .as_ref()
            .is_some_and(|list| !list.is_empty())
    }

    /// The prompt was not let through.
    pub(super) fn is_blocked(&self) -> bool {
        let feedback = self.prompt_feedback.as_ref();
        feedback.is_some_and(|feedback| feedback.block_reason.is_some())
    }
}

/// An answer as far as the native lane needs it. Answers of other calls (counted tokens, embeddings) pass too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Peek<'a> {
    #[serde(borrow)]
    pub usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub index: Option<Count>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    pub finish_reason: Option<FinishReason>,
    #[serde(borrow)]
    pub finish_message: Option<Text<'a>>,
}

impl<'a> Candidate<'a> {
    pub(super) fn take_parts(&mut self) -> Vec<PartIn<'a>> {
        let content = self.content.take();
        content
            .and_then(|content| content.parts)
            .unwrap_or_default()
    }

    /// Whether a client would miss something of it.
    pub(super) fn has_content(&self) -> bool {
        let parts = self
            .content
            .as_ref()
            .and_then(|content| content.parts.as_ref());
        parts.is_some_and(|parts| parts.iter().any(PartIn::has_content))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub parts: Option<Vec<PartIn<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartIn<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    pub thought: Option<bool>,
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
    pub inline_data: Option<IgnoredAny>,
    pub file_data: Option<IgnoredAny>,
    pub executable_code: Option<IgnoredAny>,
    pub code_execution_result: Option<IgnoredAny>,
}

impl PartIn<'_> {
    pub(super) fn has_content(&self) -> bool {
        let others = [
            self.inline_data,
            self.file_data,
            self.executable_code,
            self.code_execution_result,
        ];
        self.text.as_deref().is_some_and(|text| !text.is_empty())
            || self.function_call.is_some()
            || others.iter().any(Option::is_some)
    }
}

/// A call: whole, or a fragment of one whose arguments come piece by piece.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
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
pub(super) struct PartialArg<'a> {
    #[serde(borrow)]
    pub json_path: Option<Text<'a>>,
    #[serde(borrow)]
    pub string_value: Option<Text<'a>>,
    pub number_value: Option<serde_json::Number>,
    pub bool_value: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback {
    pub block_reason: Option<IgnoredAny>,
}

/// Why a candidate ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum FinishReason {
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
pub(super) enum Outcome {
    Done,
    Length,
    Filtered,
    /// The model wrote what Google could not read: nobody's answer. With the reason's name.
    Botched(&'static str),
}

impl FinishReason {
    pub(super) fn outcome(self) -> Outcome {
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
            R::UnexpectedToolCall => Outcome::Botched("UNEXPECTED_TOOL_CALL"),
            R::TooManyToolCalls => Outcome::Botched("TOO_MANY_TOOL_CALLS"),
            R::MalformedResponse => Outcome::Botched("MALFORMED_RESPONSE"),
            R::Other => Outcome::Botched("OTHER"),
        }
    }
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Counts {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    cached_content_token_count: Count,
}

impl Counts {
    /// In the hub's terms: thoughts are output that Google counts apart, prompts of its tools are input.
    pub(super) fn usage(self) -> Usage {
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
        }
    }
}
