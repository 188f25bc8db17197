//! Frames of the log: a mark that no JSON holds, length, checksum, kind, body. What is damaged is stepped over to the next good one.

use std::io;

use memchr::memmem;
use serde::Serialize;

/// No UTF-8 has its first byte: a body never looks like a frame.
const MARK: [u8; 4] = [0xF5, b'P', b'G', 1];

/// Mark, length, checksum, kind.
const HEAD: usize = 13;

/// As long as most are, at most.
pub(crate) const USUAL: usize = 1024;

/// No body is longer; what says so is damaged.
const LONGEST: usize = 64 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An upstream is about to be called.
    Intent,
    /// A call has ended.
    Settled,
    /// What a later version writes.
    Unknown(u8),
}

/// One frame, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What its body is.
    pub(crate) kind: Kind,
    /// JSON.
    pub(crate) body: &'a [u8],
    /// Where the next one begins.
    pub(crate) end: usize,
}

/// The frames of a piece of log.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    damaged: u64,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Intent => 1,
            Kind::Settled => 2,
            Kind::Unknown(byte) => byte,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            1 => Kind::Intent,
            2 => Kind::Settled,
            other => Kind::Unknown(other),
        }
    }
}

/// A frame's bytes.
pub(crate) fn encode(kind: Kind, body: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    encode_into(&mut bytes, kind, body)?;
    Ok(bytes)
}

/// Adds a frame's bytes to others.
pub(crate) fn encode_into(
    bytes: &mut Vec<u8>,
    kind: Kind,
    body: &impl Serialize,
) -> io::Result<()> {
    let start = bytes.len();
    bytes.resize(start + HEAD, 0);
    serde_json::to_writer(&mut *bytes, body)?;
    let frame = bytes.get_mut(start..).unwrap_or_default();
    let length = frame.len().saturating_sub(HEAD);
    let stated = u32::try_from(length).ok().filter(|_| length <= LONGEST);
    let stated = stated.ok_or_else(|| io::Error::other("a record is too long"))?;
    let (head, body) = frame.split_at_mut(HEAD);
    let sum = checksum(stated, kind.byte(), body);
    let parts = MARK.into_iter().chain(stated.to_le_bytes());
    let parts = parts.chain(sum.to_le_bytes()).chain([kind.byte()]);
    for (to, from) in head.iter_mut().zip(parts) {
        *to = from;
    }
    Ok(())
}

impl<'a> Frames<'a> {
    /// Those from a place on.
    pub(crate) fn from(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            damaged: 0,
        }
    }

    /// So many damaged stretches were stepped over.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// What follows the last good frame.
    pub(crate) fn torn(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The first good frame behind a damaged one.
    fn further(&self) -> Option<Frame<'a>> {
        let from = self.at.checked_add(1)?;
        let marks = memmem::find_iter(self.bytes.get(from..)?, &MARK);
        marks
            .filter_map(|mark| frame_at(self.bytes, from + mark))
            .next()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let frame = frame_at(self.bytes, self.at).or_else(|| {
            let frame = self.further()?;
            self.damaged += 1;
            Some(frame)
        })?;
        self.at = frame.end;
        Some(frame)
    }
}

fn frame_at(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let rest = bytes.get(at..)?.strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first()?;
    let stated = u32::from_le_bytes(*length);
    let length = usize::try_from(stated).ok().filter(|l| *l <= LONGEST)?;
    let body = rest.get(..length)?;
    (checksum(stated, *kind, body) == u32::from_le_bytes(*sum)).then_some(Frame {
        kind: Kind::of(*kind),
        body,
        end: at + HEAD + length,
    })
}

fn checksum(length: u32, kind: u8, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length.to_le_bytes());
    sum.update(&[kind]);
    sum.update(body);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(frames: &mut Frames<'_>) -> Vec<String> {
        let text = |frame: Frame<'_>| serde_json::from_slice(frame.body).expect("JSON");
        frames.map(text).collect()
    }

    fn log(texts: &[String]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for text in texts {
            starts.push(bytes.len());
            bytes.extend(encode(Kind::Settled, text).expect("a frame"));
        }
        (bytes, starts)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec(".{0,60}", 0..8)) {
            let (bytes, _) = log(&texts);
            let mut frames = Frames::from(&bytes, 0);
            prop_assert_eq!(bodies(&mut frames), texts);
            prop_assert_eq!((frames.damaged(), frames.torn()), (0, 0));
        }

        #[test]
        fn one_changed_byte_costs_one_frame(
            texts in prop::collection::vec(".{0,60}", 1..8),
            place in any::<prop::sample::Index>(),
            by in 1..=255_u8,
        ) {
            let (mut bytes, starts) = log(&texts);
            let place = place.index(bytes.len());
            bytes[place] ^= by;
            let hit = starts.iter().filter(|start| **start <= place).count() - 1;
            let mut left = texts;
            left.remove(hit);
            let mut frames = Frames::from(&bytes, 0);
            let last = hit == left.len();
            prop_assert_eq!(bodies(&mut frames), left);
            prop_assert_eq!(frames.damaged(), u64::from(!last));
            prop_assert_eq!(frames.torn() > 0, last);
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Frames::from(&bytes, 0).count() <= bytes.len());
        }

        #[test]
        fn a_mark_before_any_bytes_is_no_panic(rest in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [MARK.as_slice(), &rest].concat();
            prop_assert!(Frames::from(&bytes, 0).count() <= 1);
        }
    }
}
