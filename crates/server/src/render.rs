//! Failure → answer in the client's format. The only place.

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use polygate_core::{Failure, Origin};
use polygate_wire::{Format, dialect};

use crate::answer::{Answer, bytes};

/// The answer for a failure. A provider's own words pass where the client speaks its format.
pub fn render(failure: &Failure, format: Format, request_id: &str) -> Answer {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = match &failure.body {
        Some(body) if failure.origin == Origin::Upstream => body.clone(),
        _ => dialect(format).encode_error(failure, request_id),
    };
    let mut answer = bytes(status, "application/json", body);
    let headers = answer.headers_mut();
    headers.insert(
        "x-polygate-origin",
        HeaderValue::from_static(failure.origin.name()),
    );
    if let Some(wait) = failure.retry_after {
        // Whole seconds, rounded up: who comes back a moment too early is refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}
