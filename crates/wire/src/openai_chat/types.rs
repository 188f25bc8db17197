//! The members of Chat Completions that the gateway reads, borrowed from the bytes.

use std::borrow::Cow;

use polygate_core::Usage;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::canon::TokenLogprob;
use crate::lenient::{Count, Text};

/// A whole answer or a chunk, as far as it is looked at without translating.
#[derive(Debug, Deserialize)]
pub(crate) struct Peek<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub choices: Option<Vec<ChoicePeek<'a>>>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    /// Groq's first place for usage.
    #[serde(borrow, default)]
    pub x_groq: Option<Groq<'a>>,
    #[serde(borrow, default)]
    pub service_tier: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChoicePeek<'a> {
    #[serde(borrow, default)]
    pub delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(default)]
    pub finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

/// An answer of any endpoint: only its error and its usage matter; the rest is checked to be JSON and skipped.
#[derive(Debug, Deserialize)]
pub(crate) struct AnswerPeek<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub service_tier: Option<&'a RawValue>,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

impl AnswerPeek<'_> {
    /// Whether it has anything that answers of OpenAI's have.
    pub(crate) fn is_answer(&self) -> bool {
        let object = self.object.filter(|raw| raw.get() != "\"error\"");
        object.is_some() || self.choices.is_some() || self.data.is_some()
    }
}

/// What a delta may hold. Emptiness is all that is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeltaPeek<'a> {
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
    pub(crate) fn has_content(&self) -> bool {
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

/// `usage`, with the names of Chat, Responses and several vendors; numbers as they write them.
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
    /// Moonshot's and Together's.
    cached_tokens: Option<f64>,
    /// Mistral's.
    num_cached_tokens: Option<f64>,
    /// Together's.
    reasoning_tokens: Option<f64>,
    total_tokens: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<f64>,
    cache_write_tokens: Option<f64>,
    reasoning_tokens: Option<f64>,
    audio_tokens: Option<f64>,
}

/// Token counts of a `usage` member; `None` where there are none that can be read.
pub(crate) fn counts(usage: Option<&RawValue>, tier: Option<&RawValue>) -> Option<Usage> {
    let member: UsageMember = serde_json::from_str(usage?.get()).ok()?;
    let word = tier.map(|tier| tier.get().trim_matches('"'));
    Some(member.counts()?.served_as(word))
}

impl UsageMember {
    fn counts(&self) -> Option<Usage> {
        let input = self.prompt_tokens.or(self.input_tokens);
        let output = self.completion_tokens.or(self.output_tokens);
        if input.is_none() && output.is_none() {
            return None;
        }
        let inputs = [&self.prompt_tokens_details, &self.input_tokens_details];
        let outputs = [&self.completion_tokens_details, &self.output_tokens_details];
        let detail = |of: [&Option<Details>; 2], which: fn(&Details) -> Option<f64>| {
            of.into_iter().flatten().find_map(which)
        };
        let reasoning = detail(outputs, |details| details.reasoning_tokens);
        let reasoning = count(reasoning.or(self.reasoning_tokens));
        let (input, mut output) = (count(input), count(output));
        // Some leave the tokens of thinking out of the output; the total gives them away.
        if reasoning > 0
            && count(self.total_tokens) == input.saturating_add(output).saturating_add(reasoning)
        {
            output = output.saturating_add(reasoning);
        }
        let cached = detail(inputs, |details| details.cached_tokens)
            .or(self.prompt_cache_hit_tokens)
            .or(self.cached_tokens)
            .or(self.num_cached_tokens);
        Some(Usage {
            input,
            output: output.max(reasoning),
            cache_read: count(cached),
            cache_write: count(detail(inputs, |details| details.cache_write_tokens)),
            cache_write_1h: 0,
            reasoning,
            input_audio: count(detail(inputs, |details| details.audio_tokens)),
            output_audio: count(detail(outputs, |details| details.audio_tokens)),
            served: None,
        })
    }
}

/// A count as some vendors write it: with a point, negative, absent.
fn count(number: Option<f64>) -> u64 {
    // A float cast saturates: nonsense becomes zero or the largest count.
    number.map_or(0, |number| number as u64)
}

/// Usage in this format's words.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct UsageOut {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "is_none")]
    cache_write_tokens: u64,
    #[serde(skip_serializing_if = "is_none")]
    audio_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    #[serde(skip_serializing_if = "is_none")]
    audio_tokens: u64,
}

fn is_none(tokens: &u64) -> bool {
    *tokens == 0
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write,
                audio_tokens: usage.input_audio,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning,
                audio_tokens: usage.output_audio,
            },
        }
    }
}

/// A whole answer or a chunk, as it is read to be translated. Anything may be missing or `null`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    #[serde(borrow)]
    pub choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    /// Groq's first place for usage.
    #[serde(borrow)]
    pub x_groq: Option<Groq<'a>>,
    /// Perplexity's sources: addresses, repeated in every chunk.
    #[serde(borrow)]
    pub citations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Groq<'a> {
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice<'a> {
    pub index: Option<Count>,
    #[serde(borrow)]
    pub delta: Option<Message<'a>>,
    #[serde(borrow)]
    pub message: Option<Message<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<Text<'a>>,
    /// OpenRouter's, as the model's own host said it.
    #[serde(borrow)]
    pub native_finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// What was said: all of it, or one more piece.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Message<'a> {
    /// Text, or a list of parts.
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    pub function_call: Option<Function<'a>>,
    #[serde(borrow)]
    pub annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub audio: Option<Sound<'a>>,
    #[serde(borrow)]
    pub images: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Call<'a> {
    pub index: Option<Count>,
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
    #[serde(borrow)]
    pub custom: Option<Custom<'a>>,
    #[serde(borrow)]
    pub extra_content: Option<Extra<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Function<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// JSON text in a string; an object where vendors know no better.
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Custom<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub input: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Extra<'a> {
    #[serde(borrow)]
    pub google: Option<Google<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Google<'a> {
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sound<'a> {
    #[serde(borrow)]
    pub transcript: Option<Text<'a>>,
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// A part of content that is a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContentPart<'a> {
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    /// Mistral's thoughts: parts inside a part.
    #[serde(borrow)]
    pub thinking: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotation<'a> {
    #[serde(borrow)]
    url_citation: Option<UrlCitation<'a>>,
    /// Xiaomi's have no member of their own for the source.
    #[serde(borrow)]
    url: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
}

impl<'a> Annotation<'a> {
    /// The source that it names.
    pub(crate) fn source(self) -> Option<UrlCitation<'a>> {
        let flat = self.url.map(|url| UrlCitation {
            url: Some(url),
            title: self.title,
            ..UrlCitation::default()
        });
        self.url_citation.or(flat)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UrlCitation<'a> {
    #[serde(borrow)]
    pub url: Option<Text<'a>>,
    #[serde(borrow)]
    pub title: Option<Text<'a>>,
    #[serde(borrow)]
    pub content: Option<Text<'a>>,
    pub start_index: Option<Count>,
    pub end_index: Option<Count>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Logprobs {
    pub content: Option<Vec<Token>>,
}

/// A token with its log probability, as OpenAI's formats have it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Token {
    token: String,
    logprob: f64,
    bytes: Option<Vec<u8>>,
    top_logprobs: Option<Vec<Token>>,
}

impl From<Token> for TokenLogprob {
    fn from(token: Token) -> Self {
        let top = token.top_logprobs.into_iter().flatten();
        Self {
            token: token.token,
            logprob: token.logprob,
            bytes: token.bytes,
            top: top.map(Into::into).collect(),
        }
    }
}
