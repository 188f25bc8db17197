//! Turns of the hub → items of the input; calls, answers and thoughts are items of their own.

use std::borrow::Cow;

use polygate_core::{Failure, Kind};
use serde::Serialize;

use crate::canon::{CallKind, Issuer, Losses, Media, MediaSource, Reasoning, Role, ToolResult};
use crate::media::mime;
use crate::openai_chat::{data_url, titled};
use crate::turns::{Conversation, NO_RESULT, Piece, Turn, What, contents, nothing_left};

/// An item of the input.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Content<'a>>,
    },
    FunctionCall {
        call_id: String,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        call_id: String,
        output: Output<'a>,
    },
    CustomToolCall {
        call_id: String,
        name: &'a str,
        input: &'a str,
    },
    CustomToolCallOutput {
        call_id: String,
        output: Output<'a>,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        summary: Vec<Summary<'a>>,
        encrypted_content: &'a str,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub(crate) struct Summary<'a> {
    text: &'a str,
}

/// What a tool answered: a text, or parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Output<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Content<'a>>),
}

/// A part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Content<'a> {
    InputText {
        text: Cow<'a, str>,
    },
    OutputText {
        text: &'a str,
        annotations: [(); 0],
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        detail: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
}

/// All items. Nothing that a user said may vanish whole.
pub(crate) fn items<'a>(
    said: &Conversation<'a>,
    losses: &mut Losses,
) -> Result<Vec<Item<'a>>, Failure> {
    let mut items = Vec::new();
    for turn in &said.turns {
        let before = items.len();
        turn_items(turn, &mut items, losses);
        if items.len() == before && turn.role == Role::User {
            return Err(nothing_left(turn));
        }
    }
    if items.is_empty() {
        let message = "no message has anything that this provider can be sent";
        return Err(Failure::new(Kind::InvalidRequest, message).param("messages"));
    }
    Ok(items)
}

fn turn_items<'a>(turn: &Turn<'a>, items: &mut Vec<Item<'a>>, losses: &mut Losses) {
    let role = match turn.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut content = Vec::new();
    for piece in &turn.pieces {
        let own = match &piece.what {
            What::Call(call, id) => Some(match call.kind {
                CallKind::Function => Item::FunctionCall {
                    call_id: id.clone(),
                    name: &call.name,
                    arguments: if call.arguments.trim().is_empty() {
                        "{}"
                    } else {
                        &call.arguments
                    },
                },
                CallKind::Custom => Item::CustomToolCall {
                    call_id: id.clone(),
                    name: &call.name,
                    input: &call.arguments,
                },
            }),
            What::Answer(call, id, result) => Some(answer(call.kind, id, *result, losses)),
            What::Reasoning(thought) => match reasoning(thought) {
                Some(item) => Some(item),
                None => {
                    losses.at(piece.at);
                    continue;
                }
            },
            _ => None,
        };
        if let What::Call(call, _) = &piece.what {
            losses.seal(call, piece.at);
        }
        match own {
            Some(item) => {
                flush(role, &mut content, items);
                items.push(item);
            }
            None => match part(piece, turn.role, losses) {
                Some(part) => content.push(part),
                None => losses.at(piece.at),
            },
        }
    }
    flush(role, &mut content, items);
}

fn flush<'a>(role: &'static str, content: &mut Vec<Content<'a>>, items: &mut Vec<Item<'a>>) {
    if !content.is_empty() {
        items.push(Item::Message {
            role,
            content: std::mem::take(content),
        });
    }
}

/// A thought goes back encrypted as OpenAI gave it, or not at all.
fn reasoning(reasoning: &Reasoning) -> Option<Item<'_>> {
    let opaque = reasoning.opaque.as_ref();
    let opaque = opaque.filter(|opaque| opaque.issuer == Issuer::OpenAi)?;
    let text = reasoning.text.as_str();
    Some(Item::Reasoning {
        id: opaque.id.as_deref(),
        summary: (!text.is_empty())
            .then_some(Summary { text })
            .into_iter()
            .collect(),
        encrypted_content: &opaque.data,
    })
}

fn answer<'a>(
    kind: CallKind,
    id: &str,
    result: Option<&'a ToolResult>,
    losses: &mut Losses,
) -> Item<'a> {
    let output = result.map_or(Output::Text(Cow::Borrowed(NO_RESULT)), |result| {
        output(result, losses)
    });
    let call_id = id.to_owned();
    match kind {
        CallKind::Function => Item::FunctionCallOutput { call_id, output },
        CallKind::Custom => Item::CustomToolCallOutput { call_id, output },
    }
}

fn output<'a>(result: &'a ToolResult, losses: &mut Losses) -> Output<'a> {
    if let Some(error) = result.error.as_ref().filter(|error| error.value) {
        losses.at(&error.at);
    }
    let pieces = contents(result);
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in &pieces {
        match part(piece, Role::User, losses) {
            Some(part) => parts.push(part),
            None => losses.at(piece.at),
        }
    }
    match parts.as_mut_slice() {
        [] => Output::Text(Cow::Borrowed("")),
        [Content::InputText { text }] => Output::Text(std::mem::take(text)),
        _ => Output::Parts(parts),
    }
}

/// A piece as a part; `None` where there is no such part.
fn part<'a>(piece: &Piece<'a>, role: Role, losses: &mut Losses) -> Option<Content<'a>> {
    match &piece.what {
        What::Text(text) if role == Role::Assistant => Some(Content::OutputText {
            text,
            annotations: [],
        }),
        What::Text(text) => Some(Content::InputText {
            text: Cow::Borrowed(text),
        }),
        What::Refusal(refusal) => Some(Content::Refusal { refusal }),
        What::Image(media) => image(media, losses),
        What::File(media) => file(media, losses),
        _ => None,
    }
}

fn image<'a>(media: &'a Media, losses: &mut Losses) -> Option<Content<'a>> {
    losses.unless_absent(&media.name);
    let detail = media.detail.as_deref().unwrap_or("auto");
    if let MediaSource::FileId { id, keeper } = &media.source {
        return (*keeper == Issuer::OpenAi).then_some(Content::InputImage {
            detail,
            image_url: None,
            file_id: Some(id),
        });
    }
    let mime = mime(media).unwrap_or(Cow::Borrowed("image/png"));
    Some(Content::InputImage {
        detail,
        image_url: Some(data_url(media, &mime)),
        file_id: None,
    })
}

fn file<'a>(media: &'a Media, losses: &mut Losses) -> Option<Content<'a>> {
    let mime = mime(media);
    let mut kinds = ["video/", "audio/"].into_iter();
    if kinds.any(|kind| mime.as_ref().is_some_and(|mime| mime.starts_with(kind))) {
        return None;
    }
    let mut filename = media.name.as_deref().filter(|name| !name.is_empty());
    let (mut file_data, mut file_url, mut file_id) = (None, None, None);
    match &media.source {
        MediaSource::Text(text) => {
            let text = titled(filename, text);
            return Some(Content::InputText { text });
        }
        MediaSource::Base64(data) => {
            let mime = mime.unwrap_or(Cow::Borrowed("application/pdf"));
            filename = filename.or(Some(name_for(&mime)));
            file_data = Some(format!("data:{mime};base64,{data}"));
        }
        MediaSource::Url(url) => file_url = Some(url.as_str()),
        MediaSource::FileId { id, keeper } if *keeper == Issuer::OpenAi => {
            file_id = Some(id.as_str());
        }
        MediaSource::FileId { .. } => return None,
    }
    if file_data.is_none() && filename.take().is_some() {
        // Only data have a name there.
        losses.unless_absent(&media.name);
    }
    Some(Content::InputFile {
        filename,
        file_data,
        file_url,
        file_id,
    })
}

/// A file has to have a name there.
fn name_for(mime: &str) -> &'static str {
    match mime {
        "application/pdf" => "file.pdf",
        "text/markdown" => "file.md",
        "text/csv" => "file.csv",
        "text/html" => "file.html",
        "application/json" => "file.json",
        _ => "file.txt",
    }
}
