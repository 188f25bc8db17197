//! How many tokens a request is: the question as each format asks it, and the count in what comes back.

use bytes::Bytes;
use polygate_core::Failure;
use serde::Deserialize;

use crate::raw::quote;
use crate::{Format, RawObject, upstream_error};

/// What is asked of a chat request to have its tokens counted; `None` for formats that do not count.
pub fn question(format: Format, chat: &RawObject, model: &str) -> Option<Bytes> {
    let question = match format {
        Format::OpenaiChat => return None,
        Format::OpenaiResponses => only(chat, &OF_RESPONSES),
        Format::AnthropicMessages => only(chat, &OF_MESSAGES),
        Format::Gemini => {
            let body = only(chat, &[]);
            let model = quote(&format!("models/{model}"));
            let rest = body.strip_prefix('{').unwrap_or(&body);
            let comma = if rest == "}" { "" } else { "," };
            format!(r#"{{"generateContentRequest":{{"model":{model}{comma}{rest}}}"#)
        }
        Format::BedrockConverse => {
            format!(r#"{{"input":{{"converse":{}}}}}"#, only(chat, &OF_CONVERSE))
        }
    };
    Some(question.into())
}

/// Whether a format's count has a member of this name.
pub fn knows(format: Format, name: &str) -> bool {
    match format {
        Format::OpenaiChat => false,
        Format::OpenaiResponses => OF_RESPONSES.contains(&name),
        Format::AnthropicMessages => OF_MESSAGES.contains(&name),
        Format::BedrockConverse => OF_CONVERSE.contains(&name),
        // It has a whole request inside.
        Format::Gemini => true,
    }
}

/// The chat request inside a client's question.
pub fn asked(question: &RawObject) -> Result<RawObject, Failure> {
    match question.get("generateContentRequest") {
        Some(text) => RawObject::parse(Bytes::copy_from_slice(text.as_bytes())),
        None => Ok(question.clone()),
    }
}

/// The count in an upstream's answer.
pub fn count(body: &[u8]) -> Result<u64, Failure> {
    let counted: Counted = upstream_error::object(body)?;
    counted
        .tokens
        .ok_or_else(|| upstream_error::junk("the provider's answer has no count of tokens"))
}

/// A count as clients of this format expect it.
pub fn answer(format: Format, tokens: u64) -> Bytes {
    let body = match format {
        Format::Gemini => format!(r#"{{"totalTokens":{tokens}}}"#),
        Format::OpenaiResponses => {
            format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#)
        }
        _ => format!(r#"{{"input_tokens":{tokens}}}"#),
    };
    body.into()
}

/// Members of a chat request that its question has too; all others are refused there.
const OF_RESPONSES: [&str; 11] = [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
    "conversation",
    "previous_response_id",
];
const OF_MESSAGES: [&str; 8] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
];
const OF_CONVERSE: [&str; 4] = [
    "messages",
    "system",
    "toolConfig",
    "additionalModelRequestFields",
];

/// What the formats call the count.
#[derive(Deserialize)]
struct Counted {
    #[serde(alias = "input_tokens", alias = "totalTokens", alias = "inputTokens")]
    tokens: Option<u64>,
}

/// An object of these members; of all, where none is named.
fn only(chat: &RawObject, names: &[&str]) -> String {
    let kept = chat
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name));
    let members: Vec<String> = kept
        .map(|(name, text)| format!("{}:{text}", quote(name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(format: Format, chat: &str) -> Option<String> {
        let chat = RawObject::parse(Bytes::copy_from_slice(chat.as_bytes())).expect("an object");
        let question = question(format, &chat, "m")?;
        RawObject::parse(question.clone()).expect("an object");
        Some(String::from_utf8(question.to_vec()).expect("text"))
    }

    #[test]
    fn questions_have_what_counts_and_nothing_else() {
        let messages = r#"{"model":"m","max_tokens":9,"messages":[],"stream":true,"system":[ ]}"#;
        let converse = r#"{"messages":[],"inferenceConfig":{"maxTokens":9},"toolConfig":{}}"#;
        for (format, chat, question) in [
            (
                Format::AnthropicMessages,
                messages,
                Some(r#"{"model":"m","messages":[],"system":[ ]}"#),
            ),
            (
                Format::OpenaiResponses,
                r#"{"model":"m","input":"hi","store":false}"#,
                Some(r#"{"model":"m","input":"hi"}"#),
            ),
            (
                Format::Gemini,
                r#"{"contents":[1]}"#,
                Some(r#"{"generateContentRequest":{"model":"models/m","contents":[1]}}"#),
            ),
            (
                Format::Gemini,
                "{}",
                Some(r#"{"generateContentRequest":{"model":"models/m"}}"#),
            ),
            (
                Format::BedrockConverse,
                converse,
                Some(r#"{"input":{"converse":{"messages":[],"toolConfig":{}}}}"#),
            ),
            (Format::OpenaiChat, "{}", None),
        ] {
            assert_eq!(asks(format, chat).as_deref(), question, "{format:?}");
        }
    }

    #[test]
    fn counts_are_read_in_every_spelling() {
        for (body, tokens) in [
            (r#"{"input_tokens":3}"#, Some(3)),
            (
                r#"{"object":"response.input_tokens","input_tokens":3}"#,
                Some(3),
            ),
            (r#"{"totalTokens":3,"promptTokensDetails":[]}"#, Some(3)),
            (r#"{"inputTokens":3}"#, Some(3)),
            (r#"{"cachedContentTokenCount":3}"#, None),
            ("[]", None),
        ] {
            assert_eq!(count(body.as_bytes()).ok(), tokens, "{body}");
        }
    }
}
