//! Chat chunks: what one means, and writing them from events.

use polygate_core::Usage;
use serde::Serialize;

use super::response::{UsageOut, finish_reason};
use super::types::{DeltaPeek, Peek, counts};
use crate::canon::{Block, ChatEvent, Stop};
use crate::upstream_error::{in_band, member};
use crate::{Frame, Progress, ReplyHead, Signal, StreamEncoder};

/// What a chunk means.
pub(super) fn sniff(frame: &Frame<'_>) -> Signal {
    if frame.data.trim_ascii() == b"[DONE]" {
        return Signal {
            progress: Progress::End,
            ..Signal::default()
        };
    }
    let Ok(chunk) = serde_json::from_slice::<Peek<'_>>(&frame.data) else {
        return Signal::unreadable(frame);
    };
    let choices = chunk.choices.unwrap_or_default();
    let error =
        member(chunk.error).or_else(|| choices.iter().find_map(|choice| member(choice.error)));
    if let Some(error) = error {
        return Signal::failed(in_band(error));
    }
    let has_content = choices.iter().any(|choice| {
        let delta = choice
            .delta
            .and_then(|raw| serde_json::from_str::<DeltaPeek<'_>>(raw.get()).ok());
        delta.is_some_and(|delta| delta.has_content())
            || choice
                .text
                .is_some_and(|raw| !matches!(raw.get(), "null" | "\"\""))
    });
    let finished = choices.iter().any(|choice| {
        choice
            .finish_reason
            .as_deref()
            .is_some_and(|reason| !reason.is_empty())
    });
    let progress = match (finished, has_content) {
        (true, _) => Progress::Finish,
        (false, true) => Progress::Content,
        (false, false) => Progress::Preamble,
    };
    let usage = counts(chunk.usage);
    Signal {
        progress,
        usage,
        is_only_usage: usage.is_some() && choices.is_empty(),
        failure: None,
    }
}

/// Writes chunks. Its only state is which call has which index: the format is flat.
pub(super) struct Encoder {
    reply: ReplyHead,
    id: String,
    /// Block index → tool call index, in the order of opening.
    calls: Vec<usize>,
    kinds: Vec<Kind>,
    usage: Option<Usage>,
    stop: Option<Stop>,
    begun: bool,
    refused: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Reasoning,
    Refusal,
    ToolCall,
}

impl Encoder {
    pub(super) fn new(reply: ReplyHead) -> Self {
        let id = reply.fallback_id.clone();
        Self {
            reply,
            id,
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
            Block::Text => Kind::Text,
            Block::Reasoning => Kind::Reasoning,
            Block::Refusal => Kind::Refusal,
            Block::ToolCall { .. } => Kind::ToolCall,
        };
        if self.kinds.len() <= index {
            self.kinds.resize(index + 1, kind);
        }
        if let Some(known) = self.kinds.get_mut(index) {
            *known = kind;
        }
        self.refused |= matches!(kind, Kind::Refusal);
        if let Block::ToolCall { id, name } = block {
            let call = self.calls.len();
            self.calls.push(index);
            let function = FunctionDelta {
                name: Some(name),
                arguments: "",
            };
            self.call(
                CallDelta {
                    index: call,
                    id: Some(id),
                    kind: Some("function"),
                    function,
                },
                out,
            );
        }
    }

    fn delta(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        let delta = match self.kinds.get(index).copied().unwrap_or(Kind::Text) {
            Kind::Text => Delta {
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
            Kind::ToolCall => {
                let call = self
                    .calls
                    .iter()
                    .position(|known| *known == index)
                    .unwrap_or_default();
                let function = FunctionDelta {
                    name: None,
                    arguments: text,
                };
                return self.call(
                    CallDelta {
                        index: call,
                        id: None,
                        kind: None,
                        function,
                    },
                    out,
                );
            }
        };
        self.chunk(delta, None, out);
    }

    fn call(&mut self, call: CallDelta<'_>, out: &mut Vec<u8>) {
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
        let choices = [Choice {
            index: 0,
            delta,
            logprobs: None,
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
                if let Some(id) = id {
                    self.id = super::response::answer_id(id);
                }
                self.begin(out);
            }
            ChatEvent::Open { index, block } => {
                self.begin(out);
                self.open(*index, block, out);
            }
            ChatEvent::Delta { index, text } => self.delta(*index, text, out),
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
    logprobs: Option<()>,
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
    refusal: Option<&'a str>,
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
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}
