//! AWS's binary event stream (`application/vnd.amazon.eventstream`) → server-sent events, so that all behind it know one framing.
//!
//! A message is: total length, headers' length, checksum of these two; headers; payload; checksum of all before it. Numbers are big
//! endian. What an upstream says of its own failure becomes an event whose name begins with [`EXCEPTION`].

use bytes::{Bytes, BytesMut};
use polygate_core::Failure;
use serde::Serialize;

use crate::{ended_early, upstream_error};

/// What names of events begin with that tell of a failure: `exception:throttlingException`.
pub const EXCEPTION: &str = "exception:";

/// The longest message that is read.
const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// Turns messages into events. A push machine: any way of cutting gives the same events.
#[derive(Debug, Default)]
pub struct EventStream {
    /// The message that is not complete yet.
    tail: BytesMut,
    /// What was wrong with a message: nothing after it can be trusted.
    broken: Option<Failure>,
}

impl EventStream {
    /// Takes a chunk; returns the events that are now complete. A broken message fails the call only if no event came before it in
    /// the chunk, else the next one, so that no event is lost with it; and every call from then on.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Failure> {
        let mut out = Vec::new();
        if self.broken.is_none() {
            self.tail.extend_from_slice(&chunk);
            self.broken = self.read_messages(&mut out).err();
        }
        match &self.broken {
            Some(failure) if out.is_empty() => Err(failure.clone()),
            _ => Ok(out.into()),
        }
    }

    /// The stream ended: `Err` inside a message. Nothing is left to say otherwise.
    pub fn finish(&mut self) -> Result<Bytes, Failure> {
        match &self.broken {
            Some(failure) => Err(failure.clone()),
            None if self.tail.is_empty() => Ok(Bytes::new()),
            None => Err(ended_early()),
        }
    }

    fn read_messages(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        while let Some(lengths) = Lengths::read(&self.tail)? {
            if self.tail.len() < lengths.total {
                break;
            }
            let message = self.tail.split_to(lengths.total);
            Message::read(&message, &lengths)?.write(out)?;
        }
        Ok(())
    }
}

/// What the first bytes of a message say.
struct Lengths {
    total: usize,
    headers: usize,
}

impl Lengths {
    /// `None` until they are complete. Checked before a message is waited for: what is no event stream is seen at its first bytes.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(prelude) = bytes.get(..PRELUDE) else {
            return Ok(None);
        };
        let mut reader = Reader(prelude);
        let (total, headers) = (reader.length::<4>()?, reader.length::<4>()?);
        reader.checksum(prelude)?;
        let fits = total.checked_sub(PRELUDE + CHECKSUM) >= Some(headers);
        if !fits || total > MESSAGE_LIMIT {
            return Err(junk());
        }
        Ok(Some(Self { total, headers }))
    }
}

/// A message: the headers that matter, and its payload.
#[derive(Default)]
struct Message<'a> {
    kind: Option<&'a str>,
    event: Option<&'a str>,
    exception: Option<&'a str>,
    error_code: Option<&'a str>,
    error_message: Option<&'a str>,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(whole: &'a [u8], lengths: &Lengths) -> Result<Self, Failure> {
        let mut reader = Reader(whole);
        reader.take(PRELUDE)?;
        let mut headers = Reader(reader.take(lengths.headers)?);
        let mut message = Message {
            payload: reader.take(lengths.total - PRELUDE - CHECKSUM - lengths.headers)?,
            ..Message::default()
        };
        reader.checksum(whole)?;
        while !headers.0.is_empty() {
            let (name, value) = headers.header()?;
            let slot = match name {
                b":message-type" => &mut message.kind,
                b":event-type" => &mut message.event,
                b":exception-type" => &mut message.exception,
                b":error-code" => &mut message.error_code,
                b":error-message" => &mut message.error_message,
                _ => continue,
            };
            if let Some(text) = value {
                *slot = Some(std::str::from_utf8(text).map_err(|_| junk())?);
            }
        }
        Ok(message)
    }

    /// Writes the event that the message is; nothing where it is none.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.kind {
            Some("event") => {
                let name = self.event.ok_or_else(junk)?;
                write_payload("", name, self.payload, out)
            }
            Some("exception") => {
                // A failure is a failure even if it says nothing; an event without data would pass for a ping.
                let payload = if self.payload.is_empty() {
                    b"{}"
                } else {
                    self.payload
                };
                let name = self.exception.unwrap_or("unknown");
                write_payload(EXCEPTION, name, payload, out)
            }
            Some("error") => {
                let name = self.error_code.unwrap_or("unknown");
                let said = Said {
                    message: self.error_message.unwrap_or_default(),
                };
                // Writing a string to memory does not fail.
                let payload = serde_json::to_vec(&said).unwrap_or_default();
                write_payload(EXCEPTION, name, &payload, out)
            }
            _ => Err(junk()),
        }
    }
}

#[derive(Serialize)]
struct Said<'a> {
    message: &'a str,
}

fn write_payload(
    prefix: &str,
    name: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    // The name stands in a line of its own: it may not bring lines with it.
    if name.is_empty() || name.contains(char::is_control) {
        return Err(junk());
    }
    out.reserve(prefix.len() + name.len() + payload.len() + 16);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // JSON has line ends only between its tokens, where a space is as good.
    let one_line = payload.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => *other,
    });
    out.extend(one_line);
    out.extend_from_slice(b"\n\n");
    Ok(())
}

fn junk() -> Failure {
    upstream_error::junk("the provider's event stream has a message that is not one")
}

/// Bytes that are taken off at the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(junk)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn length<const BYTES: usize>(&mut self) -> Result<usize, Failure> {
        let bytes = self.take(BYTES)?.iter();
        Ok(bytes.fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    }

    /// The checksum of everything in the whole that stands before it.
    fn checksum(&mut self, whole: &[u8]) -> Result<(), Failure> {
        let covered = whole.len() - self.0.len();
        let expected = self.take(CHECKSUM)?;
        let counted = crc32fast::hash(whole.get(..covered).unwrap_or_default());
        if expected == counted.to_be_bytes() {
            Ok(())
        } else {
            Err(junk())
        }
    }

    /// A header's name, and its value where that is text.
    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Failure> {
        let length = self.length::<1>()?;
        let name = self.take(length)?;
        let kind = self.length::<1>()?;
        let length = match kind {
            TRUE | FALSE => 0,
            BYTE => 1,
            SHORT => 2,
            INTEGER => 4,
            LONG | TIMESTAMP => 8,
            UUID => 16,
            BYTES | TEXT => self.length::<2>()?,
            _ => return Err(junk()),
        };
        let value = self.take(length)?;
        Ok((name, (kind == TEXT).then_some(value)))
    }
}

/// Types of headers' values.
const TRUE: usize = 0;
const FALSE: usize = 1;
const BYTE: usize = 2;
const SHORT: usize = 3;
const INTEGER: usize = 4;
const LONG: usize = 5;
const BYTES: usize = 6;
const TEXT: usize = 7;
const TIMESTAMP: usize = 8;
const UUID: usize = 9;

/// A message as Bedrock writes it; one that tells of a failure where the event's name begins with [`EXCEPTION`].
pub fn encode(event: &str, payload: &[u8]) -> Vec<u8> {
    let (kind, header, name) = match event.strip_prefix(EXCEPTION) {
        Some(name) => ("exception", ":exception-type", name),
        None => ("event", ":event-type", event),
    };
    let mut headers = Vec::new();
    write_header(header, name, &mut headers);
    write_header(":content-type", "application/json", &mut headers);
    write_header(":message-type", kind, &mut headers);
    write_message(&headers, payload)
}

fn write_message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = PRELUDE + headers.len() + payload.len() + CHECKSUM;
    let mut out = Vec::with_capacity(total);
    // Lengths over four bytes are far over the limit anyway.
    for length in [total, headers.len()] {
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

/// A header whose value is text, cut to what its length can say.
fn write_header(name: &str, value: &str, out: &mut Vec<u8>) {
    let name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let value_length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(name_length);
    out.extend(name.bytes().take(usize::from(name_length)));
    out.push(TEXT as u8);
    out.extend_from_slice(&value_length.to_be_bytes());
    out.extend(value.bytes().take(usize::from(value_length)));
}

#[cfg(test)]
mod tests {
    use polygate_core::Kind;
    use proptest::prelude::*;

    use super::*;

    /// The events that come, and the failure after them.
    fn run(pieces: &[&[u8]]) -> (String, Option<Kind>) {
        let mut machine = EventStream::default();
        let mut out = Vec::new();
        let mut failed = None;
        for piece in pieces {
            match machine.push(Bytes::copy_from_slice(piece)) {
                Ok(events) => out.extend_from_slice(&events),
                Err(failure) => failed = Some(failure.kind),
            }
        }
        let last = machine.finish();
        (
            String::from_utf8_lossy(&out).into_owned(),
            failed.or(last.err().map(|failure| failure.kind)),
        )
    }

    fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in headers {
            write_header(name, value, &mut bytes);
        }
        write_message(&bytes, payload)
    }

    fn mixed() -> Vec<u8> {
        let error = [
            (":message-type", "error"),
            (":error-code", "InternalError"),
            (":error-message", "it \"broke\"\n"),
        ];
        [
            encode("messageStart", br#"{"role":"assistant"}"#),
            encode("contentBlockDelta", "{\r\n \"text\":\n\"é\"}".as_bytes()),
            encode("exception:throttlingException", br#"{"message":"slow"}"#),
            encode("exception:empty", b""),
            encode("none", b""),
            message(&error, b"ignored"),
        ]
        .concat()
    }

    const MIXED: &str = concat!(
        "event: messageStart\ndata: {\"role\":\"assistant\"}\n\n",
        "event: contentBlockDelta\ndata: {   \"text\": \"é\"}\n\n",
        "event: exception:throttlingException\ndata: {\"message\":\"slow\"}\n\n",
        "event: exception:empty\ndata: {}\n\n",
        "event: none\ndata: \n\n",
        "event: exception:InternalError\ndata: {\"message\":\"it \\\"broke\\\"\\n\"}\n\n",
    );

    #[test]
    fn every_cut_gives_the_same_events() {
        let bytes = mixed();
        let whole = (MIXED.to_owned(), None);
        assert_eq!(run(&[&bytes]), whole);
        for cut in 0..=bytes.len() {
            assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn an_end_inside_a_message_is_no_end() {
        let bytes = encode("a", b"{}");
        for end in 1..bytes.len() {
            assert_eq!(run(&[&bytes[..end]]), (String::new(), Some(Kind::Broken)));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed_and_what_came_before_is_kept() {
        let good = encode("a", b"{\"b\":1}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            let bytes = [good.as_slice(), &bad, &good].concat();
            let expected = (
                "event: a\ndata: {\"b\":1}\n\n".to_owned(),
                Some(Kind::UpstreamJunk),
            );
            assert_eq!(run(&[&bytes]), expected, "byte {at}");
            assert_eq!(run(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn headers_of_every_type_are_passed_over() {
        let mut headers = Vec::new();
        for (kind, length) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 4),
            (5, 8),
            (8, 8),
            (9, 16),
        ] {
            headers.extend_from_slice(b"\x01x");
            headers.push(kind);
            headers.extend(std::iter::repeat_n(0xff, length));
        }
        headers.extend_from_slice(b"\x01x\x06\x00\x02\xff\xff");
        // Names are taken from text only.
        headers.extend_from_slice(b"\x0b:event-type\x02\x00");
        write_header(":message-type", "event", &mut headers);
        write_header(":event-type", "a", &mut headers);
        let (events, failed) = run(&[&write_message(&headers, b"1")]);
        assert_eq!((events.as_str(), failed), ("event: a\ndata: 1\n\n", None));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let event = (":message-type", "event");
        let mut unknown_type = b"\x01x\x0a".to_vec();
        write_header(":message-type", "event", &mut unknown_type);
        write_header(":event-type", "a", &mut unknown_type);
        let cases = [
            b"<html><body>502".to_vec(),
            message(&[], b"{}"),
            message(&[event], b"{}"),
            message(&[(":message-type", "other"), (":event-type", "a")], b"{}"),
            message(&[event, (":event-type", "")], b"{}"),
            message(&[event, (":event-type", "a\ndata: {}")], b"{}"),
            message(&[(":message-type", "error"), (":error-code", "\r")], b""),
            write_message(&unknown_type, b"{}"),
            write_message(b"\x0d:mess", b"{}"),
            write_message(b"\x01x\x07\xff\xffab", b"{}"),
            write_message(b"\x01x\x07\x00\x01\xff\x0b:event-type\x07\x00\x01\xff", b""),
        ];
        for bytes in cases {
            assert_eq!(
                run(&[&bytes]),
                (String::new(), Some(Kind::UpstreamJunk)),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    fn prelude(total: u32, headers: u32) -> Vec<u8> {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn impossible_and_endless_lengths_are_refused_at_once() {
        for (total, headers) in [
            (0, 0),
            (15, 0),
            (16, 1),
            (100, 85),
            (100, u32::MAX),
            (16 * 1024 * 1024 + 1, 0),
            (u32::MAX, 0),
        ] {
            let (_, failed) = run(&[&prelude(total, headers)]);
            assert_eq!(failed, Some(Kind::UpstreamJunk), "{total}, {headers}");
        }
        let (_, failed) = run(&[&prelude(16 * 1024 * 1024, 84)]);
        assert_eq!(failed, Some(Kind::Broken));
    }

    /// Puts right what a changed byte made wrong, so that changes get past the checksums.
    fn with_checksums(bytes: &mut [u8]) {
        let Some(at) = bytes.len().checked_sub(CHECKSUM) else {
            return;
        };
        if at >= PRELUDE {
            let sum = crc32fast::hash(&bytes[..8]).to_be_bytes();
            bytes[8..PRELUDE].copy_from_slice(&sum);
        }
        let sum = crc32fast::hash(&bytes[..at]).to_be_bytes();
        bytes[at..].copy_from_slice(&sum);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_cuts_do_not_matter(
            changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
            is_summed in any::<bool>(),
            junk in prop::collection::vec(any::<u8>(), 0..40),
            is_junk_first in any::<bool>(),
            size in 1_usize..50,
        ) {
            let mut changed = encode("contentBlockDelta", b"{\"delta\":{\"text\":\"a\"}}");
            for (at, byte) in changes {
                let at = at % changed.len();
                changed[at] = byte;
            }
            if is_summed {
                with_checksums(&mut changed);
            }
            let bytes = if is_junk_first {
                [junk, mixed(), changed].concat()
            } else {
                [mixed(), changed, junk].concat()
            };
            let whole = run(&[&bytes]);
            prop_assert_eq!(&run(&bytes.chunks(size).collect::<Vec<_>>()), &whole);
            let frames = crate::sse::frames(&Bytes::from(whole.0.clone())).count();
            prop_assert_eq!(whole.0.matches("\n\n").count(), frames);
        }
    }
}
