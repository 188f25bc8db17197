//! Where one upstream's answer ends and another's goes on with it: what may be gone on from, and how the two become one.

use polygate_core::Usage;
use polygate_wire::ChatEvent;
use polygate_wire::canon::{Block, Citation};

/// The longest text that is kept to be gone on from.
const LONGEST: usize = 1024 * 1024;

/// What has been said, as long as it is nothing but one text that is not over.
#[derive(Debug, Default)]
pub(super) struct Said {
    text: String,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Nothing,
    /// One text, which is not over.
    Text,
    /// Something that nobody else can go on with: thoughts and calls are of one piece, and what is over needs nobody.
    Other,
}

impl Said {
    /// Takes what the client is told.
    pub(super) fn hear(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Start { .. } | ChatEvent::Usage(_) => {}
            ChatEvent::Open {
                block: Block::Text, ..
            } if self.state == State::Nothing => self.state = State::Text,
            ChatEvent::Delta { text, .. }
                if self.state == State::Text && self.text.len() + text.len() <= LONGEST =>
            {
                self.text.push_str(text);
            }
            _ => {
                self.state = State::Other;
                self.text = String::new();
            }
        }
    }

    /// The text that another may go on from.
    pub(super) fn text(&self) -> Option<&str> {
        (self.state == State::Text && !self.text.is_empty()).then_some(&*self.text)
    }
}

/// Makes the events of one that goes on with an answer those of the answer itself.
#[derive(Debug)]
pub(super) struct Seam {
    /// Tokens of those who were cut off.
    before: Usage,
    /// Tokens of this one.
    own: Usage,
    /// Blanks that the text ends in so far: who goes on may have been given it without them.
    blanks: String,
    /// This one's blocks by their addresses: those in the answer; `None` for what is left out.
    places: Vec<Option<usize>>,
    /// How many blocks the answer has.
    blocks: usize,
    text: Text,
}

/// The answer's text, its first block.
#[derive(Debug, PartialEq, Eq)]
enum Text {
    /// It waits to be gone on with.
    Waits,
    GoesOn,
    Over,
}

/// The address of the text that is gone on with.
const TEXT: usize = 0;

impl Seam {
    /// Behind this text, whose writers used so many tokens.
    pub(super) fn new(said: &str, before: Usage) -> Self {
        let blanks = said.get(said.trim_end().len()..).unwrap_or_default();
        Self {
            before,
            own: Usage::default(),
            blanks: blanks.to_owned(),
            places: Vec::new(),
            blocks: TEXT + 1,
            text: Text::Waits,
        }
    }

    /// What an event of this one is in the answer.
    pub(super) fn join(&mut self, event: ChatEvent) -> Vec<ChatEvent> {
        match event {
            ChatEvent::Start { .. } | ChatEvent::Failed(_) => vec![],
            ChatEvent::Open { index, block } => self.open(index, block),
            ChatEvent::Delta { index, text } => self.at(index, |seam, index| {
                let text = seam.behind_blanks(index, text);
                (!text.is_empty()).then_some(ChatEvent::Delta { index, text })
            }),
            // Its places are counted on the text of this one.
            ChatEvent::Cite { index, citation } => self.at(index, |_, index| {
                let citation = match index {
                    TEXT => Citation {
                        span: None,
                        ..citation
                    },
                    _ => citation,
                };
                Some(ChatEvent::Cite { index, citation })
            }),
            ChatEvent::Logprobs { index, tokens } => self.at(index, |_, index| {
                Some(ChatEvent::Logprobs { index, tokens })
            }),
            // A seal is good for all of a text only, of which this one wrote but the end.
            ChatEvent::Seal { index, opaque } => self.at(index, |_, index| {
                (index != TEXT).then_some(ChatEvent::Seal { index, opaque })
            }),
            ChatEvent::Close { index } => self.at(index, |seam, index| {
                if index == TEXT {
                    seam.text = Text::Over;
                }
                Some(ChatEvent::Close { index })
            }),
            ChatEvent::Usage(usage) => {
                self.own.merge(usage);
                vec![ChatEvent::Usage(self.before.plus(self.own))]
            }
            ChatEvent::Stop(stop) => {
                let mut events = self.end_text();
                events.push(ChatEvent::Stop(stop));
                events
            }
        }
    }

    /// The first text goes on with the answer's; thoughts about that are nobody's business; everything else comes behind it.
    fn open(&mut self, index: usize, block: Block) -> Vec<ChatEvent> {
        let mut events = vec![];
        let place = match block {
            Block::Text if self.text == Text::Waits => {
                self.text = Text::GoesOn;
                Some(TEXT)
            }
            Block::Reasoning => None,
            block => {
                if self.text == Text::Waits {
                    events = self.end_text();
                }
                let index = self.blocks;
                self.blocks += 1;
                events.push(ChatEvent::Open { index, block });
                Some(index)
            }
        };
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        if let Some(known) = self.places.get_mut(index) {
            *known = place;
        }
        events
    }

    fn at(
        &mut self,
        index: usize,
        event: impl FnOnce(&mut Self, usize) -> Option<ChatEvent>,
    ) -> Vec<ChatEvent> {
        let place = self.places.get(index).copied().flatten();
        let event = place.and_then(|place| event(self, place));
        event.into_iter().collect()
    }

    fn end_text(&mut self) -> Vec<ChatEvent> {
        match std::mem::replace(&mut self.text, Text::Over) {
            Text::Over => vec![],
            Text::Waits | Text::GoesOn => vec![ChatEvent::Close { index: TEXT }],
        }
    }

    /// The text without those of its first blanks that are there already.
    fn behind_blanks(&mut self, index: usize, text: String) -> String {
        if index != TEXT || self.blanks.is_empty() {
            return text;
        }
        let (mut known, mut new) = (self.blanks.chars(), text.chars());
        loop {
            let before = (known.as_str(), new.as_str());
            match (known.next(), new.next()) {
                // More of them may come.
                (Some(_), None) => {
                    self.blanks = before.0.to_owned();
                    return String::new();
                }
                (Some(one), Some(other)) if one == other => {}
                _ => {
                    let rest = before.1.to_owned();
                    self.blanks.clear();
                    return rest;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
