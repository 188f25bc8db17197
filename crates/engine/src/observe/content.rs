//! What was said in a call, for those who are told: of each side so many bytes at most.

use bytes::Bytes;
use polygate_wire::Format;

/// What was asked and answered, in the client's format: so many bytes of each at most.
#[derive(Clone)]
pub struct Content {
    /// The client's format.
    pub format: Format,
    /// Its body; cut off where it is longer.
    pub asked: Bytes,
    /// The answer's body, as far as it went to the client; cut off where it is longer.
    pub answered: Vec<u8>,
    /// Of each no more than this.
    most: usize,
}

/// It is what prompts and answers say, which logs do not show.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (asked, answered) = (self.asked.len(), self.answered.len());
        write!(f, "Content({asked} bytes asked, {answered} answered)")
    }
}

impl Content {
    /// Of a request in this format.
    pub(crate) fn asked(format: Format, body: &Bytes, most: usize) -> Self {
        Self {
            format,
            asked: body.slice(..body.len().min(most)),
            answered: Vec::new(),
            most,
        }
    }

    pub(super) fn answer(&mut self, piece: &[u8]) {
        let room = self.most.saturating_sub(self.answered.len());
        let part = piece.get(..room.min(piece.len())).unwrap_or_default();
        self.answered.extend_from_slice(part);
    }
}
