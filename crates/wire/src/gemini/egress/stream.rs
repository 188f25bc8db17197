//! Gemini's chunks: what one means, and reading them into the hub.
//!
//! Chunks have no brackets: a text goes on while parts of its kind come, a call is whole in one part or comes in pieces. Nor is
//! there an end: with code execution Google says why it stopped and goes on, so that only the last reason, at the end of the
//! bytes, is the one.

use std::hash::{DefaultHasher, Hash, Hasher};

use polygate_core::{Failure, Kind, Scope, Usage};
use serde_json::value::RawValue;

use super::super::types::{
    Answer, Blob, Candidate, Counts, FinishReason, FunctionCall, Outcome, PartIn,
};
use super::pieces::Pieces;
use crate::canon::{Block, CallKind, ChatEvent, Issuer, Media, MediaSource, Opaque, Stop};
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder};

/// What a chunk means.
pub(crate) fn sniff(frame: &Frame<'_>) -> Signal {
    if is_silent(frame) {
        return Signal::default();
    }
    match chunk(frame) {
        Ok(answer) => match member(answer.error) {
            Some(error) => Signal::failed(in_band(error)),
            None => signal(&answer),
        },
        Err(_) => Signal::unreadable(frame),
    }
}

fn signal(answer: &Answer<'_>) -> Signal {
    let candidates = answer.candidates.as_deref().unwrap_or_default();
    let has_finished = |candidate: &Candidate<'_>| candidate.finish_reason.is_some();
    let progress = if answer.is_blocked() || candidates.iter().any(has_finished) {
        Progress::Finish
    } else if candidates.iter().any(Candidate::has_content) {
        Progress::Content
    } else {
        Progress::Preamble
    };
    Signal {
        progress,
        usage: answer.usage_metadata.as_ref().map(Counts::usage),
        is_blocked: answer.is_blocked() && !candidates.iter().any(Candidate::has_content),
        ..Signal::default()
    }
}

/// Imitations end like OpenAI; Google has no end mark.
fn is_silent(frame: &Frame<'_>) -> bool {
    frame.is_empty() || frame.data.trim_ascii() == b"[DONE]"
}

fn chunk<'a>(frame: &'a Frame<'_>) -> Result<Answer<'a>, Failure> {
    serde_json::from_slice(&frame.data)
        .map_err(|_| junk("the provider's stream has a chunk that is not one"))
}

/// Reads chunks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    open: Option<Open>,
    /// The text that goes on, or went on last.
    text: String,
    /// The hub's next index.
    next: usize,
    /// What makes ids of calls this answer's own, where Google gives none.
    name: String,
    calls: usize,
    /// Text or a call has come.
    has_answer: bool,
    usage: Usage,
    /// Why it stopped, as last said.
    reason: Option<Ending>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Silent,
    Saying,
    /// Stopped, or an error was reported: nothing counts any more.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Length,
    Filtered,
}

/// The block that goes on.
#[derive(Debug)]
struct Open {
    index: usize,
    kind: Going,
}

#[derive(Debug)]
enum Going {
    Text,
    Reasoning,
    Call(Pieces),
}

impl Decoder {
    /// Reads an answer or a chunk of one; `bytes` name it where it has no id.
    pub(crate) fn answer(
        &mut self,
        mut answer: Answer<'_>,
        bytes: &[u8],
        out: &mut Vec<ChatEvent>,
    ) {
        if self.state == State::Over {
            return;
        }
        if let Some(error) = member(answer.error) {
            return self.fail(in_band(error), out);
        }
        if self.state == State::Silent {
            self.start(&answer, bytes, out);
        }
        let mut candidate = answer.take_candidate();
        for part in candidate
            .as_mut()
            .map(Candidate::take_parts)
            .unwrap_or_default()
        {
            self.part(part, out);
        }
        if let Some(candidate) = &mut candidate {
            self.cite(candidate, out);
            self.logprobs(candidate, out);
        }
        let mut usage = self.usage;
        usage.merge(
            answer
                .usage_metadata
                .as_ref()
                .map(Counts::usage)
                .unwrap_or_default(),
        );
        if usage != self.usage {
            self.usage = usage;
            out.push(ChatEvent::Usage(usage));
        }
        if answer.is_blocked() {
            self.reason = Some(Ending::Filtered);
        } else if let Some(candidate) = candidate
            && let Some(reason) = candidate.finish_reason
        {
            self.ended(reason, candidate.finish_message.as_deref(), out);
        }
    }

    fn start(&mut self, answer: &Answer<'_>, bytes: &[u8], out: &mut Vec<ChatEvent>) {
        self.state = State::Saying;
        let id = answer.response_id.as_deref().filter(|id| !id.is_empty());
        self.name = id.map_or_else(|| digest(bytes), str::to_owned);
        out.push(ChatEvent::Start {
            id: id.map(str::to_owned),
            model: answer.model_version.as_deref().map(str::to_owned),
        });
    }

    fn part(&mut self, part: PartIn<'_>, out: &mut Vec<ChatEvent>) {
        let opaque = part.thought_signature.filter(|data| !data.is_empty());
        let opaque = opaque.map(|data| Opaque {
            issuer: Issuer::Google,
            data: data.into(),
            id: None,
            is_redacted: false,
        });
        if let Some(call) = part.function_call {
            self.call(call, opaque, out);
            return;
        }
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            let is_thought = part.thought == Some(true);
            let index = self.text(is_thought, out);
            if !is_thought {
                self.text.push_str(&text);
            }
            out.push(ChatEvent::Delta {
                index,
                text: text.into(),
            });
        }
        if let Some(blob) = part.inline_data {
            self.media(blob, out);
        }
        // A signature belongs to the thought or text it comes with, and to the one before where it comes alone.
        if let (Some(opaque), Some(open)) = (opaque, &self.open) {
            out.push(ChatEvent::Seal {
                index: open.index,
                opaque,
            });
        }
    }

    /// A picture or sound, whole.
    fn media(&mut self, blob: Blob<'_>, out: &mut Vec<ChatEvent>) {
        self.close(out);
        self.has_answer = true;
        let media = Media {
            source: MediaSource::Base64(blob.data.map(Into::into).unwrap_or_default()),
            mime: blob.mime_type.map(Into::into),
            ..Media::default()
        };
        let index = self.next;
        self.next += 1;
        let block = Block::Media(media);
        out.push(ChatEvent::Open { index, block });
        out.push(ChatEvent::Close { index });
    }

    /// Sources stand behind the text that goes on.
    fn cite(&mut self, candidate: &mut Candidate<'_>, out: &mut Vec<ChatEvent>) {
        let Some(Open {
            index,
            kind: Going::Text,
        }) = self.open
        else {
            return;
        };
        for citation in candidate.take_citations(&self.text) {
            out.push(ChatEvent::Cite { index, citation });
        }
    }

    /// The index of the text that goes on, or of a new one.
    fn text(&mut self, is_thought: bool, out: &mut Vec<ChatEvent>) -> usize {
        self.has_answer |= !is_thought;
        match &self.open {
            Some(Open {
                index,
                kind: Going::Text,
            }) if !is_thought => return *index,
            Some(Open {
                index,
                kind: Going::Reasoning,
            }) if is_thought => return *index,
            _ => {}
        }
        let (block, kind) = if is_thought {
            (Block::Reasoning, Going::Reasoning)
        } else {
            self.text.clear();
            (Block::Text, Going::Text)
        };
        self.open(block, kind, out)
    }

    fn open(&mut self, block: Block, kind: Going, out: &mut Vec<ChatEvent>) -> usize {
        self.close(out);
        let index = self.next;
        self.next += 1;
        out.push(ChatEvent::Open { index, block });
        self.open = Some(Open { index, kind });
        index
    }

    fn logprobs(&mut self, candidate: &mut Candidate<'_>, out: &mut Vec<ChatEvent>) {
        let tokens = candidate.take_logprobs();
        if let Some(open) = self.open.as_ref().filter(|_| !tokens.is_empty()) {
            out.push(ChatEvent::Logprobs {
                index: open.index,
                tokens,
            });
        }
    }

    fn call(&mut self, call: FunctionCall<'_>, opaque: Option<Opaque>, out: &mut Vec<ChatEvent>) {
        let goes_on = call.will_continue == Some(true);
        if let Some(name) = call.name.as_deref().filter(|name| !name.is_empty()) {
            let id = call.id.as_deref().filter(|id| !id.is_empty());
            let id = id.map_or_else(
                || format!("call_{}_{}", self.name, self.calls),
                str::to_owned,
            );
            self.calls += 1;
            self.has_answer = true;
            let args = call
                .args
                .map(RawValue::get)
                .filter(|text| text.starts_with('{'));
            let block = Block::ToolCall {
                id,
                name: name.to_owned(),
                kind: CallKind::Function,
            };
            if !goes_on && call.partial_args.is_none() {
                return self.whole(block, args.unwrap_or("{}"), opaque, out);
            }
            let index = self.open(block, Going::Call(Pieces::new(args)), out);
            out.extend(opaque.map(|opaque| ChatEvent::Seal { index, opaque }));
        }
        if let Some(Open {
            kind: Going::Call(pieces),
            ..
        }) = &mut self.open
        {
            call.partial_args
                .iter()
                .flatten()
                .for_each(|piece| pieces.add(piece));
            if !goes_on {
                self.close(out);
            }
        }
    }

    /// A call whose arguments are there: in the bytes that Google wrote.
    fn whole(
        &mut self,
        block: Block,
        arguments: &str,
        opaque: Option<Opaque>,
        out: &mut Vec<ChatEvent>,
    ) {
        self.close(out);
        let index = self.next;
        self.next += 1;
        out.push(ChatEvent::Open { index, block });
        out.push(ChatEvent::Delta {
            index,
            text: arguments.to_owned(),
        });
        out.extend(opaque.map(|opaque| ChatEvent::Seal { index, opaque }));
        out.push(ChatEvent::Close { index });
    }

    fn close(&mut self, out: &mut Vec<ChatEvent>) {
        let Some(Open { index, kind }) = self.open.take() else {
            return;
        };
        if let Going::Call(pieces) = kind {
            let text = pieces.finish();
            out.push(ChatEvent::Delta { index, text });
        }
        out.push(ChatEvent::Close { index });
    }

    fn ended(&mut self, reason: FinishReason, message: Option<&str>, out: &mut Vec<ChatEvent>) {
        self.reason = Some(match reason.outcome() {
            Outcome::Done => Ending::Done,
            Outcome::Length => Ending::Length,
            Outcome::Filtered => Ending::Filtered,
            Outcome::BrokenOff(_) if self.has_answer => Ending::Done,
            Outcome::Botched(code) | Outcome::BrokenOff(code) => {
                return self.fail(botched(code, message), out);
            }
        });
    }

    /// The prompt was not let through, though Google gave no reason.
    pub(crate) fn is_filtered(&mut self) {
        self.reason.get_or_insert(Ending::Filtered);
    }

    /// Ends the answer, once. Whether a reason was needed is the caller's to know.
    pub(crate) fn end(&mut self, out: &mut Vec<ChatEvent>) {
        if self.state == State::Over {
            return;
        }
        self.state = State::Over;
        self.close(out);
        out.push(ChatEvent::Stop(match self.reason {
            Some(Ending::Length) => Stop::Length,
            Some(Ending::Filtered) => Stop::ContentFilter,
            // Google says `STOP` after calls too.
            Some(Ending::Done) | None if self.calls > 0 => Stop::ToolUse,
            Some(Ending::Done) | None => Stop::End,
        }));
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<ChatEvent>) {
        self.state = State::Over;
        out.push(ChatEvent::Failed(Box::new(failure)));
    }
}

/// An empty success would leave an agent standing: that the model wrote nothing readable is an error, and another try may do.
fn botched(code: &str, message: Option<&str>) -> Failure {
    let said = message.filter(|text| !text.is_empty());
    let unread = || format!("the model's answer could not be read by its provider: {code}");
    let message = said.map_or_else(unread, |said| format!("{code}: {said}"));
    let mut failure = Failure::new(Kind::UpstreamError, message);
    failure.code = Some(code.to_owned());
    // The model's slip, not the provider's: nobody has to rest.
    failure.scope = Scope::Request;
    failure
}

fn digest(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if !is_silent(frame) && self.state != State::Over {
            self.answer(chunk(frame)?, &frame.data, out);
        }
        Ok(())
    }

    fn may_end(&self) -> bool {
        self.reason.is_some()
    }

    fn finish(&mut self, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if self.reason.is_none() {
            return Err(crate::ended_early());
        }
        self.end(out);
        Ok(())
    }
}
