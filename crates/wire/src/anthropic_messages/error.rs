//! Errors as Anthropic's clients expect them.

use bytes::Bytes;
use polygate_core::{Failure, Origin};
use serde_json::json;

/// `{"type": "error", "error": {type, message}, "request_id"}`, with code and origin beside.
pub(super) fn encode(failure: &Failure, request_id: &str) -> Bytes {
    let mut error = json!({
        "type": "error",
        "error": {
            "type": kind(failure.status),
            "message": failure.message,
            "code": failure.code.as_deref().unwrap_or_else(|| failure.kind.name()),
            "origin": failure.origin.name(),
        },
        "request_id": request_id,
    });
    // Where a code of ours is one of Anthropic's own, its SDKs look for it here.
    if let Some(code) = failure
        .code
        .as_ref()
        .filter(|_| failure.origin != Origin::Upstream)
    {
        error["error"]["details"] = json!({"error_code": code});
    }
    error.to_string().into()
}

/// Anthropic's error types, by status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, RawObject, ingress};

    #[test]
    fn threads_are_refused_with_the_code_on_which_sdks_go_on_without() {
        let body = br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"thread":{"type":"continue","previous_message_id":"msg_1"}}"#;
        let body = RawObject::parse(Bytes::from_static(body)).expect("an object");
        let format = ingress(Format::AnthropicMessages).expect("a format of clients");
        let failure = format.decode_request(&body).expect_err("a refusal");
        let error: serde_json::Value =
            serde_json::from_slice(&encode(&failure, "r")).expect("JSON");
        assert_eq!(failure.status, 400);
        assert_eq!(error["error"]["type"], "invalid_request_error");
        let details = &error["error"]["details"];
        assert_eq!(details["error_code"], "thread_unsupported_request");
    }
}
