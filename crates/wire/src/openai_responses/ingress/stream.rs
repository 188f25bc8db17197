//! Events of an answer, from the hub: every block is an item, several may be open at once, and all is numbered.

use polygate_core::{Failure, Usage};
use serde::Serialize;
use serde_json::value::RawValue;

use super::output::{Annotation, Content, Item, Summary, has_item, is_search, tokens, unfold};
use super::response::{ResponseOut, answer_id, content, ending, item, item_id, item_status};
use crate::canon::{Block, CallKind, ChatEvent, Said, Stop};
use crate::openai_chat::Token;
use crate::openai_responses::error_event;
use crate::sse::write_event;
use crate::{ReplyHead, StreamEncoder};

/// Writes events.
pub(crate) struct Encoder {
    reply: ReplyHead,
    id: String,
    /// The next event's number.
    sequence: u64,
    has_begun: bool,
    items: Vec<ItemState>,
    /// An item that is closed and not yet told as done: whether it is whole shows in what follows.
    closing: Option<usize>,
    usage: Usage,
    stop: Option<Stop>,
}

/// An item: what has been said so far, and its JSON once it is done.
struct ItemState {
    id: String,
    /// Its place in the output; `None` for a block that has no item.
    place: Option<usize>,
    said: Said,
    /// A thought's part opens with its first piece: most thoughts of most models are never shown.
    has_part: bool,
    done: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Event<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct Whole<'a> {
    response: ResponseOut<'a, &'a RawValue>,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: Item<'a>,
}

/// Something at an address: item, part, and what it is.
#[derive(Serialize)]
struct At<'a, T> {
    item_id: &'a str,
    output_index: usize,
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    rest: T,
}

/// Where in the item.
#[derive(Clone, Copy, Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
}

const CONTENT: Place = Place {
    content_index: Some(0),
    summary_index: None,
};
const SUMMARY: Place = Place {
    content_index: None,
    summary_index: Some(0),
};
const ITEM: Place = Place {
    content_index: None,
    summary_index: None,
};

#[derive(Serialize)]
struct TextDelta<'a> {
    delta: &'a str,
    logprobs: Vec<Token<'a>>,
}

#[derive(Serialize)]
struct Delta<'a> {
    delta: &'a str,
}

#[derive(Serialize)]
struct TextDone<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Token<'a>>>,
}

#[derive(Serialize)]
struct RefusalDone<'a> {
    refusal: &'a str,
}

#[derive(Serialize)]
struct ArgumentsDone<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct InputDone<'a> {
    input: &'a str,
}

#[derive(Serialize)]
struct PartOf<T> {
    part: T,
}

#[derive(Serialize)]
struct Annotated<'a> {
    annotation_index: usize,
    annotation: Annotation<'a>,
}

impl Encoder {
    pub(crate) fn new(reply: ReplyHead) -> Self {
        Self {
            id: answer_id(&reply),
            reply,
            sequence: 0,
            has_begun: false,
            items: vec![],
            closing: None,
            usage: Usage::default(),
            stop: None,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = ResponseOut {
                reply: &self.reply,
                id: &self.id,
                end: None,
                output: &[],
                usage: None,
            };
            event(&mut self.sequence, kind, Whole { response }, out);
        }
    }

    fn open(&mut self, block: &Block, out: &mut Vec<u8>) {
        self.begin(out);
        let index = self.items.len();
        let before = self.items.iter().filter(|state| state.place.is_some());
        let place = before.count();
        let mut state = ItemState {
            id: item_id(block, &self.reply, place),
            place: Some(place),
            said: Said::new(block.clone(), ""),
            has_part: false,
            done: None,
        };
        if !has_item(block) {
            state.place = None;
            self.items.push(state);
            return;
        }
        let mut begun = item(&state.said, &state.id, "in_progress", &self.reply);
        match &mut begun {
            Item::Message { content, .. } => content.clear(),
            Item::ImageGenerationCall { result, .. } => *result = None,
            _ => {}
        }
        let added = OfItem {
            output_index: place,
            item: begun,
        };
        event(&mut self.sequence, "response.output_item.added", added, out);
        self.items.push(state);
        if matches!(block, Block::Text | Block::Refusal) {
            self.part(index, out);
        }
    }

    /// A part begins.
    fn part(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(state) = self.items.get_mut(index).filter(|state| !state.has_part) else {
            return;
        };
        state.has_part = true;
        let sequence = &mut self.sequence;
        if state.said.block == Block::Reasoning {
            let part = PartOf {
                part: Summary { text: "" },
            };
            at(
                sequence,
                "response.reasoning_summary_part.added",
                state,
                SUMMARY,
                part,
                out,
            );
        } else {
            let empty = Said::new(state.said.block.clone(), "");
            let part = PartOf {
                part: content(&empty),
            };
            at(
                sequence,
                "response.content_part.added",
                state,
                CONTENT,
                part,
                out,
            );
        }
    }

    fn delta(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        self.part_of_thought(index, out);
        let Some(state) = self.items.get_mut(index) else {
            return;
        };
        state.said.text.push_str(text);
        let sequence = &mut self.sequence;
        let delta = Delta { delta: text };
        match &state.said.block {
            Block::Text => {
                let delta = TextDelta {
                    delta: text,
                    logprobs: vec![],
                };
                at(
                    sequence,
                    "response.output_text.delta",
                    state,
                    CONTENT,
                    delta,
                    out,
                );
            }
            Block::Refusal => {
                at(
                    sequence,
                    "response.refusal.delta",
                    state,
                    CONTENT,
                    delta,
                    out,
                );
            }
            Block::Reasoning => {
                at(
                    sequence,
                    "response.reasoning_summary_text.delta",
                    state,
                    SUMMARY,
                    delta,
                    out,
                );
            }
            // Its arguments come whole.
            block if is_search(block, &self.reply) => {}
            Block::ToolCall { kind, .. } => {
                let name = match kind {
                    CallKind::Function => "response.function_call_arguments.delta",
                    CallKind::Custom => "response.custom_tool_call_input.delta",
                };
                at(sequence, name, state, ITEM, delta, out);
            }
            Block::Media(_) => {}
        }
    }

    fn part_of_thought(&mut self, index: usize, out: &mut Vec<u8>) {
        let is_thought = self
            .items
            .get(index)
            .is_some_and(|state| state.said.block == Block::Reasoning);
        if is_thought {
            self.part(index, out);
        }
    }

    /// Log probabilities come with a delta of no text.
    fn logprobs(&mut self, index: usize, event: &ChatEvent, out: &mut Vec<u8>) {
        let (ChatEvent::Logprobs { tokens: new, .. }, Some(state)) =
            (event, self.items.get_mut(index))
        else {
            return;
        };
        state.said.logprobs.extend(new.iter().cloned());
        if state.said.block == Block::Text {
            let delta = TextDelta {
                delta: "",
                logprobs: tokens(new),
            };
            let sequence = &mut self.sequence;
            at(
                sequence,
                "response.output_text.delta",
                state,
                CONTENT,
                delta,
                out,
            );
        }
    }

    fn cite(&mut self, index: usize, event: &ChatEvent, out: &mut Vec<u8>) {
        let (ChatEvent::Cite { citation, .. }, Some(state)) = (event, self.items.get_mut(index))
        else {
            return;
        };
        let annotated = Annotated {
            annotation_index: state.said.citations.len(),
            annotation: Annotation::of(citation),
        };
        if state.said.block == Block::Text {
            let kind = "response.output_text.annotation.added";
            at(&mut self.sequence, kind, state, CONTENT, annotated, out);
        }
        state.said.citations.push(citation.clone());
    }

    fn close(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(state) = self.items.get_mut(index) else {
            return;
        };
        if state.place.is_some() {
            part_done(&mut self.sequence, state, &self.reply, out);
            self.closing = Some(index);
        }
    }

    /// Tells that the closed item is done: cut off, if that is how the answer ended.
    fn settle(&mut self, out: &mut Vec<u8>) {
        let Some(index) = self.closing.take() else {
            return;
        };
        let said = self.items.iter().map(|state| &state.said.block);
        let end = self.stop.as_ref().map(|stop| ending(stop, said));
        let status = self
            .items
            .get(index)
            .map_or("completed", |state| item_status(&state.said.block, end));
        let Some(state) = self.items.get_mut(index) else {
            return;
        };
        let Some(place) = state.place else { return };
        let item = item(&state.said, &state.id, status, &self.reply);
        state.done = serde_json::value::to_raw_value(&item).ok();
        let done = OfItem {
            output_index: place,
            item,
        };
        event(&mut self.sequence, "response.output_item.done", done, out);
    }
}

/// The done events of an item's part.
fn part_done(sequence: &mut u64, state: &ItemState, reply: &ReplyHead, out: &mut Vec<u8>) {
    let said = &state.said;
    let text = said.text.as_str();
    match &said.block {
        Block::Text => {
            let done = TextDone {
                text,
                logprobs: Some(tokens(&said.logprobs)),
            };
            at(
                sequence,
                "response.output_text.done",
                state,
                CONTENT,
                done,
                out,
            );
        }
        Block::Refusal => {
            let done = RefusalDone { refusal: text };
            at(sequence, "response.refusal.done", state, CONTENT, done, out);
        }
        Block::Reasoning if state.has_part => {
            let done = TextDone {
                text,
                logprobs: None,
            };
            at(
                sequence,
                "response.reasoning_summary_text.done",
                state,
                SUMMARY,
                done,
                out,
            );
            let part = PartOf {
                part: Summary { text },
            };
            at(
                sequence,
                "response.reasoning_summary_part.done",
                state,
                SUMMARY,
                part,
                out,
            );
        }
        block if is_search(block, reply) => {}
        Block::ToolCall {
            name,
            kind: CallKind::Function,
            ..
        } => {
            let done = ArgumentsDone {
                name: unfold(name, &reply.namespaces).0,
                arguments: text,
            };
            at(
                sequence,
                "response.function_call_arguments.done",
                state,
                ITEM,
                done,
                out,
            );
        }
        Block::ToolCall { .. } => {
            let done = InputDone { input: text };
            at(
                sequence,
                "response.custom_tool_call_input.done",
                state,
                ITEM,
                done,
                out,
            );
        }
        Block::Reasoning | Block::Media(_) => {}
    }
    if matches!(said.block, Block::Text | Block::Refusal) {
        let part: PartOf<Content<'_>> = PartOf {
            part: content(said),
        };
        at(
            sequence,
            "response.content_part.done",
            state,
            CONTENT,
            part,
            out,
        );
    }
}

fn at<T: Serialize>(
    sequence: &mut u64,
    kind: &'static str,
    state: &ItemState,
    place: Place,
    rest: T,
    out: &mut Vec<u8>,
) {
    let rest = At {
        item_id: &state.id,
        output_index: state.place.unwrap_or_default(),
        place,
        rest,
    };
    event(sequence, kind, rest, out);
}

fn event<T: Serialize>(sequence: &mut u64, kind: &'static str, rest: T, out: &mut Vec<u8>) {
    let event = Event {
        kind,
        sequence_number: *sequence,
        rest,
    };
    *sequence += 1;
    write_event(kind, &event, out);
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        if !matches!(event, ChatEvent::Usage(_) | ChatEvent::Stop(_)) {
            self.settle(out);
        }
        match event {
            ChatEvent::Start { .. } => self.begin(out),
            ChatEvent::Open { block, .. } => self.open(block, out),
            ChatEvent::Delta { index, text } => self.delta(*index, text, out),
            ChatEvent::Logprobs { index, .. } => self.logprobs(*index, event, out),
            ChatEvent::Cite { index, .. } => self.cite(*index, event, out),
            ChatEvent::Seal { index, opaque } => {
                if let Some(state) = self.items.get_mut(*index) {
                    state.said.opaque = Some(opaque.clone());
                }
            }
            ChatEvent::Close { index } => self.close(*index, out),
            ChatEvent::Usage(usage) => self.usage.merge(*usage),
            ChatEvent::Stop(stop) => {
                self.stop = Some(stop.clone());
                self.settle(out);
            }
            ChatEvent::Failed(_) => {}
        }
    }

    /// The last event has the whole answer in it, and the last usage, which may follow the reason.
    fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.settle(out);
        let said = self.items.iter().map(|state| &state.said.block);
        let stop = self.stop.as_ref().unwrap_or(&Stop::End);
        let stop = ending(stop, said);
        let output: Vec<&RawValue> = self
            .items
            .iter()
            .filter_map(|state| state.done.as_deref())
            .collect();
        let response = ResponseOut {
            reply: &self.reply,
            id: &self.id,
            end: Some(stop),
            output: &output,
            usage: Some(self.usage),
        };
        let kind = match stop {
            Stop::Length | Stop::ContentFilter => "response.incomplete",
            _ => "response.completed",
        };
        self.reply.keep.answer(&self.id, &output, &response);
        event(&mut self.sequence, kind, Whole { response }, out);
    }

    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        self.settle(out);
        out.extend_from_slice(&error_event(failure, request_id, Some(self.sequence)));
    }
}
