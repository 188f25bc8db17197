//! What a stream has for its client: passed pieces as they came, written ones joined.

use std::collections::VecDeque;

use bytes::Bytes;

/// What the client gets next: passed pieces as they came, written ones joined.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Bytes>,
    scratch: Vec<u8>,
    held: usize,
}

impl Output {
    /// A piece that passes.
    pub fn push(&mut self, piece: Bytes) {
        self.seal();
        if !piece.is_empty() {
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Where to write.
    pub fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.scratch
    }

    /// The next piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.seal();
        let piece = self.pieces.pop_front()?;
        self.held -= piece.len();
        Some(piece)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.held + self.scratch.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Throws away what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.scratch.is_empty() {
            let piece = Bytes::copy_from_slice(&self.scratch);
            self.scratch.clear();
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }
}
