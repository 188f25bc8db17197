//! Server-sent events, cut into whole frames without copying: what passes through keeps its bytes, what is read is read once.
//!
//! A frame ends at a blank line; lines end at LF, CRLF or CR, mixed as they come. The framer never looks inside a frame.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// The most bytes one frame may have.
pub const FRAME_LIMIT: usize = 16 * 1024 * 1024;

/// Cuts a byte stream into blocks of whole frames.
#[derive(Debug, Default)]
pub struct Framer {
    /// The unfinished frame at the end of what came so far.
    tail: BytesMut,
    /// The line being read has no bytes yet.
    at_line_start: bool,
    /// Some bytes of the current frame's lines have been seen: a blank line now ends it.
    started: bool,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// The byte order mark can still come.
    past_bom: bool,
}

/// A frame grew over [`FRAME_LIMIT`].
#[derive(Debug, PartialEq, Eq)]
pub struct FrameTooLong;

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self {
            at_line_start: true,
            ..Self::default()
        }
    }

    /// Takes a chunk; returns all whole frames that are now complete, as one block of the original bytes.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, FrameTooLong> {
        let end = self.last_boundary(&chunk);
        if end == 0 {
            self.tail.extend_from_slice(&chunk);
            return if self.tail.len() > FRAME_LIMIT {
                Err(FrameTooLong)
            } else {
                Ok(Bytes::new())
            };
        }
        let block = if self.tail.is_empty() {
            chunk.slice(..end)
        } else {
            self.tail
                .extend_from_slice(chunk.get(..end).unwrap_or_default());
            self.tail.split().freeze()
        };
        self.tail
            .extend_from_slice(chunk.get(end..).unwrap_or_default());
        Ok(self.without_bom(block))
    }

    /// The stream ended: what is left is a last frame without its blank line, or nothing.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.tail.split().freeze();
        self.without_bom(rest)
    }

    /// Whether a frame has begun and not ended.
    pub fn is_inside_frame(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Where the last whole frame ends in this chunk; 0 where none does.
    fn last_boundary(&mut self, chunk: &[u8]) -> usize {
        let mut boundary = 0;
        let mut at = 0;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            // The LF of a CRLF whose CR ended the chunk before. If that CR ended a frame, the LF opens the next block, harmlessly.
            at = 1;
            if !self.started && self.tail.is_empty() {
                boundary = 1;
            }
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(gap) = memchr2(b'\n', b'\r', rest) else {
                self.at_line_start = false;
                self.started = true;
                break;
            };
            let blank = gap == 0 && self.at_line_start;
            let is_cr = rest.get(gap) == Some(&b'\r');
            let is_crlf = is_cr && rest.get(gap + 1) == Some(&b'\n');
            at += gap + 1 + usize::from(is_crlf);
            self.after_cr = is_cr && !is_crlf && at == chunk.len();
            self.at_line_start = true;
            if blank {
                boundary = at;
                self.started = false;
            } else {
                self.started = true;
            }
        }
        boundary
    }

    fn without_bom(&mut self, block: Bytes) -> Bytes {
        if self.past_bom || block.is_empty() {
            return block;
        }
        self.past_bom = true;
        if block.starts_with(b"\xef\xbb\xbf") {
            block.slice(3..)
        } else {
            block
        }
    }
}

/// Writes a frame with an event's name: name and data in one.
pub(crate) fn write_event(name: &str, data: &impl serde::Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing strings and numbers to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

/// JSON text without line ends, which would end the event that carries it. They stand only between its tokens.
pub(crate) fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// The frames of a block, each with its blank line.
pub fn frames(block: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = block.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = first_boundary(&rest);
        Some(rest.split_to(end))
    })
}

/// Where the first frame with any line ends: leading blank lines belong to it.
fn first_boundary(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut started = false;
    while let Some((line, next)) = line_at(bytes, at) {
        at = next;
        if !line.is_empty() {
            started = true;
        } else if started {
            return at;
        }
    }
    bytes.len()
}

/// The line that starts there, without its end, and where the next one starts.
fn line_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let Some(gap) = memchr2(b'\n', b'\r', rest) else {
        return Some((rest, bytes.len()));
    };
    let crlf = rest.get(gap) == Some(&b'\r') && rest.get(gap + 1) == Some(&b'\n');
    Some((rest.get(..gap)?, at + gap + 1 + usize::from(crlf)))
}

/// What a frame says: its event name and its data, lines joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The `event:` field, where there is one.
    pub event: Option<&'a str>,
    /// The `data:` lines joined by LF; empty for comments and pings without data.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Frame<'a> {
    /// Reads a raw frame. Unknown fields, `id`, `retry` and comments are skipped; nothing is an error. A JSON object without any
    /// field is data: that is how Google's streams report what went wrong.
    pub fn parse(raw: &'a [u8]) -> Self {
        let mut frame = Frame::default();
        let mut has_data = false;
        let mut at = 0;
        while let Some((line, next)) = line_at(raw, at) {
            at = next;
            let (field, value) = split_field(line);
            match field {
                b"event" => frame.event = std::str::from_utf8(value).ok(),
                b"data" if !has_data => {
                    has_data = true;
                    frame.data = Cow::Borrowed(value);
                }
                b"data" => {
                    let data = frame.data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                _ => {}
            }
        }
        let bare = raw.trim_ascii();
        if !has_data && bare.starts_with(b"{") {
            frame.data = Cow::Borrowed(bare);
        }
        frame
    }

    /// Whether the frame carries nothing: a comment, a blank line, a ping without data.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', line) else {
        return (line, b"");
    };
    let (field, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    (field, value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes passed on, and the event names and data read from them.
    type Run = (Vec<u8>, Vec<(Option<String>, Vec<u8>)>);

    fn run(pieces: &[&[u8]]) -> Run {
        let mut framer = Framer::new();
        let mut passed = Vec::new();
        let mut events = Vec::new();
        let mut blocks: Vec<Bytes> = pieces
            .iter()
            .map(|piece| framer.push(Bytes::copy_from_slice(piece)).expect("short"))
            .collect();
        blocks.push(framer.finish());
        for block in blocks {
            passed.extend_from_slice(&block);
            for raw in frames(&block) {
                let frame = Frame::parse(&raw);
                if !frame.is_empty() {
                    events.push((frame.event.map(str::to_owned), frame.data.into_owned()));
                }
            }
        }
        (passed, events)
    }

    const MIXED: &[u8] = b": hi\n\nevent: a\ndata: 1\r\ndata:2\r\n\r\ndata: x\r\rid: 7\nretry: 3\ndata\n\ndata:  two\xc3\xa9\n\n\n\r\nevent: last\ndata: no blank line";

    #[test]
    fn every_cut_gives_the_same_events_and_bytes() {
        let whole = run(&[MIXED]);
        assert_eq!(whole.0, MIXED);
        assert_eq!(whole.1.len(), 4);
        assert_eq!(whole.1[0], (Some("a".to_owned()), b"1\n2".to_vec()));
        assert_eq!(whole.1[2], (None, b" two\xc3\xa9".to_vec()));
        for cut in 0..=MIXED.len() {
            assert_eq!(run(&[&MIXED[..cut], &MIXED[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = MIXED.chunks(1).collect();
        assert_eq!(run(&single), whole);
    }

    #[test]
    fn one_byte_order_mark_is_taken_off() {
        let (_, events) = run(&[b"\xef\xbb\xbfdata: 1\n\n", b"data: 2\n\n"]);
        assert_eq!(events.len(), 2);
        let (_, events) = run(&[b"\xef", b"\xbb", b"\xbfdata: 1\n\n"]);
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn whole_chunks_are_not_copied() {
        let chunk = Bytes::from_static(b"data: 1\n\ndata: 2\n\n");
        let mut framer = Framer::new();
        let block = framer.push(chunk.clone()).expect("short");
        assert_eq!(block.as_ptr(), chunk.as_ptr());
        assert!(!framer.is_inside_frame());
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut framer = Framer::new();
        let chunk = Bytes::from(vec![b'a'; 1024 * 1024]);
        let result = (0..=16)
            .map(|_| framer.push(chunk.clone()))
            .find(Result::is_err);
        assert_eq!(result, Some(Err(FrameTooLong)));
    }
}
