//! Gemini's chunks, from events.

use std::borrow::Cow;

use polygate_core::{Failure, Usage};

use super::response::{
    Answer, Candidate, Citations, Logprobs, NOTHING, PartOut, Source, UsageOut, finish_reason,
    is_text,
};
use crate::canon::{Block, CallKind, ChatEvent, Citation, Opaque, Stop};
use crate::gemini::Gemini;
use crate::sse::on_one_line;
use crate::turns::Object;
use crate::{Dialect, ReplyHead, StreamEncoder};

/// Writes chunks, each an answer of its own. Texts go out as they come; a call is whole in one part, and therefore waits.
pub(crate) struct Encoder {
    reply: ReplyHead,
    id: Option<String>,
    /// Blocks that are open, by their addresses.
    open: Vec<(usize, Open)>,
    /// All text so far, on which sources count their places.
    text: String,
    usage: Usage,
    stop: Stop,
    has_begun: bool,
}

enum Open {
    /// Text, which began behind so many bytes.
    Text(usize),
    Thought,
    Call(Call),
    /// Written when it came.
    Media,
}

/// A call so far.
struct Call {
    id: String,
    name: String,
    kind: CallKind,
    arguments: String,
    opaque: Option<Opaque>,
    /// It waits for calls that began before it.
    is_whole: bool,
}

impl Encoder {
    pub(crate) fn new(reply: ReplyHead) -> Self {
        Self {
            reply,
            id: None,
            open: vec![],
            text: String::new(),
            usage: Usage::default(),
            stop: Stop::End,
            has_begun: false,
        }
    }

    fn open(&mut self, index: usize, block: &Block, out: &mut Vec<u8>) {
        let open = match block {
            block if is_text(block) => Open::Text(self.text.len()),
            Block::ToolCall { id, name, kind } => Open::Call(Call {
                id: id.clone(),
                name: name.clone(),
                kind: *kind,
                arguments: String::new(),
                opaque: None,
                is_whole: false,
            }),
            Block::Media(media) => {
                if let Some(part) = PartOut::media(media) {
                    self.part(part, out);
                }
                Open::Media
            }
            _ => Open::Thought,
        };
        self.open.push((index, open));
    }

    fn at(&mut self, index: usize) -> Option<&mut Open> {
        let mut open = self.open.iter_mut().rev();
        open.find(|(known, _)| *known == index)
            .map(|(_, open)| open)
    }

    fn delta(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        match self.at(index) {
            Some(Open::Call(call)) => call.arguments.push_str(text),
            Some(Open::Thought) if !text.is_empty() => self.part(PartOut::text(text, true), out),
            Some(Open::Text(_)) if !text.is_empty() => {
                self.text.push_str(text);
                self.part(PartOut::text(text, false), out);
            }
            Some(Open::Thought | Open::Text(_) | Open::Media) | None => {}
        }
    }

    /// A seal on a call goes with it; one on text comes behind it, as Google's own do.
    fn seal(&mut self, index: usize, opaque: &Opaque, out: &mut Vec<u8>) {
        let is_thought = match self.at(index) {
            Some(Open::Call(call)) => {
                call.opaque = Some(opaque.clone());
                return;
            }
            Some(Open::Thought) => true,
            Some(Open::Text(_) | Open::Media) => false,
            None => return,
        };
        let part = PartOut::text("", is_thought).signed(Some(opaque));
        if part.is_signed() {
            self.part(part, out);
        }
    }

    fn cite(&mut self, index: usize, citation: &Citation, out: &mut Vec<u8>) {
        let before = match self.at(index) {
            Some(Open::Text(before)) => *before,
            _ => self.text.len(),
        };
        let text = self.text.get(before..).unwrap_or_default();
        let source = Source::new(citation, text, before);
        let candidate = Candidate {
            citation_metadata: Citations::new(vec![source]),
            ..Candidate::new(NOTHING)
        };
        self.chunk(candidate, None, out);
    }

    fn close(&mut self, index: usize, out: &mut Vec<u8>) {
        if let Some(Open::Call(call)) = self.at(index) {
            call.is_whole = true;
            return self.whole_calls(out);
        }
        let place = self.open.iter().rposition(|(known, _)| *known == index);
        if let Some(place) = place {
            self.open.remove(place);
        }
    }

    /// Calls go out in the order in which they began.
    fn whole_calls(&mut self, out: &mut Vec<u8>) {
        let is_call = |(_, open): &(usize, Open)| matches!(open, Open::Call(_));
        while let Some(place) = self.open.iter().position(is_call) {
            if let Some((_, Open::Call(call))) = self.open.get(place)
                && !call.is_whole
            {
                return;
            }
            if let (_, Open::Call(call)) = self.open.remove(place) {
                self.call(&call, out);
            }
        }
    }

    fn call(&mut self, call: &Call, out: &mut Vec<u8>) {
        // What is no JSON object is quoted anyway.
        let is_quoted = call.kind == CallKind::Custom || Object::of(&call.arguments).is_none();
        let arguments = if is_quoted {
            Cow::Borrowed(&*call.arguments)
        } else {
            on_one_line(&call.arguments)
        };
        let part = PartOut::call(&call.id, &call.name, call.kind, &arguments);
        self.part(part.signed(call.opaque.as_ref()), out);
    }

    fn part(&mut self, part: PartOut<'_>, out: &mut Vec<u8>) {
        self.chunk(Candidate::new(&[part]), None, out);
    }

    fn chunk(&mut self, candidate: Candidate<'_>, usage: Option<Usage>, out: &mut Vec<u8>) {
        let chunk = Answer {
            candidates: [candidate],
            usage_metadata: usage.map(UsageOut::from),
            model_version: &self.reply.model,
            response_id: self.id.as_deref().unwrap_or(&self.reply.request_id),
        };
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        out.extend_from_slice(match (self.reply.is_array, is_first) {
            (true, true) => b"[",
            (true, false) => b",\r\n",
            (false, _) => b"data: ",
        });
        // Writing strings and numbers to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, &chunk);
        if !self.reply.is_array {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>) {
        match event {
            ChatEvent::Start { id, .. } => self.id.clone_from(id),
            ChatEvent::Open { index, block } => self.open(*index, block, out),
            ChatEvent::Delta { index, text } => self.delta(*index, text, out),
            ChatEvent::Cite { index, citation } => self.cite(*index, citation, out),
            ChatEvent::Logprobs { tokens, .. } => {
                let candidate = Candidate {
                    logprobs_result: Logprobs::new(tokens),
                    ..Candidate::new(NOTHING)
                };
                self.chunk(candidate, None, out);
            }
            ChatEvent::Seal { index, opaque } => self.seal(*index, opaque, out),
            ChatEvent::Close { index } => self.close(*index, out),
            ChatEvent::Usage(usage) => self.usage.merge(*usage),
            ChatEvent::Stop(stop) => self.stop = stop.clone(),
            ChatEvent::Failed(_) => {}
        }
    }

    /// The reason and the counts, which may have come after it, go out together. Clients rely on counts, even of nothing.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let candidate = Candidate {
            finish_reason: Some(finish_reason(&self.stop)),
            ..Candidate::new(NOTHING)
        };
        self.chunk(candidate, Some(self.usage), out);
        if self.reply.is_array {
            out.push(b']');
        }
    }

    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&Gemini.encode_stream_error(failure, request_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{Issuer, Media, MediaSource, TokenLogprob};

    fn written(events: &[ChatEvent], is_array: bool) -> String {
        let mut encoder = Encoder::new(ReplyHead {
            request_id: "call".to_owned(),
            model: "m".to_owned(),
            is_array,
            ..ReplyHead::default()
        });
        let mut out = Vec::new();
        events
            .iter()
            .for_each(|event| encoder.encode(event, &mut out));
        encoder.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    fn open(index: usize, block: Block) -> ChatEvent {
        ChatEvent::Open { index, block }
    }

    fn delta(index: usize, text: &str) -> ChatEvent {
        let text = text.to_owned();
        ChatEvent::Delta { index, text }
    }

    fn seal(index: usize, issuer: Issuer) -> ChatEvent {
        let opaque = Opaque {
            issuer,
            data: "c2ln".to_owned(),
            id: None,
            is_redacted: false,
        };
        ChatEvent::Seal { index, opaque }
    }

    fn call(id: &str) -> Block {
        Block::ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            kind: CallKind::Function,
        }
    }

    /// A chunk with this part, and what stands behind it in the candidate.
    fn chunk(part: &str, beside: &str) -> String {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{part}],"role":"model"}}{beside}}}],"modelVersion":"m","responseId":"r"}}"#
        )
    }

    #[test]
    fn events_become_chunks() {
        let usage = |input, output| {
            ChatEvent::Usage(Usage {
                input,
                output,
                ..Usage::default()
            })
        };
        let picture = Media {
            source: MediaSource::Base64("AAAA".to_owned()),
            mime: Some("image/png".to_owned()),
            ..Media::default()
        };
        let events = [
            ChatEvent::Start {
                id: Some("r".to_owned()),
                model: None,
            },
            usage(5, 0),
            open(0, Block::Reasoning),
            delta(0, "hm"),
            seal(0, Issuer::Google),
            seal(0, Issuer::Anthropic),
            ChatEvent::Close { index: 0 },
            open(1, Block::Text),
            delta(1, ""),
            delta(1, "é!"),
            ChatEvent::Cite {
                index: 1,
                citation: Citation {
                    url: "u".to_owned(),
                    span: Some((0, 1)),
                    ..Citation::default()
                },
            },
            ChatEvent::Logprobs {
                index: 1,
                tokens: vec![TokenLogprob {
                    token: "é".to_owned(),
                    ..TokenLogprob::default()
                }],
            },
            // Calls side by side, one with line ends between its arguments.
            open(2, call("a")),
            open(3, call("b")),
            delta(2, "{\n\"x\":"),
            delta(3, "{}"),
            delta(2, "\"\\n\"}"),
            seal(3, Issuer::Google),
            ChatEvent::Close { index: 3 },
            ChatEvent::Close { index: 2 },
            ChatEvent::Close { index: 1 },
            open(4, Block::Media(picture)),
            ChatEvent::Close { index: 4 },
            ChatEvent::Stop(Stop::ToolUse),
            usage(5, 9),
        ];
        let index = r#","index":0"#;
        let nothing = r#"{"text":""}"#;
        let last = chunk(nothing, r#","finishReason":"STOP","index":0"#).replace(
            r#""modelVersion""#,
            r#""usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":9,"totalTokenCount":14},"modelVersion""#,
        );
        let chunks = [
            chunk(r#"{"text":"hm","thought":true}"#, index),
            chunk(
                r#"{"text":"","thought":true,"thoughtSignature":"c2ln"}"#,
                index,
            ),
            chunk(r#"{"text":"é!"}"#, index),
            chunk(
                nothing,
                r#","index":0,"citationMetadata":{"citationSources":[{"startIndex":0,"endIndex":2,"uri":"u"}]}"#,
            ),
            chunk(
                nothing,
                r#","index":0,"logprobsResult":{"chosenCandidates":[{"token":"é","logProbability":0.0}]}"#,
            ),
            chunk(
                r#"{"functionCall":{"id":"a","name":"f","args":{ "x":"\n"}}}"#,
                index,
            ),
            chunk(
                r#"{"functionCall":{"id":"b","name":"f","args":{}},"thoughtSignature":"c2ln"}"#,
                index,
            ),
            chunk(
                r#"{"inlineData":{"mimeType":"image/png","data":"AAAA"}}"#,
                index,
            ),
            last,
        ];
        let frames: String = chunks
            .iter()
            .map(|chunk| format!("data: {chunk}\r\n\r\n"))
            .collect();
        assert_eq!(written(&events, false), frames);
        assert_eq!(
            written(&events, true),
            format!("[{}]", chunks.join(",\r\n"))
        );
    }

    #[test]
    fn an_empty_answer_is_one_chunk() {
        let events = [ChatEvent::Stop(Stop::Refusal)];
        let chunk = chunk(r#"{"text":""}"#, r#","finishReason":"SAFETY","index":0"#);
        let counts = r#""usageMetadata":{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0},"modelVersion""#;
        let chunk = chunk.replace("\"r\"", "\"call\"");
        let chunk = chunk.replace("\"modelVersion\"", counts);
        assert_eq!(written(&events, true), format!("[{chunk}]"));
    }
}
