//! A stream on one of the lanes: whole frames in, the client's bytes out, and how far it is.

use bytes::Bytes;
use memchr::memmem::Finder;
use polygate_core::{Failure, Kind, Usage};
use polygate_wire::array::{ArrayCutter, elements};
use polygate_wire::event_stream::EventStream;
use polygate_wire::sse::{FrameTooLong, Framer};
use polygate_wire::{Dialect, Format, Frame, Progress, dialect, ended_early};
use serde::de::IgnoredAny;

use super::translation::Translation;
use super::{Lane, Output, text};
use crate::call::Endpoint;
use crate::count::Heard;

/// A lane's reading of a stream: chunks in, the client's bytes out.
pub struct StreamLane {
    cutter: Cutter,
    reading: Reading,
}

/// Finds where frames end, in the framing of the upstream.
enum Cutter {
    /// Server-sent events.
    Events(Framer),
    /// Elements of one JSON array.
    Elements(ArrayCutter),
    /// AWS's binary messages, which become events.
    Messages(EventStream),
}

/// What becomes of whole frames.
enum Reading {
    /// They pass; few are read.
    Native(Passage),
    /// Google's stream for callers without `alt=sse`: elements pass.
    Array {
        /// Elements have passed: a comma comes before the next.
        begun: bool,
    },
    /// They are read, events are written.
    Translated(Box<Translation>),
}

/// A stream whose frames pass.
struct Passage {
    /// Where text is in its frames.
    texts: &'static [Vec<Finder<'static>>],
    /// What knows it.
    dialect: &'static dyn Dialect,
    /// We asked for a usage frame that the client did not want.
    drop_usage_frame: bool,
    /// What passed last: a failure behind it may have to go on with its numbers.
    last: Bytes,
}

impl Passage {
    fn block(&mut self, block: Bytes, meter: &mut Meter, out: &mut Output) -> Result<(), Failure> {
        text::hear(self.texts, &block, &mut meter.heard);
        let marks = self.dialect.marks();
        let has_mark = |mark: &&[u8]| memchr::memmem::find(&block, mark).is_some();
        if meter.good && !marks.iter().any(has_mark) {
            meter.heard.said += u64::from(!block.starts_with(b":"));
            self.pass(block, out);
            return Ok(());
        }
        let start = block.as_ptr() as usize;
        let (mut passed, mut at) = (0, 0);
        for raw in polygate_wire::sse::frames(&block) {
            let frame_start = (raw.as_ptr() as usize).saturating_sub(start);
            at = frame_start + raw.len();
            let frame = Frame::parse(&raw);
            if frame.is_empty() {
                continue;
            }
            let signal = self.dialect.sniff(&frame);
            // What failed may have been paid up to there, and says how much.
            if let Some(usage) = signal.usage {
                meter.usage(usage);
            }
            if let Some(failure) = signal.failure {
                self.pass(block.slice(passed..frame_start), out);
                return Err(*failure);
            }
            meter.is_blocked |= signal.is_blocked && !meter.good;
            meter.progress(signal.progress);
            if self.drop_usage_frame && signal.is_only_usage {
                self.pass(block.slice(passed..frame_start), out);
                passed = at;
            }
        }
        self.pass(block.slice(passed..at.max(passed)), out);
        Ok(())
    }

    fn pass(&mut self, events: Bytes, out: &mut Output) {
        if !events.is_empty() {
            // Comments have no number that an error could go on from.
            if memchr::memmem::find(&events, b"data:").is_some() {
                self.last.clone_from(&events);
            }
            out.push(events);
        }
    }
}

/// How far a stream is, over all its frames.
#[derive(Debug, Default)]
pub struct Meter {
    /// Something was produced, or it ended properly: the commit point is passed.
    pub good: bool,
    /// The finish reason has come.
    pub finished: bool,
    /// The end mark has come: nothing follows.
    pub ended: bool,
    /// The provider did not let the prompt through, before anything was said.
    pub is_blocked: bool,
    /// Token counts so far.
    pub usage: Option<Usage>,
    /// The text, of whatever kind, and how many times something was said; comments and pings say nothing.
    pub heard: Heard,
}

impl Meter {
    pub(super) fn progress(&mut self, progress: Progress) {
        self.heard.said += u64::from(progress != Progress::Preamble);
        self.good |= progress != Progress::Preamble;
        self.finished |= matches!(progress, Progress::Finish | Progress::End);
        self.ended |= progress == Progress::End;
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage.get_or_insert_default().merge(usage);
    }
}

impl Cutter {
    /// For streams that an upstream of this format sends.
    fn of(format: Format) -> Self {
        match format {
            Format::BedrockConverse => Cutter::Messages(EventStream::default()),
            _ => Cutter::Events(Framer::new()),
        }
    }
}

impl StreamLane {
    /// The stream's reader for a prepared lane.
    pub fn new(lane: Lane, endpoint: &Endpoint) -> Result<Self, Failure> {
        let format = lane.upstream_format();
        Ok(match lane {
            Lane::Native(_) if matches!(endpoint, Endpoint::Generate { sse: false, .. }) => Self {
                cutter: Cutter::Elements(ArrayCutter::default()),
                reading: Reading::Array { begun: false },
            },
            Lane::Native(native) => Self {
                cutter: Cutter::of(format),
                reading: Reading::Native(Passage {
                    texts: text::texts(format, endpoint),
                    dialect: dialect(format),
                    drop_usage_frame: native.drop_usage_frame,
                    last: Bytes::new(),
                }),
            },
            Lane::Translated(translated) => Self {
                cutter: Cutter::of(format),
                reading: Reading::Translated(Box::new(Translation::new(*translated))),
            },
            Lane::Counting(_) => {
                return Err(Failure::new(
                    Kind::InvalidRequest,
                    "a count of tokens does not stream",
                ));
            }
        })
    }

    /// Takes a chunk; returns the whole frames that are now complete.
    pub fn cut(&mut self, chunk: Bytes) -> Result<Bytes, Failure> {
        match &mut self.cutter {
            Cutter::Events(framer) => framer.push(chunk).map_err(too_long),
            Cutter::Elements(cutter) => cutter.push(chunk).map_err(too_long),
            Cutter::Messages(messages) => messages.push(chunk),
        }
    }

    /// The bytes that are left when the stream ends, made a whole frame where they are to be one.
    pub fn cut_last(&mut self) -> Result<Bytes, Failure> {
        match &mut self.cutter {
            Cutter::Events(framer) => Ok(terminated(&framer.finish())),
            Cutter::Elements(cutter) => Ok(cutter.finish()),
            Cutter::Messages(messages) => messages.finish(),
        }
    }

    /// Reads a block of whole frames; appends what the client gets. `Err`: what came before it still counts.
    pub fn block(
        &mut self,
        block: Bytes,
        meter: &mut Meter,
        out: &mut Output,
    ) -> Result<(), Failure> {
        match &mut self.reading {
            Reading::Native(passage) => passage.block(block, meter, out),
            Reading::Array { begun } => array_block(begun, block, meter, out),
            Reading::Translated(translation) => translation.block(block, meter, out),
        }
    }

    /// Reads what was left when the stream ended. An event that broke off is none, and is not passed on.
    pub fn last(
        &mut self,
        rest: Bytes,
        meter: &mut Meter,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let is_whole = match &self.reading {
            Reading::Native(_) => is_event(&rest),
            // The array's end. Where it is too early, an error has to stand before it.
            Reading::Array { .. } => meter.finished && rest.trim_ascii() == b"]",
            Reading::Translated(_) => !rest.is_empty(),
        };
        if is_whole {
            self.block(rest, meter, out)
        } else {
            Ok(())
        }
    }

    /// Appends the failure as the stream's last event, in the client's format, without any mark of a proper end.
    pub fn fail(&mut self, failure: &Failure, client: Format, request_id: &str, out: &mut Output) {
        let in_array = match &self.reading {
            Reading::Array { begun } => Some(*begun),
            Reading::Translated(translation) if translation.is_array => Some(translation.begun),
            _ => None,
        };
        match in_array {
            Some(begun) => {
                out.scratch()
                    .extend_from_slice(if begun { b",\r\n" } else { b"[" });
                out.push(dialect(client).encode_error(failure, request_id));
                out.scratch().push(b']');
            }
            None => match &mut self.reading {
                Reading::Translated(translation) => {
                    translation.encoder.fail(failure, request_id, out.scratch());
                }
                Reading::Native(passage) => {
                    let last = &passage.last;
                    let event = passage
                        .dialect
                        .encode_stream_error_after(last, failure, request_id);
                    out.push(event);
                }
                Reading::Array { .. } => {
                    out.push(dialect(client).encode_stream_error(failure, request_id));
                }
            },
        }
    }

    /// The text that another upstream may go on from: all that the client has, and not over.
    pub fn said(&self) -> Option<&str> {
        match &self.reading {
            Reading::Translated(translation) => translation.said(),
            Reading::Native(_) | Reading::Array { .. } => None,
        }
    }

    /// Whether it could be gone on with, should it break off in a text.
    pub fn may_continue(&self) -> bool {
        matches!(&self.reading, Reading::Translated(translation) if translation.is_kept())
    }

    /// Another upstream's stream is read from here on, and goes on with what was said; those before it used so many tokens.
    pub fn take_over(&mut self, next: &mut StreamLane, before: Usage, out: &mut Output) {
        if let (Reading::Translated(own), Reading::Translated(other)) =
            (&mut self.reading, &mut next.reading)
        {
            std::mem::swap(&mut self.cutter, &mut next.cutter);
            own.take_over(other, before, out);
        }
    }

    /// What the client is told the stream is.
    pub fn content_type(&self) -> &'static str {
        if self.is_array() {
            "application/json"
        } else {
            "text/event-stream"
        }
    }

    /// Whether a comment may be written between its pieces.
    pub fn takes_comments(&self) -> bool {
        !self.is_array()
    }

    /// Whether the upstream was asked for elements of one JSON array.
    pub fn reads_array(&self) -> bool {
        matches!(self.reading, Reading::Array { .. })
    }

    fn is_array(&self) -> bool {
        match &self.reading {
            Reading::Array { .. } => true,
            Reading::Translated(translation) => translation.is_array,
            Reading::Native(_) => false,
        }
    }

    /// The upstream's bytes ended. `Err` where that was too early.
    pub fn finish(&mut self, meter: &mut Meter, out: &mut Output) -> Result<(), Failure> {
        match &mut self.reading {
            Reading::Translated(translation) => translation.finish(meter, out),
            _ if meter.finished => Ok(()),
            _ => Err(ended_early()),
        }
    }
}

/// Whether a frame has data that did not break off.
fn is_event(raw: &[u8]) -> bool {
    let data = Frame::parse(raw).data;
    data.trim_ascii() == b"[DONE]" || serde_json::from_slice::<IgnoredAny>(&data).is_ok()
}

fn array_block(
    begun: &mut bool,
    block: Bytes,
    meter: &mut Meter,
    out: &mut Output,
) -> Result<(), Failure> {
    text::hear(
        text::texts(Format::Gemini, &Endpoint::Chat),
        &block,
        &mut meter.heard,
    );
    for element in elements(&block) {
        let frame = Frame {
            event: None,
            data: element.as_ref().into(),
        };
        let signal = dialect(Format::Gemini).sniff(&frame);
        if let Some(failure) = signal.failure {
            return Err(*failure);
        }
        if let Some(usage) = signal.usage {
            meter.usage(usage);
        }
        meter.is_blocked |= signal.is_blocked && !meter.good;
        meter.progress(signal.progress);
        *begun = true;
    }
    out.push(block);
    Ok(())
}

fn too_long(_: FrameTooLong) -> Failure {
    let message = "a single event of the provider's stream is too long";
    Failure::new(Kind::UpstreamJunk, message).ambiguous()
}

/// A last frame as a whole one.
fn terminated(rest: &Bytes) -> Bytes {
    if rest.is_empty() {
        Bytes::new()
    } else {
        [rest.as_ref(), b"\n\n"].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Native;
    use super::*;

    /// What a client gets of a native stream that ends with these bytes.
    fn ended(format: Format, endpoint: &Endpoint, bytes: &'static [u8]) -> String {
        let native = Native {
            format,
            drop_usage_frame: false,
            is_chat: true,
        };
        let mut lane = StreamLane::new(Lane::Native(native), endpoint).expect("a lane");
        let (mut meter, mut out) = (Meter::default(), Output::default());
        let block = lane.cut(Bytes::from_static(bytes)).expect("frames");
        lane.block(block, &mut meter, &mut out)
            .expect("good frames");
        let rest = lane.cut_last().expect("a rest");
        lane.last(rest, &mut meter, &mut out).expect("no error");
        if let Err(failure) = lane.finish(&mut meter, &mut out) {
            lane.fail(&failure, format, "r", &mut out);
        }
        let pieces = std::iter::from_fn(|| out.pop());
        let all = pieces.collect::<Vec<_>>().concat();
        String::from_utf8(all).expect("text")
    }

    const DELTA: &[u8] = b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\",\"sequence_number\":7}\n\n";

    #[test]
    fn an_event_that_broke_off_is_not_passed_on() {
        for rest in ["data: {\"type\":\"resp", "event: respon", "\u{80}", ": pi"] {
            let bytes = [DELTA, rest.as_bytes()].concat().leak();
            let text = ended(Format::OpenaiResponses, &Endpoint::Responses, bytes);
            let error = text.strip_prefix(std::str::from_utf8(DELTA).expect("text"));
            let error = error.expect("what was whole");
            assert!(error.starts_with("event: error\n"), "{rest} {text}");
            assert!(error.contains("\"sequence_number\":8"), "{rest} {text}");
        }
    }

    #[test]
    fn a_last_event_without_its_blank_line_is_one() {
        let bytes =
            b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
        let text = ended(Format::OpenaiChat, &Endpoint::Chat, bytes);
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!(!text.contains("error"), "{text}");
    }

    #[test]
    fn numbers_go_on_behind_comments() {
        let bytes = [DELTA, b": ping\n\n"].concat().leak();
        let mut lane = StreamLane::new(
            Lane::Native(Native {
                format: Format::OpenaiResponses,
                drop_usage_frame: false,
                is_chat: true,
            }),
            &Endpoint::Responses,
        )
        .expect("a lane");
        let (mut meter, mut out) = (Meter::default(), Output::default());
        for chunk in bytes.split_inclusive(|byte| *byte == b'}') {
            let block = lane.cut(Bytes::copy_from_slice(chunk)).expect("frames");
            lane.block(block, &mut meter, &mut out)
                .expect("good frames");
        }
        lane.fail(&ended_early(), Format::OpenaiResponses, "r", &mut out);
        let all = std::iter::from_fn(|| out.pop()).last().expect("an event");
        assert!(
            String::from_utf8_lossy(&all).contains("\"sequence_number\":8"),
            "{all:?}"
        );
    }

    #[test]
    fn an_array_that_ends_early_is_an_array_with_an_error_in_it() {
        let element = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
        for rest in ["\r\n]", ",\r\n{\"candidates\":[{\"con", ",\r\n"] {
            let bytes = format!("[{element}{rest}").into_bytes().leak();
            let endpoint = Endpoint::Generate {
                stream: true,
                sse: false,
            };
            let text = ended(Format::Gemini, &endpoint, bytes);
            let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect(&text);
            assert!(list.len() == 2 && list[1]["error"].is_object(), "{text}");
        }
    }
}
