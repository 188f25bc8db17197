//! Anthropic's events: what one means, and reading them into the hub, whose grammar is theirs.

use polygate_core::{Failure, Kind, Usage};

use super::super::types::{
    Block as BlockStart, BlockKind, Counts, Delta, Event, EventKind, Head, StopReason, opaque,
};
use crate::canon::{Block, CallKind, ChatEvent, Citation, Stop};
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder};

/// What an event means.
pub(crate) fn sniff(frame: &Frame<'_>) -> Signal {
    if frame.is_empty() {
        return Signal::default();
    }
    match event(frame) {
        Ok(event) => signal(&event),
        Err(failure) if failure.kind == Kind::UpstreamJunk => Signal::unreadable(frame),
        Err(failure) => Signal::failed(*failure),
    }
}

fn signal(event: &Event<'_>) -> Signal {
    let is_final = event
        .delta
        .as_ref()
        .is_some_and(|delta| delta.stop_reason.is_some());
    let progress = match event.kind {
        Some(EventKind::ContentBlockStart)
            if event.content_block.as_ref().is_some_and(has_content) =>
        {
            Progress::Content
        }
        Some(EventKind::ContentBlockDelta) if event.delta.as_ref().is_some_and(says_something) => {
            Progress::Content
        }
        Some(EventKind::MessageDelta) if is_final => Progress::Finish,
        Some(EventKind::MessageStop) => Progress::End,
        _ => Progress::Preamble,
    };
    let started = event.message.as_ref().and_then(|message| message.usage);
    Signal {
        progress,
        usage: event.usage.or(started).map(Counts::usage),
        ..Signal::default()
    }
}

/// A call is content from its name on, and so is whatever the vendor's own tools show; text and thinking are once there is some.
fn has_content(block: &BlockStart<'_>) -> bool {
    match block.kind {
        Some(BlockKind::Text | BlockKind::Thinking) => !block.text().is_empty(),
        _ => true,
    }
}

fn says_something(delta: &Delta<'_>) -> bool {
    !delta.piece().is_empty()
}

/// Reads a frame; an error that it reports is an `Err` too.
fn event<'a>(frame: &'a Frame<'_>) -> Result<Event<'a>, Box<Failure>> {
    if frame.data.trim_ascii() == b"[DONE]" {
        // Imitations end like OpenAI.
        return Ok(Event {
            kind: Some(EventKind::MessageStop),
            ..Event::default()
        });
    }
    let is_error = frame.event == Some("error");
    let event: Event<'_> = match serde_json::from_slice(&frame.data) {
        Ok(event) => event,
        Err(_) if is_error => return Err(reported(None)),
        Err(_) => {
            return Err(Box::new(junk(
                "the provider's stream has an event that is not one",
            )));
        }
    };
    match member(event.error) {
        Some(error) => Err(Box::new(in_band(error))),
        None if is_error || event.kind == Some(EventKind::Error) => Err(reported(None)),
        None => Ok(event),
    }
}

fn reported(error: Option<crate::UpstreamError>) -> Box<Failure> {
    Box::new(in_band(error.unwrap_or_default()))
}

/// Reads events. Blocks that the hub has no name for are skipped with their deltas.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Blocks that have begun and not ended.
    open: Vec<Open>,
    /// The hub's next index.
    next: usize,
    usage: Usage,
    /// The output that the beginning counted, until a later count stands for it.
    guessed: Option<u64>,
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
    /// The end mark has come: whatever follows belongs to nobody.
    Over,
    /// An error was reported: nothing counts any more.
    Failed,
}

/// An open block.
#[derive(Debug)]
struct Open {
    /// Its index there.
    theirs: usize,
    /// Its index here; `None` for blocks that are skipped.
    ours: Option<usize>,
    /// A call whose arguments have not begun: what to say if they never do.
    owed: Option<String>,
    /// Where its text comes from, and how long it is: told at its end, since sources come first and stand behind all of it.
    sources: Vec<Citation>,
    chars: u64,
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

    fn count(&mut self, counts: Option<Counts>, out: &mut Vec<ChatEvent>) {
        if let Some(counts) = counts {
            self.usage.merge(counts.usage());
            out.push(ChatEvent::Usage(self.usage));
        }
    }

    fn open(&mut self, theirs: usize, block: BlockStart<'_>, out: &mut Vec<ChatEvent>) {
        // A block that was never closed and whose index comes again has ended.
        self.close(theirs, out);
        let mut owed = None;
        let kind = match block.kind {
            Some(BlockKind::Text) => Block::Text,
            Some(BlockKind::Thinking | BlockKind::RedactedThinking) => Block::Reasoning,
            Some(BlockKind::ToolUse) => {
                owed = Some(block.input().to_owned());
                self.has_calls = true;
                Block::ToolCall {
                    id: block.id.as_deref().unwrap_or_default().to_owned(),
                    name: block.name.as_deref().unwrap_or_default().to_owned(),
                    kind: CallKind::Function,
                }
            }
            Some(BlockKind::Other) | None => {
                self.open.push(Open::new(theirs, None, owed));
                return;
            }
        };
        let index = self.begin(theirs, kind, owed, out);
        if !block.text().is_empty() {
            if let Some(open) = self.open.last_mut() {
                open.chars += block.text().chars().count() as u64;
            }
            out.push(ChatEvent::Delta {
                index,
                text: block.text().to_owned(),
            });
        }
        out.extend(
            block
                .opaque()
                .map(|opaque| ChatEvent::Seal { index, opaque }),
        );
    }

    fn begin(
        &mut self,
        theirs: usize,
        block: Block,
        owed: Option<String>,
        out: &mut Vec<ChatEvent>,
    ) -> usize {
        self.start(out);
        let index = self.next;
        self.next += 1;
        self.open.push(Open::new(theirs, Some(index), owed));
        out.push(ChatEvent::Open { index, block });
        index
    }

    /// What stands beside the text of an open block: its signature, and sources.
    fn beside(&mut self, theirs: usize, delta: &mut Delta<'_>, out: &mut Vec<ChatEvent>) {
        let known = self.open.iter_mut().find(|open| open.theirs == theirs);
        let Some(open) = known else { return };
        let Some(index) = open.ours else { return };
        if let Some(data) = delta.signature.as_deref().filter(|data| !data.is_empty()) {
            let opaque = opaque(data, false);
            out.push(ChatEvent::Seal { index, opaque });
        }
        if let Some(citation) = delta.citation.take() {
            open.sources.push(citation.source());
        }
    }

    fn delta(&mut self, theirs: usize, mut delta: Delta<'_>, out: &mut Vec<ChatEvent>) {
        self.beside(theirs, &mut delta, out);
        let text = delta.piece();
        if text.is_empty() {
            return;
        }
        let known = self.open.iter_mut().find(|open| open.theirs == theirs);
        let index = match known {
            Some(open) => {
                open.owed = None;
                open.chars += text.chars().count() as u64;
                open.ours
            }
            // Imitations forget to open their blocks; arguments of a call without a name are nothing.
            None if delta.partial_json.is_some() => None,
            None => {
                let block = if delta.thinking.is_some() {
                    Block::Reasoning
                } else {
                    Block::Text
                };
                Some(self.begin(theirs, block, None, out))
            }
        };
        if let Some(index) = index {
            out.push(ChatEvent::Delta {
                index,
                text: text.to_owned(),
            });
        }
    }

    fn close(&mut self, theirs: usize, out: &mut Vec<ChatEvent>) {
        if let Some(at) = self.open.iter().position(|open| open.theirs == theirs) {
            self.open.remove(at).end(out);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut Vec<ChatEvent>) {
        if self.state == State::Saying {
            self.state = State::Stopped;
            self.start(out);
            self.open.drain(..).for_each(|open| open.end(out));
            if let Some(output) = self.guessed.take().filter(|output| *output > 0) {
                self.usage.output = output;
                out.push(ChatEvent::Usage(self.usage));
            }
            out.push(ChatEvent::Stop(stop));
        }
    }

    fn event(&mut self, event: Event<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        match event.kind {
            Some(EventKind::MessageStart) => self.message_start(event.message, out)?,
            Some(EventKind::MessageDelta) => self.message_delta(event, out),
            Some(EventKind::MessageStop) => self.message_stop(out),
            _ if self.state == State::Saying => self.content(event, out),
            _ => {}
        }
        Ok(())
    }

    fn message_start(
        &mut self,
        head: Option<Head<'_>>,
        out: &mut Vec<ChatEvent>,
    ) -> Result<(), Failure> {
        if self.next > 0 {
            // Two answers spliced into one: text said twice, arguments broken off.
            return Err(junk(
                "the provider's stream begins a second answer within the first",
            ));
        }
        let Some(head) = head.filter(|_| !self.has_started) else {
            return Ok(());
        };
        self.has_started = true;
        out.push(ChatEvent::Start {
            id: head.id.map(Into::into),
            model: head.model.map(Into::into),
        });
        let mut counts = head.usage;
        self.guessed = counts.as_mut().and_then(Counts::take_output);
        self.count(counts, out);
        Ok(())
    }

    fn content(&mut self, event: Event<'_>, out: &mut Vec<ChatEvent>) {
        let theirs = event.index.unwrap_or_default();
        match (event.kind, event.content_block, event.delta) {
            (Some(EventKind::ContentBlockStart), Some(block), _) => self.open(theirs, block, out),
            (Some(EventKind::ContentBlockDelta), _, Some(delta)) => self.delta(theirs, delta, out),
            (Some(EventKind::ContentBlockStop), ..) => self.close(theirs, out),
            _ => {}
        }
    }

    fn message_delta(&mut self, event: Event<'_>, out: &mut Vec<ChatEvent>) {
        self.start(out);
        if event.usage.as_ref().is_some_and(Counts::has_output) {
            self.guessed = None;
        }
        self.count(event.usage, out);
        match event.delta.and_then(Delta::reason) {
            Some((StopReason::Other, _)) => self.stop(self.presumed(), out),
            Some((reason, sequence)) => self.stop(reason.stop(sequence), out),
            None => {}
        }
    }

    /// What was said tells why it ended, where no known word does.
    fn presumed(&self) -> Stop {
        if self.has_calls {
            Stop::ToolUse
        } else {
            Stop::End
        }
    }

    /// Where the end came without a reason, what was said tells it.
    fn message_stop(&mut self, out: &mut Vec<ChatEvent>) {
        if self.has_started {
            self.stop(self.presumed(), out);
            self.state = State::Over;
        }
    }
}

impl Open {
    fn new(theirs: usize, ours: Option<usize>, owed: Option<String>) -> Self {
        Self {
            theirs,
            ours,
            owed,
            sources: vec![],
            chars: 0,
        }
    }

    fn end(self, out: &mut Vec<ChatEvent>) {
        let Some(index) = self.ours else { return };
        out.extend(self.owed.map(|text| ChatEvent::Delta { index, text }));
        let sources = self.sources.into_iter();
        out.extend(sources.map(|source| ChatEvent::Cite {
            index,
            citation: source.behind(self.chars),
        }));
        out.push(ChatEvent::Close { index });
    }
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() || matches!(self.state, State::Over | State::Failed) {
            return Ok(());
        }
        match event(frame) {
            Ok(event) => return self.event(event, out),
            Err(failure) if failure.kind == Kind::UpstreamJunk => {
                // A last event cut short takes nothing from an answer that is whole.
                if self.state == State::Saying {
                    return Err(*failure);
                }
            }
            Err(failure) => {
                self.state = State::Failed;
                out.push(ChatEvent::Failed(failure));
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        match self.state {
            State::Stopped | State::Over => Ok(()),
            State::Saying | State::Failed => Err(crate::ended_early()),
        }
    }
}
