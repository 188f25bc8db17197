//! What was heard of an answer that streams: how long it is, and as much of its text as tells how many bytes a token has.

use std::borrow::Cow;

use super::tokenizer::Counter;
use crate::expect::tokens;

/// So much of the text is kept, of its first piece too. What is longer counts as its beginning does.
const SAMPLE: usize = 2048;

/// An answer's length, and the beginning of its text.
#[derive(Default)]
pub struct Heard {
    /// Bytes of text, as they were written.
    written: usize,
    /// The beginning, and how many of those bytes it is.
    sample: String,
    sampled: usize,
    /// How many times something was said.
    pub said: u64,
}

/// It is what answers say, which logs do not show.
impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heard({} bytes)", self.written)
    }
}

impl Heard {
    /// More text.
    pub fn text(&mut self, text: &str) {
        self.hear(text.len(), || Some(Cow::Borrowed(text)));
    }

    /// More text, in quotes, as JSON has it.
    pub fn quoted(&mut self, text: &[u8]) {
        self.hear(text.len().saturating_sub(2), || {
            serde_json::from_slice::<String>(text).ok().map(Cow::Owned)
        });
    }

    fn hear<'a>(&mut self, written: usize, text: impl FnOnce() -> Option<Cow<'a, str>>) {
        // All of the sample is from the beginning: what is missing in it would not count like the rest.
        let is_first = self.sampled == self.written && self.sampled < SAMPLE;
        self.written += written;
        let Some(text) = is_first.then(text).flatten() else {
            return;
        };
        let room = SAMPLE - self.sampled;
        let near = text
            .get(..text.floor_char_boundary(room))
            .unwrap_or_default();
        self.sample.push_str(near);
        // As many of the bytes that were written as the part is of the text.
        self.sampled += match near.len() == text.len() {
            true => written,
            false => written.saturating_mul(near.len()) / text.len(),
        };
    }

    /// Bytes of its text, as they were written.
    pub fn bytes(&self) -> usize {
        self.written
    }

    /// Its tokens by its length: one at least for whatever was said.
    pub fn by_length(&self) -> u64 {
        tokens(self.written).max(self.said)
    }

    /// Its tokens by the tokenizer, from this model.
    pub fn count(&self, model: &str) -> u64 {
        if self.sampled == 0 {
            return self.by_length();
        }
        let mut counter = Counter::new();
        let sample = counter.count(&self.sample);
        let all = (self.written as u64).saturating_mul(sample) / self.sampled as u64;
        let family = super::family(model);
        (family.text(all) + family.answer).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_counts_as_its_beginning() {
        let line = "The quick brown fox jumps over the lazy dog. ";
        let mut heard = Heard::default();
        for _ in 0..1000 {
            heard.text(line);
        }
        let mut short = Heard::default();
        short.text(line);
        assert!(heard.sample.len() <= SAMPLE && heard.sample.capacity() <= 2 * SAMPLE);
        let (all, once) = (heard.count("gpt-4o"), short.count("gpt-4o"));
        assert_eq!(once, 12, "ten words, a full stop, the space, and the end");
        let read = Counter::new().count(&line.repeat(1000));
        assert!(all.abs_diff(read) <= read / 100, "{all} {read}");
    }

    #[test]
    fn a_long_piece_counts_as_its_beginning() {
        let text = "语言模型".repeat(1000);
        let json: String = text
            .chars()
            .map(|c| format!("\\u{:04x}", c as u32))
            .collect();
        let (mut plain, mut quoted) = (Heard::default(), Heard::default());
        plain.text(&text);
        quoted.quoted(format!("\"{json}\"").as_bytes());
        let expected = Counter::new().count(&text);
        for heard in [plain, quoted] {
            assert!(heard.sample.len() <= SAMPLE, "{}", heard.sample.len());
            let count = heard.count("gpt-4o");
            assert!(
                count.abs_diff(expected) < expected / 20,
                "{count} {expected}"
            );
        }
    }

    #[test]
    fn text_counts_as_it_is_read_and_not_as_it_is_written() {
        let (mut plain, mut quoted) = (Heard::default(), Heard::default());
        plain.text("语言模型");
        quoted.quoted(br#""\u8bed\u8a00\u6a21\u578b""#);
        assert_eq!(plain.count("gpt-4o"), quoted.count("gpt-4o"));
        assert_eq!(quoted.by_length(), 6, "24 bytes");
    }

    #[test]
    fn what_cannot_be_read_counts_by_its_length() {
        let mut heard = Heard::default();
        heard.quoted(br#""\ud800 broken off""#);
        heard.text("and more");
        assert_eq!(heard.count("gpt-4o"), heard.by_length());
        assert!(!format!("{heard:?}").contains("more"));
    }
}
