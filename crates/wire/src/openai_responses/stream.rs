//! Responses' events: what one means, and reading them into the hub.
//!
//! Items and their parts are addressed by two indices; the hub numbers blocks by one. Items may be open at once.

use std::borrow::Cow;

use polygate_core::Failure;
use serde_json::value::RawValue;

use super::response::stop;
use super::types::{Answer, Event, Item};
use crate::canon::{Block, ChatEvent};
use crate::openai_chat::counts;
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder, UpstreamError};

/// What an event means.
pub(super) fn sniff(frame: &Frame<'_>) -> Signal {
    if frame.data.trim_ascii() == b"[DONE]" {
        return Signal {
            progress: Progress::End,
            ..Signal::default()
        };
    }
    let Ok(event) = event(frame) else {
        return Signal::unreadable(frame);
    };
    let mut signal = Signal::default();
    match &*event.kind {
        "error" | "response.failed" => signal.failure = Some(Box::new(reported(&event))),
        "response.completed" | "response.incomplete" | "response.done" => {
            signal.progress = Progress::End;
            signal.usage = event.response.and_then(|response| counts(response.usage));
        }
        "response.output_item.added"
            if event
                .item
                .as_ref()
                .is_some_and(|item| !is_frame_of_text(item)) =>
        {
            signal.progress = Progress::Content
        }
        "response.output_item.done" => signal.progress = Progress::Content,
        kind if kind.ends_with(".delta")
            && piece(event.delta).is_none_or(|piece| !piece.is_empty()) =>
        {
            signal.progress = Progress::Content
        }
        _ => {}
    }
    signal
}

/// Messages and reasoning begin empty; a call is content from its name on.
fn is_frame_of_text(item: &Item<'_>) -> bool {
    matches!(&*item.kind, "message" | "reasoning")
}

fn event<'a>(frame: &'a Frame<'_>) -> Result<Event<'a>, Failure> {
    serde_json::from_slice(&frame.data)
        .map_err(|_| junk("the provider's stream has an event that is not one"))
}

/// The error of an event: its own members, a member `error`, or its response's.
fn reported(event: &Event<'_>) -> Failure {
    let inner = member(event.error)
        .or_else(|| member(event.response.as_ref().and_then(|response| response.error)));
    let own = || UpstreamError {
        message: event.message.as_deref().unwrap_or_default().to_owned(),
        code: event.code.as_deref().map(str::to_owned),
        param: None,
    };
    in_band(inner.unwrap_or_else(own))
}

/// A delta where it is a text; audio and others are not.
fn piece(delta: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str(delta?.get()).ok()
}

/// Reads events. Whatever comes, what is told keeps to the hub's grammar.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    blocks: Vec<Known>,
    started: bool,
    stopped: bool,
}

/// A block by its address.
#[derive(Debug)]
struct Known {
    item: usize,
    part: usize,
    kind: Kind,
    open: bool,
    /// Some text of it has come.
    has_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Reasoning,
    Call,
}

impl Decoder {
    fn start(&mut self, answer: Option<&Answer<'_>>, out: &mut Vec<ChatEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
            let id = answer.and_then(|answer| owned(&answer.id));
            let model = answer.and_then(|answer| owned(&answer.model));
            out.push(ChatEvent::Start { id, model });
        }
    }

    fn find(&self, item: usize, part: usize, kind: Kind) -> Option<usize> {
        self.blocks
            .iter()
            .position(|known| known.item == item && known.part == part && known.kind == kind)
    }

    fn open(
        &mut self,
        item: usize,
        part: usize,
        kind: Kind,
        block: Block,
        out: &mut Vec<ChatEvent>,
    ) -> usize {
        let index = self.blocks.len();
        self.blocks.push(Known {
            item,
            part,
            kind,
            open: true,
            has_text: false,
        });
        out.push(ChatEvent::Open { index, block });
        index
    }

    /// A piece of a text; its block opens with the first.
    fn text(&mut self, address: (usize, usize), kind: Kind, text: &str, out: &mut Vec<ChatEvent>) {
        if text.is_empty() {
            return;
        }
        let block = match kind {
            Kind::Text => Block::Text,
            Kind::Refusal => Block::Refusal,
            Kind::Reasoning => Block::Reasoning,
            // A call that nobody announced: its item will bring it whole.
            Kind::Call if self.find(address.0, address.1, kind).is_none() => return,
            Kind::Call => Block::Text,
        };
        let found = self.find(address.0, address.1, kind);
        let index = found.unwrap_or_else(|| self.open(address.0, address.1, kind, block, out));
        if let Some(known) = self.blocks.get_mut(index).filter(|known| known.open) {
            known.has_text = true;
            out.push(ChatEvent::Delta {
                index,
                text: text.to_owned(),
            });
        }
    }

    fn announce(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        if &*item.kind == "function_call" && self.find(at, 0, Kind::Call).is_none() {
            let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
            let block = Block::ToolCall {
                id: text(&item.call_id),
                name: text(&item.name),
            };
            self.open(at, 0, Kind::Call, block, out);
        }
    }

    /// An item is complete: what never came in deltas is in it.
    fn item_done(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        self.announce(at, item, out);
        match &*item.kind {
            "function_call" => self.rest((at, 0), Kind::Call, &item.arguments(), out),
            "message" => {
                for (part, content) in item.content.iter().flatten().enumerate() {
                    match (&content.refusal, &content.text) {
                        (Some(text), _) => self.rest((at, part), Kind::Refusal, text, out),
                        (None, Some(text)) => self.rest((at, part), Kind::Text, text, out),
                        (None, None) => {}
                    }
                }
            }
            "reasoning" => {
                for (part, content) in item.summary.iter().flatten().enumerate() {
                    let text = content.text.as_deref().unwrap_or_default();
                    self.rest((at, part), Kind::Reasoning, text, out);
                }
            }
            _ => {}
        }
        self.close(|known| known.item == at, out);
    }

    /// The whole of a text, unless pieces of it have come.
    fn rest(&mut self, address: (usize, usize), kind: Kind, text: &str, out: &mut Vec<ChatEvent>) {
        let known = self
            .find(address.0, address.1, kind)
            .and_then(|index| self.blocks.get(index));
        if !known.is_some_and(|known| known.has_text) {
            self.text(address, kind, text, out);
        }
    }

    fn close(&mut self, which: impl Fn(&Known) -> bool, out: &mut Vec<ChatEvent>) {
        for (index, known) in self.blocks.iter_mut().enumerate() {
            if known.open && which(known) {
                known.open = false;
                out.push(ChatEvent::Close { index });
            }
        }
    }

    fn terminal(&mut self, answer: &Answer<'_>, out: &mut Vec<ChatEvent>) {
        // Some servers send nothing but the end.
        if self.blocks.is_empty() {
            for (at, item) in answer.output.iter().flatten().enumerate() {
                self.item_done(at, item, out);
            }
        }
        self.close(|_| true, out);
        out.extend(counts(answer.usage).map(ChatEvent::Usage));
        let called = self.blocks.iter().any(|known| known.kind == Kind::Call);
        self.stopped = true;
        out.push(ChatEvent::Stop(stop(answer, called)));
    }

    fn fail(&mut self, event: &Event<'_>, out: &mut Vec<ChatEvent>) {
        self.stopped = true;
        out.push(ChatEvent::Failed(Box::new(reported(event))));
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if self.stopped || frame.is_empty() || frame.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let event = event(frame)?;
        if matches!(&*event.kind, "error" | "response.failed") {
            self.fail(&event, out);
            return Ok(());
        }
        self.start(event.response.as_ref(), out);
        let address = (event.output_index, event.content_index);
        let summary = (event.output_index, event.summary_index);
        let text = || piece(event.delta).unwrap_or_default();
        match &*event.kind {
            "response.output_text.delta" => self.text(address, Kind::Text, &text(), out),
            "response.refusal.delta" => self.text(address, Kind::Refusal, &text(), out),
            "response.reasoning_text.delta" => self.text(address, Kind::Reasoning, &text(), out),
            "response.reasoning_summary_text.delta" => {
                self.text(summary, Kind::Reasoning, &text(), out)
            }
            "response.function_call_arguments.delta" => {
                self.text((event.output_index, 0), Kind::Call, &text(), out);
            }
            "response.output_item.added" => {
                if let Some(item) = &event.item {
                    self.announce(event.output_index, item, out);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = &event.item {
                    self.item_done(event.output_index, item, out);
                }
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                let answer = event.response.as_ref();
                let answer =
                    answer.ok_or_else(|| junk("the provider's stream ends without its answer"))?;
                self.terminal(answer, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if self.stopped {
            Ok(())
        } else {
            Err(crate::ended_early())
        }
    }
}
