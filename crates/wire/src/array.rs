//! A JSON array that streams, as Google answers where nobody asks for events: cut into whole elements without copying.

use bytes::{Bytes, BytesMut};

use crate::sse::{FRAME_LIMIT, FrameTooLong};

/// Cuts a byte stream into blocks that end with a whole element.
#[derive(Debug, Default)]
pub struct ArrayCutter {
    /// The unfinished element, and what stands before it.
    tail: BytesMut,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ArrayCutter {
    /// Takes a chunk; returns everything up to the end of the last element that is now complete.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, FrameTooLong> {
        let end = self.last_end(&chunk);
        self.tail
            .extend_from_slice(chunk.get(..end).unwrap_or_default());
        let block = if end > 0 {
            self.tail.split().freeze()
        } else {
            Bytes::new()
        };
        self.tail
            .extend_from_slice(chunk.get(end..).unwrap_or_default());
        if self.tail.len() > FRAME_LIMIT {
            Err(FrameTooLong)
        } else {
            Ok(block)
        }
    }

    /// The stream ended: what is left is the array's end, or an element that was cut.
    pub fn finish(&mut self) -> Bytes {
        self.tail.split().freeze()
    }

    /// Where the last element that closes in this chunk ends; 0 where none does.
    fn last_end(&mut self, chunk: &[u8]) -> usize {
        let mut end = 0;
        for (at, byte) in chunk.iter().enumerate() {
            match (self.in_string, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (true, b'"') => self.in_string = false,
                (true, _) => {}
                (false, b'"') => self.in_string = true,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1 {
                        end = at + 1;
                    }
                }
                (false, _) => {}
            }
        }
        end
    }
}

/// The elements of a block: objects, without what stands between them.
pub fn elements(block: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = block.clone();
    std::iter::from_fn(move || {
        let start = memchr::memchr(b'{', &rest)?;
        let _ = rest.split_to(start);
        let mut element =
            serde_json::Deserializer::from_slice(&rest).into_iter::<serde::de::IgnoredAny>();
        element.next()?.ok()?;
        let end = element.byte_offset();
        Some(rest.split_to(end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &[u8] =
        b"[{\"a\":\"]}\\\"{\"}\n,\r\n{\"b\":[1,{\"c\":2}]},{\"d\":\"\xc3\xa9\"}\n]\n";

    fn run(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Bytes>) {
        let mut cutter = ArrayCutter::default();
        let (mut passed, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            let block = cutter.push(Bytes::copy_from_slice(piece)).expect("short");
            passed.extend_from_slice(&block);
            found.extend(elements(&block));
        }
        passed.extend_from_slice(&cutter.finish());
        (passed, found)
    }

    #[test]
    fn every_cut_gives_the_same_elements_and_bytes() {
        let whole = run(&[ARRAY]);
        assert_eq!(whole.0, ARRAY);
        assert_eq!(whole.1.len(), 3);
        for cut in 0..=ARRAY.len() {
            assert_eq!(run(&[&ARRAY[..cut], &ARRAY[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(&ARRAY.chunks(1).collect::<Vec<_>>()), whole);
    }
}
