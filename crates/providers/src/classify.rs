//! What an upstream's error means: status, code and words → a decision that the router reads.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use polygate_core::{Failure, Kind, Origin, Scope};
use polygate_wire::{UpstreamError, dialect, upstream_error};

use crate::Answer;

/// The most of an upstream's own sentence that is passed on.
const MESSAGE_LIMIT: usize = 2000;

/// Words by which providers say, under any status, that an account has no money or quota left.
const QUOTA_WORDS: [&str; 7] = [
    "insufficient_quota",
    "credit balance",
    "insufficient balance",
    "insufficient credit",
    "exceeded your current quota",
    "billing_not_active",
    "billing hard limit",
];

/// Words by which they say that they do not have the model.
const MODEL_WORDS: [&str; 12] = [
    "model_not_found",
    "model not found",
    "unknown model",
    "no such model",
    "deploymentnotfound",
    "invalid_model",
    "invalid model:",
    "invalid model id",
    "not a valid model id",
    "model not exist",
    "not supported model",
    "the supported api model names are",
];

/// Words by which they say, under a status that is about keys, that it is the request.
const REQUEST_WORDS: [&str; 1] = ["multimodal_not_enabled"];

/// The decision about an answer that is not a success.
pub fn classify(answer: &Answer) -> Failure {
    let said = dialect(answer.format).decode_error(&answer.body);
    let status = answer.status.as_u16();
    let wait = retry_after(&answer.headers, answer.now).or_else(|| retry_delay(&answer.body));
    let kind = kind_of(status, said.as_ref(), wait.is_some());
    let mut failure = Failure::new(kind, message(status, said.as_ref()));
    failure.origin = Origin::Upstream;
    failure.status = if answer.status.is_redirection() || status < 400 {
        502
    } else {
        status
    };
    failure.retry_after = wait;
    let says_model = said
        .as_ref()
        .is_some_and(|said| mentions(said, &["model", "deployment"]));
    if kind == Kind::InvalidRequest || (kind == Kind::UpstreamModel && !says_model) {
        // A path that is not there says nothing of the model on others.
        failure.scope = Scope::Request;
    }
    if kind == Kind::InvalidRequest {
        failure.why = said.as_ref().and_then(upstream_error::why);
    }
    if let Some(said) = said {
        failure.code = said.code;
        failure.param = said.param;
        failure.body = Some(answer.body.clone());
    }
    failure
}

fn kind_of(status: u16, said: Option<&UpstreamError>, has_wait: bool) -> Kind {
    let says = |words: &[&str]| said.is_some_and(|said| mentions(said, words));
    match status {
        402 => Kind::UpstreamQuota,
        429 if says(&QUOTA_WORDS) && !has_wait => Kind::UpstreamQuota,
        429 => Kind::UpstreamRateLimited,
        400 | 403 if says(&QUOTA_WORDS) => Kind::UpstreamQuota,
        400 | 403 if says(&MODEL_WORDS) => Kind::UpstreamModel,
        403 if says(&REQUEST_WORDS) => Kind::InvalidRequest,
        401 | 403 => Kind::UpstreamAuth,
        404 => Kind::UpstreamModel,
        // Whoever is asked, the call comes back here; asking more of them in every round would multiply it.
        508 => Kind::Loop,
        408 | 500..=599 => Kind::UpstreamError,
        400..=499 => Kind::InvalidRequest,
        // Success without meaning it, and redirects: never followed.
        _ => Kind::UpstreamJunk,
    }
}

fn mentions(said: &UpstreamError, words: &[&str]) -> bool {
    let text = format!(
        "{} {} {}",
        said.code.as_deref().unwrap_or_default(),
        said.message,
        said.param.as_deref().unwrap_or_default()
    )
    .to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

fn message(status: u16, said: Option<&UpstreamError>) -> String {
    match said {
        Some(said) if !said.message.is_empty() => {
            said.message.chars().take(MESSAGE_LIMIT).collect()
        }
        _ => format!("the provider answered {status} without an error it explains"),
    }
}

/// How long an upstream asks us to stay away: `retry-after-ms`, `retry-after` in seconds, fractions or as a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(millis) = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(number) = value.parse::<f64>() {
        return seconds(number);
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // Their clock, where they show it: skew between us must not shorten or lengthen the rest.
    let theirs = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
    Some(
        until
            .duration_since(theirs.unwrap_or(now))
            .unwrap_or(Duration::ZERO),
    )
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}

/// Google says it in the body: `"retryDelay": "13.2s"`.
fn retry_delay(body: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("\"retryDelay\"")?;
    let (_, rest) = rest.split_once('"')?;
    let (value, _) = rest.split_once('"')?;
    seconds(value.trim_end_matches('s').parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use polygate_core::Why;
    use polygate_wire::Format;

    fn decide(status: u16, body: &str) -> Failure {
        classify(&Answer {
            format: Format::OpenaiChat,
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            now: SystemTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn statuses_and_words_decide() {
        let cases = [
            (
                400,
                r#"{"error":{"message":"bad temperature"}}"#,
                Kind::InvalidRequest,
            ),
            (
                400,
                r#"{"error":{"message":"Your credit balance is too low"}}"#,
                Kind::UpstreamQuota,
            ),
            (401, r#"{"error":{"message":"no"}}"#, Kind::UpstreamAuth),
            (402, "", Kind::UpstreamQuota),
            (403, "<html>", Kind::UpstreamAuth),
            (
                404,
                r#"{"error":{"message":"no","code":"model_not_found"}}"#,
                Kind::UpstreamModel,
            ),
            (413, "", Kind::InvalidRequest),
            (422, "", Kind::InvalidRequest),
            (
                429,
                r#"{"error":{"message":"slow down"}}"#,
                Kind::UpstreamRateLimited,
            ),
            (
                429,
                r#"{"error":{"message":"x","code":"insufficient_quota"}}"#,
                Kind::UpstreamQuota,
            ),
            (500, "", Kind::UpstreamError),
            (508, "", Kind::Loop),
            (529, "", Kind::UpstreamError),
            (307, "", Kind::UpstreamJunk),
        ];
        for (status, body, kind) in cases {
            assert_eq!(decide(status, body).kind, kind, "{status} {body}");
        }
        assert_eq!(
            decide(404, r#"{"error":{"message":"no such model"}}"#).scope,
            Scope::Model
        );
        assert_eq!(
            decide(404, r#"{"error":{"message":"unknown url"}}"#).scope,
            Scope::Request
        );
        assert_eq!(decide(307, "").status, 502);
        assert_eq!(decide(503, "x").status, 503);
    }

    /// As the vendors were recorded to say it.
    #[test]
    fn a_model_that_is_not_there_is_known_in_every_vendors_words() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","code":"invalid_request_error"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"The supported API model names are deepseek-v4-pro or deepseek-v4-flash, but you passed x."}}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","code":"1500"}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Invalid model 'x'. Permitted models can be found in …","type":"invalid_model","code":400}}"#,
            ),
            (
                400,
                r#"{"error":{"code":"400","message":"Param Incorrect","param":"Not supported model x"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"x/y is not a valid model ID","code":400}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"invalid model ID","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            (
                400,
                r#"{"code":"invalid-argument","error":"Model not found: x"}"#,
            ),
            (
                404,
                r#"{"message":"Model x does not exist or you do not have access to it.","param":"model","code":"model_not_found"}"#,
            ),
            (404, r#"{"error":"Specified model not found: x."}"#),
        ] {
            let failure = decide(status, body);
            assert_eq!(failure.kind, Kind::UpstreamModel, "{body}");
            assert_eq!(failure.scope, Scope::Model, "{body}");
        }
        let pictures = r#"{"message":"Multimodal is not enabled for your organization and model","param":"model","code":"multimodal_not_enabled"}"#;
        assert_eq!(decide(403, pictures).kind, Kind::InvalidRequest);
    }

    #[test]
    fn what_another_model_might_take_is_known_in_every_vendors_words() {
        let long = Some(Why::ContextLength);
        let policy = Some(Why::ContentPolicy);
        for (status, body, why) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}"#,
                long,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                long,
            ),
            (
                413,
                r#"{"error":{"message":"Request too large: the prompt exceeds the context window"}}"#,
                long,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
                long,
            ),
            (
                400,
                r#"{"message":"Input is too long for requested model."}"#,
                long,
            ),
            (
                400,
                r#"{"error":{"message":"The response was filtered due to Azure's content management policy","code":"content_filter"}}"#,
                policy,
            ),
            (
                400,
                r#"{"error":{"message":"rejected","code":"content_policy_violation"}}"#,
                policy,
            ),
            (400, r#"{"error":{"message":"bad temperature"}}"#, None),
            (
                500,
                r#"{"error":{"message":"the context window service is down"}}"#,
                None,
            ),
        ] {
            assert_eq!(decide(status, body).why, why, "{body}");
        }
    }

    #[test]
    fn waits_are_read_in_every_spelling() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").expect("a date");
        let cases = [
            ("retry-after", "7", Some(7000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after", "-3", Some(0)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", Some(7000)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "soon", None),
            ("retry-after", "1e300", None),
        ];
        for (name, value, millis) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            assert_eq!(
                retry_after(&headers, now),
                millis.map(Duration::from_millis),
                "{name}: {value}"
            );
        }
        assert_eq!(
            retry_delay(br#"{"error":{"details":[{"retryDelay": "13.5s"}]}}"#),
            Some(Duration::from_millis(13500))
        );
    }
}
