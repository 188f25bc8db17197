//! What stands beside an answer's text: sources, pictures, sound, and how likely its tokens were.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Decoder;
use crate::canon::{Block, ChatEvent, Citation, Media, MediaSource};
use crate::media::{encode, mime};
use crate::openai_chat::types::{Annotation, Logprobs};
use crate::request::address;

/// What `pcm16` is elsewhere: sound that does not say what it is.
const RAW_SOUND: &str = "audio/pcm;rate=24000";

impl Decoder {
    pub(super) fn annotations(&mut self, raw: &RawValue, out: &mut Vec<ChatEvent>) {
        let annotations: Vec<Annotation<'_>> = serde_json::from_str(raw.get()).unwrap_or_default();
        let cited = annotations.into_iter().filter_map(Annotation::source);
        for cited in cited {
            let start = cited.start_index.unwrap_or_default().0;
            let end = cited.end_index.unwrap_or_default().0;
            let citation = Citation {
                url: cited.url.map(Into::into).unwrap_or_default(),
                title: cited.title.map(Into::into),
                cited: cited.content.map(Into::into),
                span: (end > start).then_some((start, end)),
            };
            self.cite(citation, out);
        }
    }

    /// Sources belong to a text; where none goes on there is nothing they could stand behind.
    pub(super) fn cite(&mut self, citation: Citation, out: &mut Vec<ChatEvent>) {
        if let Some(flat) = self.flat.as_ref().filter(|flat| flat.block == Block::Text) {
            self.has_cited = true;
            out.push(ChatEvent::Cite {
                index: flat.index,
                citation,
            });
        }
    }

    pub(super) fn images(&mut self, raw: &RawValue, out: &mut Vec<ChatEvent>) {
        #[derive(serde::Deserialize)]
        struct Image {
            image_url: Option<Url>,
        }
        #[derive(serde::Deserialize)]
        struct Url {
            url: Option<String>,
        }
        let images: Vec<Image> = serde_json::from_str(raw.get()).unwrap_or_default();
        for url in images.into_iter().filter_map(|image| image.image_url?.url) {
            self.close_flat(out);
            let (source, mime) = address(url);
            let media = Media {
                source,
                mime,
                ..Media::default()
            };
            let index = self.open(Block::Media(media), out);
            out.push(ChatEvent::Close { index });
        }
    }

    /// Sound comes in pieces and is told whole.
    pub(super) fn speak(&mut self, out: &mut Vec<ChatEvent>) {
        if self.sound.is_empty() {
            return;
        }
        let mut media = Media {
            source: MediaSource::Base64(encode(&std::mem::take(&mut self.sound))),
            ..Media::default()
        };
        let mime = mime(&media).map(Cow::into_owned);
        media.mime = Some(mime.unwrap_or_else(|| RAW_SOUND.to_owned()));
        let index = self.open(Block::Media(media), out);
        out.push(ChatEvent::Close { index });
    }

    pub(super) fn logprobs(&mut self, raw: &RawValue, out: &mut Vec<ChatEvent>) {
        let logprobs: Option<Logprobs> = serde_json::from_str(raw.get()).ok();
        let tokens = logprobs
            .and_then(|logprobs| logprobs.content)
            .unwrap_or_default();
        if let Some(flat) = self.flat.as_ref().filter(|_| !tokens.is_empty()) {
            out.push(ChatEvent::Logprobs {
                index: flat.index,
                tokens: tokens.into_iter().map(Into::into).collect(),
            });
        }
    }
}
