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

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    blocks: Vec<Known>,
    calls: usize,
    stopped: bool,
}

/// A block by its address.
#[derive(Debug)]
struct Known {
    item: usize,
    part: usize,
    open: bool,
    /// Some text of it has come.
    has_text: bool,
}

impl Decoder {
    /// The block at this address, opened where it is new.
    fn block(&mut self, item: usize, part: usize, kind: Block, out: &mut Vec<ChatEvent>) -> usize {
        if let Some(index) = self
            .blocks
            .iter()
            .position(|known| known.item == item && known.part == part)
        {
            return index;
        }
        let index = self.blocks.len();
        self.blocks.push(Known {
            item,
            part,
            open: true,
            has_text: false,
        });
        out.push(ChatEvent::Open { index, block: kind });
        index
    }

    fn text(&mut self, address: (usize, usize), kind: Block, text: &str, out: &mut Vec<ChatEvent>) {
        if text.is_empty() {
            return;
        }
        let index = self.block(address.0, address.1, kind, out);
        if let Some(known) = self.blocks.get_mut(index) {
            known.has_text = true;
        }
        out.push(ChatEvent::Delta {
            index,
            text: text.to_owned(),
        });
    }

    fn open_call(&mut self, item_index: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        if &*item.kind == "function_call" {
            self.calls += usize::from(!self.blocks.iter().any(|known| known.item == item_index));
            let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
            self.block(
                item_index,
                0,
                Block::ToolCall {
                    id: text(&item.call_id),
                    name: text(&item.name),
                },
                out,
            );
        }
    }

    /// An item is complete: what never came in deltas is in it.
    fn item_done(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        self.open_call(at, item, out);
        let is_new = |decoder: &Self, part: usize| {
            !decoder
                .blocks
                .iter()
                .any(|known| known.item == at && known.part == part && known.has_text)
        };
        match &*item.kind {
            "function_call" if is_new(self, 0) => {
                let (id, name) = (
                    item.call_id.as_deref().unwrap_or_default(),
                    item.name.as_deref().unwrap_or_default(),
                );
                let block = Block::ToolCall {
                    id: id.to_owned(),
                    name: name.to_owned(),
                };
                self.text((at, 0), block, &item.arguments(), out);
            }
            "message" => {
                for (part, content) in item
                    .content
                    .iter()
                    .flatten()
                    .enumerate()
                    .filter(|(part, _)| is_new(self, *part))
                    .collect::<Vec<_>>()
                {
                    match (&content.refusal, &content.text) {
                        (Some(text), _) => self.text((at, part), Block::Refusal, text, out),
                        (None, Some(text)) => self.text((at, part), Block::Text, text, out),
                        (None, None) => {}
                    }
                }
            }
            "reasoning" => {
                let texts = item.summary.iter().flatten().enumerate();
                for (part, content) in texts
                    .filter(|(part, _)| is_new(self, *part))
                    .collect::<Vec<_>>()
                {
                    self.text(
                        (at, part),
                        Block::Reasoning,
                        content.text.as_deref().unwrap_or_default(),
                        out,
                    );
                }
            }
            _ => {}
        }
        self.close(|known| known.item == at, out);
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
        if !std::mem::replace(&mut self.stopped, true) {
            out.push(ChatEvent::Stop(stop(answer, self.calls > 0)));
        }
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() || frame.data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let event = event(frame)?;
        let address = (event.output_index, event.content_index);
        let text = || piece(event.delta).unwrap_or_default();
        match &*event.kind {
            "response.created" => {
                let (id, model) = event
                    .response
                    .map(|response| (response.id, response.model))
                    .unwrap_or_default();
                out.push(ChatEvent::Start {
                    id: id.map(Into::into),
                    model: model.map(Into::into),
                });
            }
            "response.output_item.added" => {
                if let Some(item) = &event.item {
                    self.open_call(event.output_index, item, out);
                }
            }
            "response.output_text.delta" => self.text(address, Block::Text, &text(), out),
            "response.refusal.delta" => self.text(address, Block::Refusal, &text(), out),
            "response.reasoning_text.delta" => self.text(address, Block::Reasoning, &text(), out),
            "response.reasoning_summary_text.delta" => self.text(
                (event.output_index, event.summary_index),
                Block::Reasoning,
                &text(),
                out,
            ),
            "response.function_call_arguments.delta" => {
                let nameless = Block::ToolCall {
                    id: String::new(),
                    name: String::new(),
                };
                self.text((event.output_index, 0), nameless, &text(), out);
            }
            "response.output_item.done" => {
                if let Some(item) = &event.item {
                    self.item_done(event.output_index, item, out);
                }
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                let answer = event
                    .response
                    .as_ref()
                    .ok_or_else(|| junk("the provider's stream ends without its answer"))?;
                self.terminal(answer, out);
            }
            "error" | "response.failed" => out.push(ChatEvent::Failed(Box::new(reported(&event)))),
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
