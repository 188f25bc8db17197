//! What a piece of media is: its type as declared, or as its name, address or first bytes tell.

use std::borrow::Cow;

use crate::canon::{Media, MediaSource};

/// Endings of names and addresses → MIME types.
const ENDINGS: [(&str, &str); 22] = [
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("xml", "text/xml"),
    ("json", "application/json"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("m4a", "audio/mp4"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("mpeg", "video/mpeg"),
];

/// How base64 of well-known types begins.
const BEGINNINGS: [(&str, &str); 7] = [
    ("JVBERi", "application/pdf"),
    ("iVBORw", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("SUQz", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQw", "audio/flac"),
];

/// The MIME type, without parameters, in lower case.
pub(crate) fn mime(media: &Media) -> Option<Cow<'_, str>> {
    if let Some(declared) = media.mime.as_deref().filter(|mime| mime.contains('/')) {
        return Some(normal(declared));
    }
    let named = media.name.as_deref().and_then(by_ending);
    let found = named.or_else(|| match &media.source {
        MediaSource::Base64(data) => by_beginning(data),
        MediaSource::Url(url) => by_ending(url.split(['?', '#']).next()?),
        MediaSource::Text(_) => Some("text/plain"),
        MediaSource::FileId { .. } => None,
    });
    found.map(Cow::Borrowed)
}

fn normal(declared: &str) -> Cow<'_, str> {
    let bare = declared.split(';').next().unwrap_or(declared).trim();
    if bare.eq_ignore_ascii_case("image/jpg") {
        return Cow::Borrowed("image/jpeg");
    }
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(bare.to_ascii_lowercase());
    }
    Cow::Borrowed(bare)
}

/// Whether a type is text that a model can read as such.
pub(crate) fn is_text(mime: &str) -> bool {
    mime.starts_with("text/") || matches!(mime, "application/json" | "application/xml")
}

fn by_ending(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    let row = ENDINGS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(ending))?;
    Some(row.1)
}

fn by_beginning(data: &str) -> Option<&'static str> {
    if data.starts_with("UklGR") {
        // RIFF holds pictures and sound; bytes 8 to 11 say which.
        let kind = decode(data.get(..16)?)?;
        return match kind.get(8..12)? {
            b"WEBP" => Some("image/webp"),
            b"WAVE" => Some("audio/wav"),
            _ => None,
        };
    }
    let row = BEGINNINGS
        .iter()
        .find(|(known, _)| data.starts_with(known))?;
    Some(row.1)
}

/// Base64 (standard or URL alphabet, padded or not, blanks between lines) → text, where it is UTF-8.
pub(crate) fn decode_text(data: &str) -> Option<String> {
    String::from_utf8(decode(data)?).ok()
}

/// Base64 in the standard alphabet, padded.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, usize::from);
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for at in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * at)) & 63);
            let letter = letter.filter(|_| at <= chunk.len());
            text.push(letter.copied().map_or('=', char::from));
        }
    }
    text
}

/// The bytes of base64, as leniently.
pub(crate) fn decode(data: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in data.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        if byte == b'=' {
            break;
        }
        bits = (bits << 6) | u32::from(sextet(byte)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::Given;

    fn inline(data: &str, mime: Option<&str>, name: Option<&str>) -> Media {
        Media {
            source: MediaSource::Base64(data.to_owned()),
            mime: mime.map(str::to_owned),
            name: name.map(|name| Given::new(name.to_owned(), "/name")),
            detail: None,
        }
    }

    #[test]
    fn types_are_found() {
        let cases = [
            (
                inline("x", Some("Image/JPG; q=1"), None),
                Some("image/jpeg"),
            ),
            (inline("JVBERi0xLjc=", None, None), Some("application/pdf")),
            (inline("x", None, Some("notes.TXT")), Some("text/plain")),
            (inline("UklGRiQAAABXRUJQ", None, None), Some("image/webp")),
            (inline("UklGRiQAAABXQVZF", None, None), Some("audio/wav")),
            (inline("UklG", None, None), None),
            (inline("????", None, None), None),
        ];
        for (media, expected) in cases {
            assert_eq!(mime(&media).as_deref(), expected, "{media:?}");
        }
    }

    #[test]
    fn base64_is_written() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("é?>", "w6k/Pg=="),
        ] {
            assert_eq!(encode(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn base64_is_read_leniently() {
        assert_eq!(decode_text("aGVsbG8=").as_deref(), Some("hello"));
        assert_eq!(decode_text("aGVs\nbG8").as_deref(), Some("hello"));
        assert_eq!(decode_text("w6k_").as_deref(), Some("é?"));
        assert_eq!(decode_text("!"), None);
        assert_eq!(decode_text("/w=="), None);
    }
}
