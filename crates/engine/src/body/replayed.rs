//! A stream that was kept, given once more: all of it is there, and nobody is waited for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cache::Entry;
use crate::observe::{Outcome, Recorder};

/// A kept stream on its way.
pub struct Replayed {
    pieces: VecDeque<Bytes>,
    recorder: Option<Recorder>,
}

impl Replayed {
    /// Of this answer.
    pub(crate) fn new(entry: &Entry) -> Self {
        Self {
            pieces: entry.pieces().collect(),
            recorder: None,
        }
    }

    /// What the client gets.
    pub(crate) fn pieces(&mut self) -> &[Bytes] {
        self.pieces.make_contiguous()
    }

    /// It gets this instead.
    pub(crate) fn replace(&mut self, pieces: Vec<Bytes>) {
        self.pieces = pieces.into();
    }

    pub(super) fn release(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// The client's next piece.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front();
        match (&piece, &mut self.recorder) {
            (Some(piece), Some(recorder)) => recorder.answers(piece),
            (None, Some(recorder)) => {
                recorder.update(|record| record.outcome = Outcome::Completed);
                // It is over, whenever the connection lets the body go.
                self.recorder = None;
            }
            (_, None) => {}
        }
        piece
    }
}
