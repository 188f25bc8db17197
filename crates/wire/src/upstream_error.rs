//! Errors as providers say them, whatever the format: one lenient reader, since half of them answer in each other's shapes.

use polygate_core::{Failure, Kind, Origin, Scope, Usage, Why};
use serde::Deserialize;
use serde_json::Value;

use crate::UpstreamError;

/// Reads an error body: `{"error": {…}}`, `{"error": "…"}`, `{"message": …}`, `{"detail": …}`, or an array of one of these.
pub fn decode(body: &[u8]) -> Option<UpstreamError> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let value = value
        .as_array()
        .and_then(|list| list.first())
        .unwrap_or(&value);
    let object = value.as_object()?;
    match object.get("error") {
        Some(Value::Null) | None => of_object(value).filter(|error| !error.message.is_empty()),
        Some(Value::String(message)) => {
            let outer = of_object(value).unwrap_or_default();
            Some(UpstreamError {
                message: message.clone(),
                ..outer
            })
        }
        Some(error) => of_object(error),
    }
}

fn of_object(error: &Value) -> Option<UpstreamError> {
    let object = error.as_object()?;
    let text = |names: &[&str]| {
        names.iter().find_map(|name| match object.get(*name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(_) | Value::Object(_) => object.get(*name).map(Value::to_string),
            _ => None,
        })
    };
    // A number as code says no more than the status; the word beside it does.
    let word = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Some(UpstreamError {
        message: text(&["message", "detail", "error_msg"]).unwrap_or_default(),
        code: word("code")
            .or_else(|| word("status"))
            .or_else(|| word("type"))
            .or_else(|| text(&["code"])),
        param: word("param"),
    })
}

/// The most of an upstream's own sentence that is passed on.
const MESSAGE_LIMIT: usize = 2000;

/// Codes that errors inside a success carry → what they mean, and the status they would have had.
const IN_BAND: [(&str, Kind, u16); 26] = [
    ("rate_limit", Kind::UpstreamRateLimited, 429),
    ("resource_exhausted", Kind::UpstreamRateLimited, 429),
    ("too_many_requests", Kind::UpstreamRateLimited, 429),
    ("429", Kind::UpstreamRateLimited, 429),
    ("insufficient_quota", Kind::UpstreamQuota, 429),
    ("billing", Kind::UpstreamQuota, 402),
    ("402", Kind::UpstreamQuota, 402),
    ("overloaded", Kind::UpstreamError, 529),
    ("authentication", Kind::UpstreamAuth, 401),
    ("permission", Kind::UpstreamAuth, 403),
    ("not_found", Kind::UpstreamModel, 404),
    ("invalid_request", Kind::InvalidRequest, 400),
    ("invalid_argument", Kind::InvalidRequest, 400),
    ("invalid_prompt", Kind::InvalidRequest, 400),
    ("context_length", Kind::InvalidRequest, 400),
    ("400", Kind::InvalidRequest, 400),
    ("failed_precondition", Kind::InvalidRequest, 400),
    ("unauthenticated", Kind::UpstreamAuth, 401),
    ("api_key_invalid", Kind::UpstreamAuth, 401),
    ("request_too_large", Kind::TooLarge, 413),
    ("timeout", Kind::Timeout, 504),
    ("deadline_exceeded", Kind::Timeout, 504),
    ("unavailable", Kind::UpstreamError, 503),
    ("api_error", Kind::UpstreamError, 500),
    ("server_error", Kind::UpstreamError, 500),
    ("internal", Kind::UpstreamError, 500),
];

/// Words by which providers say that a conversation is too long for the model, or that they refuse to talk about it.
const WHY: [(&str, Why); 24] = [
    ("context_length", Why::ContextLength),
    ("context length", Why::ContextLength),
    ("context window", Why::ContextLength),
    ("context limit", Why::ContextLength),
    ("prompt is too long", Why::ContextLength),
    ("input is too long", Why::ContextLength),
    ("prompt too long", Why::ContextLength),
    ("too many input tokens", Why::ContextLength),
    ("exceeds the maximum number of tokens", Why::ContextLength),
    ("maximum prompt length", Why::ContextLength),
    ("range of input length", Why::ContextLength),
    ("string_above_max_length", Why::ContextLength),
    ("reduce the length of the messages", Why::ContextLength),
    ("prompt_too_long", Why::ContextLength),
    ("model_max_prompt_tokens_exceeded", Why::ContextLength),
    ("content_policy", Why::ContentPolicy),
    ("content policy", Why::ContentPolicy),
    ("content_filter", Why::ContentPolicy),
    ("content management policy", Why::ContentPolicy),
    ("responsibleaipolicyviolation", Why::ContentPolicy),
    ("moderation_blocked", Why::ContentPolicy),
    ("data_inspection_failed", Why::ContentPolicy),
    ("content exists risk", Why::ContentPolicy),
    ("content filtering policy", Why::ContentPolicy),
];

/// Why a request was refused, where a model of another kind might take it.
pub fn why(said: &UpstreamError) -> Option<Why> {
    let code = said.code.as_deref().unwrap_or_default();
    let text = format!("{code} {}", said.message).to_ascii_lowercase();
    // Google counts: "The input token count (…) exceeds the maximum number of tokens allowed (…)".
    let found = WHY.iter().find(|(word, _)| text.contains(word));
    found.map(|(_, why)| *why)
}

/// An error that came inside a success: in a 200 answer or in a stream.
pub fn in_band(said: UpstreamError) -> Failure {
    let code = said
        .code
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let known = IN_BAND.iter().find(|(word, ..)| code.contains(word));
    let (kind, status) = known.map_or((Kind::UpstreamError, 502), |(_, kind, status)| {
        (*kind, *status)
    });
    let why = why(&said).filter(|_| matches!(kind, Kind::InvalidRequest | Kind::TooLarge));
    let message = if said.message.is_empty() {
        "the provider reported an error in its answer".to_owned()
    } else {
        said.message.chars().take(MESSAGE_LIMIT).collect()
    };
    let mut failure = Failure::new(kind, message);
    failure.status = status;
    failure.origin = Origin::Upstream;
    failure.why = why;
    failure.code = said.code;
    failure.param = said.param;
    if kind == Kind::InvalidRequest {
        failure.scope = Scope::Request;
    }
    failure
}

/// Bytes that are no answer of any format.
pub fn junk(what: &str) -> Failure {
    Failure::new(Kind::UpstreamJunk, what).ambiguous()
}

/// A whole answer that reports no error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The usage it reports.
    pub usage: Option<Usage>,
    /// It has what a turn of a chat is: choices, candidates, content.
    pub has_turn: bool,
}

impl Checked {
    /// Its usage, where it is a turn of a chat.
    pub fn chat(self) -> Result<Option<Usage>, Failure> {
        if self.has_turn {
            Ok(self.usage)
        } else {
            Err(junk("the provider's answer has nothing in it"))
        }
    }
}

/// Whether a raw member is there, and no list without elements.
pub fn has_elements(raw: Option<&serde_json::value::RawValue>) -> bool {
    let text = raw.map_or("null", |raw| raw.get().trim());
    let is_empty = |rest: &str| rest.trim_start().starts_with(']');
    text != "null" && !text.strip_prefix('[').is_some_and(is_empty)
}

/// Reads a JSON answer into a borrowed view of it, or says why it is none.
pub fn answer<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(junk("the provider's answer is empty"));
    }
    serde_json::from_slice(body).map_err(|error| {
        junk(if error.is_eof() {
            "the provider's answer is cut off"
        } else if error.is_syntax() {
            "the provider's answer is not JSON"
        } else {
            "the provider's answer is not of the format it was asked in"
        })
    })
}

/// The same for answers that are objects. serde would take a list for one, its elements for the members in their order.
pub fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(junk(
            "the provider's answer is a list, and not of the format it was asked in",
        ));
    }
    answer(body)
}

/// A raw `error` member as an error: `null`, `false` and empty objects are none.
pub fn member(raw: Option<&serde_json::value::RawValue>) -> Option<UpstreamError> {
    let text = raw?.get().trim();
    if matches!(text, "null" | "false" | "{}" | "\"\"") {
        return None;
    }
    decode(format!("{{\"error\":{text}}}").as_bytes()).or_else(|| {
        Some(UpstreamError {
            message: text.chars().take(500).collect(),
            ..UpstreamError::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    #[test]
    fn a_turn_has_something_in_it() {
        let cases = [
            (
                Format::OpenaiChat,
                r#"{"object":"chat.completion","choices":[ ]}"#,
                r#"{"choices":[{}]}"#,
            ),
            (
                Format::OpenaiResponses,
                r#"{"object":"response.input_tokens","input_tokens":3}"#,
                r#"{"output":[]}"#,
            ),
            (
                Format::AnthropicMessages,
                r#"{"input_tokens":3}"#,
                r#"{"content":[]}"#,
            ),
            (
                Format::Gemini,
                r#"{"candidates":[],"promptFeedback":null,"totalTokens":3}"#,
                r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
            ),
            (
                Format::BedrockConverse,
                r#"{"inputTokens":3}"#,
                r#"{"output":{}}"#,
            ),
        ];
        for (format, other, turn) in cases {
            let dialect = crate::dialect(format);
            assert!(dialect.check_answer(other.as_bytes()).is_ok(), "{other}");
            let failure = dialect.check_chat(other.as_bytes()).expect_err(other);
            assert_eq!(failure.kind, Kind::UpstreamJunk, "{other}");
            assert!(dialect.check_chat(turn.as_bytes()).is_ok(), "{turn}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        #[derive(Debug, Deserialize)]
        struct Peek {
            #[expect(dead_code, reason = "that it can be read is the point")]
            error: Option<u8>,
        }
        assert!(object::<Peek>(b"{\"error\":1}").is_ok());
        let failure = object::<Peek>(b" [1]").expect_err("a list");
        assert_eq!(failure.kind, Kind::UpstreamJunk);
    }

    #[test]
    fn every_vendors_shape_is_read() {
        let cases = [
            (
                r#"{"error":{"message":"m","type":"t","code":"c","param":"p"}}"#,
                "m",
                Some("c"),
                Some("p"),
            ),
            (
                r#"{"error":{"message":"m","type":"t","code":null}}"#,
                "m",
                Some("t"),
                None,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                "m",
                Some("overloaded_error"),
                None,
            ),
            (
                r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
                "m",
                Some("RESOURCE_EXHAUSTED"),
                None,
            ),
            (r#"{"error":"m"}"#, "m", None, None),
            (r#"{"message":"m","code":"1300"}"#, "m", Some("1300"), None),
            (r#"{"detail":"m"}"#, "m", None, None),
            (
                r#"{"error":{"code":502,"message":"m"}}"#,
                "m",
                Some("502"),
                None,
            ),
        ];
        for (body, message, code, param) in cases {
            let error = decode(body.as_bytes()).expect(body);
            assert_eq!(
                (
                    error.message.as_str(),
                    error.code.as_deref(),
                    error.param.as_deref()
                ),
                (message, code, param),
                "{body}"
            );
        }
        for body in ["", "<html>", "{}", "[]", "null", "{\"error\":null}"] {
            assert_eq!(decode(body.as_bytes()), None, "{body}");
        }
    }
}
