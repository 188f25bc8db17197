//! Gemini's chunks: what one means, and reading them into the hub.
//!
//! Chunks have no brackets: a text goes on while parts of its kind come, a call is whole in one part.

use polygate_core::Failure;

use super::types::{Answer, PartMember, stop};
use crate::canon::{Block, ChatEvent, Stop};
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder};

/// What a chunk means.
pub(super) fn sniff(frame: &Frame<'_>) -> Signal {
    let answer = match chunk(frame) {
        Ok(answer) => answer,
        Err(failure) => {
            return Signal {
                failure: Some(Box::new(failure)),
                ..Signal::default()
            };
        }
    };
    if let Some(error) = member(answer.error) {
        return Signal {
            failure: Some(Box::new(in_band(error))),
            ..Signal::default()
        };
    }
    let candidates = answer.candidates.unwrap_or_default();
    let blocked = answer
        .prompt_feedback
        .is_some_and(|feedback| feedback.block_reason.is_some());
    let finished = blocked
        || candidates
            .iter()
            .any(|candidate| candidate.finish_reason.is_some());
    let parts = candidates
        .iter()
        .filter_map(|candidate| candidate.content.as_ref()?.parts.as_ref())
        .flatten();
    let progress = match (finished, parts.into_iter().any(PartMember::has_content)) {
        (true, _) => Progress::Finish,
        (false, true) => Progress::Content,
        (false, false) => Progress::Preamble,
    };
    Signal {
        progress,
        usage: answer.usage_metadata.map(|usage| usage.counts()),
        failure: None,
    }
}

fn chunk<'a>(frame: &'a Frame<'_>) -> Result<Answer<'a>, Failure> {
    serde_json::from_slice(&frame.data)
        .map_err(|_| junk("the provider's stream has a chunk that is not one"))
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The text that goes on: its kind and index.
    open: Option<(Block, usize)>,
    next: usize,
    calls: usize,
    started: bool,
    stopped: bool,
}

impl Decoder {
    fn part(&mut self, part: &PartMember<'_>, id: Option<&str>, out: &mut Vec<ChatEvent>) {
        if let Some(text) = part.text.as_deref().filter(|text| !text.is_empty()) {
            let block = if part.thought == Some(true) {
                Block::Reasoning
            } else {
                Block::Text
            };
            let index = self.text_block(block, out);
            out.push(ChatEvent::Delta {
                index,
                text: text.to_owned(),
            });
        }
        if let Some(call) = &part.function_call {
            self.close(out);
            let block = Block::ToolCall {
                id: call.id(id, self.calls),
                name: call.name.as_ref().to_owned(),
            };
            self.calls += 1;
            let index = self.open(block, out);
            out.push(ChatEvent::Delta {
                index,
                text: call.arguments().to_owned(),
            });
            out.push(ChatEvent::Close { index });
        }
    }

    fn text_block(&mut self, block: Block, out: &mut Vec<ChatEvent>) -> usize {
        if let Some((_, index)) = self.open.as_ref().filter(|(kind, _)| *kind == block) {
            return *index;
        }
        self.close(out);
        let index = self.open(block.clone(), out);
        self.open = Some((block, index));
        index
    }

    fn open(&mut self, block: Block, out: &mut Vec<ChatEvent>) -> usize {
        let index = self.next;
        self.next += 1;
        out.push(ChatEvent::Open { index, block });
        index
    }

    fn close(&mut self, out: &mut Vec<ChatEvent>) {
        if let Some((_, index)) = self.open.take() {
            out.push(ChatEvent::Close { index });
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Vec<ChatEvent>) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.close(out);
            out.push(ChatEvent::Stop(stop));
        }
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() {
            return Ok(());
        }
        let answer = chunk(frame)?;
        if let Some(error) = member(answer.error) {
            out.push(ChatEvent::Failed(Box::new(in_band(error))));
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            let text =
                |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
            out.push(ChatEvent::Start {
                id: text(&answer.response_id),
                model: text(&answer.model_version),
            });
        }
        let id = answer.response_id.as_deref();
        // Only the first candidate has a place in a chat answer.
        let candidate = answer
            .candidates
            .unwrap_or_default()
            .into_iter()
            .find(|candidate| candidate.index == 0);
        let reason = candidate
            .as_ref()
            .and_then(|candidate| candidate.finish_reason.clone());
        for part in candidate
            .and_then(|candidate| candidate.content?.parts)
            .unwrap_or_default()
        {
            self.part(&part, id, out);
        }
        out.extend(
            answer
                .usage_metadata
                .map(|usage| ChatEvent::Usage(usage.counts())),
        );
        if answer
            .prompt_feedback
            .is_some_and(|feedback| feedback.block_reason.is_some())
        {
            self.stop(Stop::ContentFilter, out);
        } else if let Some(reason) = reason {
            self.stop(stop(&reason, self.calls > 0), out);
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
