//! Responses' events: what one means, and reading them into the hub.
//!
//! Items and their parts are addressed by two indices; the hub numbers blocks by one. Items may be open at once.

use std::borrow::Cow;

use polygate_core::{Failure, Usage};
use serde_json::value::RawValue;

use super::super::types::{Answer, ContentPart, Event, Item};
use super::response::stop;
use crate::canon::{Block, CallKind, ChatEvent, Issuer, Media, MediaSource, Opaque, TokenLogprob};
use crate::lenient::Text;
use crate::openai_chat::{TokenIn, counts};
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, Progress, Signal, StreamDecoder, UpstreamError};

/// What an event means.
pub(crate) fn sniff(frame: &Frame<'_>) -> Signal {
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
        "error" | "response.failed" => {
            signal.failure = Some(Box::new(reported(&event)));
            signal.usage = counted(event.response.as_ref());
        }
        "response.completed" | "response.incomplete" | "response.done" => {
            signal.progress = Progress::End;
            signal.usage = counted(event.response.as_ref());
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
    in_band(inner.unwrap_or_else(own)).counted(counted(event.response.as_ref()))
}

/// The tokens that an answer reports, one that failed too.
fn counted(answer: Option<&Answer<'_>>) -> Option<Usage> {
    let answer = answer?;
    counts(answer.usage, answer.service_tier)
}

/// A delta where it is a text; audio and others are not.
fn piece(delta: Option<&RawValue>) -> Option<Text<'_>> {
    serde_json::from_str(delta?.get()).ok()
}

/// Reads events. Whatever comes, what is told keeps to the hub's grammar.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
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
    /// A function's call without arguments so far: what clients parse has to be JSON.
    is_owed: bool,
    has_sources: bool,
    has_logprobs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Reasoning,
    Call,
    Media,
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
            is_owed: matches!(
                block,
                Block::ToolCall {
                    kind: CallKind::Function,
                    ..
                }
            ),
            has_text: false,
            has_sources: false,
            has_logprobs: false,
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
            Kind::Call | Kind::Media => Block::Text,
        };
        let found = self.find(address.0, address.1, kind);
        let index = found.unwrap_or_else(|| self.open(address.0, address.1, kind, block, out));
        if let Some(known) = self.blocks.get_mut(index).filter(|known| known.open) {
            known.has_text = true;
            known.is_owed = false;
            out.push(ChatEvent::Delta {
                index,
                text: text.to_owned(),
            });
        }
    }

    fn announce(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        let Some(kind) = call_kind(item) else { return };
        if self.find(at, 0, Kind::Call).is_none() {
            let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
            let block = Block::ToolCall {
                id: text(&item.call_id),
                name: item.name(),
                kind,
            };
            self.open(at, 0, Kind::Call, block, out);
        }
    }

    /// An item is complete: what never came in deltas is in it.
    fn item_done(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        self.announce(at, item, out);
        match &*item.kind {
            "function_call" => self.rest((at, 0), Kind::Call, &item.arguments(), out),
            "custom_tool_call" => {
                let input = item.input.as_deref().unwrap_or_default();
                self.rest((at, 0), Kind::Call, input, out);
            }
            "message" => self.message_done(at, item, out),
            "reasoning" => self.reasoning_done(at, item, out),
            "image_generation_call" => self.picture(at, item, out),
            _ => {}
        }
        self.close(|known| known.item == at, out);
    }

    fn message_done(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        for (part, content) in item.content.iter().flatten().enumerate() {
            let address = (at, part);
            match (&content.refusal, &content.text) {
                (Some(text), _) => self.rest(address, Kind::Refusal, text, out),
                (None, Some(text)) => {
                    self.rest(address, Kind::Text, text, out);
                    self.beside(address, content, out);
                }
                (None, None) => {}
            }
        }
    }

    /// Sources and log probabilities of a whole text, unless they came in pieces.
    fn beside(
        &mut self,
        address: (usize, usize),
        content: &ContentPart<'_>,
        out: &mut Vec<ChatEvent>,
    ) {
        let known = self.find(address.0, address.1, Kind::Text);
        let Some((index, known)) = known.and_then(|at| Some((at, self.blocks.get_mut(at)?))) else {
            return;
        };
        if !known.open {
            return;
        }
        if !std::mem::replace(&mut known.has_sources, true) {
            let citations = content.annotations.iter().flatten();
            out.extend(citations.map(|annotation| ChatEvent::Cite {
                index,
                citation: annotation.citation(),
            }));
        }
        let tokens = tokens(content.logprobs);
        if !tokens.is_empty() && !std::mem::replace(&mut known.has_logprobs, true) {
            out.push(ChatEvent::Logprobs { index, tokens });
        }
    }

    fn reasoning_done(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        let summary = item.summary.iter().flatten().enumerate();
        for (part, content) in summary.chain(item.content.iter().flatten().enumerate()) {
            let text = content.text.as_deref().unwrap_or_default();
            self.rest((at, part), Kind::Reasoning, text, out);
        }
        let sealed = item
            .encrypted_content
            .as_deref()
            .filter(|data| !data.is_empty());
        let Some(data) = sealed else { return };
        let last = self
            .blocks
            .iter()
            .rposition(|known| known.item == at && known.open);
        let index =
            last.unwrap_or_else(|| self.open(at, 0, Kind::Reasoning, Block::Reasoning, out));
        let opaque = Opaque {
            issuer: Issuer::OpenAi,
            data: data.to_owned(),
            id: item.id.as_deref().map(str::to_owned),
            is_redacted: false,
        };
        out.push(ChatEvent::Seal { index, opaque });
    }

    fn picture(&mut self, at: usize, item: &Item<'_>, out: &mut Vec<ChatEvent>) {
        let data: Option<String> = item
            .result
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(data) = data.filter(|_| self.find(at, 0, Kind::Media).is_none()) {
            let format = item.output_format.as_deref().unwrap_or("png");
            let media = Media {
                source: MediaSource::Base64(data),
                mime: Some(format!("image/{format}")),
                ..Media::default()
            };
            self.open(at, 0, Kind::Media, Block::Media(media), out);
        }
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
                if known.is_owed {
                    let text = "{}".to_owned();
                    out.push(ChatEvent::Delta { index, text });
                }
                out.push(ChatEvent::Close { index });
            }
        }
    }

    /// An answer that came whole.
    pub(crate) fn whole(&mut self, answer: &Answer<'_>, out: &mut Vec<ChatEvent>) {
        self.start(Some(answer), out);
        self.terminal(answer, out);
    }

    fn terminal(&mut self, answer: &Answer<'_>, out: &mut Vec<ChatEvent>) {
        // Some servers send nothing but the end.
        if self.blocks.is_empty() {
            for (at, item) in answer.output.iter().flatten().enumerate() {
                self.item_done(at, item, out);
            }
        }
        self.close(|_| true, out);
        out.extend(counted(Some(answer)).map(ChatEvent::Usage));
        let has = |kind: Kind| self.blocks.iter().any(|known| known.kind == kind);
        let stop = stop(answer, has(Kind::Call), has(Kind::Refusal));
        self.stopped = true;
        out.push(ChatEvent::Stop(stop));
    }

    fn annotation(&mut self, address: (usize, usize), event: &Event<'_>, out: &mut Vec<ChatEvent>) {
        let known = self.find(address.0, address.1, Kind::Text);
        let known = known.and_then(|at| Some((at, self.blocks.get_mut(at)?)));
        if let (Some((index, known)), Some(annotation)) = (known, &event.annotation)
            && known.open
        {
            known.has_sources = true;
            out.push(ChatEvent::Cite {
                index,
                citation: annotation.citation(),
            });
        }
    }

    fn logprobs(&mut self, address: (usize, usize), event: &Event<'_>, out: &mut Vec<ChatEvent>) {
        let tokens = tokens(event.logprobs);
        let known = self.find(address.0, address.1, Kind::Text);
        let known = known.and_then(|at| Some((at, self.blocks.get_mut(at)?)));
        if let Some((index, known)) = known.filter(|(_, known)| known.open && !tokens.is_empty()) {
            known.has_logprobs = true;
            out.push(ChatEvent::Logprobs { index, tokens });
        }
    }

    fn fail(&mut self, event: &Event<'_>, out: &mut Vec<ChatEvent>) {
        self.stopped = true;
        let usage = counted(event.response.as_ref()).filter(|_| self.started);
        out.extend(usage.map(ChatEvent::Usage));
        out.push(ChatEvent::Failed(Box::new(reported(event))));
    }
}

/// Whether an item is a call that the client answers, and of which kind.
fn call_kind(item: &Item<'_>) -> Option<CallKind> {
    match &*item.kind {
        "function_call" => Some(CallKind::Function),
        "custom_tool_call" => Some(CallKind::Custom),
        _ => None,
    }
}

fn tokens(raw: Option<&RawValue>) -> Vec<TokenLogprob> {
    let tokens: Option<Vec<TokenIn>> = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
    tokens.into_iter().flatten().map(Into::into).collect()
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
            "response.output_text.delta" => {
                self.text(address, Kind::Text, &text(), out);
                self.logprobs(address, &event, out);
            }
            "response.output_text.annotation.added" => self.annotation(address, &event, out),
            "response.refusal.delta" => self.text(address, Kind::Refusal, &text(), out),
            "response.reasoning_text.delta" => self.text(address, Kind::Reasoning, &text(), out),
            "response.reasoning_summary_text.delta" => {
                self.text(summary, Kind::Reasoning, &text(), out)
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
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
