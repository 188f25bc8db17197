//! Turns of the hub → chat messages.
//!
//! Text alone is a string, since many compatible servers take nothing else; answers of tools are messages of their own, and what
//! they cannot hold (pictures) follows them as the user's.

use std::borrow::Cow;

use polygate_core::Failure;
use serde::Serialize;

use super::request::CacheControl;
use crate::Target;
use crate::canon::{
    CallKind, Issuer, Losses, Media, MediaSource, Reasoning, Role, ToolCall, ToolResult,
};
use crate::media::mime;
use crate::openai_chat::details::{Detail, detail};
use crate::openai_chat::ingress::{ExtraContent, data_url};
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
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<PartOut<'a>>),
}

#[derive(Debug, Serialize)]
struct PartOut<'a> {
    #[serde(flatten)]
    what: Inside<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Inside<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl<'a> },
    InputAudio { input_audio: InputAudio<'a> },
    File { file: FileOut<'a> },
}

#[derive(Debug, Serialize)]
struct ImageUrl<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct InputAudio<'a> {
    data: &'a str,
    format: &'static str,
}

#[derive(Debug, Default, Serialize)]
struct FileOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
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

/// All messages. Nothing that a user said may vanish whole.
pub(crate) fn messages<'a>(
    said: &Conversation<'a>,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Result<Vec<MessageOut<'a>>, Failure> {
    let mut out = Vec::with_capacity(said.turns.len());
    for turn in &said.turns {
        let before = out.len();
        match turn.role {
            Role::System => out.extend(instructions(turn, "system", target, losses)),
            Role::Developer => {
                let role = if target.quirks.developer {
                    "developer"
                } else {
                    "system"
                };
                out.extend(instructions(turn, role, target, losses));
            }
            Role::Assistant => out.extend(assistant(turn, target, losses)),
            Role::User => user(turn, target, &mut out, losses),
        }
        if out.len() == before && turn.role == Role::User {
            return Err(nothing_left(turn));
        }
    }
    Ok(out)
}

fn instructions<'a>(
    turn: &Turn<'a>,
    role: &'static str,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Option<MessageOut<'a>> {
    Some(MessageOut {
        role,
        content: content(parts(&turn.pieces, target, losses), "\n\n"),
        ..MessageOut::default()
    })
}

/// Answers of tools, one message each; then what the user said, and what the tools showed.
fn user<'a>(
    turn: &Turn<'a>,
    target: &Target<'_>,
    out: &mut Vec<MessageOut<'a>>,
    losses: &mut Losses,
) {
    let mut shown = Vec::new();
    for piece in &turn.pieces {
        if let What::Answer(_, id, result) = &piece.what {
            out.push(answer(id, *result, losses));
            shown.extend(
                result
                    .map(|result| media_of(result, target, losses))
                    .into_iter()
                    .flatten(),
            );
        }
    }
    shown.extend(parts(&turn.pieces, target, losses));
    if let Some(content) = content(shown, "\n\n") {
        out.push(MessageOut {
            role: "user",
            content: Some(content),
            ..MessageOut::default()
        });
    }
}

fn answer<'a>(id: &str, result: Option<&'a ToolResult>, losses: &mut Losses) -> MessageOut<'a> {
    let text = result.map_or(Cow::Borrowed(NO_RESULT), text_of);
    if let Some(error) = result.and_then(|result| result.error.as_ref())
        && error.value
    {
        losses.at(&error.at);
    }
    MessageOut {
        role: "tool",
        content: Some(Content::Text(text)),
        tool_call_id: Some(id.to_owned()),
        ..MessageOut::default()
    }
}

/// What a tool showed: its message has no place for it.
fn media_of<'a>(
    result: &'a ToolResult,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Vec<PartOut<'a>> {
    let shown: Vec<Piece<'a>> = contents(result)
        .into_iter()
        .filter(|piece| !matches!(piece.what, What::Text(_) | What::Refusal(_)))
        .collect();
    parts(&shown, target, losses)
}

fn assistant<'a>(
    turn: &Turn<'a>,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Option<MessageOut<'a>> {
    let mut message = MessageOut {
        role: "assistant",
        ..MessageOut::default()
    };
    let mut thoughts = String::new();
    for piece in &turn.pieces {
        match &piece.what {
            What::Call(called, id) => message
                .tool_calls
                .push(call(called, id, target, piece.at, losses)),
            What::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
            What::Reasoning(reasoning) => {
                let details = &mut message.reasoning_details;
                thought(reasoning, piece.at, target, &mut thoughts, details, losses);
            }
            _ => {}
        }
    }
    if !thoughts.is_empty() {
        match target.quirks.reasoning_history.as_deref() {
            Some("reasoning") => message.reasoning = Some(thoughts),
            _ => message.reasoning_content = Some(thoughts),
        }
    }
    message.content = content(parts(&turn.pieces, target, losses), "");
    let says_something =
        message.content.is_some() || message.refusal.is_some() || !message.tool_calls.is_empty();
    says_something.then_some(message)
}

/// Thinking goes back to providers that want it; its seal only to those that pass seals on.
fn thought<'a>(
    reasoning: &'a Reasoning,
    at: &str,
    target: &Target<'_>,
    thoughts: &mut String,
    details: &mut Vec<Detail<'a>>,
    losses: &mut Losses,
) {
    let history = target.quirks.reasoning_history.as_deref();
    match (&reasoning.opaque, history) {
        (Some(opaque), Some("reasoning_details")) => {
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

fn call<'a>(
    call: &'a ToolCall,
    id: &str,
    target: &Target<'_>,
    at: &str,
    losses: &mut Losses,
) -> Call<'a> {
    let is_googles = target.model.contains("gemini");
    let signature = call.opaque.as_ref().filter(|_| is_googles);
    if signature.is_none() && call.opaque.is_some() {
        losses.at(format!("{at}/thoughtSignature"));
    }
    let arguments = if call.arguments.trim().is_empty() && call.kind == CallKind::Function {
        "{}"
    } else {
        &call.arguments
    };
    Call {
        id: id.to_owned(),
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

/// Texts alone as one string, joined; anything more as parts.
fn content<'a>(parts: Vec<PartOut<'a>>, between: &str) -> Option<Content<'a>> {
    if parts.is_empty() {
        return None;
    }
    let is_plain = |part: &PartOut<'a>| {
        matches!(part.what, Inside::Text { .. }) && part.cache_control.is_none()
    };
    if !parts.iter().all(is_plain) {
        return Some(Content::Parts(parts));
    }
    let mut texts: Vec<Cow<'a, str>> = parts
        .into_iter()
        .filter_map(|part| match part.what {
            Inside::Text { text } => Some(text),
            _ => None,
        })
        .collect();
    Some(Content::Text(match texts.len() {
        1 => texts.remove(0),
        _ => Cow::Owned(texts.join(between)),
    }))
}

/// The pieces that are parts of a message's content, cache marks on the part before them.
fn parts<'a>(pieces: &[Piece<'a>], target: &Target<'_>, losses: &mut Losses) -> Vec<PartOut<'a>> {
    let mut parts: Vec<PartOut<'a>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let inside = match &piece.what {
            What::Text(text) => Some(Inside::Text {
                text: Cow::Borrowed(*text),
            }),
            What::Image(media) => image(media),
            What::File(media) => file(media),
            What::Audio(media) => audio(media),
            What::CachePoint(point) => {
                let last = parts.last_mut().filter(|_| target.quirks.cache_control);
                match last {
                    Some(last) => last.cache_control = Some(CacheControl::of(point)),
                    None => losses.at(piece.at),
                }
                continue;
            }
            What::Result(_) => None,
            What::Refusal(_) | What::Reasoning(_) | What::Call(..) | What::Answer(..) => continue,
        };
        match inside {
            Some(what) => parts.push(PartOut {
                what,
                cache_control: None,
            }),
            None => losses.at(piece.at),
        }
    }
    parts
}

fn image<'a>(media: &'a Media) -> Option<Inside<'a>> {
    let mime = mime(media).unwrap_or(Cow::Borrowed("image/png"));
    if matches!(media.source, MediaSource::FileId(_)) {
        return None;
    }
    Some(Inside::ImageUrl {
        image_url: ImageUrl {
            url: data_url(media, &mime),
            detail: media.detail.as_deref(),
        },
    })
}

/// PDFs as files, texts as texts; other types have no place.
fn file<'a>(media: &'a Media) -> Option<Inside<'a>> {
    let mime = mime(media);
    let filename = media.name.as_deref().filter(|name| !name.is_empty());
    match (&media.source, mime.as_deref()) {
        (MediaSource::FileId(id), _) => Some(Inside::File {
            file: FileOut {
                file_id: Some(id),
                ..FileOut::default()
            },
        }),
        (MediaSource::Text(text), _) => Some(Inside::Text {
            text: titled(filename, text),
        }),
        (MediaSource::Base64(data), Some("application/pdf")) => Some(Inside::File {
            file: FileOut {
                filename: Some(filename.unwrap_or("document.pdf")),
                file_data: Some(format!("data:application/pdf;base64,{data}")),
                file_id: None,
            },
        }),
        (MediaSource::Base64(data), Some(mime)) if crate::media::is_text(mime) => {
            let text = crate::media::decode_text(data)?;
            Some(Inside::Text {
                text: Cow::Owned(titled(filename, &text).into_owned()),
            })
        }
        _ => None,
    }
}

/// A text document in a format that knows none: its text, under its name.
pub(crate) fn titled<'a>(name: Option<&str>, text: &'a str) -> Cow<'a, str> {
    match name {
        Some(name) => Cow::Owned(format!("{name}:\n{text}")),
        None => Cow::Borrowed(text),
    }
}

fn audio(media: &Media) -> Option<Inside<'_>> {
    let MediaSource::Base64(data) = &media.source else {
        return None;
    };
    let format = match mime(media)?.as_ref() {
        "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
        "audio/mpeg" | "audio/mp3" => "mp3",
        _ => return None,
    };
    Some(Inside::InputAudio {
        input_audio: InputAudio { data, format },
    })
}
