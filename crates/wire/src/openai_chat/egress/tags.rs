//! Thinking between `<think>` and `</think>` at the beginning of an answer: how models write it, and what servers leave in the
//! text that do not take it apart.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Takes the text of an answer apart, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    state: State,
    /// Text of which it is not known yet what it is.
    held: String,
}

/// A piece of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Thinking(String),
    Text(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but blanks and the beginning of the tag has come.
    #[default]
    Start,
    /// The tag has come, and blanks.
    Opened,
    Thinking,
    /// The closing tag has come, and blanks.
    Closed,
    /// Whatever comes is the answer.
    Answer,
}

impl Tags {
    /// Whatever comes is the answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.state == State::Answer
    }

    /// Reads more text.
    pub(crate) fn read(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.held.push_str(text);
        while self.step(&mut pieces) {}
        pieces
    }

    /// No more text of this kind will come: what is held is what it looks like.
    pub(crate) fn settle(&mut self) -> Option<Piece> {
        let state = std::mem::replace(&mut self.state, State::Answer);
        let held = std::mem::take(&mut self.held);
        let piece = match state {
            State::Opened | State::Thinking => Piece::Thinking(held.trim_end().to_owned()),
            State::Closed => return None,
            State::Start | State::Answer => Piece::Text(held),
        };
        (!piece.is_empty()).then_some(piece)
    }

    /// Goes on as far as what is held allows; whether to look again.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Opened => self.skip_blanks(State::Thinking),
            State::Thinking => self.think(pieces),
            State::Closed => self.skip_blanks(State::Answer),
            State::Answer => {
                if !self.held.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    fn start(&mut self) -> bool {
        let begun = self.held.trim_start();
        if let Some(rest) = begun.strip_prefix(OPEN) {
            self.held = rest.to_owned();
            self.state = State::Opened;
            return true;
        }
        if OPEN.starts_with(begun) {
            return false;
        }
        self.state = State::Answer;
        true
    }

    fn skip_blanks(&mut self, next: State) -> bool {
        let rest = self.held.trim_start();
        if rest.is_empty() {
            return false;
        }
        self.held = rest.to_owned();
        self.state = next;
        true
    }

    fn think(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if let Some((thought, rest)) = self.held.split_once(CLOSE) {
            let thought = Piece::Thinking(thought.trim_end().to_owned());
            self.held = rest.to_owned();
            self.state = State::Closed;
            pieces.extend((!thought.is_empty()).then_some(thought));
            return true;
        }
        let known = sure(&self.held);
        let rest = self.held.split_off(known);
        let thought = std::mem::replace(&mut self.held, rest);
        if !thought.is_empty() {
            pieces.push(Piece::Thinking(thought));
        }
        false
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        let (Piece::Thinking(text) | Piece::Text(text)) = self;
        text.is_empty()
    }
}

/// How much of a thought is sure to be one: all but a beginning of the closing tag, and blanks before it.
fn sure(thought: &str) -> usize {
    let cut = thought.rfind('<').filter(|at| {
        let tail = thought.get(*at..).unwrap_or_default();
        CLOSE.starts_with(tail)
    });
    let thought = cut.and_then(|at| thought.get(..at)).unwrap_or(thought);
    thought.trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[&str]) -> (String, String) {
        let mut tags = Tags::default();
        let mut told: Vec<Piece> = pieces.iter().flat_map(|piece| tags.read(piece)).collect();
        told.extend(tags.settle());
        let (mut thinking, mut text) = (String::new(), String::new());
        for piece in told {
            match piece {
                Piece::Thinking(piece) => thinking.push_str(&piece),
                Piece::Text(piece) => text.push_str(&piece),
            }
        }
        (thinking, text)
    }

    #[test]
    fn a_text_is_taken_apart_however_it_is_cut() {
        for (whole, thinking, text) in [
            ("<think>\nHm, <b>.\n</think>\n\nYes.", "Hm, <b>.", "Yes."),
            ("\n<think>a < b</think>c <think>", "a < b", "c <think>"),
            ("<think>\n\n</think>\n\nYes.", "", "Yes."),
            ("<think>Cut off ", "Cut off", ""),
            ("<thinking> is no tag", "", "<thinking> is no tag"),
            ("  <th", "", "  <th"),
            ("Say <think>.</think>", "", "Say <think>.</think>"),
            ("", "", ""),
        ] {
            let expected = (thinking.to_owned(), text.to_owned());
            assert_eq!(told(&[whole]), expected, "{whole:?}");
            let letters: Vec<&str> = whole.split_inclusive(|_| true).collect();
            assert_eq!(told(&letters), expected, "{whole:?} by letters");
            for at in 0..=whole.len() {
                assert_eq!(
                    told(&[&whole[..at], &whole[at..]]),
                    expected,
                    "{whole:?} {at}"
                );
            }
        }
    }
}
