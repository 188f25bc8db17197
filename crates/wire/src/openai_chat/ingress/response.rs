//! Whole chat answers, from the hub.

use bytes::Bytes;
use serde::Serialize;

use super::super::details::{Detail, detail};
use super::super::types::UsageOut;
use crate::ReplyHead;
use crate::canon::{
    Block, CallKind, ChatResponse, Citation, Issuer, Media, MediaSource, Opaque, Said, Stop,
    TokenLogprob,
};

/// Writes an answer.
pub(crate) fn encode(answer: &ChatResponse, reply: &ReplyHead) -> Bytes {
    let message = message(&answer.said);
    let refused = message.refusal.is_some();
    let completion = Completion {
        id: answer_id(answer.id.as_deref(), reply),
        object: "chat.completion",
        created: reply.created,
        model: &reply.model,
        choices: [Choice {
            index: 0,
            message,
            logprobs: logprobs(&answer.said),
            finish_reason: finish_reason(&answer.stop, refused),
        }],
        usage: UsageOut::from(answer.usage.unwrap_or_default()),
    };
    serde_json::to_vec(&completion).unwrap_or_default().into()
}

fn message(said: &[Said]) -> Message<'_> {
    let text = |wanted: fn(&Block) -> bool| {
        let found: Vec<&str> = said
            .iter()
            .filter(|said| wanted(&said.block))
            .map(|said| said.text.as_str())
            .collect();
        (!found.is_empty()).then(|| found.concat())
    };
    let content = text(|block| matches!(block, Block::Text));
    let refusal = text(|block| matches!(block, Block::Refusal));
    let reasoning_content = text(|block| matches!(block, Block::Reasoning));
    let calls: Vec<Call<'_>> = said.iter().filter_map(call).collect();
    let tool_calls = (!calls.is_empty()).then_some(calls);
    let sealed = said
        .iter()
        .filter(|said| matches!(said.block, Block::Reasoning));
    let sealed = sealed.filter_map(|said| Some((said.text.as_str(), said.opaque.as_ref()?)));
    let images = said.iter().filter_map(|said| image(&said.block));
    let audio = said.iter().find_map(|said| sound(&said.block));
    Message {
        role: "assistant",
        // Clients expect text where nothing else was said.
        content: content.or_else(|| (tool_calls.is_none() && refusal.is_none()).then(String::new)),
        refusal,
        reasoning_content: reasoning_content.filter(|text| !text.is_empty()),
        reasoning_details: sealed
            .enumerate()
            .map(|(index, (text, opaque))| detail(text, opaque, index))
            .collect(),
        annotations: annotations(said),
        images: images.collect(),
        audio,
        tool_calls,
    }
}

/// Sources of all texts, their places counted over the whole content.
fn annotations(said: &[Said]) -> Vec<Annotation<'_>> {
    let mut before = 0;
    let mut all = Vec::new();
    for said in said.iter().filter(|said| matches!(said.block, Block::Text)) {
        all.extend(
            said.citations
                .iter()
                .map(|citation| annotation(citation, before)),
        );
        before += said.text.chars().count() as u64;
    }
    all
}

pub(crate) fn annotation(citation: &Citation, before: u64) -> Annotation<'_> {
    let (start, end) = citation.span.unwrap_or_default();
    Annotation {
        index: None,
        kind: "url_citation",
        url_citation: UrlCitation {
            url: &citation.url,
            title: citation.title.as_deref().unwrap_or_default(),
            start_index: before.saturating_add(start),
            end_index: before.saturating_add(end),
        },
    }
}

/// A source, as this format names it.
#[derive(Debug, Serialize)]
pub(crate) struct Annotation<'a> {
    /// In streams: which annotation this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    #[serde(rename = "type")]
    kind: &'static str,
    url_citation: UrlCitation<'a>,
}

#[derive(Debug, Serialize)]
struct UrlCitation<'a> {
    url: &'a str,
    title: &'a str,
    start_index: u64,
    end_index: u64,
}

fn logprobs(said: &[Said]) -> Option<Logprobs<'_>> {
    let content: Vec<&TokenLogprob> = said.iter().flat_map(|said| &said.logprobs).collect();
    (!content.is_empty()).then(|| Logprobs::new(content))
}

/// Log probabilities, as this format writes them.
#[derive(Debug, Serialize)]
pub(crate) struct Logprobs<'a> {
    content: Vec<Token<'a>>,
    refusal: Option<()>,
}

impl<'a> Logprobs<'a> {
    pub(crate) fn new(tokens: impl IntoIterator<Item = &'a TokenLogprob>) -> Self {
        Self {
            content: tokens.into_iter().map(Token::new).collect(),
            refusal: None,
        }
    }
}

/// A token, as OpenAI's formats write it.
#[derive(Debug, Serialize)]
pub(crate) struct Token<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
    top_logprobs: Vec<TopToken<'a>>,
}

#[derive(Debug, Serialize)]
struct TopToken<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

impl<'a> Token<'a> {
    pub(crate) fn new(token: &'a TokenLogprob) -> Self {
        let top = token.top.iter().map(|top| TopToken {
            token: &top.token,
            logprob: top.logprob,
            bytes: bytes_of(top),
        });
        Self {
            token: &token.token,
            logprob: token.logprob,
            bytes: bytes_of(token),
            top_logprobs: top.collect(),
        }
    }
}

fn bytes_of(token: &TokenLogprob) -> &[u8] {
    token.bytes.as_deref().unwrap_or(token.token.as_bytes())
}

/// A picture, the way compatible vendors added them.
#[derive(Debug, Serialize)]
pub(crate) struct Image {
    /// In streams: which picture this is. OpenAI's SDKs put lists together by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: ImageUrl,
}

#[derive(Debug, Serialize)]
struct ImageUrl {
    url: String,
}

/// Sound, as OpenAI answers with it.
#[derive(Debug, Serialize)]
pub(crate) struct Sound<'a> {
    id: &'static str,
    data: &'a str,
    expires_at: u64,
    transcript: &'static str,
}

pub(crate) fn image(block: &Block) -> Option<Image> {
    let Block::Media(media) = block else {
        return None;
    };
    let mime = crate::media::mime(media)?;
    mime.starts_with("image/").then(|| Image {
        index: None,
        kind: "image_url",
        image_url: ImageUrl {
            url: data_url(media, &mime),
        },
    })
}

pub(crate) fn sound(block: &Block) -> Option<Sound<'_>> {
    let Block::Media(media) = block else {
        return None;
    };
    let is_sound = crate::media::mime(media).is_some_and(|mime| mime.starts_with("audio/"));
    match &media.source {
        MediaSource::Base64(data) if is_sound => Some(Sound {
            id: "audio",
            data,
            expires_at: 0,
            transcript: "",
        }),
        _ => None,
    }
}

/// Media as an address.
pub(crate) fn data_url(media: &Media, mime: &str) -> String {
    match &media.source {
        MediaSource::Base64(data) => format!("data:{mime};base64,{data}"),
        MediaSource::Text(text) | MediaSource::Url(text) | MediaSource::FileId { id: text, .. } => {
            text.clone()
        }
    }
}

fn call(said: &Said) -> Option<Call<'_>> {
    let Block::ToolCall { id, name, kind } = &said.block else {
        return None;
    };
    let is_custom = *kind == CallKind::Custom;
    Some(Call {
        id,
        kind: if is_custom { "custom" } else { "function" },
        function: (!is_custom).then_some(Function {
            name,
            arguments: &said.text,
        }),
        custom: is_custom.then_some(Custom {
            name,
            input: &said.text,
        }),
        extra_content: said.opaque.as_ref().and_then(ExtraContent::of),
    })
}

/// Google's way of carrying its signatures through this format.
#[derive(Debug, Serialize)]
pub(crate) struct ExtraContent<'a> {
    google: GoogleContent<'a>,
}

#[derive(Debug, Serialize)]
struct GoogleContent<'a> {
    thought_signature: &'a str,
}

impl<'a> ExtraContent<'a> {
    pub(crate) fn of(opaque: &'a Opaque) -> Option<Self> {
        (opaque.issuer == Issuer::Google).then_some(Self {
            google: GoogleContent {
                thought_signature: &opaque.data,
            },
        })
    }
}

/// An upstream's id, or the call's, as one of this format.
pub(crate) fn answer_id(id: Option<&str>, reply: &ReplyHead) -> String {
    let id = id.unwrap_or(&reply.request_id);
    if id.starts_with("chatcmpl") {
        id.to_owned()
    } else {
        format!("chatcmpl-{id}")
    }
}

/// Why it stopped, in this format's words. A refusal that was said in `refusal` ends like an answer.
pub(crate) fn finish_reason(stop: &Stop, refused: bool) -> &'static str {
    match stop {
        Stop::End | Stop::StopSequence(_) | Stop::Pause => "stop",
        Stop::Length => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Refusal if refused => "stop",
        Stop::ContentFilter | Stop::Refusal => "content_filter",
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: UsageOut,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<Sound<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Custom<'a> {
    name: &'a str,
    input: &'a str,
}
