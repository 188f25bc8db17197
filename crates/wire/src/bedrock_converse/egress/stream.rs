//! Converse's events: what one means, and reading them into the hub. Texts and thoughts begin with their first piece, calls and
//! pictures with a start of their own; token counts come after the reason.

use polygate_core::{Failure, Kind, Usage};
use serde_json::value::RawValue;

use super::super::error;
use super::super::types::{
    Delta, Event, Image, Outcome, Start, StopReason, Thought, ToolUse, picture, usage,
};
use super::response::botched;
use crate::canon::{Block, CallKind, ChatEvent, Citation};
use crate::event_stream::EXCEPTION;
use crate::upstream_error::junk;
use crate::{Frame, Progress, Signal, StreamDecoder};

/// What an event means.
pub(crate) fn sniff(frame: &Frame<'_>) -> Signal {
    if frame.is_empty() {
        return Signal::default();
    }
    let happening = match happening(frame) {
        Ok(happening) => happening,
        Err(failure) if failure.kind == Kind::UpstreamJunk => return Signal::unreadable(frame),
        Err(failure) => return Signal::failed(*failure),
    };
    let progress = match &happening {
        Happening::BlockStarts(_, start) if start.tool_use.is_some() => Progress::Content,
        Happening::Piece(_, delta) if delta.says_something() => Progress::Content,
        Happening::Stops(..) => Progress::Finish,
        Happening::Counted(_) => Progress::End,
        _ => Progress::Preamble,
    };
    let usage = match happening {
        Happening::Counted(usage) => usage,
        _ => None,
    };
    Signal {
        progress,
        usage,
        ..Signal::default()
    }
}

/// What an event tells.
#[derive(Debug)]
enum Happening<'a> {
    Starts,
    BlockStarts(usize, Start<'a>),
    Piece(usize, Delta<'a>),
    BlockStops(usize),
    Stops(Option<StopReason>, Option<&'a RawValue>),
    Counted(Option<Usage>),
    /// An event of a type that nobody knows yet.
    Other,
}

/// Reads a frame; an exception is an `Err` too.
fn happening<'a>(frame: &'a Frame<'_>) -> Result<Happening<'a>, Box<Failure>> {
    let name = frame.event.unwrap_or_default();
    if let Some(exception) = name.strip_prefix(EXCEPTION) {
        return Err(Box::new(error::exception(exception, &frame.data)));
    }
    let event: Event<'_> = serde_json::from_slice(&frame.data)
        .map_err(|_| Box::new(junk("the provider's stream has an event that is not one")))?;
    let index = event.content_block_index.unwrap_or_default();
    Ok(match name {
        "messageStart" => Happening::Starts,
        "contentBlockStart" => Happening::BlockStarts(index, event.start.unwrap_or_default()),
        "contentBlockDelta" => Happening::Piece(index, event.delta.unwrap_or_default()),
        "contentBlockStop" => Happening::BlockStops(index),
        "messageStop" => {
            Happening::Stops(event.stop_reason, event.additional_model_response_fields)
        }
        "metadata" => Happening::Counted(usage(event.usage)),
        _ => Happening::Other,
    })
}

/// Reads events. Blocks that the hub has no name for are skipped with their deltas.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Blocks that have begun and not ended.
    open: Vec<Open>,
    /// The hub's next index.
    next: usize,
    has_started: bool,
    has_calls: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Saying,
    /// Why it stopped is known; token counts may follow.
    Stopped,
    /// The token counts have come: whatever follows belongs to nobody.
    Over,
    /// An error was reported: nothing counts any more.
    Failed,
}

/// An open block.
#[derive(Debug)]
struct Open {
    /// Its index there.
    theirs: usize,
    /// What it is, with its index here.
    going: Going,
}

#[derive(Debug)]
enum Going {
    /// A text, how long it is, and where it comes from: told at its end, since sources come first and stand behind all of it.
    Text(usize, u64, Vec<Citation>),
    Reasoning(usize),
    /// A call, and whether its arguments have begun.
    Call(usize, bool),
    /// A picture is told whole: it has no index until then.
    Picture(Option<String>, String),
    Skipped,
}

impl Decoder {
    fn start(&mut self, out: &mut Vec<ChatEvent>) {
        if !std::mem::replace(&mut self.has_started, true) {
            out.push(ChatEvent::Start {
                id: None,
                model: None,
            });
        }
    }

    fn begin(&mut self, block: Block, out: &mut Vec<ChatEvent>) -> usize {
        self.start(out);
        let index = self.next;
        self.next += 1;
        out.push(ChatEvent::Open { index, block });
        index
    }

    fn going(&mut self, theirs: usize) -> Option<&mut Going> {
        let open = self.open.iter_mut().find(|open| open.theirs == theirs);
        open.map(|open| &mut open.going)
    }

    fn block_starts(&mut self, theirs: usize, start: Start<'_>, out: &mut Vec<ChatEvent>) {
        // A block that was never closed and whose index comes again has ended.
        self.close(theirs, out);
        let going = match start {
            Start {
                tool_use: Some(call),
                ..
            } => self.call(&call, out),
            Start {
                image: Some(image), ..
            } => Going::Picture(image.mime(), image.data().to_owned()),
            Start {
                tool_result: Some(_),
                ..
            } => Going::Skipped,
            // Texts need no start: what it is shows with its first piece.
            _ => return,
        };
        self.open.push(Open { theirs, going });
    }

    fn call(&mut self, call: &ToolUse<'_>, out: &mut Vec<ChatEvent>) -> Going {
        if call.is_theirs() {
            return Going::Skipped;
        }
        self.has_calls = true;
        let block = Block::ToolCall {
            id: call.tool_use_id.as_deref().unwrap_or_default().to_owned(),
            name: call.name.as_deref().unwrap_or_default().to_owned(),
            kind: CallKind::Function,
        };
        Going::Call(self.begin(block, out), false)
    }

    fn piece(&mut self, theirs: usize, delta: Delta<'_>, out: &mut Vec<ChatEvent>) {
        if let Some(text) = delta.text.as_deref().filter(|text| !text.is_empty())
            && let Some((index, chars, _)) = self.text(theirs, out)
        {
            *chars += text.chars().count() as u64;
            let text = text.to_owned();
            out.push(ChatEvent::Delta { index, text });
        }
        if let Some(thought) = &delta.reasoning_content {
            self.thought(theirs, thought, out);
        }
        if let Some(input) = delta.tool_use.and_then(|piece| piece.input) {
            self.input(theirs, &input, out);
        }
        if let Some(image) = &delta.image {
            self.paint(theirs, image);
        }
        if let Some(citation) = delta.citation {
            self.cite(theirs, citation.source(), out);
        }
    }

    /// The text that goes on or begins there; `None` within a block of another kind that began by itself.
    fn text(
        &mut self,
        theirs: usize,
        out: &mut Vec<ChatEvent>,
    ) -> Option<(usize, &mut u64, &mut Vec<Citation>)> {
        if matches!(self.going(theirs), Some(Going::Reasoning(_))) {
            self.close(theirs, out);
        }
        if self.going(theirs).is_none() {
            let going = Going::Text(self.begin(Block::Text, out), 0, vec![]);
            self.open.push(Open { theirs, going });
        }
        match self.going(theirs) {
            Some(Going::Text(index, chars, sources)) => Some((*index, chars, sources)),
            _ => None,
        }
    }

    fn reasoning(&mut self, theirs: usize, out: &mut Vec<ChatEvent>) -> Option<usize> {
        match self.going(theirs) {
            Some(Going::Reasoning(index)) => return Some(*index),
            Some(Going::Call(..) | Going::Picture(..) | Going::Skipped) => return None,
            Some(Going::Text(..)) => self.close(theirs, out),
            None => {}
        }
        let index = self.begin(Block::Reasoning, out);
        let going = Going::Reasoning(index);
        self.open.push(Open { theirs, going });
        Some(index)
    }

    fn thought(&mut self, theirs: usize, thought: &Thought<'_>, out: &mut Vec<ChatEvent>) {
        let (text, opaque) = (thought.shown(), thought.opaque());
        if text.is_empty() && opaque.is_none() {
            return;
        }
        let Some(index) = self.reasoning(theirs, out) else {
            return;
        };
        if !text.is_empty() {
            let text = text.to_owned();
            out.push(ChatEvent::Delta { index, text });
        }
        out.extend(opaque.map(|opaque| ChatEvent::Seal { index, opaque }));
    }

    /// Arguments of a call without a name are nothing.
    fn input(&mut self, theirs: usize, piece: &str, out: &mut Vec<ChatEvent>) {
        if let Some(Going::Call(index, has_begun)) = self.going(theirs)
            && !piece.is_empty()
        {
            *has_begun = true;
            let (index, text) = (*index, piece.to_owned());
            out.push(ChatEvent::Delta { index, text });
        }
    }

    fn paint(&mut self, theirs: usize, image: &Image<'_>) {
        if let Some(Going::Picture(_, data)) = self.going(theirs) {
            data.push_str(image.data());
        }
    }

    fn cite(&mut self, theirs: usize, citation: Citation, out: &mut Vec<ChatEvent>) {
        if let Some((_, _, sources)) = self.text(theirs, out) {
            sources.push(citation);
        }
    }

    fn close(&mut self, theirs: usize, out: &mut Vec<ChatEvent>) {
        if let Some(at) = self.open.iter().position(|open| open.theirs == theirs) {
            let open = self.open.remove(at);
            self.end(open, out);
        }
    }

    fn end(&mut self, open: Open, out: &mut Vec<ChatEvent>) {
        let index = match open.going {
            Going::Text(index, chars, sources) => {
                let sources = sources.into_iter();
                out.extend(sources.map(|source| ChatEvent::Cite {
                    index,
                    citation: source.behind(chars),
                }));
                index
            }
            Going::Reasoning(index) | Going::Call(index, true) => index,
            Going::Call(index, false) => {
                let text = "{}".to_owned();
                out.push(ChatEvent::Delta { index, text });
                index
            }
            Going::Picture(mime, data) if !data.is_empty() => {
                self.begin(Block::Media(picture(data, mime)), out)
            }
            Going::Picture(..) | Going::Skipped => return,
        };
        out.push(ChatEvent::Close { index });
    }

    /// Where the reason is left out, what was said tells it.
    fn stops(
        &mut self,
        reason: Option<StopReason>,
        beside: Option<&RawValue>,
        out: &mut Vec<ChatEvent>,
    ) {
        if self.state != State::Saying {
            return;
        }
        for open in std::mem::take(&mut self.open) {
            self.end(open, out);
        }
        let presumed = if self.has_calls {
            StopReason::ToolUse
        } else {
            StopReason::EndTurn
        };
        let known = reason.filter(|reason| *reason != StopReason::Other);
        let stop = match known.unwrap_or(presumed).outcome(beside) {
            Outcome::Stopped(stop) => stop,
            Outcome::Botched(code) => return self.fail(botched(code), out),
        };
        self.start(out);
        self.state = State::Stopped;
        out.push(ChatEvent::Stop(stop));
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<ChatEvent>) {
        self.state = State::Failed;
        out.push(ChatEvent::Failed(Box::new(failure)));
    }

    fn counted(&mut self, usage: Option<Usage>, out: &mut Vec<ChatEvent>) {
        self.start(out);
        out.extend(usage.map(ChatEvent::Usage));
        if self.state == State::Stopped {
            self.state = State::Over;
        }
    }

    fn take(&mut self, happening: Happening<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        match happening {
            Happening::Starts if self.next > 0 => {
                // Two answers spliced into one: text said twice, arguments broken off.
                return Err(junk(
                    "the provider's stream begins a second answer within the first",
                ));
            }
            Happening::Starts => self.start(out),
            Happening::Stops(reason, beside) => self.stops(reason, beside, out),
            Happening::Counted(usage) => self.counted(usage, out),
            _ if self.state != State::Saying => {}
            Happening::BlockStarts(theirs, start) => self.block_starts(theirs, start, out),
            Happening::Piece(theirs, delta) => self.piece(theirs, delta, out),
            Happening::BlockStops(theirs) => self.close(theirs, out),
            Happening::Other => {}
        }
        Ok(())
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() || matches!(self.state, State::Over | State::Failed) {
            return Ok(());
        }
        match happening(frame) {
            Ok(happening) => return self.take(happening, out),
            Err(failure) if failure.kind == Kind::UpstreamJunk => {
                // A last event cut short takes nothing from an answer that is whole.
                if self.state == State::Saying {
                    return Err(*failure);
                }
            }
            Err(failure) => self.fail(*failure, out),
        }
        Ok(())
    }

    fn may_end(&self) -> bool {
        matches!(self.state, State::Stopped | State::Over)
    }

    fn finish(&mut self, _out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        match self.state {
            State::Stopped | State::Over => Ok(()),
            State::Saying | State::Failed => Err(crate::ended_early()),
        }
    }
}

#[cfg(test)]
mod tests;
