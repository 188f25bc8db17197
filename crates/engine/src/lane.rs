//! The two lanes. Native: the client's bytes pass, only what we own is edited. Translated: through the hub, losses named.
//!
//! What we own on the native lane, all of it: `model`, and `stream_options.include_usage` of a chat stream (whose extra
//! frame is taken out again). Nothing else is touched in either direction.

use bytes::Bytes;
use polygate_core::{Failure, Kind, Usage};
use polygate_providers::{Operation, Provider};
use polygate_wire::array::{ArrayCutter, elements};
use polygate_wire::raw::{Edit, quote};
use polygate_wire::sse::{FrameTooLong, Framer};
use polygate_wire::{
    ChatEvent, Dialect, Egress, Format, Frame, Ingress, Loss, Progress, RawObject, StreamDecoder,
    StreamEncoder, dialect, egress, ended_early, ingress,
};

use crate::call::{Call, Endpoint};

/// A lane, chosen for one attempt.
pub enum Lane {
    /// Client and upstream speak the same format.
    Native(Native),
    /// They do not.
    Translated(Translated),
}

/// Same format in and out.
pub struct Native {
    /// The format.
    pub format: Format,
    /// We asked for a usage frame that the client did not want.
    pub drop_usage_frame: bool,
}

/// Through the hub.
pub struct Translated {
    /// The client's half.
    pub ingress: &'static dyn Ingress,
    /// The upstream's half.
    pub egress: &'static dyn Egress,
    /// The upstream's format.
    pub upstream: Format,
    /// What the answer says of itself.
    pub head: polygate_wire::ReplyHead,
}

/// A body made for one upstream.
pub struct Prepared {
    /// The lane.
    pub lane: Lane,
    /// The body.
    pub body: Bytes,
    /// What translation could not carry.
    pub losses: Vec<Loss>,
}

impl Lane {
    /// The format of the upstream's answer.
    pub fn upstream_format(&self) -> Format {
        match self {
            Lane::Native(native) => native.format,
            Lane::Translated(translated) => translated.upstream,
        }
    }

    /// What to ask of the upstream.
    pub fn operation<'a>(&self, call: &'a Call) -> Operation<'a> {
        match self {
            Lane::Native(_) => call
                .inbound
                .endpoint
                .native_operation(call.stream, &call.inbound.method),
            Lane::Translated(translated) => Operation::Chat {
                format: translated.upstream,
                stream: call.stream,
            },
        }
    }
}

/// Picks the lane and makes the body: native where the upstream speaks the client's format, else translated where both halves exist.
pub fn prepare(
    call: &Call,
    object: &RawObject,
    provider: &dyn Provider,
    model: &str,
    created: u64,
) -> Result<Prepared, Failure> {
    let format = call.inbound.endpoint.format();
    if provider.formats().contains(&format) {
        return native(call, object, provider, model, format);
    }
    let pair = || {
        let ingress = ingress(format)?;
        let mut upstream = provider
            .formats()
            .iter()
            .filter_map(|&upstream| Some((upstream, egress(upstream)?)));
        upstream
            .next()
            .map(|(upstream, egress)| (ingress, upstream, egress))
    };
    match pair().filter(|_| call.inbound.endpoint.is_chat()) {
        Some((ingress, upstream, egress)) => {
            translated(call, object, model, created, ingress, upstream, egress)
        }
        None => Err(unspoken(call, format)),
    }
}

fn unspoken(call: &Call, format: Format) -> Failure {
    let message = format!(
        "the provider of model '{}' does not speak {}, and {} cannot be translated for it",
        call.model,
        format.name(),
        call.inbound.endpoint.label()
    );
    Failure::new(Kind::Untranslatable, message)
}

fn native(
    call: &Call,
    object: &RawObject,
    provider: &dyn Provider,
    model: &str,
    format: Format,
) -> Result<Prepared, Failure> {
    let mut edits = Vec::with_capacity(2);
    let quoted;
    let in_path = format == Format::Gemini;
    if !in_path && object.string("model").ok().flatten().as_deref() != Some(model) {
        quoted = quote(model);
        edits.push(Edit::Set("model", &quoted));
    }
    let asked = usage_option(call, object, provider)?;
    if let Some(options) = &asked {
        edits.push(Edit::Set("stream_options", options));
    }
    let lane = Lane::Native(Native {
        format,
        drop_usage_frame: asked.is_some(),
    });
    Ok(Prepared {
        lane,
        body: object.edit(&edits),
        losses: Vec::new(),
    })
}

/// `stream_options` with `include_usage`, where a chat stream is wanted without it and the provider knows the option.
fn usage_option(
    call: &Call,
    object: &RawObject,
    provider: &dyn Provider,
) -> Result<Option<String>, Failure> {
    let is_chat = matches!(
        call.inbound.endpoint,
        Endpoint::Chat | Endpoint::Completions
    );
    if !call.stream || !is_chat || !provider.takes_stream_options() {
        return Ok(None);
    }
    let Some(options) = object.get("stream_options").filter(|text| *text != "null") else {
        return Ok(Some("{\"include_usage\":true}".to_owned()));
    };
    let options = RawObject::parse(Bytes::copy_from_slice(options.as_bytes())).map_err(|_| {
        Failure::new(Kind::InvalidRequest, "'stream_options' must be an object")
            .param("stream_options")
    })?;
    if options.get("include_usage") == Some("true") {
        return Ok(None);
    }
    let edited = options.edit(&[Edit::Set("include_usage", "true")]);
    Ok(Some(String::from_utf8_lossy(&edited).into_owned()))
}

fn translated(
    call: &Call,
    object: &RawObject,
    model: &str,
    created: u64,
    ingress: &'static dyn Ingress,
    upstream: Format,
    egress: &'static dyn Egress,
) -> Result<Prepared, Failure> {
    let request = ingress.decode_request(object)?;
    let (body, losses) = egress.encode_request(&request, model)?;
    let head = polygate_wire::ReplyHead {
        fallback_id: format!("chatcmpl-{}", call.inbound.request_id),
        model: call.model.clone(),
        created,
        include_usage: request.include_usage,
    };
    Ok(Prepared {
        lane: Lane::Translated(Translated {
            ingress,
            egress,
            upstream,
            head,
        }),
        body,
        losses,
    })
}

/// A lane's reading of a stream: whole frames in, the client's bytes out.
pub enum StreamLane {
    /// Frames pass; few are read.
    Native {
        /// The format.
        dialect: &'static dyn Dialect,
        /// We asked for a usage frame that the client did not want.
        drop_usage_frame: bool,
    },
    /// Google's stream for callers without `alt=sse`: elements of one JSON array, which pass.
    Array {
        /// Finds where elements end.
        cutter: ArrayCutter,
        /// Elements have passed: a comma comes before the next.
        begun: bool,
    },
    /// Frames are read, events written.
    Translated {
        /// The upstream's half.
        decoder: Box<dyn StreamDecoder>,
        /// The client's half.
        encoder: Box<dyn StreamEncoder>,
        /// Reused between frames.
        events: Vec<ChatEvent>,
        /// The upstream's format: knows its end mark.
        dialect: &'static dyn Dialect,
    },
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
    /// Token counts so far.
    pub usage: Option<Usage>,
}

impl Meter {
    fn progress(&mut self, progress: Progress) {
        self.good |= progress != Progress::Preamble;
        self.finished |= matches!(progress, Progress::Finish | Progress::End);
        self.ended |= progress == Progress::End;
    }

    fn usage(&mut self, usage: Usage) {
        self.usage.get_or_insert_default().merge(usage);
    }
}

impl StreamLane {
    /// The stream's reader for a prepared lane.
    pub fn new(lane: Lane, endpoint: &Endpoint) -> Self {
        match lane {
            Lane::Native(_) if matches!(endpoint, Endpoint::Generate { sse: false, .. }) => {
                StreamLane::Array {
                    cutter: ArrayCutter::default(),
                    begun: false,
                }
            }
            Lane::Native(native) => StreamLane::Native {
                dialect: dialect(native.format),
                drop_usage_frame: native.drop_usage_frame,
            },
            Lane::Translated(translated) => StreamLane::Translated {
                decoder: translated.egress.stream_decoder(),
                encoder: translated.ingress.stream_encoder(translated.head),
                events: Vec::new(),
                dialect: dialect(translated.upstream),
            },
        }
    }

    /// Takes a chunk; returns the whole frames that are now complete.
    pub fn cut(&mut self, framer: &mut Framer, chunk: Bytes) -> Result<Bytes, FrameTooLong> {
        match self {
            StreamLane::Array { cutter, .. } => cutter.push(chunk),
            _ => framer.push(chunk),
        }
    }

    /// The bytes that are left when the stream ends, made a whole frame where they are to be one.
    pub fn cut_last(&mut self, framer: &mut Framer) -> Bytes {
        match self {
            StreamLane::Array { cutter, .. } => cutter.finish(),
            _ => terminated(&framer.finish()),
        }
    }

    /// Reads a block of whole frames; appends what the client gets. `Err`: what came before it still counts.
    pub fn block(
        &mut self,
        block: Bytes,
        meter: &mut Meter,
        out: &mut Output,
    ) -> Result<(), Failure> {
        match self {
            StreamLane::Native {
                dialect,
                drop_usage_frame,
            } => native_block(*dialect, *drop_usage_frame, block, meter, out),
            StreamLane::Array { begun, .. } => array_block(begun, block, meter, out),
            StreamLane::Translated {
                decoder,
                encoder,
                events,
                dialect,
            } => {
                for raw in polygate_wire::sse::frames(&block) {
                    let frame = Frame::parse(&raw);
                    events.clear();
                    decoder.decode(&frame, events)?;
                    write_events(events, encoder.as_mut(), meter, out)?;
                    meter.finished |= decoder.may_end();
                    meter.ended |=
                        meter.finished && dialect.sniff(&frame).progress == Progress::End;
                }
                Ok(())
            }
        }
    }

    /// Appends the failure as the stream's last event, in the client's format, without any mark of a proper end.
    pub fn fail(&mut self, failure: &Failure, client: Format, request_id: &str, out: &mut Output) {
        match self {
            StreamLane::Array { begun, .. } => {
                out.scratch()
                    .extend_from_slice(if *begun { b",\r\n" } else { b"[" });
                out.push(dialect(client).encode_error(failure, request_id));
                out.scratch().push(b']');
            }
            _ => out.push(dialect(client).encode_stream_error(failure, request_id)),
        }
    }

    /// What the client is told the stream is.
    pub fn content_type(&self) -> &'static str {
        match self {
            StreamLane::Array { .. } => "application/json",
            _ => "text/event-stream",
        }
    }

    /// Whether a comment may be written between its pieces.
    pub fn takes_comments(&self) -> bool {
        !matches!(self, StreamLane::Array { .. })
    }

    /// The upstream's bytes ended. `Err` where that was too early.
    pub fn finish(&mut self, meter: &mut Meter, out: &mut Output) -> Result<(), Failure> {
        match self {
            StreamLane::Native { .. } | StreamLane::Array { .. } if !meter.finished => {
                Err(ended_early())
            }
            StreamLane::Native { .. } | StreamLane::Array { .. } => Ok(()),
            StreamLane::Translated {
                decoder,
                encoder,
                events,
                ..
            } => {
                events.clear();
                decoder.finish(events)?;
                write_events(events, encoder.as_mut(), meter, out)?;
                encoder.finish(out.scratch());
                meter.ended = true;
                Ok(())
            }
        }
    }
}

fn native_block(
    dialect: &'static dyn Dialect,
    drop_usage_frame: bool,
    block: Bytes,
    meter: &mut Meter,
    out: &mut Output,
) -> Result<(), Failure> {
    if meter.good
        && !dialect
            .marks()
            .iter()
            .any(|mark| memchr::memmem::find(&block, mark).is_some())
    {
        out.push(block);
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
        let signal = dialect.sniff(&frame);
        if let Some(failure) = signal.failure {
            out.push(block.slice(passed..frame_start));
            return Err(*failure);
        }
        if let Some(usage) = signal.usage {
            meter.usage(usage);
        }
        meter.progress(signal.progress);
        if drop_usage_frame && signal.is_only_usage {
            out.push(block.slice(passed..frame_start));
            passed = at;
        }
    }
    out.push(block.slice(passed..at.max(passed)));
    Ok(())
}

fn array_block(
    begun: &mut bool,
    block: Bytes,
    meter: &mut Meter,
    out: &mut Output,
) -> Result<(), Failure> {
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
        meter.progress(signal.progress);
        *begun = true;
    }
    out.push(block);
    Ok(())
}

fn write_events(
    events: &[ChatEvent],
    encoder: &mut dyn StreamEncoder,
    meter: &mut Meter,
    out: &mut Output,
) -> Result<(), Failure> {
    for event in events {
        match event {
            ChatEvent::Failed(failure) => return Err((**failure).clone()),
            ChatEvent::Usage(usage) => meter.usage(*usage),
            ChatEvent::Stop(_) => meter.progress(Progress::Finish),
            ChatEvent::Delta { text, .. } if !text.is_empty() => meter.progress(Progress::Content),
            ChatEvent::Open {
                block: polygate_wire::canon::Block::ToolCall { .. },
                ..
            } => meter.progress(Progress::Content),
            _ => {}
        }
        encoder.encode(event, out.scratch());
    }
    Ok(())
}

/// A last frame as a whole one.
fn terminated(rest: &Bytes) -> Bytes {
    if rest.is_empty() {
        Bytes::new()
    } else {
        [rest.as_ref(), b"\n\n"].concat().into()
    }
}

/// What the client gets next: passed pieces as they came, written ones joined.
#[derive(Debug, Default)]
pub struct Output {
    pieces: std::collections::VecDeque<Bytes>,
    scratch: Vec<u8>,
    held: usize,
}

impl Output {
    /// A piece that passes.
    pub fn push(&mut self, piece: Bytes) {
        self.seal();
        if !piece.is_empty() {
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Where to write.
    pub fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.scratch
    }

    /// The next piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.seal();
        let piece = self.pieces.pop_front()?;
        self.held -= piece.len();
        Some(piece)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.held + self.scratch.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Throws away what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.scratch.is_empty() {
            let piece = Bytes::copy_from_slice(&self.scratch);
            self.scratch.clear();
            self.held += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

/// A whole answer in the client's format, with the usage it reports.
pub fn whole_answer(lane: &Lane, body: Bytes) -> Result<(Bytes, Option<Usage>), Failure> {
    match lane {
        Lane::Native(native) => {
            let usage = dialect(native.format).check_answer(&body)?;
            Ok((body, usage))
        }
        Lane::Translated(translated) => {
            dialect(translated.upstream).check_answer(&body)?;
            let response = translated.egress.decode_response(&body)?;
            Ok((
                translated
                    .ingress
                    .encode_response(&response, &translated.head),
                response.usage,
            ))
        }
    }
}

/// Names of losses for the header: at most this many, then how many more.
const LOSSES_SHOWN: usize = 32;

/// The `x-polygate-dropped` header's text.
pub fn dropped(losses: &[Loss]) -> Option<String> {
    if losses.is_empty() {
        return None;
    }
    let mut text = losses
        .iter()
        .take(LOSSES_SHOWN)
        .map(|loss| loss.0.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    if losses.len() > LOSSES_SHOWN {
        text.push_str(&format!(", and {} more", losses.len() - LOSSES_SHOWN));
    }
    Some(text)
}
