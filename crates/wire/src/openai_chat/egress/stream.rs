//! Chat chunks → the hub's events.
//!
//! Chunks have no brackets: a text goes on while pieces of its kind come, and calls are told apart by an index that vendors
//! forget, repeat, or alternate. One chunk may hold thinking, text and calls at once.

mod beside;

use polygate_core::{Failure, Kind, Scope, Usage};
use serde_json::value::RawValue;

use super::super::details;
use super::super::types::{Answer, Call, Choice, ContentPart, Message, counts};
use super::calls::{Balance, Known, Piece};
use super::tags::{self, Tags};
use crate::canon::{Block, CallKind, ChatEvent, Citation, Issuer, Opaque, Part, Stop};
use crate::lenient::Text;
use crate::media::decode;
use crate::upstream_error::{in_band, junk, member};
use crate::{Frame, StreamDecoder};

/// Reads chunks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The text, thinking or refusal that goes on.
    flat: Option<Flat>,
    tags: Tags,
    calls: Vec<Known>,
    /// The hub's next index.
    next: usize,
    /// What makes ids of calls this answer's own, where the provider gives none.
    name: String,
    usage: Usage,
    /// The thought that goes on.
    thought: String,
    /// What the model speaks, so far.
    sound: Vec<u8>,
    /// Sources that stand beside the answer, named once it ends.
    sources: Vec<String>,
    has_cited: bool,
    has_refused: bool,
    /// Why it stopped, told once nothing can follow.
    stop: Option<Stop>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Silent,
    Saying,
    /// Why it stopped is known; token counts may follow, and with some vendors the last words.
    Stopped,
    /// The end mark has come: whatever follows belongs to nobody.
    Over,
    /// An error was reported: nothing counts any more.
    Failed,
}

/// Text of one kind that goes on.
#[derive(Debug)]
struct Flat {
    index: usize,
    block: Block,
}

impl Decoder {
    /// Reads an answer or a chunk of one.
    pub(crate) fn answer(&mut self, answer: Answer<'_>, out: &mut Vec<ChatEvent>) {
        if matches!(self.state, State::Over | State::Failed) {
            return;
        }
        let choices = answer.choices.unwrap_or_default();
        let error =
            member(answer.error).or_else(|| choices.iter().find_map(|choice| member(choice.error)));
        if let Some(error) = error {
            return self.fail(in_band(error), out);
        }
        if self.state == State::Silent {
            self.start(answer.id, answer.model, out);
        }
        if let Some(raw) = answer.citations {
            self.sources = serde_json::from_str(raw.get()).unwrap_or_default();
        }
        let tier = answer.service_tier;
        let usage = counts(answer.usage, tier);
        let of_groq = || counts(answer.x_groq.and_then(|groq| groq.usage), tier);
        self.count(usage.or_else(of_groq), out);
        let first = choices
            .into_iter()
            .find(|choice| choice.index.unwrap_or_default().0 == 0);
        if let Some(choice) = first {
            self.choice(choice, out);
        }
    }

    fn start(&mut self, id: Option<Text<'_>>, model: Option<Text<'_>>, out: &mut Vec<ChatEvent>) {
        self.state = State::Saying;
        let id: Option<String> = id.map(Into::into).filter(|id: &String| !id.is_empty());
        let name = id.as_deref().unwrap_or_default();
        self.name = name.chars().filter(char::is_ascii_alphanumeric).collect();
        out.push(ChatEvent::Start {
            id,
            model: model.map(Into::into),
        });
    }

    fn count(&mut self, usage: Option<Usage>, out: &mut Vec<ChatEvent>) {
        let Some(usage) = usage else { return };
        let mut merged = self.usage;
        merged.merge(usage);
        if merged != self.usage {
            self.usage = merged;
            out.push(ChatEvent::Usage(merged));
        }
    }

    fn choice(&mut self, choice: Choice<'_>, out: &mut Vec<ChatEvent>) {
        let mut tokens = choice.logprobs;
        for said in [choice.delta, choice.message].into_iter().flatten() {
            self.said(said, tokens.take(), out);
        }
        if let Some(tokens) = tokens {
            self.logprobs(tokens, out);
        }
        let native = choice.native_finish_reason.as_deref();
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            // A call that was cut off would pass for a whole one.
            let cut = native.filter(|native| is_length(native));
            self.finished(cut.unwrap_or(&reason), out);
        }
    }

    /// What was said, in the order in which models say it; what stands beside the text goes with that.
    fn said(&mut self, said: Message<'_>, tokens: Option<&RawValue>, out: &mut Vec<ChatEvent>) {
        self.thinking(&said, out);
        if let Some(content) = said.content {
            self.content(content, out);
        }
        if let Some(audio) = said.audio {
            self.text(Block::Text, &audio.transcript.unwrap_or_default(), out);
            let data = audio.data.unwrap_or_default();
            self.sound.extend(decode(&data).unwrap_or_default());
        }
        if let Some(tokens) = tokens {
            self.logprobs(tokens, out);
        }
        if let Some(annotations) = said.annotations {
            self.annotations(annotations, out);
        }
        if let Some(refusal) = said.refusal {
            self.has_refused |= !refusal.is_empty();
            self.text(Block::Refusal, &refusal, out);
        }
        if let Some(images) = said.images {
            self.images(images, out);
        }
        for call in said.tool_calls.into_iter().flatten() {
            self.call(call, out);
        }
        if let Some(function) = said.function_call {
            let call = Call {
                function: Some(function),
                ..Call::default()
            };
            self.call(call, out);
        }
    }

    /// Thinking under any of its names. Details repeat what stands beside them, and add the seals.
    fn thinking(&mut self, said: &Message<'_>, out: &mut Vec<ChatEvent>) {
        let mut plain = [said.reasoning_content, said.reasoning]
            .into_iter()
            .flatten();
        let plain = plain.find_map(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok());
        let plain = plain.filter(|text| !text.is_empty());
        if let Some(text) = &plain {
            self.settle_tags(out);
            self.text(Block::Reasoning, text, out);
        }
        let Some(raw) = said.reasoning_details else {
            return;
        };
        for part in details::read(raw, "", &mut vec![]) {
            let Part::Reasoning(reasoning) = part.value else {
                continue;
            };
            // Some say it all once more with the seal.
            let goes_on = matches!(&self.flat, Some(flat) if flat.block == Block::Reasoning);
            let is_repeated = goes_on && reasoning.text == self.thought;
            if plain.is_none() && !is_repeated {
                self.text(Block::Reasoning, &reasoning.text, out);
            }
            if let Some(opaque) = reasoning.opaque {
                let index = self.flat(Block::Reasoning, out);
                out.push(ChatEvent::Seal { index, opaque });
                self.close_flat(out);
            }
        }
    }

    fn content(&mut self, raw: &RawValue, out: &mut Vec<ChatEvent>) {
        let text = raw.get();
        if text.starts_with('"') {
            if let Ok(text) = serde_json::from_str::<Text<'_>>(text) {
                self.tagged(&text, out);
            }
            return;
        }
        if text.starts_with('{') {
            // Cloudflare's JSON mode.
            return self.text(Block::Text, text, out);
        }
        let parts: Vec<ContentPart<'_>> = serde_json::from_str(text).unwrap_or_default();
        for part in parts {
            if let Some(text) = part.text {
                self.text(Block::Text, &text, out);
            }
            let thoughts = part.thinking.map(RawValue::get).unwrap_or("[]");
            let thoughts: Vec<ContentPart<'_>> = serde_json::from_str(thoughts).unwrap_or_default();
            for text in thoughts.into_iter().filter_map(|thought| thought.text) {
                self.text(Block::Reasoning, &text, out);
            }
        }
    }

    /// Text that may begin with thinking between tags.
    fn tagged(&mut self, text: &str, out: &mut Vec<ChatEvent>) {
        if self.tags.is_settled() {
            return self.text(Block::Text, text, out);
        }
        for piece in self.tags.read(text) {
            self.piece(piece, out);
        }
    }

    /// Tags stand at the beginning of an answer, or nowhere.
    fn settle_tags(&mut self, out: &mut Vec<ChatEvent>) {
        if let Some(piece) = self.tags.settle() {
            self.piece(piece, out);
        }
    }

    fn piece(&mut self, piece: tags::Piece, out: &mut Vec<ChatEvent>) {
        match piece {
            tags::Piece::Thinking(text) => self.text(Block::Reasoning, &text, out),
            tags::Piece::Text(text) => self.text(Block::Text, &text, out),
        }
    }

    fn text(&mut self, block: Block, text: &str, out: &mut Vec<ChatEvent>) {
        if !text.is_empty() {
            let is_thought = block == Block::Reasoning;
            let index = self.flat(block, out);
            if is_thought {
                self.thought.push_str(text);
            }
            out.push(ChatEvent::Delta {
                index,
                text: text.to_owned(),
            });
        }
    }

    /// The index of the text of this kind that goes on, or of a new one.
    fn flat(&mut self, block: Block, out: &mut Vec<ChatEvent>) -> usize {
        if let Some(flat) = self.flat.as_ref().filter(|flat| flat.block == block) {
            return flat.index;
        }
        self.close_flat(out);
        self.close_whole_calls(out);
        self.thought.clear();
        let index = self.open(block.clone(), out);
        self.flat = Some(Flat { index, block });
        index
    }

    fn open(&mut self, block: Block, out: &mut Vec<ChatEvent>) -> usize {
        let index = self.next;
        self.next += 1;
        out.push(ChatEvent::Open { index, block });
        index
    }

    fn close_flat(&mut self, out: &mut Vec<ChatEvent>) {
        out.extend(
            self.flat
                .take()
                .map(|flat| ChatEvent::Close { index: flat.index }),
        );
    }

    fn call(&mut self, call: Call<'_>, out: &mut Vec<ChatEvent>) {
        let piece = Piece::of(&call);
        let Some(at) = self
            .known(&call, &piece)
            .or_else(|| self.begin(&call, &piece, out))
        else {
            return;
        };
        let Some(known) = self.calls.get_mut(at).filter(|known| known.is_open) else {
            return;
        };
        // Llama's `null` is a call without arguments.
        let says_nothing = !known.has_arguments && piece.text == "null";
        let is_nothing = says_nothing && known.kind == CallKind::Function;
        if !piece.text.is_empty() && !is_nothing {
            known.has_arguments = true;
            known.json.read(&piece.text);
            out.push(ChatEvent::Delta {
                index: known.ours,
                text: piece.text,
            });
        }
        let google = call.extra_content.and_then(|extra| extra.google);
        let signature = google.and_then(|google| google.thought_signature);
        if let Some(data) = signature.filter(|data| !data.is_empty()) {
            let opaque = Opaque {
                issuer: Issuer::Google,
                data: data.into(),
                id: None,
                is_redacted: false,
            };
            out.push(ChatEvent::Seal {
                index: known.ours,
                opaque,
            });
        }
    }

    /// The call that a piece goes on with. A new id with a name is a new call, whatever its index says.
    fn known(&self, call: &Call<'_>, piece: &Piece) -> Option<usize> {
        let index = call.index.map(|index| index.0);
        let at = match index {
            Some(index) => self
                .calls
                .iter()
                .rposition(|known| known.theirs == Some(index))?,
            None if piece.name.is_some() && !piece.name_is_known(self.calls.last(), call) => {
                return None;
            }
            None => self.calls.len().checked_sub(1)?,
        };
        let known = self.calls.get(at)?;
        let id = call.id.as_deref().filter(|id| !id.is_empty());
        let is_other = piece.name.is_some() && id.is_some_and(|id| id != known.id);
        (!is_other).then_some(at)
    }

    /// A call begins with its name; pieces of a call without one are nothing.
    fn begin(&mut self, call: &Call<'_>, piece: &Piece, out: &mut Vec<ChatEvent>) -> Option<usize> {
        let name = piece.name.clone()?;
        self.settle_tags(out);
        self.close_flat(out);
        self.close_whole_calls(out);
        let id = call.id.as_deref().filter(|id| !id.is_empty());
        let id = id.map_or_else(
            || format!("call_{}_{}", self.name, self.calls.len()),
            str::to_owned,
        );
        let ours = self.open(
            Block::ToolCall {
                id: id.clone(),
                name,
                kind: piece.kind,
            },
            out,
        );
        self.calls.push(Known {
            theirs: call.index.map(|index| index.0),
            id,
            ours,
            kind: piece.kind,
            is_open: true,
            has_arguments: false,
            json: Balance::default(),
        });
        Some(self.calls.len() - 1)
    }

    /// Calls may alternate; one whose arguments are whole gets no more.
    fn close_whole_calls(&mut self, out: &mut Vec<ChatEvent>) {
        for known in &mut self.calls {
            if known.is_open && known.kind == CallKind::Function && known.json.is_whole() {
                known.close(out);
            }
        }
    }

    fn finished(&mut self, reason: &str, out: &mut Vec<ChatEvent>) {
        let stop = match reason {
            reason if is_length(reason) => Stop::Length,
            "content_filter" | "safety" | "sensitive" | "SAFETY" => Stop::ContentFilter,
            "refusal" => Stop::Refusal,
            "error" | "insufficient_system_resource" => {
                let mut failure = Failure::new(
                    Kind::UpstreamError,
                    "the provider broke its answer off without saying why",
                );
                failure.code = Some(reason.to_owned());
                failure.scope = Scope::Request;
                return self.fail(failure, out);
            }
            // Some say `stop` after calls too.
            _ => Stop::End,
        };
        self.stop.get_or_insert(stop);
        self.state = State::Stopped;
    }

    fn presumed(&self) -> Stop {
        if !self.calls.is_empty() {
            Stop::ToolUse
        } else if self.has_refused {
            Stop::Refusal
        } else {
            Stop::End
        }
    }

    /// Ends the answer, once. Where nobody said why it ended, and where what came after the reason says more, that tells it.
    pub(crate) fn end(&mut self, out: &mut Vec<ChatEvent>) {
        if matches!(self.state, State::Over | State::Failed) {
            return;
        }
        self.state = State::Over;
        self.settle_tags(out);
        if !self.has_cited {
            for url in std::mem::take(&mut self.sources) {
                let citation = Citation {
                    url,
                    ..Citation::default()
                };
                self.cite(citation, out);
            }
        }
        self.close_flat(out);
        self.speak(out);
        self.calls.iter_mut().for_each(|known| known.close(out));
        let said = self.stop.take().filter(|stop| *stop != Stop::End);
        let stop = said.unwrap_or_else(|| self.presumed());
        out.push(ChatEvent::Stop(stop));
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<ChatEvent>) {
        self.state = State::Failed;
        out.push(ChatEvent::Failed(Box::new(failure)));
    }
}

/// Whether a reason says that the output came to its limit.
fn is_length(reason: &str) -> bool {
    let reasons = ["length", "max_tokens", "max_output_tokens", "model_length"];
    reasons
        .iter()
        .any(|known| known.eq_ignore_ascii_case(reason))
}

impl StreamDecoder for Decoder {
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        if frame.is_empty() || matches!(self.state, State::Over | State::Failed) {
            return Ok(());
        }
        if frame.data.trim_ascii() == b"[DONE]" {
            if self.next > 0 || self.state == State::Stopped {
                self.end(out);
            }
            return Ok(());
        }
        match serde_json::from_slice::<Answer<'_>>(&frame.data) {
            Ok(answer) => {
                self.answer(answer, out);
                Ok(())
            }
            // A last chunk cut short takes nothing from an answer that is whole.
            Err(_) if self.state == State::Stopped => Ok(()),
            Err(_) => Err(junk("the provider's stream has a chunk that is not one")),
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.state, State::Stopped | State::Over)
    }

    fn finish(&mut self, out: &mut Vec<ChatEvent>) -> Result<(), Failure> {
        match self.state {
            State::Stopped => {
                self.end(out);
                Ok(())
            }
            State::Over => Ok(()),
            State::Silent | State::Saying | State::Failed => Err(crate::ended_early()),
        }
    }
}
