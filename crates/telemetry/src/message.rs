//! What was said in a call, read from the client's own bytes: prompts and answers in the words that collectors and Langfuse know.

use bytes::Bytes;
use polygate_engine::observe::Content;
use polygate_wire::canon::{
    Block, ChatEvent, ChatRequest, ChatResponse, Media, MediaSource, Message, Part, Role, Said,
    Stop,
};
use polygate_wire::sse::{Frame, Framer, frames};
use polygate_wire::{Format, RawObject, array, egress, ingress};
use serde_json::{Map, Value, json};

use crate::attributes::{self, Attributes};

/// A prompt and its answer.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    asked: Option<ChatRequest>,
    answered: Option<ChatResponse>,
    /// What could not be read, as it came.
    raw: (String, String),
}

impl Conversation {
    /// What these bytes say. What was cut off, or is in no format that is read, stands as it came.
    pub(crate) fn read(content: &Content, is_stream: bool) -> Self {
        let format = content.format;
        let asked = asked(format, &content.asked);
        let answered = answered(format, &content.answered, is_stream);
        let raw = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let raw = (
            asked.is_none().then(|| raw(&content.asked)),
            answered.is_none().then(|| raw(&content.answered)),
        );
        Self {
            asked,
            answered,
            raw: (raw.0.unwrap_or_default(), raw.1.unwrap_or_default()),
        }
    }

    /// As OpenTelemetry's conventions have it.
    pub(crate) fn describe(&self, to: &mut Attributes) {
        match &self.asked {
            Some(request) => {
                let (system, others): (Vec<_>, Vec<_>) =
                    request.messages.iter().partition(|one| is_system(one));
                let system: Vec<Value> = system.iter().flat_map(|one| parts(one)).collect();
                if !system.is_empty() {
                    to.text(attributes::SYSTEM, Value::from(system).to_string());
                }
                let others = others
                    .iter()
                    .map(|one| json!({ "role": role(one), "parts": parts(one) }));
                to.text(attributes::INPUT, others.collect::<Value>().to_string());
                numbers(request, to);
            }
            None => to.text(attributes::INPUT, self.raw.0.as_str()),
        }
        match &self.answered {
            Some(answer) => {
                let parts: Vec<Value> = answer.said.iter().map(said).collect();
                let reason = reason(&answer.stop);
                let message =
                    json!([{ "role": "assistant", "parts": parts, "finish_reason": reason }]);
                to.text(attributes::OUTPUT, message.to_string());
                to.list(attributes::FINISH_REASONS, std::iter::once(reason));
            }
            None => to.text(attributes::OUTPUT, self.raw.1.as_str()),
        }
    }

    /// The prompt as a chat, each message's text in one.
    pub(crate) fn chat(&self) -> String {
        let Some(request) = &self.asked else {
            return self.raw.0.clone();
        };
        let message = |message: &Message| {
            let is_text = |part: &Part| matches!(part, Part::Text(_));
            let content = if message.parts.iter().all(|part| is_text(&part.value)) {
                let texts = message.parts.iter().map(|part| match &part.value {
                    Part::Text(text) => text.as_str(),
                    _ => "",
                });
                Value::from(texts.collect::<String>())
            } else {
                Value::from(parts(message))
            };
            json!({ "role": role(message), "content": content })
        };
        let messages: Vec<Value> = request.messages.iter().map(message).collect();
        Value::from(messages).to_string()
    }

    /// The answer as text; with what it calls, where it calls tools.
    pub(crate) fn text(&self) -> String {
        let Some(answer) = &self.answered else {
            return self.raw.1.clone();
        };
        let is_text = |one: &&Said| matches!(one.block, Block::Text | Block::Refusal);
        let text: String = answer
            .said
            .iter()
            .filter(is_text)
            .map(|one| &*one.text)
            .collect();
        let calls = answer
            .said
            .iter()
            .filter(|one| matches!(one.block, Block::ToolCall { .. }));
        let calls: Vec<Value> = calls.map(said).collect();
        if calls.is_empty() {
            return text;
        }
        json!({ "role": "assistant", "content": text, "tool_calls": calls }).to_string()
    }

    /// What the answer was to be like, as an object.
    pub(crate) fn parameters(&self) -> String {
        let Some(request) = &self.asked else {
            return String::new();
        };
        let mut object = Map::new();
        let fractions = [
            ("temperature", &request.temperature),
            ("top_p", &request.top_p),
            ("presence_penalty", &request.presence_penalty),
            ("frequency_penalty", &request.frequency_penalty),
        ];
        for (key, given) in fractions {
            if let Some(given) = given {
                object.insert(key.to_owned(), given.value.into());
            }
        }
        if let Some(given) = &request.max_tokens {
            object.insert("max_tokens".to_owned(), given.value.into());
        }
        if let Some(given) = &request.stop {
            object.insert("stop".to_owned(), given.value.clone().into());
        }
        match object.is_empty() {
            true => String::new(),
            false => Value::Object(object).to_string(),
        }
    }
}

fn asked(format: Format, bytes: &Bytes) -> Option<ChatRequest> {
    let object = RawObject::parse(bytes.clone()).ok()?;
    ingress(format)?.decode_request(&object).ok()
}

fn answered(format: Format, bytes: &[u8], is_stream: bool) -> Option<ChatResponse> {
    let egress = egress(format);
    if !is_stream {
        return egress.decode_response(bytes).ok();
    }
    let mut decoder = egress.stream_decoder();
    let mut events = Vec::new();
    let bytes = Bytes::copy_from_slice(bytes);
    // Google's streams may be arrays, whose elements are what others' frames carry.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let mut cutter = array::ArrayCutter::default();
        let block = cutter.push(bytes).ok()?;
        for element in array::elements(&block) {
            let line = [b"data: ", &*element, b"\n\n"].concat();
            decoder.decode(&Frame::parse(&line), &mut events).ok()?;
        }
    } else {
        let mut framer = Framer::new();
        let block = framer.push(bytes).ok()?;
        for frame in frames(&block) {
            let frame = Frame::parse(&frame);
            if !frame.is_empty() {
                decoder.decode(&frame, &mut events).ok()?;
            }
        }
    }
    // Cut off or not, it is told as far as it went.
    let _ = decoder.finish(&mut events);
    events.retain(|event| !matches!(event, ChatEvent::Failed(_)));
    ChatResponse::gather(events).ok()
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn role(message: &Message) -> &'static str {
    let answers = |part: &Part| matches!(part, Part::ToolResult(_));
    match message.role {
        Role::System | Role::Developer => "system",
        Role::Assistant => "assistant",
        Role::User if message.parts.iter().any(|part| answers(&part.value)) => "tool",
        Role::User => "user",
    }
}

fn parts(message: &Message) -> Vec<Value> {
    let parts = message.parts.iter();
    parts.filter_map(|given| part(&given.value)).collect()
}

fn part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) | Part::Refusal(text) => json!({ "type": "text", "content": text }),
        Part::Reasoning(thought) => json!({ "type": "reasoning", "content": thought.text }),
        Part::Image(media) => shown("image", media),
        Part::File(media) => shown("document", media),
        Part::Audio(media) => shown("audio", media),
        Part::ToolCall(call) => json!({
            "type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments(&call.arguments),
        }),
        Part::ToolResult(result) => {
            let inner = result
                .content
                .iter()
                .filter_map(|given| self::part(&given.value));
            let inner: Vec<Value> = inner.collect();
            json!({ "type": "tool_call_response", "id": result.call_id, "response": inner })
        }
        Part::CachePoint(_) => return None,
    })
}

/// Where it is, but for what is inline: that is said to be there, and not told.
fn shown(modality: &str, media: &Media) -> Value {
    let mime = media.mime.as_deref();
    match &media.source {
        MediaSource::Url(uri) => {
            json!({ "type": "uri", "modality": modality, "mime_type": mime, "uri": uri })
        }
        MediaSource::FileId { id, .. } => {
            json!({ "type": "file", "modality": modality, "mime_type": mime, "file_id": id })
        }
        MediaSource::Base64(data) | MediaSource::Text(data) => json!({
            "type": "blob", "modality": modality, "mime_type": mime, "content": "", "bytes": data.len(),
        }),
    }
}

fn said(said: &Said) -> Value {
    match &said.block {
        Block::Text | Block::Refusal => json!({ "type": "text", "content": said.text }),
        Block::Reasoning => json!({ "type": "reasoning", "content": said.text }),
        Block::ToolCall { id, name, .. } => json!({
            "type": "tool_call", "id": id, "name": name, "arguments": arguments(&said.text),
        }),
        Block::Media(media) => shown("image", media),
    }
}

fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::StopSequence(_) | Stop::Pause => "stop",
        Stop::Length => "length",
        Stop::ToolUse => "tool_call",
        Stop::ContentFilter | Stop::Refusal => "content_filter",
    }
}

fn numbers(request: &ChatRequest, to: &mut Attributes) {
    if let Some(given) = &request.temperature {
        to.fraction(attributes::TEMPERATURE, given.value);
    }
    if let Some(given) = &request.top_p {
        to.fraction(attributes::TOP_P, given.value);
    }
    if let Some(given) = &request.max_tokens {
        to.number(attributes::MAX_TOKENS, given.value);
    }
    if let Some(given) = &request.seed {
        to.number(attributes::SEED, given.value);
    }
}
