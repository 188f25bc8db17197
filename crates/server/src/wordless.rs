//! Refusals that hyper makes by itself, of heads that it cannot read or hold: without a body there, with one here.

use bytes::Bytes;
use http::StatusCode;
use polygate_core::{Failure, Kind};
use polygate_wire::{Format, dialect};

/// What it says, by its status.
const REFUSALS: [(u16, &str); 3] = [
    (
        400,
        "what was sent is no HTTP request: its first line or its headers cannot be read",
    ),
    (
        414,
        "the request's address is longer than 64 KiB: send what is in it in the body",
    ),
    (
        431,
        "the request's headers are more than 64 KiB, or more than 100: send fewer or shorter ones",
    ),
];

/// What is refused, where these bytes are a refusal without words: nothing made here lacks a request's id.
pub fn refusal(head: &[u8]) -> Option<Failure> {
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    let (status, says) = REFUSALS.iter().find(|(known, _)| *known == status)?;
    let text = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    if !text.contains("\r\ncontent-length: 0\r\n") || text.contains("\r\nx-request-id:") {
        return None;
    }
    let mut failure = Failure::new(Kind::InvalidRequest, *says);
    failure.status = *status;
    Some(failure)
}

/// The same with words.
pub fn words(failure: &Failure, request_id: &str) -> Bytes {
    let body = dialect(Format::OpenaiChat).encode_error(failure, request_id);
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_REQUEST);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-polygate-origin: gateway\r\nx-request-id: {request_id}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_words_get_them() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let said = words(&refusal(bare).expect("a refusal"), "r-1");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        let (head, body) = said.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(head.contains("\r\nx-request-id: r-1\r\n"));
        let error: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert!(
            error["error"]["message"]
                .as_str()
                .expect("a message")
                .contains("64 KiB")
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
            b"",
        ] {
            assert!(refusal(other).is_none());
        }
    }
}
