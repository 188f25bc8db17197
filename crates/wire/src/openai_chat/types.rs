//! The members of Chat Completions that the gateway reads, borrowed from the bytes.

use polygate_core::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A whole answer or a chunk, as far as it is looked at without translating.
#[derive(Debug, Deserialize)]
pub(super) struct Peek<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub choices: Option<Vec<ChoicePeek<'a>>>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChoicePeek<'a> {
    #[serde(borrow, default)]
    pub delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(default)]
    pub finish_reason: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// An answer of any endpoint: only its error and its usage matter; the rest is checked to be JSON and skipped.
#[derive(Debug, Deserialize)]
pub(super) struct AnswerPeek<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

/// What a delta may hold. Emptiness is all that is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeltaPeek<'a> {
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    pub function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    pub audio: Option<&'a RawValue>,
    #[serde(borrow)]
    pub images: Option<&'a RawValue>,
}

impl DeltaPeek<'_> {
    /// Whether a client would miss it.
    pub(super) fn has_content(&self) -> bool {
        let members = [
            self.content,
            self.reasoning_content,
            self.reasoning,
            self.reasoning_details,
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
            self.images,
        ];
        members
            .into_iter()
            .flatten()
            .any(|raw| !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}"))
    }
}

/// `usage`, with the names of Chat, Responses and DeepSeek; numbers as vendors write them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct UsageMember {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    output_tokens_details: Option<Details>,
    prompt_cache_hit_tokens: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<f64>,
    reasoning_tokens: Option<f64>,
}

/// Token counts of a `usage` member; `None` where there are none that can be read.
pub(crate) fn counts(usage: Option<&RawValue>) -> Option<Usage> {
    serde_json::from_str::<UsageMember>(usage?.get())
        .ok()?
        .counts()
}

impl UsageMember {
    fn counts(&self) -> Option<Usage> {
        let input = self.prompt_tokens.or(self.input_tokens);
        let output = self.completion_tokens.or(self.output_tokens);
        if input.is_none() && output.is_none() {
            return None;
        }
        let cached = [&self.prompt_tokens_details, &self.input_tokens_details]
            .into_iter()
            .flatten()
            .find_map(|d| d.cached_tokens);
        let reasoning = [&self.completion_tokens_details, &self.output_tokens_details]
            .into_iter()
            .flatten();
        Some(Usage {
            input: count(input),
            output: count(output),
            cache_read: count(cached.or(self.prompt_cache_hit_tokens)),
            cache_write: 0,
            reasoning: count(reasoning.filter_map(|d| d.reasoning_tokens).next()),
        })
    }
}

/// A count as some vendors write it: with a point, negative, absent.
fn count(number: Option<f64>) -> u64 {
    // A float cast saturates: nonsense becomes zero or the largest count.
    number.map_or(0, |number| number as u64)
}
