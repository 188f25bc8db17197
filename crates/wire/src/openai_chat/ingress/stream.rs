//! Chat chunks, from events.

use polygate_core::{Failure, Usage};
use serde::Serialize;

use super::super::details::{Detail, detail};
use super::super::types::UsageOut;
use super::response::{
    Annotation, ExtraContent, Image, Logprobs, Sound, annotation, answer_id, finish_reason, image,
    sound,
};
use crate::canon::{Block, CallKind, ChatEvent, Opaque, Stop};
use crate::openai_chat::OpenaiChat;
use crate::{Dialect, ReplyHead, StreamEncoder};

/// Writes chunks. Its only state is which call has which index: the format is flat.
pub(crate) struct Encoder {
    reply: ReplyHead,
    id: String,
    /// Block index → tool call index, in the order of opening.
    calls: Vec<usize>,
    kinds: Vec<Kind>,
    /// Characters of the content so far: places of sources are counted over all of it.
    told: u64,
    /// Pictures so far.
    shown: usize,
    /// Sources so far.
    cited: usize,
    /// Sealed thoughts so far.
    sealed: usize,
    /// The thought that goes on: its seal, if one comes, is good for the whole of it only.
    thought: String,
    usage: Option<Usage>,
    stop: Option<Stop>,
    begun: bool,
    refused: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Text, behind so many characters.
    Text(u64),
    Reasoning,
    Refusal,
    ToolCall,
    CustomCall,
    Media,
}

impl Encoder {
    pub(crate) fn new(reply: ReplyHead) -> Self {
        Self {
            id: answer_id(None, &reply),
            reply,
            told: 0,
            shown: 0,
            cited: 0,
            sealed: 0,
            thought: String::new(),
            calls: vec![],
            kinds: vec![],
            usage: None,
            stop: None,
            begun: false,
            refused: false,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.chunk(
                Delta {
                    role: Some("assistant"),
                    content: Some(""),
                    ..Delta::default()
                },
                None,
                out,
            );
        }
    }

    fn open(&mut self, index: usize, block: &Block, out: &mut Vec<u8>) {
        let kind = match block {
            Block::Text => Kind::Text(self.told),
            Block::Reasoning => Kind::Reasoning,
            Block::Refusal => Kind::Refusal,
            Block::ToolCall {
                kind: CallKind::Function,
                ..
            } => Kind::ToolCall,
            Block::ToolCall { .. } => Kind::CustomCall,
            Block::Media(_) => Kind::Media,
        };
        if self.kinds.len() <= index {
            self.kinds.resize(index + 1, kind);
        }
        if let Some(known) = self.kinds.get_mut(index) {
            *known = kind;
        }
        self.refused |= matches!(kind, Kind::Refusal);
        match block {
            Block::Reasoning => self.thought.clear(),
            Block::ToolCall { id, name, kind } => self.open_call(index, id, name, *kind, out),
            Block::Media(_) => {
                let mut images: Vec<Image> = image(block).into_iter().collect();
                for image in &mut images {
                    image.index = Some(self.shown);
                    self.shown += 1;
                }
                let audio = sound(block);
                if !images.is_empty() || audio.is_some() {
                    let delta = Delta {
                        images,
                        audio,
                        ..Delta::default()
                    };
                    self.chunk(delta, None, out);
                }
            }
            _ => {}
        }
    }

    fn open_call(&mut self, index: usize, id: &str, name: &str, kind: CallKind, out: &mut Vec<u8>) {
        let call = self.calls.len();
        self.calls.push(index);
        let is_custom = kind == CallKind::Custom;
        let call = CallDelta {
            index: call,
            id: Some(id),
            kind: Some(if is_custom { "custom" } else { "function" }),
            function: (!is_custom).then_some(FunctionDelta {
                name: Some(name),
                arguments: "",
            }),
            custom: is_custom.then_some(CustomDelta {
                name: Some(name),
                input: "",
            }),
            extra_content: None,
        };
        self.call(call, out);
    }

    fn call_index(&self, index: usize) -> usize {
        let known = self.calls.iter().position(|known| *known == index);
        known.unwrap_or_default()
    }

    /// A seal on thinking is an entry of its own; one on a call is Google's, and goes with it.
    fn seal(&mut self, index: usize, opaque: &Opaque, out: &mut Vec<u8>) {
        match self.kinds.get(index) {
            Some(Kind::ToolCall) => {
                if let Some(extra) = ExtraContent::of(opaque) {
                    let call = CallDelta {
                        index: self.call_index(index),
                        id: None,
                        kind: None,
                        function: Some(FunctionDelta {
                            name: None,
                            arguments: "",
                        }),
                        custom: None,
                        extra_content: Some(extra),
                    };
                    self.call(call, out);
                }
            }
            Some(Kind::Reasoning) => {
                let delta = Delta {
                    reasoning_details: Some([detail(&self.thought, opaque, self.sealed)]),
                    ..Delta::default()
                };
                self.chunk(delta, None, out);
                self.sealed += 1;
                self.thought.clear();
            }
            _ => {}
        }
    }

    fn delta(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        let kind = self.kinds.get(index).copied().unwrap_or(Kind::Text(0));
        match kind {
            Kind::Reasoning => self.thought.push_str(text),
            Kind::Text(_) => self.told += text.chars().count() as u64,
            _ => {}
        }
        let delta = match kind {
            Kind::Text(_) => Delta {
                content: Some(text),
                ..Delta::default()
            },
            Kind::Reasoning => Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
            Kind::Refusal => Delta {
                refusal: Some(text),
                ..Delta::default()
            },
            Kind::ToolCall | Kind::CustomCall => return self.call_delta(index, text, out),
            Kind::Media => return,
        };
        self.chunk(delta, None, out);
    }

    fn call_delta(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        let is_custom = matches!(self.kinds.get(index), Some(Kind::CustomCall));
        let call = CallDelta {
            index: self.call_index(index),
            id: None,
            kind: None,
            function: (!is_custom).then_some(FunctionDelta {
                name: None,
                arguments: text,
            }),
            custom: is_custom.then_some(CustomDelta {
                name: None,
                input: text,
            }),
            extra_content: None,
        };
        self.call(call, out);
    }

    fn call(&self, call: CallDelta<'_>, out: &mut Vec<u8>) {
        self.chunk(
            Delta {
                tool_calls: Some([call]),
                ..Delta::default()
            },
            None,
            out,
        );
    }

    fn chunk(&self, delta: Delta<'_>, finish_reason: Option<&'static str>, out: &mut Vec<u8>) {
        self.choice(delta, None, finish_reason, out);
    }

    fn choice(
        &self,
        delta: Delta<'_>,
        logprobs: Option<Logprobs<'_>>,
        finish_reason: Option<&'static str>,
        out: &mut Vec<u8>,
    ) {
        let choices = [Choice {
            index: 0,
            delta,
            logprobs,
            finish_reason,
        }];
        self.write(
            &choices,
            if self.reply.include_usage {
                Some(None)
            } else {
                None
            },
            out,
        );
    }

    fn write(&self, choices: &[Choice<'_>], usage: Option<Option<UsageOut>>, out: &mut Vec<u8>) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.reply.created,
            model: &self.reply.model,
            choices,
            usage,
        };
        out.extend_from_slice(b"data: ");
        // Writing strings and numbers to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, &chunk);
        out.extend_from_slice(b"\n\n");
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        match event {
            ChatEvent::Start { id, .. } => {
                self.id = answer_id(id.as_deref(), &self.reply);
                self.begin(out);
            }
            ChatEvent::Open { index, block } => {
                self.begin(out);
                self.open(*index, block, out);
            }
            ChatEvent::Delta { index, text } => self.delta(*index, text, out),
            ChatEvent::Cite { index, citation } => {
                let before = match self.kinds.get(*index) {
                    Some(Kind::Text(before)) => *before,
                    _ => 0,
                };
                let mut annotation = annotation(citation, before);
                annotation.index = Some(self.cited);
                self.cited += 1;
                let delta = Delta {
                    annotations: Some([annotation]),
                    ..Delta::default()
                };
                self.chunk(delta, None, out);
            }
            ChatEvent::Logprobs { tokens, .. } => {
                let delta = Delta {
                    content: Some(""),
                    ..Delta::default()
                };
                self.choice(delta, Some(Logprobs::new(tokens)), None, out);
            }
            ChatEvent::Seal { index, opaque } => self.seal(*index, opaque, out),
            ChatEvent::Close { .. } | ChatEvent::Failed(_) => {}
            ChatEvent::Usage(usage) => self.usage.get_or_insert_default().merge(*usage),
            ChatEvent::Stop(stop) => {
                self.begin(out);
                self.chunk(
                    Delta::default(),
                    Some(finish_reason(stop, self.refused)),
                    out,
                );
                self.stop = Some(stop.clone());
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.reply.include_usage {
            self.write(
                &[],
                Some(Some(UsageOut::from(self.usage.unwrap_or_default()))),
                out,
            );
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&OpenaiChat.encode_stream_error(failure, request_id));
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageOut>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_details: Option<[Detail<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[Annotation<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<Sound<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<FunctionDelta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<CustomDelta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Serialize)]
struct CustomDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}
