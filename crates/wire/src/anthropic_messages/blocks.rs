//! Turns of the hub → Anthropic's messages.

use std::borrow::Cow;

use polygate_core::Failure;
use serde::Serialize;

use crate::canon::{Losses, Media, MediaSource, Role, ToolResult};
use crate::media::{decode_text, mime};
use crate::turns::{NO_RESULT, Object, Piece, Turn, What, arguments, contents, nothing_left};

/// Types of pictures that Anthropic sees.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A block of content.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Object<'a>,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// Where an image or a document is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 {
        media_type: Cow<'a, str>,
        data: &'a str,
    },
    Url {
        url: &'a str,
    },
    Text {
        media_type: &'static str,
        data: String,
    },
}

/// All messages. Nothing that a user said may vanish whole.
pub(super) fn messages<'a>(
    turns: &[Turn<'a>],
    losses: &mut Losses,
) -> Result<Vec<Message<'a>>, Failure> {
    let mut messages = Vec::with_capacity(turns.len());
    for turn in turns {
        let content = blocks(&turn.pieces, losses)?;
        let is_user = turn.role == Role::User;
        match (content.is_empty(), is_user) {
            (true, true) => return Err(nothing_left(turn)),
            (true, false) => {}
            (false, _) => messages.push(Message {
                role: if is_user { "user" } else { "assistant" },
                content,
            }),
        }
    }
    trim_prefill(&mut messages);
    Ok(messages)
}

/// A last message of the assistant's may not end in blanks.
fn trim_prefill(messages: &mut [Message<'_>]) {
    let last = messages.last_mut().filter(|last| last.role == "assistant");
    if let Some(Block::Text { text }) = last.and_then(|last| last.content.last_mut()) {
        *text = text.trim_end();
    }
}

fn blocks<'a>(pieces: &[Piece<'a>], losses: &mut Losses) -> Result<Vec<Block<'a>>, Failure> {
    let mut blocks = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match block(piece, losses)? {
            Some(block) => blocks.push(block),
            None => losses.at(piece.at.clone()),
        }
    }
    Ok(blocks)
}

/// A piece as a block; `None` where Anthropic has no such block.
fn block<'a>(piece: &Piece<'a>, losses: &mut Losses) -> Result<Option<Block<'a>>, Failure> {
    Ok(match &piece.what {
        What::Text(text) => Some(Block::Text { text }),
        What::Image(media) => image(media, &piece.at, losses),
        What::File(media) => document(media),
        What::Audio(_) | What::Result(_) => None,
        What::Call(call, id) => Some(Block::ToolUse {
            id: id.clone(),
            name: &call.name,
            input: arguments(call, &piece.at)?,
        }),
        What::Answer(_, id, result) => Some(tool_result(id, *result, &piece.at, losses)?),
    })
}

fn tool_result<'a>(
    id: &str,
    result: Option<&'a ToolResult>,
    at: &str,
    losses: &mut Losses,
) -> Result<Block<'a>, Failure> {
    let content = match result {
        Some(result) => blocks(&contents(result, at), losses)?,
        None => vec![Block::Text { text: NO_RESULT }],
    };
    Ok(Block::ToolResult {
        tool_use_id: id.to_owned(),
        content,
        is_error: result.is_none_or(|result| result.is_error),
    })
}

fn image<'a>(media: &'a Media, at: &str, losses: &mut Losses) -> Option<Block<'a>> {
    let source = match &media.source {
        MediaSource::Base64(data) => {
            let media_type = mime(media).filter(|mime| PICTURES.contains(&&**mime))?;
            Source::Base64 { media_type, data }
        }
        MediaSource::Url(url) => Source::Url { url },
        MediaSource::FileId(_) => return None,
    };
    if media
        .detail
        .as_deref()
        .is_some_and(|detail| detail != "auto")
    {
        losses.at(format!("{at}/image_url/detail"));
    }
    Some(Block::Image { source })
}

/// PDFs as they are, texts as text, pictures that came as files as pictures.
fn document(media: &Media) -> Option<Block<'_>> {
    let mime = mime(media);
    let title = media.name.as_deref().filter(|name| !name.is_empty());
    let source = match (&media.source, mime.as_deref()) {
        (MediaSource::Base64(data), Some("application/pdf")) => Source::Base64 {
            media_type: Cow::Borrowed("application/pdf"),
            data,
        },
        (MediaSource::Base64(data), Some(mime)) if is_text(mime) => Source::Text {
            media_type: "text/plain",
            data: decode_text(data).filter(|text| !text.trim().is_empty())?,
        },
        (MediaSource::Base64(data), Some(picture)) if PICTURES.contains(&picture) => {
            let media_type = Cow::Owned(picture.to_owned());
            return Some(Block::Image {
                source: Source::Base64 { media_type, data },
            });
        }
        (MediaSource::Url(url), None | Some("application/pdf")) => Source::Url { url },
        _ => return None,
    };
    Some(Block::Document { source, title })
}

fn is_text(mime: &str) -> bool {
    mime.starts_with("text/") || matches!(mime, "application/json" | "application/xml")
}
