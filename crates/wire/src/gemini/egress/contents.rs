//! Turns of the hub → Gemini's contents.

use std::borrow::Cow;

use polygate_core::Failure;
use serde::Serialize;

use crate::canon::{Issuer, Losses, Media, MediaSource, Opaque, Part, Reasoning, Role, ToolResult};
use crate::media::mime;
use crate::openai_chat::titled;
use crate::turns::{
    NO_RESULT, Object, Piece, Turn, What, arguments, contents, nothing_left, text_of,
};

#[derive(Debug, Serialize)]
pub(crate) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<PartOut<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum PartOut<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Thought {
        text: &'a str,
        thought: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Inline {
        inline_data: Blob<'a>,
    },
    File {
        file_data: FileRef<'a>,
    },
    Call {
        function_call: Call<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Answer {
        function_response: Answer<'a>,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileRef<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<Cow<'a, str>>,
    file_uri: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Call<'a> {
    id: String,
    name: &'a str,
    args: Object<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    id: String,
    name: &'a str,
    response: Response<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartOut<'a>>,
}

/// What a model wants otherwise than others do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wants {
    /// The word for calls without a signature, where it wants one.
    pub unsigned: Option<&'static str>,
    /// What a function shows stands in its response; elsewhere it follows.
    pub shown_inside: bool,
}

/// What a function answered; always an object there.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Response<'a> {
    Object(Object<'a>),
    Result { result: Cow<'a, str> },
    Error { error: Cow<'a, str> },
}

/// Instructions, outside the conversation.
pub(crate) fn system<'a>(pieces: &[Piece<'a>], losses: &mut Losses) -> Option<Content<'a>> {
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match &piece.what {
            What::Text(text) => parts.push(PartOut::Text {
                text: Cow::Borrowed(text),
            }),
            _ => losses.at(piece.at),
        }
    }
    (!parts.is_empty()).then_some(Content { role: None, parts })
}

/// The conversation. Nothing that a user said may vanish whole.
pub(crate) fn conversation<'a>(
    turns: &[Turn<'a>],
    wants: Wants,
    losses: &mut Losses,
) -> Result<Vec<Content<'a>>, Failure> {
    let mut all = Vec::with_capacity(turns.len());
    for turn in turns {
        let parts = parts(&turn.pieces, wants, losses)?;
        let is_user = turn.role == Role::User;
        match (parts.is_empty(), is_user) {
            (true, true) => return Err(nothing_left(turn)),
            (true, false) => {}
            (false, _) => all.push(Content {
                role: Some(if is_user { "user" } else { "model" }),
                parts,
            }),
        }
    }
    Ok(all)
}

fn parts<'a>(
    pieces: &[Piece<'a>],
    wants: Wants,
    losses: &mut Losses,
) -> Result<Vec<PartOut<'a>>, Failure> {
    let mut parts = Vec::with_capacity(pieces.len());
    // Pictures that tools answered with: where a function's response has no place for them, the turn has.
    let mut shown = Vec::new();
    for piece in pieces {
        let part = match &piece.what {
            What::Text(text) | What::Refusal(text) => Some(PartOut::Text {
                text: Cow::Borrowed(text),
            }),
            What::Reasoning(reasoning) => thought(reasoning),
            What::Image(media) | What::File(media) | What::Audio(media) => media_out(media, losses),
            What::Call(call, id) => Some(PartOut::Call {
                function_call: Call {
                    id: id.clone(),
                    name: &call.name,
                    args: arguments(call, piece.at, losses),
                },
                thought_signature: googles(call.opaque.as_ref()).or(wants.unsigned),
            }),
            What::Answer(call, id, result) => {
                let all = result.map_or_else(Vec::new, |result| media_of(result, losses));
                let (inside, beside): (Vec<_>, Vec<_>) = all
                    .into_iter()
                    .partition(|part| wants.shown_inside && matches!(part, PartOut::Inline { .. }));
                shown.extend(beside);
                Some(PartOut::Answer {
                    function_response: Answer {
                        id: id.clone(),
                        name: &call.name,
                        response: response(*result),
                        parts: inside,
                    },
                })
            }
            What::Result(_) | What::CachePoint(_) => None,
        };
        match part {
            Some(part) => parts.push(part),
            None => losses.at(piece.at),
        }
    }
    let responses = parts
        .iter()
        .take_while(|part| matches!(part, PartOut::Answer { .. }));
    let after = responses.count();
    parts.splice(after..after, shown);
    Ok(parts)
}

/// A thought goes back with Google's own signature, or not at all.
fn thought(reasoning: &Reasoning) -> Option<PartOut<'_>> {
    let signature = googles(reasoning.opaque.as_ref())?;
    Some(PartOut::Thought {
        text: &reasoning.text,
        thought: true,
        thought_signature: Some(signature),
    })
}

fn googles(opaque: Option<&Opaque>) -> Option<&str> {
    let opaque = opaque.filter(|opaque| opaque.issuer == Issuer::Google)?;
    Some(&opaque.data)
}

fn media_of<'a>(result: &'a ToolResult, losses: &mut Losses) -> Vec<PartOut<'a>> {
    let mut parts = Vec::new();
    for piece in contents(result) {
        if matches!(piece.what, What::CachePoint(_)) {
            losses.at(piece.at);
        }
        let (What::Image(media) | What::File(media) | What::Audio(media)) = &piece.what else {
            continue;
        };
        match media_out(media, losses) {
            Some(part) => parts.push(part),
            None => losses.at(piece.at),
        }
    }
    parts
}

/// An object's text is the response as it is; any other text stands under a name, as Google's own SDK puts it.
fn response(result: Option<&ToolResult>) -> Response<'_> {
    let Some(result) = result else {
        return Response::Error {
            error: Cow::Borrowed(NO_RESULT),
        };
    };
    if result.is_error() {
        return Response::Error {
            error: text_of(result),
        };
    }
    if let [part] = result.content.as_slice()
        && let Part::Text(text) = &part.value
        && let Some(object) = Object::of(text)
    {
        return Response::Object(object);
    }
    Response::Result {
        result: text_of(result),
    }
}

fn media_out<'a>(media: &'a Media, losses: &mut Losses) -> Option<PartOut<'a>> {
    let mime_type = mime(media);
    let part = match &media.source {
        MediaSource::Base64(data) => PartOut::Inline {
            inline_data: Blob {
                mime_type: mime_type?,
                data,
            },
        },
        MediaSource::Url(file_uri)
        | MediaSource::FileId {
            id: file_uri,
            keeper: Issuer::Google,
        } => PartOut::File {
            file_data: FileRef {
                mime_type,
                file_uri,
            },
        },
        MediaSource::Text(text) => PartOut::Text {
            text: titled(media.name.as_deref(), text),
        },
        MediaSource::FileId { .. } => return None,
    };
    losses.detail(media);
    if !matches!(media.source, MediaSource::Text(_)) {
        losses.unless_absent(&media.name);
    }
    Some(part)
}
