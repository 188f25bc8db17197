//! Parts of a message's content: texts, pictures, documents and sound, as far as the provider takes them.

use std::borrow::Cow;

use serde::Serialize;

use super::messages::Writing;
use super::request::CacheControl;
use crate::canon::{Issuer, Losses, Media, MediaSource};
use crate::media::mime;
use crate::openai_chat::ingress::data_url;
use crate::quirks::Feature;
use crate::turns::{Piece, What};

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<PartOut<'a>>),
}

#[derive(Debug, Serialize)]
pub(super) struct PartOut<'a> {
    #[serde(flatten)]
    pub what: Inside<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Inside<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    InputAudio {
        input_audio: Sound<'a>,
    },
    File {
        file: FileOut<'a>,
    },
    /// Mistral's documents.
    DocumentUrl {
        document_url: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        document_name: Option<&'a str>,
    },
    /// Mistral's thoughts.
    Thinking {
        thinking: [Thought; 1],
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "text")]
pub(super) struct Thought {
    pub text: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Sound<'a> {
    Named(InputAudio<'a>),
    Bare(&'a str),
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct InputAudio<'a> {
    data: &'a str,
    format: &'static str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct FileOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
}

impl Inside<'_> {
    /// A file that is stored has a name where it is.
    fn is_nameless(&self) -> bool {
        matches!(self, Inside::File { file } if file.filename.is_none())
    }
}

impl Writing<'_> {
    /// The pieces that are parts of a message's content, cache marks on the part before them.
    pub(super) fn parts<'a>(&self, pieces: &[Piece<'a>], losses: &mut Losses) -> Vec<PartOut<'a>> {
        let mut parts: Vec<PartOut<'a>> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let inside = match &piece.what {
                What::Text(text) => Some(Inside::Text {
                    text: Cow::Borrowed(*text),
                }),
                What::Image(media) => self
                    .image(media)
                    .inspect(|_| losses.unless_absent(&media.name)),
                What::File(media) => self.file(media).inspect(|inside| {
                    if inside.is_nameless() {
                        losses.unless_absent(&media.name);
                    }
                }),
                What::Audio(media) => self
                    .audio(media)
                    .inspect(|_| losses.unless_absent(&media.name)),
                What::CachePoint(point) => {
                    let last = parts.last_mut().filter(|_| self.quirks().cache_control);
                    match last {
                        Some(last) => last.cache_control = Some(CacheControl::of(point)),
                        None => losses.at(piece.at),
                    }
                    continue;
                }
                What::Result(_) => None,
                What::Refusal(_) | What::Reasoning(_) | What::Call(..) | What::Answer(..) => {
                    continue;
                }
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

    fn image<'a>(&self, media: &'a Media) -> Option<Inside<'a>> {
        let is_lost = match &media.source {
            MediaSource::FileId { .. } => true,
            MediaSource::Url(_) => self.quirks().lacks(Feature::ImageUrls),
            _ => false,
        };
        if is_lost || self.quirks().lacks(Feature::Images) {
            return None;
        }
        let mime = mime(media).unwrap_or(Cow::Borrowed("image/png"));
        Some(Inside::ImageUrl {
            image_url: ImageUrl {
                url: data_url(media, &mime),
                detail: media.detail.as_deref(),
            },
        })
    }

    /// PDFs as files, texts as texts; other types have no place.
    fn file<'a>(&self, media: &'a Media) -> Option<Inside<'a>> {
        let mime = mime(media);
        let filename = media.name.as_deref().filter(|name| !name.is_empty());
        let takes_files = !self.quirks().lacks(Feature::Files);
        let takes_urls = takes_files && self.quirks().document_url;
        match (&media.source, mime.as_deref()) {
            (MediaSource::Text(text), _) => Some(Inside::Text {
                text: titled(filename, text),
            }),
            (MediaSource::Base64(data), Some(mime)) if crate::media::is_text(mime) => {
                let text = crate::media::decode_text(data)?;
                Some(Inside::Text {
                    text: Cow::Owned(titled(filename, &text).into_owned()),
                })
            }
            (MediaSource::Base64(_), Some(mime @ "application/pdf")) if takes_urls => {
                Some(Inside::DocumentUrl {
                    document_url: data_url(media, mime),
                    document_name: filename,
                })
            }
            (MediaSource::Url(url), _) if takes_urls => Some(Inside::DocumentUrl {
                document_url: url.clone(),
                document_name: filename,
            }),
            (MediaSource::FileId { id, keeper }, _)
                if takes_files && !takes_urls && *keeper == Issuer::OpenAi =>
            {
                Some(Inside::File {
                    file: FileOut {
                        file_id: Some(id),
                        ..FileOut::default()
                    },
                })
            }
            (MediaSource::Base64(data), Some("application/pdf")) if takes_files => {
                Some(Inside::File {
                    file: FileOut {
                        filename: Some(filename.unwrap_or("document.pdf")),
                        file_data: Some(format!("data:application/pdf;base64,{data}")),
                        file_id: None,
                    },
                })
            }
            _ => None,
        }
    }

    fn audio<'a>(&self, media: &'a Media) -> Option<Inside<'a>> {
        let MediaSource::Base64(data) = &media.source else {
            return None;
        };
        let quirks = self.quirks();
        let format = match mime(media)?.as_ref() {
            "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
            "audio/mpeg" | "audio/mp3" => Some("mp3"),
            _ => None,
        };
        let input_audio = match format {
            _ if quirks.lacks(Feature::Audio) => return None,
            _ if quirks.bare_audio => Sound::Bare(data),
            format => Sound::Named(InputAudio {
                data,
                format: format?,
            }),
        };
        Some(Inside::InputAudio { input_audio })
    }
}

/// Texts alone as one string, joined; anything more as parts.
pub(super) fn content<'a>(parts: Vec<PartOut<'a>>, between: &str) -> Option<Content<'a>> {
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

/// A text document in a format that knows none: its text, under its name.
pub(crate) fn titled<'a>(name: Option<&str>, text: &'a str) -> Cow<'a, str> {
    match name {
        Some(name) => Cow::Owned(format!("{name}:\n{text}")),
        None => Cow::Borrowed(text),
    }
}
