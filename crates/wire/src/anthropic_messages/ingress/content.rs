//! Messages and their blocks → turns of the hub.

use std::collections::HashMap;

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::types::opaque;
use crate::canon::{
    CallKind, Given, Issuer, Media, MediaSource, Message, Part, Reasoning, Role, ToolCall,
    ToolResult,
};
use crate::request::{Extra, bad, cache_control, keep_unknown, media_part, value};

#[derive(Deserialize)]
struct MessageMember<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BlockMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    title: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    tool_use_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    is_error: Option<bool>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SourceMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
    file_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// Members of each kind of block that are read.
const KNOWN: [(&str, &[&str]); 8] = [
    ("text", &["type", "text", "cache_control"]),
    ("image", &["type", "source", "cache_control"]),
    ("document", &["type", "source", "title", "cache_control"]),
    // Where it comes from is Anthropic's own to cite.
    (
        "search_result",
        &["type", "title", "content", "cache_control"],
    ),
    ("thinking", &["type", "thinking", "signature"]),
    ("redacted_thinking", &["type", "data"]),
    (
        "tool_use",
        &["type", "id", "name", "input", "cache_control"],
    ),
    (
        "tool_result",
        &[
            "type",
            "tool_use_id",
            "content",
            "is_error",
            "cache_control",
        ],
    ),
];

/// Reads messages; what nobody models is kept, so that its loss can be named.
#[derive(Default)]
pub(crate) struct Reader {
    /// Names of the tools behind call ids.
    names: HashMap<String, String>,
    /// Unknown members and blocks, by their pointers.
    pub unknown: Extra,
}

impl Reader {
    /// Reads `messages`.
    pub(crate) fn messages(&mut self, text: &str) -> Result<Vec<Message>, Failure> {
        let raws: Vec<&RawValue> = value("messages", text)?;
        let mut messages = Vec::with_capacity(raws.len());
        for (index, raw) in raws.into_iter().enumerate() {
            let (place, at) = (format!("messages[{index}]"), format!("/messages/{index}"));
            let member: MessageMember<'_> = value(&place, raw.get())?;
            let role = match member.role.as_str() {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                other => {
                    let what = format!("is '{other}', which no one is");
                    return Err(bad(&format!("{place}.role"), &what));
                }
            };
            keep_unknown(raw.get(), &["role", "content"], &at, &mut self.unknown);
            let content = member.content.map_or("null", RawValue::get);
            let parts = self.content(
                &format!("{place}.content"),
                content,
                &format!("{at}/content"),
            )?;
            messages.push(Message { role, parts, at });
        }
        Ok(messages)
    }

    /// Content: a text, or a list of blocks.
    pub(crate) fn content(
        &mut self,
        place: &str,
        text: &str,
        at: &str,
    ) -> Result<Vec<Given<Part>>, Failure> {
        if text == "null" {
            return Ok(vec![]);
        }
        if text.starts_with('"') {
            let text: String = value(place, text)?;
            return Ok(vec![Given::new(Part::Text(text), at)]);
        }
        let members: Vec<&RawValue> = value(place, text)?;
        let mut parts = Vec::with_capacity(members.len());
        for (index, raw) in members.into_iter().enumerate() {
            self.block(
                raw,
                &format!("{place}[{index}]"),
                format!("{at}/{index}"),
                &mut parts,
            )?;
        }
        Ok(parts)
    }

    /// A block, and the cache point behind it; kept as unknown where nobody knows its type.
    fn block(
        &mut self,
        raw: &RawValue,
        place: &str,
        at: String,
        parts: &mut Vec<Given<Part>>,
    ) -> Result<(), Failure> {
        let block: BlockMember<'_> = value(place, raw.get())?;
        let known = KNOWN.iter().find(|(kind, _)| *kind == block.kind);
        let point = cache_control(block.cache_control);
        match (known, self.part(block, place, &at)?) {
            (Some((_, known)), Some(part)) => {
                keep_unknown(raw.get(), known, &at, &mut self.unknown);
                let mark = format!("{at}/cache_control");
                parts.push(Given::new(part, at));
                parts.extend(point.map(|point| Given::new(Part::CachePoint(point), mark)));
            }
            _ => self.unknown.push(Given::new(raw.to_owned(), at)),
        }
        Ok(())
    }

    fn part(
        &mut self,
        block: BlockMember<'_>,
        place: &str,
        at: &str,
    ) -> Result<Option<Part>, Failure> {
        let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
        Ok(Some(match block.kind.as_str() {
            "text" => Part::Text(block.text.ok_or_else(|| missing("text"))?),
            "image" => {
                let source = block.source.ok_or_else(|| missing("source"))?;
                match media(source, place)? {
                    Some(media) => Part::Image(media),
                    None => return Ok(None),
                }
            }
            "document" => {
                let source = block.source.ok_or_else(|| missing("source"))?;
                match media(source, place)? {
                    Some(media) => {
                        let title = block.title;
                        document(
                            media,
                            title.map(|title| Given::new(title, format!("{at}/title"))),
                        )
                    }
                    None => return Ok(None),
                }
            }
            "search_result" => match block.content.and_then(plain) {
                Some(text) => {
                    let media = Media {
                        source: MediaSource::Text(text),
                        ..Media::default()
                    };
                    let title = block.title;
                    document(
                        media,
                        title.map(|title| Given::new(title, format!("{at}/title"))),
                    )
                }
                None => return Ok(None),
            },
            "thinking" => Part::Reasoning(Reasoning {
                text: block.thinking.unwrap_or_default(),
                opaque: block
                    .signature
                    .filter(|signature| !signature.is_empty())
                    .map(|signature| opaque(&signature, false)),
            }),
            "redacted_thinking" => Part::Reasoning(Reasoning {
                text: String::new(),
                opaque: block.data.map(|data| opaque(&data, true)),
            }),
            "tool_use" => Part::ToolCall(self.call(block, place)?),
            "tool_result" => Part::ToolResult(self.result(block, place, at)?),
            _ => return Ok(None),
        }))
    }

    fn call(&mut self, block: BlockMember<'_>, place: &str) -> Result<ToolCall, Failure> {
        let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
        let call = ToolCall {
            id: block.id.ok_or_else(|| missing("id"))?,
            name: block.name.ok_or_else(|| missing("name"))?,
            arguments: block.input.map_or("{}", RawValue::get).to_owned(),
            kind: CallKind::Function,
            opaque: None,
        };
        self.names.insert(call.id.clone(), call.name.clone());
        Ok(call)
    }

    fn result(
        &mut self,
        block: BlockMember<'_>,
        place: &str,
        at: &str,
    ) -> Result<ToolResult, Failure> {
        let call_id = block
            .tool_use_id
            .ok_or_else(|| bad(&format!("{place}.tool_use_id"), "is missing"))?;
        let content = block.content.map_or("null", RawValue::get);
        Ok(ToolResult {
            name: self.names.get(&call_id).cloned(),
            call_id,
            content: self.content(
                &format!("{place}.content"),
                content,
                &format!("{at}/content"),
            )?,
            error: block
                .is_error
                .filter(|is_error| *is_error)
                .map(|is_error| Given::new(is_error, format!("{at}/is_error"))),
            kind: CallKind::Function,
        })
    }
}

/// Where an image or a document is; `None` where nobody else could find it.
fn media(raw: &RawValue, place: &str) -> Result<Option<Media>, Failure> {
    let place = format!("{place}.source");
    let source: SourceMember<'_> = value(&place, raw.get())?;
    let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
    let found = match source.kind.as_str() {
        "base64" => MediaSource::Base64(source.data.ok_or_else(|| missing("data"))?),
        "text" => MediaSource::Text(source.data.ok_or_else(|| missing("data"))?),
        "url" => MediaSource::Url(source.url.ok_or_else(|| missing("url"))?),
        "file" => MediaSource::FileId {
            id: source.file_id.ok_or_else(|| missing("file_id"))?,
            keeper: Issuer::Anthropic,
        },
        "content" => match source.content.and_then(plain) {
            Some(text) => MediaSource::Text(text),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Media {
        source: found,
        mime: source.media_type,
        name: None,
        detail: None,
    }))
}

/// A document made of text blocks alone, as one text.
fn plain(content: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Block {
        text: String,
    }
    if content.get().starts_with('"') {
        return serde_json::from_str(content.get()).ok();
    }
    let blocks: Vec<Block> = serde_json::from_str(content.get()).ok()?;
    let texts: Vec<String> = blocks.into_iter().map(|block| block.text).collect();
    Some(texts.join("\n"))
}

fn document(media: Media, title: Option<Given<String>>) -> Part {
    let is_link = matches!(
        media.source,
        MediaSource::Url(_) | MediaSource::FileId { .. }
    );
    let mut media = Media {
        name: title,
        ..media
    };
    if is_link && media.mime.is_none() && crate::media::mime(&media).is_none() {
        media.mime = Some("application/pdf".to_owned());
    }
    match media_part(media) {
        Part::File(media) => Part::File(media),
        Part::Image(media) | Part::Audio(media) => Part::File(media),
        other => other,
    }
}
