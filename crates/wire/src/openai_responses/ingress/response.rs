//! Whole answers, from the hub.

use bytes::Bytes;
use polygate_core::Usage;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::output::{
    Annotation, Content, Item, Summary, has_item, is_search, picture, tokens, unfold,
};
use crate::ReplyHead;
use crate::canon::{Block, CallKind, ChatResponse, Issuer, Opaque, Said, Stop};
use crate::turns::Object;

/// Writes an answer.
pub(crate) fn encode(answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
    let id = answer_id(reply);
    let said = answer.said.iter().filter(|said| has_item(&said.block));
    let ids: Vec<String> = said
        .clone()
        .enumerate()
        .map(|(index, said)| item_id(&said.block, reply, index))
        .collect();
    let end = ending(&answer.stop, answer.said.iter().map(|said| &said.block));
    let items: Vec<Item<'_>> = said
        .zip(&ids)
        .enumerate()
        .map(|(at, (said, id))| {
            let cut = (at + 1 == ids.len()).then_some(end);
            item(said, id, item_status(&said.block, cut), reply)
        })
        .collect();
    let response = ResponseOut {
        reply,
        id: &id,
        end: Some(end),
        output: &items,
        usage: Some(answer.usage.unwrap_or_default()),
    };
    let bytes = serde_json::to_vec(&response).unwrap_or_default();
    reply.keep.answer(&id, &items, &response);
    bytes.into()
}

/// The answer's id: always the gateway's own, by which it finds what it keeps.
pub(crate) fn answer_id(reply: &ReplyHead) -> String {
    format!("resp_{}", reply.unique)
}

/// An item's id: its kind tells the beginning.
pub(crate) fn item_id(block: &Block, reply: &ReplyHead, index: usize) -> String {
    let beginning = match block {
        Block::Text | Block::Refusal => "msg",
        Block::Reasoning => "rs",
        Block::ToolCall { .. } if is_search(block, reply) => "tsc",
        Block::ToolCall {
            kind: CallKind::Function,
            ..
        } => "fc",
        Block::ToolCall { .. } => "ctc",
        Block::Media(_) => "ig",
    };
    format!("{beginning}_{}_{index}", reply.unique)
}

/// What was said, as an item.
pub(crate) fn item<'a>(
    said: &'a Said,
    id: &'a str,
    status: &'static str,
    reply: &'a ReplyHead,
) -> Item<'a> {
    match &said.block {
        Block::Text | Block::Refusal => Item::Message {
            id,
            status,
            role: "assistant",
            content: vec![content(said)],
        },
        Block::Reasoning => Item::Reasoning {
            id,
            summary: summary(&said.text),
            encrypted_content: said.opaque.as_ref().and_then(openais),
        },
        Block::ToolCall { id: call_id, .. } if is_search(&said.block, reply) => {
            Item::ToolSearchCall {
                id,
                status,
                call_id,
                execution: "client",
                arguments: Object::of(&said.text).unwrap_or(Object::Empty {}),
            }
        }
        Block::ToolCall {
            id: call_id,
            name,
            kind,
        } => {
            let (name, namespace) = unfold(name, &reply.namespaces);
            match kind {
                CallKind::Function => Item::FunctionCall {
                    id,
                    status,
                    call_id,
                    name,
                    namespace,
                    arguments: &said.text,
                },
                CallKind::Custom => Item::CustomToolCall {
                    id,
                    status,
                    call_id,
                    name,
                    namespace,
                    input: &said.text,
                },
            }
        }
        Block::Media(media) => {
            let (result, output_format) = picture(media).unzip();
            Item::ImageGenerationCall {
                id,
                status,
                output_format,
                result,
            }
        }
    }
}

fn openais(opaque: &Opaque) -> Option<&str> {
    (opaque.issuer == Issuer::OpenAi).then_some(opaque.data.as_str())
}

fn summary(text: &str) -> Vec<Summary<'_>> {
    (!text.is_empty())
        .then_some(Summary { text })
        .into_iter()
        .collect()
}

pub(crate) fn content(said: &Said) -> Content<'_> {
    if said.block == Block::Refusal {
        return Content::Refusal {
            refusal: &said.text,
        };
    }
    Content::OutputText {
        text: &said.text,
        annotations: said.citations.iter().map(Annotation::of).collect(),
        logprobs: tokens(&said.logprobs),
    }
}

/// An answer: as it begins, or as it ended.
pub(crate) struct ResponseOut<'a, T> {
    pub reply: &'a ReplyHead,
    pub id: &'a str,
    /// Why it ended; `None` while it goes on.
    pub end: Option<&'a Stop>,
    pub output: &'a [T],
    pub usage: Option<Usage>,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

/// Members that have a default where the client said nothing.
const DEFAULTS: [(&str, &str); 11] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "null"),
];

impl<T: Serialize> Serialize for ResponseOut<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, reason) = status(self.end);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", self.id)?;
        map.serialize_entry("object", "response")?;
        map.serialize_entry("created_at", &self.reply.created)?;
        map.serialize_entry("status", status)?;
        map.serialize_entry("error", &())?;
        map.serialize_entry(
            "incomplete_details",
            &reason.map(|reason| Incomplete { reason }),
        )?;
        map.serialize_entry("model", &self.reply.model)?;
        map.serialize_entry("output", self.output)?;
        for (name, value) in &self.reply.echo {
            map.serialize_entry(name, value)?;
        }
        let missing = DEFAULTS
            .iter()
            .filter(|(name, _)| !self.reply.echo.iter().any(|(known, _)| known == name));
        for (name, text) in missing {
            let value: Option<&RawValue> = serde_json::from_str(text).ok();
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("usage", &self.usage.map(UsageOut::from))?;
        map.end()
    }
}

/// A refusal without words of its own kind is told as the work of a filter: the client would take it for an answer.
pub(crate) fn ending<'a>(stop: &'a Stop, mut said: impl Iterator<Item = &'a Block>) -> &'a Stop {
    if *stop == Stop::Refusal && !said.any(|block| *block == Block::Refusal) {
        return &Stop::ContentFilter;
    }
    stop
}

/// How an item came out: the last one ends as the answer does. Pictures come whole.
pub(crate) fn item_status(block: &Block, end: Option<&Stop>) -> &'static str {
    match (block, end) {
        (Block::Media(_), _) | (_, None) => "completed",
        (_, end) => status(end).0,
    }
}

fn status(end: Option<&Stop>) -> (&'static str, Option<&'static str>) {
    match end {
        None => ("in_progress", None),
        Some(Stop::Length) => ("incomplete", Some("max_output_tokens")),
        Some(Stop::ContentFilter) => ("incomplete", Some("content_filter")),
        Some(_) => ("completed", None),
    }
}

/// Usage in this format's words.
#[derive(Serialize)]
struct UsageOut {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write,
            },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails {
                reasoning_tokens: usage.reasoning,
            },
            total_tokens: usage.total(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamEncoder;
    use crate::canon::ChatEvent;
    use crate::openai_responses::ingress::stream::Encoder;

    /// Codex calls `tool_search_call` with its arguments as an object, and of nothing but `client`.
    #[test]
    fn the_function_that_stands_for_a_search_is_told_as_one() {
        let reply = ReplyHead {
            search: Some("tool_search".to_owned()),
            unique: "x".to_owned(),
            ..ReplyHead::default()
        };
        let block = Block::ToolCall {
            id: "call_1".to_owned(),
            name: "tool_search".to_owned(),
            kind: CallKind::Function,
        };
        let events = [
            ChatEvent::Open { index: 0, block },
            ChatEvent::Delta {
                index: 0,
                text: r#"{"query":"#.to_owned(),
            },
            ChatEvent::Delta {
                index: 0,
                text: r#""mail"}"#.to_owned(),
            },
            ChatEvent::Close { index: 0 },
            ChatEvent::Stop(Stop::ToolUse),
        ];
        let item = r#"{"type":"tool_search_call","id":"tsc_x_0","status":"completed","call_id":"call_1","execution":"client","arguments":{"query":"mail"}}"#;
        let mut encoder = Encoder::new(reply.clone());
        let mut stream = Vec::new();
        for event in &events {
            encoder.encode(event, &mut stream);
        }
        let stream = String::from_utf8(stream).expect("UTF-8");
        assert!(!stream.contains("arguments.delta"), "{stream}");
        assert!(!stream.contains("arguments.done"), "{stream}");
        let done = format!(r#""output_index":0,"item":{item}}}"#);
        assert!(stream.contains(&done), "{stream}");
        let answer = ChatResponse::gather(events.to_vec()).expect("an answer");
        let answer = encode(&answer, &reply);
        let answer = String::from_utf8(answer.to_vec()).expect("UTF-8");
        let output = format!(r#""output":[{item}]"#);
        assert!(answer.contains(&output), "{answer}");
    }
}
