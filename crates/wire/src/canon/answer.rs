//! What is answered: events of a stream, and whole answers, which are the same told at once.

use polygate_core::{Failure, Usage};

use super::request::{CallKind, Media, Opaque};

/// One event of an answer that streams.
#[derive(Clone, Debug)]
pub enum ChatEvent {
    /// The answer begins. Preamble: nothing a client would miss.
    Start {
        /// The upstream's id of the answer.
        id: Option<String>,
        /// The upstream's name of the model.
        model: Option<String>,
    },
    /// A block begins.
    Open {
        /// Its address; blocks number from 0 in the order of their opening.
        index: usize,
        /// What it will hold.
        block: Block,
    },
    /// More of an open block: text, or JSON text of arguments.
    Delta {
        /// The block's address.
        index: usize,
        /// The piece.
        text: String,
    },
    /// Where an open block's text comes from.
    Cite {
        /// The block's address.
        index: usize,
        /// The source.
        citation: Citation,
    },
    /// Log probabilities of an open block's newest tokens.
    Logprobs {
        /// The block's address.
        index: usize,
        /// The tokens.
        tokens: Vec<TokenLogprob>,
    },
    /// The state that the maker of an open block wants back with it.
    Seal {
        /// The block's address.
        index: usize,
        /// The state.
        opaque: Opaque,
    },
    /// A block is complete.
    Close {
        /// The block's address.
        index: usize,
    },
    /// Token counts so far; later ones complete earlier ones.
    Usage(Usage),
    /// Why the model stopped. Comes once, after the last `Close`; usage may follow.
    Stop(Stop),
    /// The upstream reported an error inside its stream. Nothing follows.
    Failed(Box<Failure>),
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Text.
    Text,
    /// Thinking.
    Reasoning,
    /// A refusal's text.
    Refusal,
    /// A tool call; its deltas are the arguments.
    ToolCall {
        /// Joins call and result.
        id: String,
        /// The tool's name.
        name: String,
        /// Whether the arguments are JSON text.
        kind: CallKind,
    },
    /// A picture or sound that the model made: whole, without deltas.
    Media(Media),
}

/// Where a text comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citation {
    /// Its address, or the name of a document.
    pub url: String,
    /// Its title.
    pub title: Option<String>,
    /// The words that are cited.
    pub cited: Option<String>,
    /// The part of the block's text that it stands behind: characters from, and to.
    pub span: Option<(u64, u64)>,
}

impl Citation {
    /// The same, behind the whole of a text of so many characters.
    pub(crate) fn behind(self, chars: u64) -> Self {
        let span = (chars > 0).then_some((0, chars));
        Self { span, ..self }
    }
}

/// A token, how likely it was, and what else might have stood there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: String,
    /// Its log probability.
    pub logprob: f64,
    /// Its bytes, where given.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place.
    pub top: Vec<TokenLogprob>,
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// Out of output tokens.
    Length,
    /// It wants tools called.
    ToolUse,
    /// It wrote a stop sequence.
    StopSequence(Option<String>),
    /// A filter stopped it.
    ContentFilter,
    /// It declined.
    Refusal,
    /// The provider paused a long turn.
    Pause,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatResponse {
    /// The upstream's id of the answer.
    pub id: Option<String>,
    /// The upstream's name of the model.
    pub model: Option<String>,
    /// What the model said, in order.
    pub said: Vec<Said>,
    /// Why it stopped.
    pub stop: Stop,
    /// Token counts, where reported.
    pub usage: Option<Usage>,
}

/// A whole block of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// What it is.
    pub block: Block,
    /// Its text, or its arguments.
    pub text: String,
    /// Where the text comes from.
    pub citations: Vec<Citation>,
    /// How likely its tokens were.
    pub logprobs: Vec<TokenLogprob>,
    /// State that its maker wants back.
    pub opaque: Option<Opaque>,
}

impl Said {
    /// A block with this text and nothing beside it.
    pub fn new(block: Block, text: impl Into<String>) -> Self {
        Self {
            block,
            text: text.into(),
            citations: vec![],
            logprobs: vec![],
            opaque: None,
        }
    }
}

impl ChatResponse {
    /// The answer that events tell.
    pub fn gather(events: Vec<ChatEvent>) -> Result<Self, Failure> {
        let mut response = ChatResponse {
            id: None,
            model: None,
            said: vec![],
            stop: Stop::End,
            usage: None,
        };
        for event in events {
            response.take(event)?;
        }
        Ok(response)
    }

    fn take(&mut self, event: ChatEvent) -> Result<(), Failure> {
        match event {
            ChatEvent::Start { id, model } => (self.id, self.model) = (id, model),
            ChatEvent::Open { block, .. } => self.said.push(Said::new(block, "")),
            ChatEvent::Delta { index, text } => self.at(index, |said| said.text.push_str(&text)),
            ChatEvent::Cite { index, citation } => {
                self.at(index, |said| said.citations.push(citation));
            }
            ChatEvent::Logprobs { index, tokens } => {
                self.at(index, |said| said.logprobs.extend(tokens));
            }
            ChatEvent::Seal { index, opaque } => self.at(index, |said| said.opaque = Some(opaque)),
            ChatEvent::Close { .. } => {}
            ChatEvent::Usage(usage) => self.usage.get_or_insert_default().merge(usage),
            ChatEvent::Stop(stop) => self.stop = stop,
            ChatEvent::Failed(failure) => return Err(*failure),
        }
        Ok(())
    }

    fn at(&mut self, index: usize, change: impl FnOnce(&mut Said)) {
        if let Some(said) = self.said.get_mut(index) {
            change(said);
        }
    }

    /// The events that tell this answer.
    pub fn events(self) -> Vec<ChatEvent> {
        let mut events = vec![ChatEvent::Start {
            id: self.id,
            model: self.model,
        }];
        for (index, said) in self.said.into_iter().enumerate() {
            events.push(ChatEvent::Open {
                index,
                block: said.block,
            });
            if !said.text.is_empty() {
                events.push(ChatEvent::Delta {
                    index,
                    text: said.text,
                });
            }
            events.extend(
                said.citations
                    .into_iter()
                    .map(|citation| ChatEvent::Cite { index, citation }),
            );
            if !said.logprobs.is_empty() {
                events.push(ChatEvent::Logprobs {
                    index,
                    tokens: said.logprobs,
                });
            }
            events.extend(said.opaque.map(|opaque| ChatEvent::Seal { index, opaque }));
            events.push(ChatEvent::Close { index });
        }
        events.extend(self.usage.map(ChatEvent::Usage));
        events.push(ChatEvent::Stop(self.stop));
        events
    }
}
