//! Errors as OpenAI's clients expect them; Responses clients expect the same.

use bytes::Bytes;
use polygate_core::Failure;
use serde_json::json;

/// `{"error": {message, type, param, code}}`, with the origin and the request's id beside.
pub fn encode_error(failure: &Failure, request_id: &str) -> Bytes {
    let error = json!({
        "error": {
            "message": failure.message,
            "type": kind(failure.status),
            "param": failure.param,
            "code": failure.code.as_deref().unwrap_or_else(|| failure.kind.name()),
            "origin": failure.origin.name(),
            "request_id": request_id,
        }
    });
    error.to_string().into()
}

/// OpenAI's error types, by status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        402 => "insufficient_quota",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}
