//! The vocabulary, read when somebody first counts by it, and counting with it in bounded time.

use tiktoken::CoreBpe;

/// So many bytes of a call are read by the tokenizer: what is behind them counts as what was before them.
const READ: usize = 1 << 20;

/// Bytes of a text for one token where nothing better is known: about what English comes to.
pub(super) const BYTES_PER_TOKEN: u64 = 4;

/// That of OpenAI's models since GPT-4o. Reads it where nobody has: that takes a tenth of a second, and its memory stays.
fn tokenizer() -> Option<&'static CoreBpe> {
    tiktoken::get_encoding("o200k_base")
}

/// Counts the texts of one call.
pub(super) struct Counter {
    tokenizer: Option<&'static CoreBpe>,
    /// Bytes that are still read.
    left: usize,
    /// Bytes that were read, and the tokens that they are.
    bytes: u64,
    tokens: u64,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self {
            tokenizer: tokenizer(),
            left: READ,
            bytes: 0,
            tokens: 0,
        }
    }

    /// Tokens of one more text.
    pub(super) fn count(&mut self, text: &str) -> u64 {
        let (near, far) = text.split_at(text.floor_char_boundary(self.left));
        let read = match self.tokenizer {
            Some(tokenizer) => tokenizer.count(near) as u64,
            None => near.len() as u64 / BYTES_PER_TOKEN,
        };
        self.left -= near.len();
        self.bytes += near.len() as u64;
        self.tokens += read;
        read + self.by_length(far.len() as u64)
    }

    /// Tokens of a text that is not here, by those that were.
    pub(super) fn by_length(&self, bytes: u64) -> u64 {
        match self.bytes {
            0 => bytes / BYTES_PER_TOKEN,
            read => bytes.saturating_mul(self.tokens) / read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> u64 {
        Counter::new().count(text)
    }

    /// What OpenAI's own library says of these.
    #[test]
    fn texts_are_what_openai_says_they_are() {
        for (text, tokens) in [
            ("", 0),
            ("antidisestablishmentarianism", 6),
            ("2 + 2 = 4", 7),
            ("お誕生日おめでとう", 8),
            ("tiktoken is great!", 6),
        ] {
            assert_eq!(count(text), tokens, "{text}");
        }
    }

    #[test]
    fn words_that_steer_models_are_text_here() {
        assert!(count("<|endoftext|><|im_start|>") > 4);
    }

    #[test]
    fn what_is_too_long_to_be_read_counts_as_what_was_read() {
        let line = "The quick brown fox jumps over the lazy dog.\n";
        let once = count(line);
        let lines = READ / line.len() * 4;
        let all = count(&line.repeat(lines));
        let expected = once * lines as u64;
        assert!(all.abs_diff(expected) < expected / 50, "{all} {expected}");
    }

    /// Whatever is sent, a call holds up others no longer than its share takes. `cargo bench --bench tokenizer` says how long that is.
    #[test]
    fn no_more_than_its_share_of_a_call_is_read() {
        const SHARE: usize = READ >> 6;
        assert_eq!(Counter::new().left, READ);
        for piece in [
            "a",
            " ",
            "\n",
            "aA",
            "é",
            "语",
            "0",
            "!?",
            "\u{200d}👩",
            "ab ",
        ] {
            let text = piece.repeat(SHARE / piece.len() / 2);
            let mut counter = Counter {
                left: SHARE,
                ..Counter::new()
            };
            let mut counts: Vec<u64> = (0..8).map(|_| counter.count(&text)).collect();
            let read = usize::try_from(counter.bytes).expect("a length");
            assert!(read <= SHARE, "{piece:?}: {read}");
            assert!(SHARE - read < 2 * piece.len() + 4, "{piece:?}: {read}");
            // What is not read counts like what was.
            let (first, last) = (counts.remove(0), counts.pop().unwrap_or_default());
            assert!(
                first.abs_diff(last) <= first / 10 + 1,
                "{piece:?}: {first} {last}"
            );
        }
    }
}
