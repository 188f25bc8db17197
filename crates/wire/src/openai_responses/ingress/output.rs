//! Items of an answer, as its whole and its stream write them.

use std::borrow::Cow;

use serde::Serialize;

use crate::ReplyHead;
use crate::canon::{Block, Citation, Media, MediaSource, Namespaced, TokenLogprob};
use crate::openai_chat::Token;
use crate::turns::Object;

/// An item of the output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item<'a> {
    Message {
        id: &'a str,
        status: &'static str,
        role: &'static str,
        content: Vec<Content<'a>>,
    },
    Reasoning {
        id: &'a str,
        summary: Vec<Summary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<&'a str>,
    },
    FunctionCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        arguments: &'a str,
    },
    CustomToolCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        input: &'a str,
    },
    ToolSearchCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a str,
        execution: &'static str,
        arguments: Object<'a>,
    },
    ImageGenerationCall {
        id: &'a str,
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        output_format: Option<String>,
        result: Option<&'a str>,
    },
}

/// A part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Content<'a> {
    OutputText {
        text: &'a str,
        annotations: Vec<Annotation<'a>>,
        logprobs: Vec<Token<'a>>,
    },
    Refusal {
        refusal: &'a str,
    },
}

/// A part of a thought.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub(crate) struct Summary<'a> {
    pub text: &'a str,
}

/// A source.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "url_citation")]
pub(crate) struct Annotation<'a> {
    url: &'a str,
    title: &'a str,
    start_index: u64,
    end_index: u64,
}

impl<'a> Annotation<'a> {
    pub(crate) fn of(citation: &'a Citation) -> Self {
        let (start_index, end_index) = citation.span.unwrap_or_default();
        Self {
            url: &citation.url,
            title: citation.title.as_deref().unwrap_or_default(),
            start_index,
            end_index,
        }
    }
}

pub(crate) fn tokens(tokens: &[TokenLogprob]) -> Vec<Token<'_>> {
    tokens.iter().map(Token::new).collect()
}

/// A tool's own name and its namespace, of the one name that others know it by.
pub(crate) fn unfold<'a>(
    flat: &'a str,
    namespaces: &'a [Namespaced],
) -> (&'a str, Option<&'a str>) {
    let known = namespaces.iter().find(|known| known.flat == flat);
    known.map_or((flat, None), |known| {
        (known.name.as_str(), Some(known.namespace.as_str()))
    })
}

/// Whether a block is a call of the client's own search for tools.
pub(crate) fn is_search(block: &Block, reply: &ReplyHead) -> bool {
    let Block::ToolCall { name, .. } = block else {
        return false;
    };
    reply.search.as_ref() == Some(name)
}

/// A picture's bytes, and their format.
pub(crate) fn picture(media: &Media) -> Option<(&str, String)> {
    let MediaSource::Base64(data) = &media.source else {
        return None;
    };
    let mime = crate::media::mime(media).unwrap_or(Cow::Borrowed("image/png"));
    let format = mime.strip_prefix("image/")?.to_owned();
    Some((data, format))
}

/// Whether a block has an item: of media only pictures that are there do.
pub(crate) fn has_item(block: &Block) -> bool {
    match block {
        Block::Media(media) => picture(media).is_some(),
        _ => true,
    }
}
