//! A stream that was kept, given once more: all of it is there, and nobody is waited for.

use std::vec::IntoIter;

use bytes::Bytes;

use crate::cache::Entry;
use crate::observe::{Outcome, Recorder};

/// A kept stream on its way.
pub struct Replayed {
    pieces: IntoIter<Bytes>,
    recorder: Option<Recorder>,
}

impl Replayed {
    /// Of this answer.
    pub(crate) fn new(entry: &Entry) -> Self {
        let pieces: Vec<Bytes> = entry.pieces().collect();
        Self {
            pieces: pieces.into_iter(),
            recorder: None,
        }
    }

    pub(super) fn release(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// The client's next piece.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next();
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
