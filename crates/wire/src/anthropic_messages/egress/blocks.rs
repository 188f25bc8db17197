//! Turns of the hub → Anthropic's messages.

use std::borrow::Cow;

use polygate_core::Failure;
use serde::Serialize;

use crate::canon::{CachePoint, Issuer, Losses, Media, MediaSource, Reasoning, Role, ToolResult};
use crate::media::{decode_text, is_text, mime};
use crate::turns::{
    GO_ON, NO_RESULT, Object, Piece, Turn, What, arguments, contents, nothing_left,
};

/// Types of pictures that Anthropic sees.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    role: &'static str,
    content: Vec<Marked<'a>>,
}

/// A block, and whether the prompt up to it is worth caching.
#[derive(Debug, Serialize)]
pub(crate) struct Marked<'a> {
    #[serde(flatten)]
    block: Block<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
}

/// A mark for the prompt cache.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "ephemeral")]
pub(crate) struct CacheControl<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

impl<'a> CacheControl<'a> {
    pub(crate) fn of(point: &'a CachePoint) -> Self {
        Self {
            ttl: point.ttl.as_deref(),
        }
    }
}

/// A block of content.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Block<'a> {
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
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Object<'a>,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Marked<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// Where an image or a document is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Source<'a> {
    Base64 {
        media_type: Cow<'a, str>,
        data: &'a str,
    },
    Url {
        url: &'a str,
    },
    Text {
        media_type: &'static str,
        data: Cow<'a, str>,
    },
    File {
        file_id: &'a str,
    },
}

/// All messages. Nothing that a user said may vanish whole.
pub(crate) fn messages<'a>(
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
                role: match turn.role {
                    Role::User => "user",
                    Role::Assistant => "assistant",
                    Role::System | Role::Developer => "system",
                },
                content,
            }),
        }
    }
    trim_prefill(&mut messages);
    Ok(messages)
}

/// Where the model does not go on with a last message of its own, it is asked to.
pub(crate) fn ask_to_go_on(messages: &mut Vec<Message<'_>>) {
    let mut said = messages.iter().rev();
    let last = said.find(|message| message.role != "system");
    if last.is_some_and(|last| last.role == "assistant") {
        messages.push(Message {
            role: "user",
            content: vec![Marked {
                block: Block::Text { text: GO_ON },
                cache_control: None,
            }],
        });
    }
}

/// A last message of the assistant's may not end in blanks.
fn trim_prefill(messages: &mut [Message<'_>]) {
    let last = messages.last_mut().filter(|last| last.role == "assistant");
    let last = last.and_then(|last| last.content.last_mut());
    if let Some(Block::Text { text }) = last.map(|marked| &mut marked.block) {
        *text = text.trim_end();
    }
}

/// Pieces as blocks, cache marks on the block before them.
pub(crate) fn blocks<'a>(
    pieces: &[Piece<'a>],
    losses: &mut Losses,
) -> Result<Vec<Marked<'a>>, Failure> {
    let mut blocks: Vec<Marked<'a>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if let What::CachePoint(point) = &piece.what {
            let last = blocks.last_mut().filter(|last| last.block.takes_marks());
            match last {
                Some(last) => last.cache_control = Some(CacheControl::of(point)),
                None => losses.at(piece.at),
            }
            continue;
        }
        match block(piece, losses)? {
            Some(block) => blocks.push(Marked {
                block,
                cache_control: None,
            }),
            None => losses.at(piece.at),
        }
    }
    Ok(blocks)
}

impl Block<'_> {
    fn takes_marks(&self) -> bool {
        !matches!(
            self,
            Block::Thinking { .. } | Block::RedactedThinking { .. }
        )
    }
}

/// A piece as a block; `None` where Anthropic has no such block.
fn block<'a>(piece: &Piece<'a>, losses: &mut Losses) -> Result<Option<Block<'a>>, Failure> {
    Ok(match &piece.what {
        What::Text(text) | What::Refusal(text) => Some(Block::Text { text }),
        What::Image(media) => image(media, losses),
        What::File(media) => document(media, losses),
        What::Reasoning(reasoning) => thinking(reasoning),
        What::Audio(_) | What::Result(_) | What::CachePoint(_) => None,
        What::Call(call, id) => {
            losses.seal(call, piece.at);
            Some(Block::ToolUse {
                id: id.clone(),
                name: &call.name,
                input: arguments(call, piece.at, losses),
            })
        }
        What::Answer(_, id, result) => Some(tool_result(id, *result, losses)?),
    })
}

/// Thinking goes back with the signature that Claude put on it, or not at all.
fn thinking(reasoning: &Reasoning) -> Option<Block<'_>> {
    let opaque = reasoning.opaque.as_ref();
    let opaque = opaque.filter(|opaque| opaque.issuer == Issuer::Anthropic)?;
    Some(if opaque.is_redacted {
        Block::RedactedThinking { data: &opaque.data }
    } else {
        Block::Thinking {
            thinking: &reasoning.text,
            signature: &opaque.data,
        }
    })
}

fn tool_result<'a>(
    id: &str,
    result: Option<&'a ToolResult>,
    losses: &mut Losses,
) -> Result<Block<'a>, Failure> {
    let content = match result {
        Some(result) => blocks(&contents(result), losses)?,
        None => vec![Marked {
            block: Block::Text { text: NO_RESULT },
            cache_control: None,
        }],
    };
    Ok(Block::ToolResult {
        tool_use_id: id.to_owned(),
        content,
        is_error: result.is_none_or(ToolResult::is_error),
    })
}

fn image<'a>(media: &'a Media, losses: &mut Losses) -> Option<Block<'a>> {
    let source = match &media.source {
        MediaSource::Base64(data) => {
            let media_type = mime(media).filter(|mime| PICTURES.contains(&&**mime))?;
            Source::Base64 { media_type, data }
        }
        MediaSource::Url(url) => Source::Url { url },
        MediaSource::FileId { id, keeper } => claudes(id, *keeper)?,
        MediaSource::Text(_) => return None,
    };
    losses.detail(media);
    losses.unless_absent(&media.name);
    Some(Block::Image { source })
}

/// A file that is stored at Anthropic.
fn claudes(file_id: &str, keeper: Issuer) -> Option<Source<'_>> {
    (keeper == Issuer::Anthropic).then_some(Source::File { file_id })
}

/// PDFs as they are, texts as text, pictures that came as files as pictures.
fn document<'a>(media: &'a Media, losses: &mut Losses) -> Option<Block<'a>> {
    let mime = mime(media);
    let title = media.name.as_deref().filter(|name| !name.is_empty());
    let source = match (&media.source, mime.as_deref()) {
        (MediaSource::Base64(data), Some("application/pdf")) => Source::Base64 {
            media_type: Cow::Borrowed("application/pdf"),
            data,
        },
        (MediaSource::Base64(data), Some(mime)) if is_text(mime) => Source::Text {
            media_type: "text/plain",
            data: Cow::Owned(decode_text(data).filter(|text| !text.trim().is_empty())?),
        },
        (MediaSource::Text(text), _) => Source::Text {
            media_type: "text/plain",
            data: Cow::Borrowed(text),
        },
        (MediaSource::FileId { id, keeper }, _) => claudes(id, *keeper)?,
        (MediaSource::Base64(data), Some(picture)) if PICTURES.contains(&picture) => {
            let media_type = Cow::Owned(picture.to_owned());
            losses.unless_absent(&media.name);
            return Some(Block::Image {
                source: Source::Base64 { media_type, data },
            });
        }
        (MediaSource::Url(url), None | Some("application/pdf")) => Source::Url { url },
        _ => return None,
    };
    Some(Block::Document { source, title })
}
