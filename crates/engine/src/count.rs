//! How many tokens a request or an answer is, by a tokenizer: where nobody who knows says so.
//!
//! Slow beside everything else on a call's way: nothing here is for the request path, which asks [`crate::expect`].

mod heard;
mod picture;
mod tokenizer;

use bytes::Bytes;
use polygate_wire::canon::{
    Block, ChatRequest, ChatResponse, Given, Media, MediaSource, OutputShape, Part, ToolInput,
};
use polygate_wire::openai_completions::OpenaiCompletions;
use polygate_wire::raw::Edit;
use polygate_wire::{Format, Ingress, RawObject, egress};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::Endpoint;
pub use heard::Heard;
pub use polygate_providers::family::{Family, of as family};
use tokenizer::Counter;

/// Characters of base64 for one token of a document; and the least that one is.
const DOCUMENT: u64 = 64;
const LEAST_OF_DOCUMENT: u64 = 250;

/// Characters of base64 for one token of sound: about 32 tokens for a second of what is well packed.
const SOUND: u64 = 400;

/// A document or sound that is elsewhere.
const ELSEWHERE: u64 = 1000;

/// What the result of a tool costs beside its text.
const RESULT: u64 = 4;

/// The same of a call that is told again.
const CALL: u64 = 4;

/// How a call's body is to be read to count it.
#[derive(Clone, Copy)]
pub enum Question {
    /// As a turn of a chat, in the client's words.
    Chat(&'static dyn Ingress, Format),
    /// As a text that is gone on with.
    Completion,
    /// As texts to embed.
    Embeddings,
}

/// What a request is made of, in tokens of the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Texts of all kinds.
    pub text: u64,
    /// What describes tools and the shape of the answer.
    pub tools: u64,
    /// How many messages.
    pub messages: u64,
    /// How many tools.
    pub tool_count: u64,
    /// Pictures, documents and sound.
    pub media: u64,
}

impl Question {
    /// What is asked there; `None`: nobody here can read it.
    pub fn of(endpoint: &Endpoint) -> Option<Self> {
        if *endpoint == Endpoint::Embeddings {
            return Some(Question::Embeddings);
        }
        if *endpoint == Endpoint::Completions {
            return Some(Question::Completion);
        }
        let ingress = endpoint.ingress()?;
        Some(Question::Chat(ingress, endpoint.format()))
    }

    /// Its tokens, for this model.
    pub fn count(self, body: &Bytes, model: &str) -> Option<u64> {
        let object = RawObject::parse(body.clone()).ok()?;
        match self {
            Question::Chat(ingress, _) => {
                Some(request(&ingress.decode_request(&object).ok()?, model))
            }
            Question::Completion => Some(request(
                &OpenaiCompletions.decode_request(&object).ok()?,
                model,
            )),
            Question::Embeddings => Some(embedded(object.get("input")?, model)),
        }
    }

    /// The tokens of a whole answer to it, from this model.
    pub fn count_answer(self, body: &Bytes, model: &str) -> Option<u64> {
        match self {
            Question::Chat(_, format) => {
                let mut tokens = 0;
                for body in choices(body) {
                    tokens += answer(&egress(format).decode_response(&body).ok()?, model);
                }
                Some(tokens)
            }
            Question::Completion => completed(body, model),
            Question::Embeddings => Some(0),
        }
    }
}

/// An answer as so many as it has choices: who reads it takes the first.
fn choices(body: &Bytes) -> Vec<Bytes> {
    let one = || vec![body.clone()];
    let Ok(object) = RawObject::parse(body.clone()) else {
        return one();
    };
    let lists = ["choices", "candidates"].into_iter();
    let mut lists = lists.filter_map(|name| {
        let list: Vec<&RawValue> = serde_json::from_str(object.get(name)?).ok()?;
        (list.len() > 1).then_some((name, list))
    });
    let Some((name, list)) = lists.next() else {
        return one();
    };
    let list = list.into_iter();
    list.map(|choice| object.edit(&[Edit::Set(name, &format!("[{choice}]"))]))
        .collect()
}

/// A request's tokens, for this model.
pub fn request(request: &ChatRequest, model: &str) -> u64 {
    let family = family(model);
    made(request, family).of(family)
}

/// An answer's tokens, from this model.
pub fn answer(response: &ChatResponse, model: &str) -> u64 {
    let family = family(model);
    let mut counter = Counter::new();
    let (mut texts, mut calls) = (0, 0);
    for said in &response.said {
        texts += counter.count(&said.text);
        if let Block::ToolCall { name, .. } = &said.block {
            texts += counter.count(name);
            calls += 1;
        }
    }
    if texts == 0 {
        return 0;
    }
    family.text(texts) + calls * family.call + family.answer
}

/// The texts that a prompt was gone on with.
#[derive(Deserialize)]
struct Completed {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: String,
}

fn completed(body: &Bytes, model: &str) -> Option<u64> {
    let said: Completed = serde_json::from_slice(body).ok()?;
    let mut counter = Counter::new();
    let texts = said
        .choices
        .iter()
        .map(|choice| counter.count(&choice.text));
    Some(family(model).text(texts.sum()))
}

/// What may be embedded: texts, or what is already tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Embedded {
    Text(String),
    Tokens(Vec<u64>),
    Texts(Vec<String>),
    Batch(Vec<Vec<u64>>),
}

fn embedded(input: &str, model: &str) -> u64 {
    let mut counter = Counter::new();
    let texts = match serde_json::from_str(input) {
        Ok(Embedded::Text(text)) => counter.count(&text),
        Ok(Embedded::Texts(texts)) => texts.iter().map(|text| counter.count(text)).sum(),
        Ok(Embedded::Tokens(tokens)) => return tokens.len() as u64,
        Ok(Embedded::Batch(batch)) => return batch.iter().map(|tokens| tokens.len() as u64).sum(),
        Err(_) => counter.count(input),
    };
    family(model).text(texts)
}

impl Made {
    /// Tokens of a family's.
    fn of(&self, family: &Family) -> u64 {
        let toolbox = if self.tool_count > 0 {
            family.toolbox
        } else {
            0
        };
        family.text(self.text)
            + self.tools * family.tools / 1000
            + self.messages * family.message
            + self.tool_count * family.tool
            + toolbox
            + family.prompt
            + self.media
    }
}

/// What a request is made of.
pub fn made(request: &ChatRequest, family: &Family) -> Made {
    let mut walk = Walk {
        counter: Counter::new(),
        family,
        made: Made::default(),
    };
    walk.request(request);
    walk.made
}

/// Goes through a request and adds up.
struct Walk<'a> {
    counter: Counter,
    family: &'a Family,
    made: Made,
}

impl Walk<'_> {
    fn request(&mut self, request: &ChatRequest) {
        for message in &request.messages {
            self.made.messages += 1;
            self.parts(&message.parts);
        }
        for tool in &request.tools {
            self.made.tool_count += 1;
            self.tool(&tool.name);
            self.tool(tool.description.as_deref().unwrap_or_default());
            self.tool(match &tool.input {
                ToolInput::Json(Some(schema)) => schema.get(),
                ToolInput::Freeform(Some(grammar)) => &grammar.value.definition,
                ToolInput::Json(None) | ToolInput::Freeform(None) => "",
            });
        }
        let shape = request.output.as_ref().map(|given| &given.value);
        if let Some(OutputShape::JsonSchema { schema, .. }) = shape {
            self.tool(schema.get());
        }
    }

    fn parts(&mut self, parts: &[Given<Part>]) {
        for part in parts {
            self.part(&part.value);
        }
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Text(said) | Part::Refusal(said) => self.text(said),
            Part::Reasoning(reasoning) => self.text(&reasoning.text),
            Part::Image(media) => self.made.media += picture::tokens(self.family.pictures, media),
            Part::File(media) => self.file(media, DOCUMENT, LEAST_OF_DOCUMENT),
            Part::Audio(media) => self.file(media, SOUND, 1),
            Part::ToolCall(call) => {
                self.made.text += CALL;
                self.text(&call.name);
                self.text(&call.arguments);
            }
            Part::ToolResult(result) => {
                self.made.text += RESULT;
                self.parts(&result.content);
            }
            Part::CachePoint(_) => {}
        }
    }

    fn file(&mut self, media: &Media, for_one: u64, least: u64) {
        match &media.source {
            MediaSource::Text(said) => self.text(said),
            MediaSource::Base64(data) => {
                self.made.media += (data.len() as u64 / for_one).max(least);
            }
            MediaSource::Url(_) | MediaSource::FileId { .. } => self.made.media += ELSEWHERE,
        }
    }

    fn text(&mut self, said: &str) {
        self.made.text += self.counter.count(said);
    }

    fn tool(&mut self, said: &str) {
        self.made.tools += self.counter.count(said);
    }
}

#[cfg(test)]
mod tests;
