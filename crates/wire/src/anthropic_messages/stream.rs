//! Anthropic's events: what one means, and reading them into the hub. Its grammar is the hub's, so this is nearly a renaming.

use polygate_core::Failure;

use super::types::{ContentBlock, Event, stop};
use crate::canon::{Block, ChatEvent};
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder, UpstreamError};

/// What an event means.
pub(super) fn sniff(frame: &Frame<'_>) -> Signal {
    let event = match event(frame) {
        Ok(event) => event,
        Err(failure) => {
            return Signal {
                failure: Some(Box::new(failure)),
                ..Signal::default()
            };
        }
    };
    let mut signal = Signal::default();
    match &*event.kind {
        "error" => signal.failure = Some(Box::new(reported(&event))),
        "message_start" => {
            signal.usage = event
                .message
                .and_then(|message| message.usage)
                .map(|usage| usage.counts())
        }
        "content_block_start" if event.content_block.as_ref().is_some_and(has_content) => {
            signal.progress = Progress::Content
        }
        "content_block_delta" => {
            let is_empty = event
                .delta
                .as_ref()
                .and_then(|delta| delta.piece())
                .is_some_and(str::is_empty);
            signal.progress = if is_empty {
                Progress::Preamble
            } else {
                Progress::Content
            };
        }
        "message_delta" => {
            signal.usage = event.usage.map(|usage| usage.counts());
            if event.delta.is_some_and(|delta| delta.stop_reason.is_some()) {
                signal.progress = Progress::Finish;
            }
        }
        "message_stop" => signal.progress = Progress::End,
        _ => {}
    }
    signal
}

/// A tool call is content from its name on; text and thinking are once there is some.
fn has_content(block: &ContentBlock<'_>) -> bool {
    match &*block.kind {
        "text" => block.text.as_deref().is_some_and(|text| !text.is_empty()),
        "thinking" => block
            .thinking
            .as_deref()
            .is_some_and(|text| !text.is_empty()),
        _ => true,
    }
}

fn event<'a>(frame: &'a Frame<'_>) -> Result<Event<'a>, Failure> {
    serde_json::from_slice(&frame.data)
        .map_err(|_| junk("the provider's stream has an event that is not one"))
}

fn reported(event: &Event<'_>) -> Failure {
    let silent = || UpstreamError {
        message: String::new(),
        ..UpstreamError::default()
    };
    in_band(member(event.error).unwrap_or_else(silent))
}

/// Reads events. Vendor blocks that the hub has no name for are skipped with their deltas.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Anthropic's block index → the hub's, while open.
    open: Vec<(usize, usize)>,
    next: usize,
    stopped: bool,
}

impl Decoder {
    fn start(&mut self, index: usize, block: &ContentBlock<'_>, out: &mut Vec<ChatEvent>) {
        let (kind, first) = match &*block.kind {
            "text" => (Block::Text, block.text.as_deref()),
            "thinking" => (Block::Reasoning, block.thinking.as_deref()),
            "tool_use" => {
                let text = |text: &Option<std::borrow::Cow<'_, str>>| {
                    text.as_deref().unwrap_or_default().to_owned()
                };
                (
                    Block::ToolCall {
                        id: text(&block.id),
                        name: text(&block.name),
                    },
                    None,
                )
            }
            _ => return,
        };
        let at = self.next;
        self.next += 1;
        self.open.push((index, at));
        out.push(ChatEvent::Open {
            index: at,
            block: kind,
        });
        if let Some(text) = first.filter(|text| !text.is_empty()) {
            out.push(ChatEvent::Delta {
                index: at,
                text: text.to_owned(),
            });
        }
    }

    fn at(&self, index: usize) -> Option<usize> {
        self.open
            .iter()
            .find(|(theirs, _)| *theirs == index)
            .map(|(_, ours)| *ours)
    }

    fn close(&mut self, index: usize, out: &mut Vec<ChatEvent>) {
        if let Some(at) = self.at(index) {
            self.open.retain(|(theirs, _)| *theirs != index);
            out.push(ChatEvent::Close { index: at });
        }
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() {
            return Ok(());
        }
        let event = event(frame)?;
        match &*event.kind {
            "message_start" => {
                let message = event
                    .message
                    .ok_or_else(|| junk("the provider's stream starts without a message"))?;
                out.push(ChatEvent::Start {
                    id: message.id.map(Into::into),
                    model: message.model.map(Into::into),
                });
                out.extend(message.usage.map(|usage| ChatEvent::Usage(usage.counts())));
            }
            "content_block_start" => {
                if let Some(block) = &event.content_block {
                    self.start(event.index, block, out);
                }
            }
            "content_block_delta" => {
                let piece = event
                    .delta
                    .as_ref()
                    .and_then(|delta| delta.piece())
                    .filter(|piece| !piece.is_empty());
                if let (Some(index), Some(piece)) = (self.at(event.index), piece) {
                    out.push(ChatEvent::Delta {
                        index,
                        text: piece.to_owned(),
                    });
                }
            }
            "content_block_stop" => self.close(event.index, out),
            "message_delta" => {
                out.extend(event.usage.map(|usage| ChatEvent::Usage(usage.counts())));
                let reason = event
                    .delta
                    .as_ref()
                    .filter(|delta| delta.stop_reason.is_some());
                if let Some(delta) = reason.filter(|_| !self.stopped) {
                    self.stopped = true;
                    out.push(ChatEvent::Stop(stop(
                        delta.stop_reason.as_deref(),
                        delta.stop_sequence.as_deref(),
                    )));
                }
            }
            "error" => out.push(ChatEvent::Failed(Box::new(reported(&event)))),
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
