//! Errors as Google's clients expect them.

use bytes::Bytes;
use polygate_core::Failure;
use serde_json::json;

/// `{"error": {code, message, status, details}}`.
pub(super) fn encode(failure: &Failure, request_id: &str) -> Bytes {
    let error = json!({
        "error": {
            "code": failure.status,
            "message": failure.message,
            "status": status(failure.status),
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": failure.code.as_deref().unwrap_or_else(|| failure.kind.name()),
                "domain": "polygate",
                "metadata": {"origin": failure.origin.name(), "request_id": request_id},
            }],
        }
    });
    error.to_string().into()
}

/// Google's status words, by HTTP status.
fn status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 | 405 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=499 => "INVALID_ARGUMENT",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}
