//! OpenAI's legacy completions, for upstreams that have only chat: the prompt is a user's message, the answer its text.

use std::collections::BTreeMap;

use bytes::Bytes;
use polygate_core::Failure;
use serde::Serialize;

use crate::canon::{
    Block, ChatEvent, ChatRequest, ChatResponse, Given, Message, Part, Role, Stop, TokenLogprob,
};
use crate::openai_chat::{OpenaiChat, UsageOut, decode_member};
use crate::request::{bad, refuse, value};
use crate::{Dialect, Format, Ingress, RawObject, ReplyHead, StreamEncoder};

/// The format.
#[derive(Debug)]
pub struct OpenaiCompletions;

impl Ingress for OpenaiCompletions {
    fn decode_request(&self, body: &RawObject) -> Result<ChatRequest, Failure> {
        let mut request = ChatRequest {
            source: Some(Format::OpenaiChat),
            ..ChatRequest::default()
        };
        let prompt = body
            .get("prompt")
            .ok_or_else(|| bad("prompt", "is missing"))?;
        request.messages.push(Message {
            role: Role::User,
            parts: vec![Given::new(Part::Text(text_of(prompt)?), "/prompt")],
            at: "/prompt".to_owned(),
        });
        for (name, text) in body.iter() {
            if text != "null" && name != "prompt" {
                member(&mut request, name, text)?;
            }
        }
        Ok(request)
    }

    fn encode_response(&self, answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
        let texts = answer.said.iter().filter(|said| is_text(&said.block));
        let tokens = texts.clone().flat_map(|said| &said.logprobs);
        let logprobs = Logprobs::of(tokens, &mut 0);
        let text: String = texts.map(|said| said.text.as_str()).collect();
        let completion = Completion {
            usage: Some(UsageOut::from(answer.usage.unwrap_or_default())),
            ..completion(&text, logprobs, Some(finish_reason(&answer.stop)), reply)
        };
        serde_json::to_vec(&completion).unwrap_or_default().into()
    }

    fn stream_encoder(&self, reply: ReplyHead) -> Box<dyn StreamEncoder> {
        Box::new(Encoder {
            reply,
            texts: vec![],
            offset: 0,
            usage: None,
        })
    }
}

/// Members that completions call as chat does are read as chat's; the others have no place there.
fn member(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
    match name {
        "suffix" if text != "\"\"" => Err(refuse(name, "needs a provider that completes text")),
        // A model of chat writes one answer, and does not repeat what it was asked.
        "best_of" if text == "1" => Ok(()),
        "echo" if text == "false" => Ok(()),
        "logprobs" => {
            let count: u64 = value(name, text)?;
            request.logprobs = Some(Given::new(count, "/logprobs"));
            Ok(())
        }
        _ => decode_member(request, name, text),
    }
}

/// One prompt; several, or tokens, are not a conversation.
fn text_of(prompt: &str) -> Result<String, Failure> {
    if prompt.starts_with('"') {
        return value("prompt", prompt);
    }
    let mut prompts: Vec<String> = serde_json::from_str(prompt).map_err(|_| {
        refuse(
            "prompt",
            "is made of tokens, which only a provider that completes text can read",
        )
    })?;
    match (prompts.pop(), prompts.is_empty()) {
        (Some(prompt), true) => Ok(prompt),
        _ => Err(refuse(
            "prompt",
            "must be one text for a provider that has only chat",
        )),
    }
}

fn is_text(block: &Block) -> bool {
    matches!(block, Block::Text | Block::Refusal)
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Length => "length",
        Stop::ContentFilter | Stop::Refusal => "content_filter",
        Stop::End | Stop::StopSequence(_) | Stop::ToolUse | Stop::Pause => "stop",
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageOut>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

/// Log probabilities: lists that stand side by side, an entry a token.
#[derive(Default, Serialize)]
struct Logprobs<'a> {
    tokens: Vec<&'a str>,
    token_logprobs: Vec<f64>,
    top_logprobs: Vec<BTreeMap<&'a str, f64>>,
    text_offset: Vec<usize>,
}

impl<'a> Logprobs<'a> {
    /// Of these tokens, which begin behind so many characters; `None` of none.
    fn of(tokens: impl Iterator<Item = &'a TokenLogprob>, offset: &mut usize) -> Option<Self> {
        let mut lists = Self::default();
        for token in tokens {
            let top = token.top.iter();
            lists
                .top_logprobs
                .push(top.map(|top| (top.token.as_str(), top.logprob)).collect());
            lists.tokens.push(&token.token);
            lists.token_logprobs.push(token.logprob);
            lists.text_offset.push(*offset);
            *offset += token.token.chars().count();
        }
        (!lists.tokens.is_empty()).then_some(lists)
    }
}

fn completion<'a>(
    text: &'a str,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
    reply: &'a ReplyHead,
) -> Completion<'a> {
    Completion {
        id: format!("cmpl-{}", reply.request_id),
        object: "text_completion",
        created: reply.created,
        model: &reply.model,
        choices: vec![Choice {
            index: 0,
            text,
            logprobs,
            finish_reason,
        }],
        usage: None,
    }
}

/// Writes chunks.
struct Encoder {
    reply: ReplyHead,
    /// Blocks that hold text.
    texts: Vec<usize>,
    /// Characters of the tokens so far.
    offset: usize,
    usage: Option<polygate_core::Usage>,
}

impl Encoder {
    fn write(completion: &Completion<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        // Writing strings and numbers to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, completion);
        out.extend_from_slice(b"\n\n");
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        match event {
            ChatEvent::Open { index, block } if is_text(block) => self.texts.push(*index),
            ChatEvent::Delta { index, text } if self.texts.contains(index) => {
                Self::write(&completion(text, None, None, &self.reply), out);
            }
            ChatEvent::Logprobs { index, tokens } if self.texts.contains(index) => {
                let logprobs = Logprobs::of(tokens.iter(), &mut self.offset);
                Self::write(&completion("", logprobs, None, &self.reply), out);
            }
            ChatEvent::Usage(usage) => self.usage.get_or_insert_default().merge(*usage),
            ChatEvent::Stop(stop) => {
                let completion = completion("", None, Some(finish_reason(stop)), &self.reply);
                Self::write(&completion, out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.reply.include_usage {
            let completion = Completion {
                choices: vec![],
                usage: Some(UsageOut::from(self.usage.unwrap_or_default())),
                ..completion("", None, None, &self.reply)
            };
            Self::write(&completion, out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&OpenaiChat.encode_stream_error(failure, request_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(token: &str, logprob: f64, top: Vec<TokenLogprob>) -> TokenLogprob {
        TokenLogprob {
            token: token.to_owned(),
            logprob,
            top,
            ..TokenLogprob::default()
        }
    }

    fn events() -> Vec<ChatEvent> {
        let said = |text: &str, tokens| {
            let text = text.to_owned();
            [
                ChatEvent::Delta { index: 0, text },
                ChatEvent::Logprobs { index: 0, tokens },
            ]
        };
        let mut events = vec![ChatEvent::Open {
            index: 0,
            block: Block::Text,
        }];
        let other = token("né", -1.5, vec![]);
        events.extend(said("né", vec![token("né", -0.5, vec![other])]));
        events.extend(said("e", vec![token("e", -0.25, vec![])]));
        events.push(ChatEvent::Stop(Stop::End));
        events
    }

    #[test]
    fn log_probabilities_are_told_whole_and_streamed() {
        let answer = ChatResponse::gather(events()).expect("an answer");
        let reply = ReplyHead::default();
        let whole = OpenaiCompletions.encode_response(&answer, &reply);
        let whole = String::from_utf8_lossy(&whole).into_owned();
        let all = r#""logprobs":{"tokens":["né","e"],"token_logprobs":[-0.5,-0.25],"top_logprobs":[{"né":-1.5},{}],"text_offset":[0,2]}"#;
        assert!(whole.contains(all), "{whole}");
        let (mut encoder, mut out) = (OpenaiCompletions.stream_encoder(reply), Vec::new());
        for event in events() {
            encoder.encode(&event, &mut out);
        }
        let out = String::from_utf8_lossy(&out).into_owned();
        let last = r#""logprobs":{"tokens":["e"],"token_logprobs":[-0.25],"top_logprobs":[{}],"text_offset":[2]}"#;
        assert!(out.contains(last), "{out}");
    }
}
