//! A stream through the hub: the upstream's events are read, the client's are written.

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use polygate_wire::canon::Block;
use polygate_wire::{
    ChatEvent, Dialect, Frame, Progress, Return, StreamDecoder, StreamEncoder, dialect,
};

use super::continuation::{Said, Seam};
use super::{Meter, Output, Share, Translated};

/// A stream through the hub.
pub(super) struct Translation {
    /// The upstream's half.
    decoder: Box<dyn StreamDecoder>,
    /// Puts right what was bent.
    back: Return,
    /// The client's half.
    pub(super) encoder: Box<dyn StreamEncoder>,
    /// Reused between frames.
    events: Vec<ChatEvent>,
    /// The upstream's format: knows its end mark.
    dialect: &'static dyn Dialect,
    /// The client wants elements of one JSON array.
    pub(super) is_array: bool,
    /// Something has been written.
    pub(super) begun: bool,
    /// What the client has of the answer, where another may go on with it.
    said: Option<Said>,
    /// How the events go on with what others began.
    seam: Option<Seam>,
    /// Events that wait to be taken over by the translation that they go on with; `None` where they are written at once.
    held: Option<Held>,
}

/// Events that wait, and whether the end is among them.
#[derive(Default)]
struct Held {
    events: Vec<ChatEvent>,
    is_whole: bool,
}

impl Translation {
    pub(super) fn new(translated: Translated) -> Self {
        let share = translated.share;
        Self {
            decoder: translated.egress.stream_decoder(),
            back: Return::new(translated.bridge),
            is_array: translated.head.is_array,
            begun: false,
            encoder: translated.ingress.stream_encoder(translated.head),
            events: Vec::new(),
            dialect: dialect(translated.upstream),
            said: (share == Share::First).then(Said::default),
            seam: None,
            held: (share == Share::Further).then(Held::default),
        }
    }

    pub(super) fn block(
        &mut self,
        block: Bytes,
        meter: &mut Meter,
        out: &mut Output,
    ) -> Result<(), Failure> {
        for raw in polygate_wire::sse::frames(&block) {
            let frame = Frame::parse(&raw);
            // Afterwards it helps nobody any more.
            meter.is_blocked |= !meter.good && self.dialect.sniff(&frame).is_blocked;
            self.events.clear();
            let read = self.decoder.decode(&frame, &mut self.events);
            self.write(meter, out)?;
            read?;
            meter.finished |= self.decoder.may_end();
            meter.ended |= meter.finished && self.dialect.sniff(&frame).progress == Progress::End;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, meter: &mut Meter, out: &mut Output) -> Result<(), Failure> {
        self.events.clear();
        self.decoder.finish(&mut self.events)?;
        self.write(meter, out)?;
        match &mut self.held {
            Some(held) => held.is_whole = true,
            None => self.encoder.finish(out.scratch()),
        }
        meter.ended = true;
        Ok(())
    }

    /// Whether what is said is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.said.is_some()
    }

    /// The text that another may go on from: all that the client has.
    pub(super) fn said(&self) -> Option<&str> {
        self.said.as_ref().and_then(Said::text)
    }

    /// The upstream of the other is read from here on, and goes on with what was said; others before it used so many tokens.
    pub(super) fn take_over(&mut self, next: &mut Self, before: Usage, out: &mut Output) {
        let seam = Seam::new(self.said().unwrap_or_default(), before);
        self.seam = Some(seam);
        std::mem::swap(&mut self.decoder, &mut next.decoder);
        std::mem::swap(&mut self.back, &mut next.back);
        self.dialect = next.dialect;
        let held = next.held.take().unwrap_or_default();
        for event in held.events {
            self.tell(event, out);
        }
        if held.is_whole {
            self.encoder.finish(out.scratch());
        }
    }

    fn write(&mut self, meter: &mut Meter, out: &mut Output) -> Result<(), Failure> {
        self.back.put_right(&mut self.events);
        let mut events = std::mem::take(&mut self.events);
        let mut written = Ok(());
        for event in events.drain(..) {
            if let ChatEvent::Failed(failure) = event {
                written = Err(*failure);
                break;
            }
            meter.event(&event);
            match &mut self.held {
                Some(held) => held.events.push(event),
                None => self.tell(event, out),
            }
        }
        self.events = events;
        self.begun |= meter.good;
        written
    }

    fn tell(&mut self, event: ChatEvent, out: &mut Output) {
        let Some(seam) = &mut self.seam else {
            return self.encode(&event, out);
        };
        for event in seam.join(event) {
            self.encode(&event, out);
        }
    }

    fn encode(&mut self, event: &ChatEvent, out: &mut Output) {
        if let Some(said) = &mut self.said {
            said.hear(event);
        }
        self.encoder.encode(event, out.scratch());
    }
}

impl Meter {
    fn event(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Usage(usage) => self.usage(*usage),
            ChatEvent::Stop(_) => self.progress(Progress::Finish),
            ChatEvent::Delta { text, .. } if !text.is_empty() => {
                self.heard.text(text);
                self.progress(Progress::Content);
            }
            ChatEvent::Open {
                block: Block::ToolCall { .. } | Block::Media(_),
                ..
            } => self.progress(Progress::Content),
            // A thought that is nothing but hidden is one all the same.
            ChatEvent::Seal { .. } => self.progress(Progress::Content),
            _ => {}
        }
    }
}
