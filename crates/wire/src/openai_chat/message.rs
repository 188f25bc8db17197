//! Messages of a chat request → turns of the hub.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{bad, escape, value};
use crate::canon::{Given, Media, MediaSource, Message, Part, Role, ToolCall, ToolResult};

#[derive(Deserialize)]
struct MessageMember<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallMember<'a>>>,
    tool_call_id: Option<String>,
    name: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct CallMember<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: Option<FunctionMember<'a>>,
}

#[derive(Deserialize)]
struct FunctionMember<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PartMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    input_audio: Option<&'a RawValue>,
    file: Option<FileMember>,
}

#[derive(Deserialize)]
struct ImageMember {
    url: String,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct AudioMember {
    data: String,
    format: Option<String>,
}

#[derive(Deserialize)]
struct FileMember {
    file_data: Option<String>,
    file_id: Option<String>,
    filename: Option<String>,
}

/// Members of messages and of their parts that are read, or say nothing that an upstream could miss.
const KNOWN: [&str; 8] = [
    "role",
    "content",
    "tool_calls",
    "tool_call_id",
    "refusal",
    "reasoning_content",
    "function_call",
    "annotations",
];
const KNOWN_OF_PARTS: [&str; 7] = [
    "type",
    "text",
    "refusal",
    "image_url",
    "input_audio",
    "file",
    "annotations",
];

/// Reads messages; what nobody models is kept, so that its loss can be named.
#[derive(Default)]
pub(super) struct Reader {
    /// Names of the tools behind call ids, for results that do not say.
    names: HashMap<String, String>,
    /// Unknown members and parts, by their pointers.
    pub unknown: Vec<Given<Box<RawValue>>>,
}

impl Reader {
    /// Reads `messages`.
    pub(super) fn messages(&mut self, text: &str) -> Result<Vec<Message>, Failure> {
        let raws: Vec<&RawValue> = value("messages", text)?;
        let each = raws.into_iter().enumerate();
        each.map(|(index, raw)| {
            self.message(
                raw,
                &format!("messages[{index}]"),
                format!("/messages/{index}"),
            )
        })
        .collect()
    }

    fn message(&mut self, raw: &RawValue, place: &str, at: String) -> Result<Message, Failure> {
        let member: MessageMember<'_> = value(place, raw.get())?;
        let role = match member.role.as_str() {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" | "function" => return self.tool_result(member, place, at),
            other => {
                return Err(bad(
                    &format!("{place}.role"),
                    &format!("is '{other}', which no one is"),
                ));
            }
        };
        self.note_unknown(raw, &KNOWN, &at);
        let mut parts = Vec::new();
        parts.extend(
            member
                .reasoning_content
                .filter(|text| !text.is_empty())
                .map(Part::Reasoning),
        );
        parts.extend(self.content(member.content, place, &at)?);
        parts.extend(
            member
                .refusal
                .filter(|text| !text.is_empty())
                .map(Part::Refusal),
        );
        for (index, call) in member
            .tool_calls
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            let call = tool_call(call, &format!("{place}.tool_calls[{index}]"))?;
            self.names.insert(call.id.clone(), call.name.clone());
            parts.push(Part::ToolCall(call));
        }
        Ok(Message { role, parts, at })
    }

    fn tool_result(
        &mut self,
        member: MessageMember<'_>,
        place: &str,
        at: String,
    ) -> Result<Message, Failure> {
        let call_id = member.tool_call_id.or_else(|| member.name.clone());
        let call_id = call_id.ok_or_else(|| bad(&format!("{place}.tool_call_id"), "is missing"))?;
        let name = self.names.get(&call_id).cloned().or(member.name);
        let content = self.content(member.content, place, &at)?;
        let result = ToolResult {
            call_id,
            name,
            content,
            is_error: false,
        };
        Ok(Message {
            role: Role::User,
            parts: vec![Part::ToolResult(result)],
            at,
        })
    }

    fn content(
        &mut self,
        raw: Option<&RawValue>,
        place: &str,
        at: &str,
    ) -> Result<Vec<Part>, Failure> {
        let place = format!("{place}.content");
        match raw.map(RawValue::get) {
            None | Some("null") => Ok(vec![]),
            Some(text) if text.starts_with('"') => {
                let text: String = value(&place, text)?;
                Ok(if text.is_empty() {
                    vec![]
                } else {
                    vec![Part::Text(text)]
                })
            }
            Some(text) => {
                let members: Vec<&RawValue> = value(&place, text)?;
                let mut parts = Vec::with_capacity(members.len());
                for (index, raw) in members.into_iter().enumerate() {
                    parts.extend(self.part(
                        raw,
                        &format!("{place}[{index}]"),
                        format!("{at}/content/{index}"),
                    )?);
                }
                Ok(parts)
            }
        }
    }

    /// A part; `None` where nobody knows its type.
    fn part(&mut self, raw: &RawValue, place: &str, at: String) -> Result<Option<Part>, Failure> {
        let member: PartMember<'_> = value(place, raw.get())?;
        let part = part(member, place)?;
        match &part {
            Some(_) => self.note_unknown(raw, &KNOWN_OF_PARTS, &at),
            None => self.unknown.push(Given::new(raw.to_owned(), at)),
        }
        Ok(part)
    }

    fn note_unknown(&mut self, raw: &RawValue, known: &[&str], at: &str) {
        let members: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(raw.get()).unwrap_or_default();
        let lost = members
            .into_iter()
            .filter(|(name, value)| !known.contains(&&**name) && value.get() != "null");
        self.unknown.extend(
            lost.map(|(name, value)| {
                Given::new(value.to_owned(), format!("{at}/{}", escape(&name)))
            }),
        );
    }
}

fn tool_call(call: CallMember<'_>, place: &str) -> Result<ToolCall, Failure> {
    let function = call
        .function
        .ok_or_else(|| bad(place, "calls no function"))?;
    let arguments = match function.arguments.map(RawValue::get) {
        None | Some("null") => String::new(),
        // Written as a string, as the format says, or as an object, as some clients do.
        Some(text) if text.starts_with('"') => value(&format!("{place}.function.arguments"), text)?,
        Some(text) => text.to_owned(),
    };
    let id = call.id.unwrap_or_else(|| function.name.clone());
    Ok(ToolCall {
        id,
        name: function.name,
        arguments,
    })
}

/// A part of a known type.
fn part(member: PartMember<'_>, place: &str) -> Result<Option<Part>, Failure> {
    let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
    Ok(Some(match member.kind.as_str() {
        "text" | "input_text" | "output_text" => {
            Part::Text(member.text.ok_or_else(|| missing("text"))?)
        }
        "refusal" => Part::Refusal(member.refusal.ok_or_else(|| missing("refusal"))?),
        "image_url" => image(member.image_url.ok_or_else(|| missing("image_url"))?, place)?,
        "input_audio" => audio(
            member.input_audio.ok_or_else(|| missing("input_audio"))?,
            place,
        )?,
        "file" => file(member.file.ok_or_else(|| missing("file"))?)
            .ok_or_else(|| missing("file.file_data"))?,
        _ => return Ok(None),
    }))
}

fn image(raw: &RawValue, place: &str) -> Result<Part, Failure> {
    let place = format!("{place}.image_url");
    let image = if raw.get().starts_with('"') {
        ImageMember {
            url: value(&place, raw.get())?,
            detail: None,
        }
    } else {
        value(&place, raw.get())?
    };
    let (source, mime) = address(image.url);
    Ok(Part::Image(Media {
        source,
        mime,
        name: None,
        detail: image.detail,
    }))
}

fn audio(raw: &RawValue, place: &str) -> Result<Part, Failure> {
    let place = format!("{place}.input_audio");
    let audio = if raw.get().starts_with('"') {
        AudioMember {
            data: value(&place, raw.get())?,
            format: None,
        }
    } else {
        value(&place, raw.get())?
    };
    let named = |format: String| {
        if format == "mp3" {
            "audio/mpeg".to_owned()
        } else {
            format!("audio/{format}")
        }
    };
    let mime = audio.format.map(named);
    Ok(Part::Audio(Media {
        source: MediaSource::Base64(audio.data),
        mime,
        name: None,
        detail: None,
    }))
}

fn file(file: FileMember) -> Option<Part> {
    let (source, mime) = match (file.file_data, file.file_id) {
        (Some(data), _) => address(data),
        (None, Some(id)) => (MediaSource::FileId(id), None),
        (None, None) => return None,
    };
    // Bare base64 without a data address: the name tells what it is.
    let (source, mime) = match source {
        MediaSource::Url(data) if !data.contains("://") => (
            MediaSource::Base64(data),
            Some("application/pdf".to_owned()),
        ),
        other => (other, mime),
    };
    Some(Part::File(Media {
        source,
        mime,
        name: file.filename,
        detail: None,
    }))
}

/// A data address taken apart; any other address as it is.
fn address(url: String) -> (MediaSource, Option<String>) {
    let inline = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','));
    match inline.and_then(|(kind, data)| Some((kind.strip_suffix(";base64")?, data))) {
        Some((kind, data)) => {
            let mime = kind
                .split(';')
                .next()
                .filter(|mime| !mime.is_empty())
                .map(str::to_owned);
            (MediaSource::Base64(data.to_owned()), mime)
        }
        None => (MediaSource::Url(url), None),
    }
}
