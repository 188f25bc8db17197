//! The members of Gemini's answers that the gateway reads, borrowed from the bytes. Chunks of a stream are whole answers.

use std::borrow::Cow;

use polygate_core::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::Stop;

/// An answer, or a chunk of one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    pub prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    pub usage_metadata: Option<UsageMember>,
    #[serde(borrow, default)]
    pub model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub response_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// An answer of any method: token counts and embeddings have no candidates.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnswerPeek<'a> {
    #[serde(borrow, default)]
    pub usage_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub index: u32,
    #[serde(borrow, default)]
    pub content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    pub parts: Option<Vec<PartMember<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartMember<'a> {
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    #[serde(default)]
    pub thought: Option<bool>,
    #[serde(borrow, default)]
    pub function_call: Option<FunctionCall<'a>>,
    #[serde(borrow, default)]
    pub inline_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub executable_code: Option<&'a RawValue>,
}

impl PartMember<'_> {
    /// Whether a client would miss it.
    pub(super) fn has_content(&self) -> bool {
        let has_text = self.text.as_deref().is_some_and(|text| !text.is_empty());
        has_text
            || self.function_call.is_some()
            || self.inline_data.is_some()
            || self.executable_code.is_some()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub args: Option<&'a RawValue>,
}

impl FunctionCall<'_> {
    /// The arguments as JSON text.
    pub(super) fn arguments(&self) -> &str {
        self.args
            .map(RawValue::get)
            .filter(|text| *text != "null")
            .unwrap_or("{}")
    }

    /// The call's id; where Google gives none, one that is the answer's own.
    pub(super) fn id(&self, answer: Option<&str>, number: usize) -> String {
        match self.id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => format!("call_{}_{number}", answer.unwrap_or("gemini")),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default)]
    pub block_reason: Option<Cow<'a, str>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UsageMember {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
}

impl UsageMember {
    /// The counts; thoughts are output that Google counts apart.
    pub(super) fn counts(&self) -> Usage {
        let sum = |a: Option<u64>, b: Option<u64>| {
            a.unwrap_or_default().saturating_add(b.unwrap_or_default())
        };
        Usage {
            input: sum(self.prompt_token_count, self.tool_use_prompt_token_count),
            output: sum(self.candidates_token_count, self.thoughts_token_count),
            cache_read: self.cached_content_token_count.unwrap_or_default(),
            cache_write: 0,
            reasoning: self.thoughts_token_count.unwrap_or_default(),
        }
    }
}

/// Why it stopped, in the hub's words. Google says `STOP` after tool calls too.
pub(super) fn stop(reason: &str, called: bool) -> Stop {
    match reason {
        "MAX_TOKENS" => Stop::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Stop::ContentFilter,
        _ if called => Stop::ToolUse,
        _ => Stop::End,
    }
}
