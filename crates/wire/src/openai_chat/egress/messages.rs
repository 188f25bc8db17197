//! Turns of the hub → chat messages.
//!
//! Text alone is a string, since many compatible servers take nothing else; answers of tools are messages of their own, and what
//! they cannot hold (pictures) follows them as the user's.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use polygate_core::Failure;
use serde::Serialize;

use super::parts::{Content, Inside, PartOut, Thought, content};
use super::request::CacheControl;
use crate::Target;
use crate::canon::{CachePoint, CallKind, Issuer, Losses, Reasoning, Role, ToolCall, ToolResult};
use crate::openai_chat::details::{Detail, detail};
use crate::openai_chat::ingress::ExtraContent;
use crate::quirks::{Continues, Quirks, ReasoningHistory};
use crate::turns::{Conversation, NO_RESULT, Piece, Turn, What, contents, nothing_left, text_of};

/// A message.
#[derive(Debug, Default, Serialize)]
pub(crate) struct MessageOut<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// How messages are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing<'w> {
    /// For whom.
    pub target: &'w Target<'w>,
    /// The model is not kept from thinking.
    pub thinks: bool,
}

/// More instructions, behind those that open the conversation.
pub(crate) fn instruct(messages: &mut Vec<MessageOut<'_>>, text: String) {
    let said = messages.first_mut().filter(|first| first.role == "system");
    match said.and_then(|first| first.content.as_mut()) {
        Some(Content::Text(said)) => {
            let said = said.to_mut();
            said.push_str("\n\n");
            said.push_str(&text);
        }
        _ => messages.insert(
            0,
            MessageOut {
                role: "system",
                content: Some(Content::Text(Cow::Owned(text))),
                ..MessageOut::default()
            },
        ),
    }
}

impl Writing<'_> {
    /// All messages. Nothing that a user said may vanish whole.
    pub(crate) fn messages<'a>(
        self,
        said: &Conversation<'a>,
        losses: &mut Losses,
    ) -> Result<Vec<MessageOut<'a>>, Failure> {
        let mut out = Vec::with_capacity(said.turns.len() + 1);
        out.extend(self.instructions(&said.system, "system", losses));
        for turn in &said.turns {
            let before = out.len();
            match turn.role {
                Role::System => out.extend(self.instructions(&turn.pieces, "system", losses)),
                Role::Developer if self.quirks().developer => {
                    out.extend(self.instructions(&turn.pieces, "developer", losses));
                }
                Role::Developer => {
                    let more = self.instructions(&turn.pieces, "system", losses);
                    join(&mut out, more);
                }
                Role::Assistant => out.extend(self.assistant(turn, losses)),
                Role::User => self.user(turn, &mut out, losses),
            }
            if out.len() == before && turn.role == Role::User {
                return Err(nothing_left(turn));
            }
        }
        self.go_on(&mut out);
        Ok(out)
    }

    pub(super) fn quirks(&self) -> &Quirks {
        self.target.quirks
    }

    /// Whoever ends with words of the assistant wants them gone on with.
    fn go_on(&self, out: &mut [MessageOut<'_>]) {
        let last = out.last_mut().filter(|last| {
            last.role == "assistant" && last.tool_calls.is_empty() && last.content.is_some()
        });
        match (last, self.quirks().continues) {
            (Some(last), Some(Continues::Prefix)) => last.prefix = Some(true),
            (Some(last), Some(Continues::Partial)) => last.partial = Some(true),
            _ => {}
        }
    }

    fn instructions<'a>(
        &self,
        pieces: &[Piece<'a>],
        role: &'static str,
        losses: &mut Losses,
    ) -> Option<MessageOut<'a>> {
        Some(MessageOut {
            role,
            content: Some(content(self.parts(pieces, losses), "\n\n")?),
            ..MessageOut::default()
        })
    }

    fn user<'a>(&self, turn: &Turn<'a>, out: &mut Vec<MessageOut<'a>>, losses: &mut Losses) {
        let mut shown = Vec::new();
        let mut rest = turn.pieces.as_slice();
        while let [first, after @ ..] = rest
            && let What::Answer(_, id, result) = &first.what
        {
            rest = after;
            let mut message = answer(self.id(id), *result, losses);
            if let [mark, after @ ..] = rest
                && let What::CachePoint(point) = &mark.what
            {
                rest = after;
                if self.quirks().cache_control {
                    message.mark(point);
                } else {
                    losses.at(mark.at);
                }
            }
            out.push(message);
            let media = result.map(|result| self.media_of(result, losses));
            shown.extend(media.into_iter().flatten());
        }
        shown.extend(self.parts(rest, losses));
        if let Some(content) = content(shown, "\n\n") {
            out.push(MessageOut {
                role: "user",
                content: Some(content),
                ..MessageOut::default()
            });
        }
    }

    /// What a tool showed: its message has no place for it.
    fn media_of<'a>(&self, result: &'a ToolResult, losses: &mut Losses) -> Vec<PartOut<'a>> {
        let shown: Vec<Piece<'a>> = contents(result)
            .into_iter()
            .filter(|piece| !matches!(piece.what, What::Text(_) | What::Refusal(_)))
            .collect();
        self.parts(&shown, losses)
    }

    fn assistant<'a>(&self, turn: &Turn<'a>, losses: &mut Losses) -> Option<MessageOut<'a>> {
        let mut message = MessageOut {
            role: "assistant",
            ..MessageOut::default()
        };
        let mut thoughts = String::new();
        for piece in &turn.pieces {
            match &piece.what {
                What::Call(called, id) => {
                    let call = self.call(called, id, piece.at, losses);
                    message.tool_calls.push(call);
                }
                What::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
                What::Reasoning(reasoning) => {
                    let details = &mut message.reasoning_details;
                    self.thought(reasoning, piece.at, &mut thoughts, details, losses);
                }
                _ => {}
            }
        }
        let mut parts = self.parts(&turn.pieces, losses);
        let says_something =
            !parts.is_empty() || message.refusal.is_some() || !message.tool_calls.is_empty();
        self.remember(thoughts, &mut message, &mut parts);
        message.content = content(parts, "");
        says_something.then_some(message)
    }

    /// Puts thoughts where the provider looks for them.
    fn remember<'a>(
        &self,
        mut thoughts: String,
        message: &mut MessageOut<'a>,
        parts: &mut Vec<PartOut<'a>>,
    ) {
        if thoughts.is_empty() && self.thinks && self.quirks().reasoning_required {
            thoughts.push(' ');
        }
        let Some(place) = self
            .quirks()
            .reasoning_history
            .filter(|_| !thoughts.is_empty())
        else {
            return;
        };
        let in_front = match place {
            ReasoningHistory::ReasoningContent => {
                message.reasoning_content = Some(thoughts);
                return;
            }
            ReasoningHistory::Reasoning | ReasoningHistory::ReasoningDetails => {
                message.reasoning = Some(thoughts);
                return;
            }
            ReasoningHistory::Thinking => Inside::Thinking {
                thinking: [Thought { text: thoughts }],
            },
            ReasoningHistory::Tags => Inside::Text {
                text: Cow::Owned(format!("<think>\n{thoughts}\n</think>\n")),
            },
        };
        parts.insert(
            0,
            PartOut {
                what: in_front,
                cache_control: None,
            },
        );
    }

    /// Thinking goes back to providers that want it; its seal only to those that pass seals on.
    fn thought<'a>(
        &self,
        reasoning: &'a Reasoning,
        at: &str,
        thoughts: &mut String,
        details: &mut Vec<Detail<'a>>,
        losses: &mut Losses,
    ) {
        match (&reasoning.opaque, self.quirks().reasoning_history) {
            (Some(opaque), Some(ReasoningHistory::ReasoningDetails)) => {
                details.push(detail(&reasoning.text, opaque, details.len()));
            }
            (opaque, Some(_)) => {
                thoughts.push_str(&reasoning.text);
                if opaque.is_some() {
                    losses.at(at);
                }
            }
            (_, None) => losses.at(at),
        }
    }

    fn call<'a>(&self, call: &'a ToolCall, id: &str, at: &str, losses: &mut Losses) -> Call<'a> {
        let is_googles = self.target.model.contains("gemini");
        let signature = call.opaque.as_ref().filter(|_| is_googles);
        if signature.is_none() {
            losses.seal(call, at);
        }
        let arguments = if call.arguments.trim().is_empty() && call.kind == CallKind::Function {
            "{}"
        } else {
            &call.arguments
        };
        Call {
            id: self.id(id),
            kind: "function",
            function: Function {
                name: &call.name,
                arguments,
            },
            extra_content: signature
                .filter(|opaque| opaque.issuer == Issuer::Google)
                .and_then(ExtraContent::of),
        }
    }

    /// A call's id as the provider wants it: the same for the call and its answer.
    fn id(&self, id: &str) -> String {
        match self.quirks().id_length {
            Some(length) if !is_short(id, length) => shortened(id, length),
            _ => id.to_owned(),
        }
    }
}

fn answer<'a>(id: String, result: Option<&'a ToolResult>, losses: &mut Losses) -> MessageOut<'a> {
    let text = result.map_or(Cow::Borrowed(NO_RESULT), text_of);
    if let Some(error) = result.and_then(|result| result.error.as_ref())
        && error.value
    {
        losses.at(&error.at);
    }
    MessageOut {
        role: "tool",
        content: Some(Content::Text(text)),
        tool_call_id: Some(id),
        ..MessageOut::default()
    }
}

impl<'a> MessageOut<'a> {
    /// A mark for the cache behind a text.
    fn mark(&mut self, point: &'a CachePoint) {
        if let Some(Content::Text(text)) = &mut self.content {
            let text = std::mem::take(text);
            self.content = Some(Content::Parts(vec![PartOut {
                what: Inside::Text { text },
                cache_control: Some(CacheControl::of(point)),
            }]));
        }
    }
}

/// Instructions of the application where they are those of the operator too: one message for both, if they stand together.
fn join<'a>(out: &mut Vec<MessageOut<'a>>, more: Option<MessageOut<'a>>) {
    let Some(more) = more else { return };
    match (out.last_mut(), &more.content) {
        (
            Some(MessageOut {
                role: "system",
                content: Some(Content::Text(said)),
                ..
            }),
            Some(Content::Text(text)),
        ) => *said = Cow::Owned(format!("{said}\n\n{text}")),
        _ => out.push(more),
    }
}

fn is_short(id: &str, length: usize) -> bool {
    id.len() == length && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Letters and digits that no other id is likely to become.
fn shortened(id: &str, length: usize) -> String {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let mut rest = hasher.finish();
    let mut short = String::with_capacity(length);
    for _ in 0..length {
        let letter = LETTERS.get((rest % LETTERS.len() as u64) as usize);
        short.push(letter.copied().map_or('0', char::from));
        rest /= LETTERS.len() as u64;
    }
    short
}
