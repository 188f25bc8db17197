//! Events of a message, from the hub: one block after the other, however many the hub has open.

use std::borrow::Cow;

use polygate_core::{Failure, Usage};
use serde::Serialize;

use super::response::{BlockOut, CitationOut, Input, UsageOut, empty, stop_reason};
use crate::anthropic_messages::AnthropicMessages;
use crate::canon::{Block, CallKind, ChatEvent, Citation, Issuer, Opaque, Stop};
use crate::sse::write_event;
use crate::turns::Object;
use crate::{Dialect, ReplyHead, StreamEncoder};

/// Writes events.
pub(crate) struct Encoder {
    reply: ReplyHead,
    id: Option<String>,
    usage: Usage,
    has_begun: bool,
    /// The hub's block that is being written.
    current: Option<Current>,
    /// Events of blocks that come after it.
    waiting: Vec<ChatEvent>,
    /// Blocks written so far.
    written: usize,
    stop: Option<Stop>,
}

/// The block that is being written.
struct Current {
    /// Its index in the hub.
    index: usize,
    block: Block,
    /// Its start has been written: thinking waits until it is known whether it is hidden.
    has_started: bool,
    /// A call's input as long as it is not known to be an object.
    held: Option<String>,
}

impl Current {
    fn new(index: usize, block: &Block) -> Self {
        let is_call = matches!(block, Block::ToolCall { .. });
        Self {
            index,
            block: block.clone(),
            has_started: false,
            held: is_call.then(String::new),
        }
    }

    /// More of a call's input; what of it can be written.
    fn input<'t>(&mut self, text: &'t str) -> Option<Cow<'t, str>> {
        let Block::ToolCall { kind, .. } = &self.block else {
            return None;
        };
        let Some(held) = &mut self.held else {
            return Some(Cow::Borrowed(text));
        };
        held.push_str(text);
        let is_object = *kind == CallKind::Function && held.trim_start().starts_with('{');
        self.held.take_if(|_| is_object).map(Cow::Owned)
    }

    /// What was held back, as the object that the input has to be.
    fn rest(&self) -> Option<String> {
        let Block::ToolCall { kind, .. } = &self.block else {
            return None;
        };
        match Input::of(*kind, self.held.as_deref()?) {
            Input::Object(Object::Empty {}) => None,
            input => serde_json::to_string(&input).ok(),
        }
    }
}

#[derive(Serialize)]
struct Event<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct Started<'a> {
    message: super::response::MessageOut<'a>,
}

#[derive(Serialize)]
struct BlockStart<'a> {
    index: usize,
    content_block: BlockOut<'a>,
}

#[derive(Serialize)]
struct BlockDelta<'a> {
    index: usize,
    delta: Delta<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: CitationOut<'a> },
}

#[derive(Serialize)]
struct BlockStop {
    index: usize,
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    delta: StopDelta<'a>,
    usage: UsageOut,
}

#[derive(Serialize)]
struct StopDelta<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

#[derive(Serialize)]
struct Nothing {}

fn event<T: Serialize>(kind: &'static str, rest: T, out: &mut Vec<u8>) {
    write_event(kind, &Event { kind, rest }, out);
}

impl Encoder {
    pub(crate) fn new(reply: ReplyHead) -> Self {
        Self {
            reply,
            id: None,
            usage: Usage::default(),
            has_begun: false,
            current: None,
            waiting: vec![],
            written: 0,
            stop: None,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let message = empty(self.id.as_deref(), &self.reply, UsageOut::from(self.usage));
            event("message_start", Started { message }, out);
        }
    }

    /// Events of the block that is being written pass; others wait for its end.
    fn block_event(&mut self, index: usize, event: &ChatEvent, out: &mut Vec<u8>) {
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|current| current.index == index);
        match event {
            _ if is_current => self.write(event, out),
            ChatEvent::Open { block, .. } if self.current.is_none() => {
                self.open(index, block, out);
            }
            _ => self.waiting.push(event.clone()),
        }
        while self.current.is_none() && !self.waiting.is_empty() {
            self.next(out);
        }
    }

    /// Writes what has waited of the next block.
    fn next(&mut self, out: &mut Vec<u8>) {
        let Some(wanted) = self.waiting.first().and_then(index_of) else {
            self.waiting.clear();
            return;
        };
        let (own, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|event| index_of(event) == Some(wanted));
        self.waiting = others;
        let own: Vec<ChatEvent> = own;
        for event in &own {
            match event {
                ChatEvent::Open { block, .. } => self.open(wanted, block, out),
                event => self.write(event, out),
            }
        }
    }

    fn open(&mut self, index: usize, block: &Block, out: &mut Vec<u8>) {
        self.begin(out);
        self.current = Some(Current::new(index, block));
        let start = match block {
            Block::Text | Block::Refusal => BlockOut::Text {
                text: "",
                citations: vec![],
            },
            Block::ToolCall { id, name, .. } => BlockOut::ToolUse {
                id,
                name,
                input: Input::Object(Object::Empty {}),
            },
            Block::Reasoning | Block::Media(_) => return,
        };
        self.start(start, out);
    }

    fn start(&mut self, content_block: BlockOut<'_>, out: &mut Vec<u8>) {
        let start = BlockStart {
            index: self.written,
            content_block,
        };
        event("content_block_start", start, out);
        if let Some(current) = &mut self.current {
            current.has_started = true;
        }
    }

    /// Thinking starts with its first piece.
    fn start_thinking(&mut self, out: &mut Vec<u8>) {
        let waits = self
            .current
            .as_ref()
            .is_some_and(|current| current.block == Block::Reasoning && !current.has_started);
        if waits {
            let start = BlockOut::Thinking {
                thinking: "",
                signature: "",
            };
            self.start(start, out);
        }
    }

    fn write(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        match event {
            ChatEvent::Delta { text, .. } => self.text(text, out),
            ChatEvent::Seal { opaque, .. } => self.seal(opaque, out),
            ChatEvent::Cite { citation, .. } => self.cite(citation, out),
            ChatEvent::Close { .. } => self.close(out),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        self.start_thinking(out);
        let Some(current) = &mut self.current else {
            return;
        };
        let delta = match current.block {
            Block::Text | Block::Refusal => Delta::Text { text },
            Block::Reasoning => Delta::Thinking { thinking: text },
            Block::ToolCall { .. } => {
                if let Some(json) = current.input(text) {
                    self.input(&json, out);
                }
                return;
            }
            Block::Media(_) => return,
        };
        self.delta(delta, out);
    }

    fn input(&self, partial_json: &str, out: &mut Vec<u8>) {
        self.delta(Delta::InputJson { partial_json }, out);
    }

    fn delta(&self, delta: Delta<'_>, out: &mut Vec<u8>) {
        let delta = BlockDelta {
            index: self.written,
            delta,
        };
        event("content_block_delta", delta, out);
    }

    /// Only Claude's own seal goes on: nobody else's is passed off as one.
    fn seal(&mut self, opaque: &Opaque, out: &mut Vec<u8>) {
        let is_thought =
            matches!(&self.current, Some(current) if current.block == Block::Reasoning);
        if opaque.issuer != Issuer::Anthropic || !is_thought {
            return;
        }
        let has_started = self
            .current
            .as_ref()
            .is_some_and(|current| current.has_started);
        if opaque.is_redacted && !has_started {
            self.start(BlockOut::RedactedThinking { data: &opaque.data }, out);
            return;
        }
        self.start_thinking(out);
        let delta = Delta::Signature {
            signature: &opaque.data,
        };
        self.delta(delta, out);
    }

    fn cite(&mut self, citation: &Citation, out: &mut Vec<u8>) {
        let citation = CitationOut::of(citation);
        self.delta(Delta::Citations { citation }, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let Some(json) = self.current.as_ref().and_then(Current::rest) {
            self.input(&json, out);
        }
        let has_started = self
            .current
            .take()
            .is_some_and(|current| current.has_started);
        if has_started {
            let index = self.written;
            event("content_block_stop", BlockStop { index }, out);
            self.written += 1;
        }
    }
}

fn index_of(event: &ChatEvent) -> Option<usize> {
    match event {
        ChatEvent::Open { index, .. }
        | ChatEvent::Delta { index, .. }
        | ChatEvent::Cite { index, .. }
        | ChatEvent::Logprobs { index, .. }
        | ChatEvent::Seal { index, .. }
        | ChatEvent::Close { index } => Some(*index),
        _ => None,
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        if let Some(index) = index_of(event) {
            return self.block_event(index, event, out);
        }
        match event {
            ChatEvent::Start { id, .. } => self.id.clone_from(id),
            ChatEvent::Usage(usage) => self.usage.merge(*usage),
            ChatEvent::Stop(stop) => {
                self.begin(out);
                self.stop = Some(stop.clone());
            }
            _ => {}
        }
    }

    /// The end waits for the last usage, which may follow the reason.
    fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let stop = self.stop.clone().unwrap_or(Stop::End);
        let (stop_reason, stop_sequence) = stop_reason(&stop);
        let delta = MessageDelta {
            delta: StopDelta {
                stop_reason,
                stop_sequence,
            },
            usage: UsageOut::from(self.usage),
        };
        event("message_delta", delta, out);
        event("message_stop", Nothing {}, out);
    }

    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&AnthropicMessages.encode_stream_error(failure, request_id));
    }
}
