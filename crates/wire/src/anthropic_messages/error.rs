//! Errors as Anthropic's clients expect them.

use bytes::Bytes;
use polygate_core::Failure;
use serde_json::json;

/// `{"type": "error", "error": {type, message}, "request_id"}`, with code and origin beside.
pub(super) fn encode(failure: &Failure, request_id: &str) -> Bytes {
    let error = json!({
        "type": "error",
        "error": {
            "type": kind(failure.status),
            "message": failure.message,
            "code": failure.code.as_deref().unwrap_or_else(|| failure.kind.name()),
            "origin": failure.origin.name(),
        },
        "request_id": request_id,
    });
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
