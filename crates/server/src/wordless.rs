//! Refusals that hyper makes by itself, of heads that it cannot read or hold: without a body there, with one here.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use polygate_wire::{Format, dialect};

/// How an answer begins and what it says, by its status.
const REFUSALS: [(&[u8], u16, &str); 3] = [
    (
        b"HTTP/1.1 400 ",
        400,
        "what was sent is no HTTP request: its first line or its headers cannot be read",
    ),
    (
        b"HTTP/1.1 414 ",
        414,
        "the request's address is longer than 64 KiB: send what is in it in the body",
    ),
    (
        b"HTTP/1.1 431 ",
        431,
        "the request's headers are more than 64 KiB, or more than 100: send fewer or shorter ones",
    ),
];

/// The answer with words, where these bytes are one without: nothing made here lacks a request's id.
pub fn with_words(head: &[u8]) -> Option<Bytes> {
    let (start, status, says) = REFUSALS
        .iter()
        .find(|(start, ..)| head.starts_with(start))?;
    let text = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    if !text.contains("\r\ncontent-length: 0\r\n") || text.contains("\r\nx-request-id:") {
        return None;
    }
    let mut failure = Failure::new(Kind::InvalidRequest, *says);
    failure.status = *status;
    let body = dialect(Format::OpenaiChat).encode_error(&failure, "none");
    let line = std::str::from_utf8(start).ok()?;
    let reason = http::StatusCode::from_u16(*status)
        .ok()?
        .canonical_reason()?;
    let head = format!(
        "{line}{reason}\r\ncontent-type: application/json\r\nx-polygate-origin: gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Some([head.as_bytes(), &body].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_words_get_them() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let said = with_words(bare).expect("words");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        let (head, body) = said.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-length: {}", body.len())));
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
            assert_eq!(with_words(other), None);
        }
    }
}
