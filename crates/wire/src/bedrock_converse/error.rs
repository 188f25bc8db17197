//! Errors as Bedrock says them: a sentence in the body, the exception's name beside it or in the event's name.

use bytes::Bytes;
use polygate_core::Failure;
use serde::Deserialize;
use serde_json::json;

use crate::event_stream::EXCEPTION;
use crate::lenient::{Count, Text};
use crate::{UpstreamError, upstream_error};

/// Beginnings of exceptions' names, in lower case → the word that all providers' errors are understood by.
const KNOWN: [(&str, &str); 11] = [
    ("throttling", "rate_limit"),
    ("toomanyrequests", "rate_limit"),
    ("servicequotaexceeded", "rate_limit"),
    ("validation", "invalid_request"),
    ("accessdenied", "permission"),
    ("expiredtoken", "authentication"),
    ("unrecognizedclient", "authentication"),
    ("invalidsignature", "authentication"),
    ("resourcenotfound", "not_found"),
    ("modelnotready", "unavailable"),
    ("serviceunavailable", "unavailable"),
];

/// What an error's body or an exception's payload says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Said<'a> {
    #[serde(borrow, rename = "__type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow, rename = "Message")]
    capital: Option<Text<'a>>,
    #[serde(borrow)]
    original_message: Option<Text<'a>>,
    original_status_code: Option<Count>,
}

impl Said<'_> {
    fn message(&self) -> Option<&str> {
        let sentences = [&self.message, &self.capital, &self.original_message];
        let mut said = sentences.into_iter().filter_map(Option::as_deref);
        said.find(|text| !text.is_empty())
    }
}

/// `com.amazon.coral.service#ExpiredTokenException:http://…` → `ExpiredTokenException`.
fn bare(kind: &str) -> &str {
    let name = kind.split_once('#').map_or(kind, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// An error's body, `None` for what is none.
pub(super) fn decode(body: &[u8]) -> Option<UpstreamError> {
    let said: Said<'_> = serde_json::from_slice(body).unwrap_or_default();
    let code = said
        .kind
        .as_deref()
        .map(bare)
        .filter(|kind| !kind.is_empty());
    match said.message().or(code) {
        Some(message) => Some(UpstreamError {
            message: message.to_owned(),
            code: code.map(str::to_owned),
            param: None,
        }),
        None => upstream_error::decode(body),
    }
}

/// An exception within a stream, by its name.
pub(super) fn exception(name: &str, payload: &[u8]) -> Failure {
    let said: Said<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let status = said.original_status_code.map(|status| status.0.to_string());
    let error = UpstreamError {
        message: said.message().unwrap_or_default().to_owned(),
        code: Some(bare(name).to_owned()),
        param: None,
    };
    reported(error, status)
}

/// An error within a success. Where its name says little, the status does that the model's own host gave.
pub(super) fn reported(error: UpstreamError, status: Option<String>) -> Failure {
    let code = error.code.clone();
    let lower = code.as_deref().map(str::to_ascii_lowercase);
    let starts = |word: &str| lower.as_deref().is_some_and(|name| name.starts_with(word));
    let known = KNOWN.iter().find(|(word, _)| starts(word));
    let word = known.map(|(_, word)| (*word).to_owned());
    let mut failure = upstream_error::in_band(UpstreamError {
        code: word.or(status).or_else(|| code.clone()),
        ..error
    });
    failure.code = code;
    failure
}

/// `{"message": …}`: no client speaks this format.
pub(super) fn encode(failure: &Failure) -> Bytes {
    json!({ "message": failure.message }).to_string().into()
}

/// An exception as an event.
pub(super) fn encode_event(failure: &Failure) -> Bytes {
    let name = match failure.status {
        429 => "throttlingException",
        503 | 529 => "serviceUnavailableException",
        400..=499 => "validationException",
        _ => "internalServerException",
    };
    [
        format!("event: {EXCEPTION}{name}\ndata: ").as_bytes(),
        encode(failure).as_ref(),
        b"\n\n",
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    use polygate_core::Kind;

    use super::*;

    #[test]
    fn bodies_are_read() {
        let cases = [
            (r#"{"message":"m"}"#, "m", None),
            (r#"{"Message":"m"}"#, "m", None),
            (
                r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"m"}"#,
                "m",
                Some("ExpiredTokenException"),
            ),
            (
                r#"{"__type":"ThrottlingException"}"#,
                "ThrottlingException",
                Some("ThrottlingException"),
            ),
            (r#"{"error":{"message":"m","code":"c"}}"#, "m", Some("c")),
        ];
        for (body, message, code) in cases {
            let error = decode(body.as_bytes()).expect(body);
            assert_eq!(
                (&*error.message, error.code.as_deref()),
                (message, code),
                "{body}"
            );
        }
        for body in ["", "<html>", "[]", "{}", r#"{"output":{"message":{}}}"#] {
            assert_eq!(decode(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn exceptions_are_understood_by_their_names() {
        let cases = [
            ("throttlingException", "{}", Kind::UpstreamRateLimited, 429),
            (
                "validationException",
                r#"{"message":"m"}"#,
                Kind::InvalidRequest,
                400,
            ),
            ("internalServerException", "{}", Kind::UpstreamError, 500),
            (
                "serviceUnavailableException",
                "{}",
                Kind::UpstreamError,
                503,
            ),
            ("modelTimeoutException", "", Kind::Timeout, 504),
            (
                "modelStreamErrorException",
                "junk",
                Kind::UpstreamError,
                502,
            ),
            (
                "modelStreamErrorException",
                r#"{"originalStatusCode":429,"originalMessage":"slow"}"#,
                Kind::UpstreamRateLimited,
                429,
            ),
        ];
        for (name, payload, kind, status) in cases {
            let failure = exception(name, payload.as_bytes());
            assert_eq!(
                (failure.kind, failure.status),
                (kind, status),
                "{name} {payload}"
            );
            assert_eq!(failure.code.as_deref(), Some(name));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let failure = Failure::new(Kind::UpstreamRateLimited, "slow \"down\"");
        assert_eq!(
            decode(&encode(&failure)).expect("an error").message,
            failure.message
        );
        let event = encode_event(&failure);
        assert_eq!(
            &*event,
            b"event: exception:throttlingException\ndata: {\"message\":\"slow \\\"down\\\"\"}\n\n"
        );
    }
}
