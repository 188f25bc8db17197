//! Messages of a chat request → turns of the hub.

use std::collections::HashMap;

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::details;
use crate::canon::{
    CallKind, Given, Issuer, Media, MediaSource, Message, Opaque, Part, Reasoning, Role, ToolCall,
    ToolResult,
};
use crate::request::{
    Extra, address, bad, cache_control, keep_unknown, media_part, says_nothing, value,
};

#[derive(Deserialize)]
struct MessageMember<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallMember<'a>>>,
    #[serde(borrow)]
    function_call: Option<FunctionMember<'a>>,
    tool_call_id: Option<String>,
    name: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    #[serde(borrow)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallMember<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: Option<FunctionMember<'a>>,
    custom: Option<CustomMember>,
    extra_content: Option<ExtraContent>,
}

#[derive(Deserialize)]
struct FunctionMember<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CustomMember {
    name: String,
    input: Option<String>,
}

/// Google's way of carrying its signatures through this format.
#[derive(Deserialize)]
struct ExtraContent {
    google: Option<GoogleContent>,
}

#[derive(Deserialize)]
struct GoogleContent {
    thought_signature: Option<String>,
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
    video_url: Option<&'a RawValue>,
    #[serde(borrow)]
    input_audio: Option<&'a RawValue>,
    file: Option<FileMember>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
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
    format: Option<String>,
}

/// Members of messages and of their parts that are read.
const KNOWN: [&str; 10] = [
    "role",
    "content",
    "tool_calls",
    "function_call",
    "tool_call_id",
    "refusal",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "cache_control",
];
const KNOWN_OF_RESULTS: [&str; 5] = ["role", "content", "tool_call_id", "name", "cache_control"];
const KNOWN_OF_PARTS: [&str; 8] = [
    "type",
    "text",
    "refusal",
    "image_url",
    "video_url",
    "input_audio",
    "file",
    "cache_control",
];

/// Reads messages; what nobody models is kept, so that its loss can be named.
#[derive(Default)]
pub(crate) struct Reader {
    /// Names and kinds of the tools behind call ids, for results that do not say.
    calls: HashMap<String, (String, CallKind)>,
    /// Unknown members and parts, by their pointers.
    pub unknown: Extra,
}

impl Reader {
    /// Reads `messages`.
    pub(crate) fn messages(&mut self, text: &str) -> Result<Vec<Message>, Failure> {
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
            "tool" | "function" => {
                keep_unknown(raw.get(), &KNOWN_OF_RESULTS, &at, &mut self.unknown);
                return self.tool_result(member, place, at);
            }
            other => {
                return Err(bad(
                    &format!("{place}.role"),
                    &format!("is '{other}', which no one is"),
                ));
            }
        };
        keep_unknown(raw.get(), &KNOWN, &at, &mut self.unknown);
        let mut parts = self.reasoning(&member, &at);
        parts.extend(self.content(member.content, place, &at)?);
        let refusal = member.refusal.filter(|text| !text.is_empty());
        parts.extend(refusal.map(|text| Given::new(Part::Refusal(text), format!("{at}/refusal"))));
        for (index, call) in member.tool_calls.into_iter().flatten().enumerate() {
            let call = tool_call(call, &format!("{place}.tool_calls[{index}]"))?;
            parts.push(self.called(call, format!("{at}/tool_calls/{index}")));
        }
        if let Some(function) = member.function_call {
            let call = CallMember {
                id: None,
                function: Some(function),
                custom: None,
                extra_content: None,
            };
            let call = tool_call(call, &format!("{place}.function_call"))?;
            parts.push(self.called(call, format!("{at}/function_call")));
        }
        parts.extend(point(member.cache_control, &at));
        Ok(Message { role, parts, at })
    }

    fn called(&mut self, call: ToolCall, at: String) -> Given<Part> {
        self.calls
            .insert(call.id.clone(), (call.name.clone(), call.kind));
        Given::new(Part::ToolCall(call), at)
    }

    /// Thinking under the names that vendors gave it: the most detailed of them.
    fn reasoning(&mut self, member: &MessageMember<'_>, at: &str) -> Vec<Given<Part>> {
        let detailed = member
            .reasoning_details
            .filter(|raw| !says_nothing(raw.get()));
        if let Some(raw) = detailed {
            let at = format!("{at}/reasoning_details");
            return details::read(raw, &at, &mut self.unknown);
        }
        let content = member
            .reasoning_content
            .as_deref()
            .map(|text| (text, "reasoning_content"));
        let named = content.or(member.reasoning.as_deref().map(|text| (text, "reasoning")));
        let named = named.filter(|(text, _)| !text.is_empty());
        let part = named.map(|(text, name)| {
            let reasoning = Reasoning {
                text: text.to_owned(),
                opaque: None,
            };
            Given::new(Part::Reasoning(reasoning), format!("{at}/{name}"))
        });
        part.into_iter().collect()
    }

    fn tool_result(
        &mut self,
        member: MessageMember<'_>,
        place: &str,
        at: String,
    ) -> Result<Message, Failure> {
        let call_id = member.tool_call_id.or_else(|| member.name.clone());
        let call_id = call_id.ok_or_else(|| bad(&format!("{place}.tool_call_id"), "is missing"))?;
        let known = self.calls.get(&call_id).cloned();
        let content = self.content(member.content, place, &at)?;
        let result = ToolResult {
            call_id,
            name: known.as_ref().map(|(name, _)| name.clone()).or(member.name),
            content,
            error: None,
            kind: known.map(|(_, kind)| kind).unwrap_or_default(),
        };
        let mut parts = vec![Given::new(
            Part::ToolResult(result),
            format!("{at}/content"),
        )];
        parts.extend(point(member.cache_control, &at));
        Ok(Message {
            role: Role::User,
            parts,
            at,
        })
    }

    fn content(
        &mut self,
        raw: Option<&RawValue>,
        place: &str,
        at: &str,
    ) -> Result<Vec<Given<Part>>, Failure> {
        let place = format!("{place}.content");
        match raw.map(RawValue::get) {
            None | Some("null") => Ok(vec![]),
            Some(text) if text.starts_with('"') => {
                let text: String = value(&place, text)?;
                Ok(if text.is_empty() {
                    vec![]
                } else {
                    vec![Given::new(Part::Text(text), format!("{at}/content"))]
                })
            }
            Some(text) => {
                let members: Vec<&RawValue> = value(&place, text)?;
                let mut parts = Vec::with_capacity(members.len());
                for (index, raw) in members.into_iter().enumerate() {
                    self.part(
                        raw,
                        &format!("{place}[{index}]"),
                        format!("{at}/content/{index}"),
                        &mut parts,
                    )?;
                }
                Ok(parts)
            }
        }
    }

    /// A part, and the cache point behind it; kept as unknown where nobody knows its type.
    fn part(
        &mut self,
        raw: &RawValue,
        place: &str,
        at: String,
        parts: &mut Vec<Given<Part>>,
    ) -> Result<(), Failure> {
        let member: PartMember<'_> = value(place, raw.get())?;
        let point = point(member.cache_control, &at);
        match part(member, place, &at)? {
            Some(part) => {
                keep_unknown(raw.get(), &KNOWN_OF_PARTS, &at, &mut self.unknown);
                parts.push(Given::new(part, at));
                parts.extend(point);
            }
            None => self.unknown.push(Given::new(raw.to_owned(), at)),
        }
        Ok(())
    }
}

fn point(raw: Option<&RawValue>, at: &str) -> Option<Given<Part>> {
    let point = cache_control(raw)?;
    Some(Given::new(
        Part::CachePoint(point),
        format!("{at}/cache_control"),
    ))
}

fn tool_call(call: CallMember<'_>, place: &str) -> Result<ToolCall, Failure> {
    if let Some(custom) = call.custom {
        return Ok(ToolCall {
            id: call.id.unwrap_or_else(|| custom.name.clone()),
            name: custom.name,
            arguments: custom.input.unwrap_or_default(),
            kind: CallKind::Custom,
            opaque: None,
        });
    }
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
    let signature = call
        .extra_content
        .and_then(|extra| extra.google?.thought_signature);
    let opaque = signature.map(|data| Opaque {
        issuer: Issuer::Google,
        data,
        id: None,
        is_redacted: false,
    });
    Ok(ToolCall {
        id,
        name: function.name,
        arguments,
        kind: CallKind::Function,
        opaque,
    })
}

/// A part of a known type.
fn part(member: PartMember<'_>, place: &str, at: &str) -> Result<Option<Part>, Failure> {
    let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
    Ok(Some(match member.kind.as_str() {
        "text" | "input_text" | "output_text" => {
            Part::Text(member.text.ok_or_else(|| missing("text"))?)
        }
        "refusal" => Part::Refusal(member.refusal.ok_or_else(|| missing("refusal"))?),
        "image_url" => Part::Image(linked(
            member.image_url.ok_or_else(|| missing("image_url"))?,
            &format!("{place}.image_url"),
            &format!("{at}/image_url"),
        )?),
        "video_url" => Part::File(linked(
            member.video_url.ok_or_else(|| missing("video_url"))?,
            &format!("{place}.video_url"),
            &format!("{at}/video_url"),
        )?),
        "input_audio" => audio(
            member.input_audio.ok_or_else(|| missing("input_audio"))?,
            place,
        )?,
        "file" => file(member.file.ok_or_else(|| missing("file"))?, at)
            .ok_or_else(|| missing("file.file_data"))?,
        _ => return Ok(None),
    }))
}

fn linked(raw: &RawValue, place: &str, at: &str) -> Result<Media, Failure> {
    let image = if raw.get().starts_with('"') {
        ImageMember {
            url: value(place, raw.get())?,
            detail: None,
        }
    } else {
        value(place, raw.get())?
    };
    let (source, mime) = address(image.url);
    Ok(Media {
        source,
        mime,
        name: None,
        detail: image
            .detail
            .map(|detail| Given::new(detail, format!("{at}/detail"))),
    })
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

fn file(file: FileMember, at: &str) -> Option<Part> {
    let (source, mime) = match (file.file_data, file.file_id) {
        (Some(data), _) => address(data),
        (None, Some(id)) => {
            let keeper = Issuer::OpenAi;
            (MediaSource::FileId { id, keeper }, None)
        }
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
    Some(media_part(Media {
        source,
        mime: mime.or(file.format),
        name: file
            .filename
            .map(|name| Given::new(name, format!("{at}/file/filename"))),
        detail: None,
    }))
}
