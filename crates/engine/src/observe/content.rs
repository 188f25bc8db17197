//! What was said in a call, for those who are told: of each side so many bytes at most.

use std::borrow::Cow;

use bytes::Bytes;
use polygate_wire::Format;

use super::record::Recorder;
use crate::cloak::Cloaked;
use crate::guard::placeholder::Concealing;

/// What was asked and answered, in the client's format: so many bytes of each at most.
#[derive(Clone)]
pub struct Content {
    /// The client's format.
    pub format: Format,
    /// Its body; cut off where it is longer. A copy: a part of the body would keep all of it, and the buffer that it was read into.
    pub asked: Bytes,
    /// The answer's body, as far as it went to the client; cut off where it is longer.
    pub answered: Vec<u8>,
    /// Of each no more than this.
    most: usize,
    /// What was hidden from the provider is hidden here too, though it is put back into the answer.
    concealing: Concealing,
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
            asked: Bytes::copy_from_slice(body.get(..most).unwrap_or(body)),
            answered: Vec::new(),
            most,
            concealing: Concealing::default(),
        }
    }

    /// The same without what this hides.
    #[must_use]
    pub(crate) fn concealing(mut self, concealing: Concealing) -> Self {
        self.concealing = concealing;
        self
    }

    /// From here on this is hidden too, in what was asked as well.
    fn conceal_also(&mut self, concealing: Concealing) {
        if let Cow::Owned(asked) = concealing.conceal(&self.asked) {
            self.asked = asked.into();
        }
        self.concealing.extend(concealing);
    }

    /// So many bytes it keeps.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.asked.len() + self.answered.capacity()
    }

    /// Nothing comes any more: the room for it is given back.
    pub(super) fn end(&mut self) {
        self.answered.shrink_to_fit();
    }

    pub(super) fn answer(&mut self, piece: &[u8]) {
        let room = self.most.saturating_sub(self.answered.len());
        if room == 0 {
            return;
        }
        let piece = self.concealing.conceal(piece);
        let part = piece.get(..room.min(piece.len())).unwrap_or_default();
        self.answered.extend_from_slice(part);
    }
}

impl Recorder {
    /// The call was seen so by whom was asked: nobody else is told more.
    pub(crate) fn cloaked(&mut self, cloaked: &Cloaked) {
        self.update(|record| record.guards.extend_from_slice(&cloaked.acted));
        if let (Some(content), Some(guarded)) = (&mut self.content, &cloaked.call.guarded) {
            content.conceal_also(guarded.concealing());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_body_no_more_is_kept_than_is_told() {
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        let mut content = Content::asked(Format::OpenaiChat, &body, 1000);
        assert!(body.is_unique(), "what is told holds nothing of the body");
        for _ in 0..3 {
            content.answer(&[b'y'; 400]);
        }
        content.end();
        assert_eq!((content.asked.len(), content.answered.len()), (1000, 1000));
        let kept = content.size() - size_of::<Content>();
        assert!((2000..2100).contains(&kept), "{kept}");
    }
}
