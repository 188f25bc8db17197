//! Items of the input → turns of the hub.

use std::collections::HashMap;

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::{SEARCH, flat_name};
use crate::canon::{
    CallKind, Given, Issuer, Media, MediaSource, Message, Opaque, Part, Reasoning, Role, ToolCall,
    ToolResult,
};
use crate::request::{Extra, address, bad, keep_unknown, media_part, refuse, value};

#[derive(Deserialize)]
struct ItemMember<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    id: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    input: Option<String>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    summary: Option<Vec<TextMember>>,
    encrypted_content: Option<String>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

impl ItemMember<'_> {
    /// It says nothing but which tools there are from now on.
    fn only_brings_tools(&self) -> bool {
        let is_answer = self.call_id.is_some();
        match self.kind.as_deref() {
            Some("additional_tools") => true,
            Some("tool_search_output") => !is_answer,
            _ => false,
        }
    }
}

/// A tool that a search found, or a namespace of them.
#[derive(Deserialize)]
struct Found {
    name: Option<String>,
    tools: Option<Vec<Found>>,
}

#[derive(Deserialize)]
struct TextMember {
    text: Option<String>,
}

#[derive(Deserialize)]
struct PartMember {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
    detail: Option<String>,
    file_id: Option<String>,
    file_data: Option<String>,
    file_url: Option<String>,
    filename: Option<String>,
    input_audio: Option<AudioMember>,
}

#[derive(Deserialize)]
struct AudioMember {
    data: String,
    format: Option<String>,
}

/// Members of each kind of item that are read, or that say nothing outside their own service: ids and states of items.
const KNOWN: [(&str, &[&str]); 9] = [
    ("message", &["type", "id", "status", "role", "content"]),
    (
        "function_call",
        &[
            "type",
            "id",
            "status",
            "call_id",
            "name",
            "namespace",
            "arguments",
        ],
    ),
    (
        "function_call_output",
        &["type", "id", "status", "call_id", "output"],
    ),
    (
        "custom_tool_call",
        &[
            "type",
            "id",
            "status",
            "call_id",
            "name",
            "namespace",
            "input",
        ],
    ),
    (
        "custom_tool_call_output",
        &["type", "id", "status", "call_id", "output"],
    ),
    (
        "reasoning",
        &[
            "type",
            "id",
            "status",
            "summary",
            "content",
            "encrypted_content",
        ],
    ),
    ("additional_tools", &["type", "id", "role", "tools"]),
    (
        "tool_search_call",
        &["type", "id", "status", "call_id", "execution", "arguments"],
    ),
    (
        "tool_search_output",
        &["type", "id", "status", "call_id", "execution", "tools"],
    ),
];

const KNOWN_OF_PARTS: [&str; 11] = [
    "type",
    "text",
    "refusal",
    "image_url",
    "detail",
    "file_id",
    "file_data",
    "file_url",
    "filename",
    "input_audio",
    "logprobs",
];

/// Reads the input; what nobody models is kept, so that its loss can be named.
#[derive(Default)]
pub(crate) struct Reader {
    /// Names and kinds of the tools behind call ids.
    calls: HashMap<String, (String, CallKind)>,
    /// Unknown members and items, by their pointers.
    pub unknown: Extra,
    /// Lists of tools that the conversation brings.
    pub tools: Vec<Given<Box<RawValue>>>,
}

impl Reader {
    /// Reads `input`: a text, or a list of items.
    pub(crate) fn input(&mut self, text: &str) -> Result<Vec<Message>, Failure> {
        if text.starts_with('"') {
            let text: String = value("input", text)?;
            return Ok(vec![Message {
                role: Role::User,
                parts: vec![Given::new(Part::Text(text), "/input")],
                at: "/input".to_owned(),
            }]);
        }
        let items: Vec<&RawValue> = value("input", text)?;
        let mut messages = Vec::with_capacity(items.len());
        for (index, raw) in items.into_iter().enumerate() {
            let (place, at) = (format!("input[{index}]"), format!("/input/{index}"));
            let item: ItemMember<'_> = value(&place, raw.get())?;
            self.keep_tools(&item, &at);
            if item.only_brings_tools() {
                self.keep(raw, &at);
                continue;
            }
            match self.item(item, &place, &at)? {
                Some(message) => {
                    self.keep(raw, &at);
                    messages.push(message);
                }
                None => self.unknown.push(Given::new(raw.to_owned(), at)),
            }
        }
        Ok(messages)
    }

    fn keep_tools(&mut self, item: &ItemMember<'_>, at: &str) {
        let kind = item.kind.as_deref();
        let is_list = matches!(kind, Some("additional_tools" | "tool_search_output"));
        let list = item.tools.filter(|_| is_list);
        let list = list.map(|raw| Given::new(raw.to_owned(), format!("{at}/tools")));
        self.tools.extend(list);
    }

    fn keep(&mut self, raw: &RawValue, at: &str) {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        let kind: Option<Kind> = serde_json::from_str(raw.get()).ok();
        let kind = kind.and_then(|kind| kind.kind);
        let kind = kind.as_deref().unwrap_or("message");
        let row = KNOWN.iter().find(|(name, _)| *name == kind);
        if let Some((_, known)) = row {
            keep_unknown(raw.get(), known, at, &mut self.unknown);
        }
    }

    /// An item as a message; `None` where nobody else has such an item.
    fn item(
        &mut self,
        item: ItemMember<'_>,
        place: &str,
        at: &str,
    ) -> Result<Option<Message>, Failure> {
        let kind = item.kind.as_deref().unwrap_or("message");
        let (role, part) = match kind {
            "message" => return self.message(item, place, at).map(Some),
            "function_call" | "custom_tool_call" => {
                (Role::Assistant, Part::ToolCall(self.call(item, place)?))
            }
            "function_call_output" | "custom_tool_call_output" => {
                (Role::User, Part::ToolResult(self.result(item, place, at)?))
            }
            // The client's own; what OpenAI searched has no call.
            "tool_search_call" if item.call_id.is_some() => {
                let name = Some(SEARCH.to_owned());
                let call = self.call(ItemMember { name, ..item }, place)?;
                (Role::Assistant, Part::ToolCall(call))
            }
            "tool_search_output" if item.call_id.is_some() => {
                let found = Part::Text(found(item.tools));
                let mut result = self.result(item, place, at)?;
                result.content = vec![Given::new(found, format!("{at}/tools"))];
                (Role::User, Part::ToolResult(result))
            }
            "reasoning" => match reasoning(item) {
                Some(reasoning) => (Role::Assistant, Part::Reasoning(reasoning)),
                None => return Ok(None),
            },
            "item_reference" => {
                return Err(refuse(
                    place,
                    "refers to an item that only its provider has",
                ));
            }
            _ => return Ok(None),
        };
        Ok(Some(Message {
            role,
            parts: vec![Given::new(part, at)],
            at: at.to_owned(),
        }))
    }

    fn message(&mut self, item: ItemMember<'_>, place: &str, at: &str) -> Result<Message, Failure> {
        let role = match item.role.as_deref() {
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            other => {
                let what = format!("is '{}', which no one is", other.unwrap_or_default());
                return Err(bad(&format!("{place}.role"), &what));
            }
        };
        let content = item.content.map_or("null", RawValue::get);
        Ok(Message {
            role,
            parts: self.content(
                &format!("{place}.content"),
                content,
                &format!("{at}/content"),
            )?,
            at: at.to_owned(),
        })
    }

    fn content(&mut self, place: &str, text: &str, at: &str) -> Result<Vec<Given<Part>>, Failure> {
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
            let at = format!("{at}/{index}");
            let place = format!("{place}[{index}]");
            match part(value(&place, raw.get())?, &place, &at)? {
                Some(part) => {
                    keep_unknown(raw.get(), &KNOWN_OF_PARTS, &at, &mut self.unknown);
                    parts.push(Given::new(part, at));
                }
                None => self.unknown.push(Given::new(raw.to_owned(), at)),
            }
        }
        Ok(parts)
    }

    fn call(&mut self, item: ItemMember<'_>, place: &str) -> Result<ToolCall, Failure> {
        let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
        let name = item.name.ok_or_else(|| missing("name"))?;
        let name = match item.namespace {
            Some(namespace) => flat_name(&namespace, &name),
            None => name,
        };
        let is_custom = item.kind.as_deref() == Some("custom_tool_call");
        let arguments = match item.arguments.map(RawValue::get) {
            Some(text) if text.starts_with('"') => value(&format!("{place}.arguments"), text)?,
            Some(text) if text != "null" => text.to_owned(),
            _ => String::new(),
        };
        let call = ToolCall {
            id: item.call_id.ok_or_else(|| missing("call_id"))?,
            name,
            arguments: if is_custom {
                item.input.unwrap_or_default()
            } else {
                arguments
            },
            kind: if is_custom {
                CallKind::Custom
            } else {
                CallKind::Function
            },
            opaque: None,
        };
        let known = (call.name.clone(), call.kind);
        self.calls.insert(call.id.clone(), known);
        Ok(call)
    }

    fn result(
        &mut self,
        item: ItemMember<'_>,
        place: &str,
        at: &str,
    ) -> Result<ToolResult, Failure> {
        let call_id = item
            .call_id
            .ok_or_else(|| bad(&format!("{place}.call_id"), "is missing"))?;
        let known = self.calls.get(&call_id).cloned();
        let output = item.output.map_or("null", RawValue::get);
        let content = self.content(&format!("{place}.output"), output, &format!("{at}/output"))?;
        Ok(ToolResult {
            call_id,
            name: known.as_ref().map(|(name, _)| name.clone()),
            content,
            error: None,
            kind: known.map(|(_, kind)| kind).unwrap_or_default(),
        })
    }
}

/// What a search found, for a model that has the tools beside its conversation.
fn found(tools: Option<&RawValue>) -> String {
    let tools = tools.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let tools: Vec<Found> = tools.unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for tool in tools {
        let name = tool.name.unwrap_or_default();
        match tool.tools {
            Some(inner) => names.extend(
                inner
                    .into_iter()
                    .filter_map(|tool| Some(flat_name(&name, &tool.name?))),
            ),
            None => names.push(name),
        }
    }
    if names.is_empty() {
        return "No tools were found.".to_owned();
    }
    format!("Found, and ready to be called: {}", names.join(", "))
}

/// A thought with what OpenAI wants back of it; `None` where there is neither.
fn reasoning(item: ItemMember<'_>) -> Option<Reasoning> {
    let content: Vec<TextMember> = item
        .content
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let texts = item.summary.into_iter().flatten().chain(content);
    let texts: Vec<String> = texts.filter_map(|member| member.text).collect();
    let id = item.id;
    let opaque = item.encrypted_content.map(|data| Opaque {
        issuer: Issuer::OpenAi,
        data,
        id,
        is_redacted: false,
    });
    let text = texts.join("\n\n");
    (opaque.is_some() || !text.is_empty()).then_some(Reasoning { text, opaque })
}

/// A part of a known type.
fn part(member: PartMember, place: &str, at: &str) -> Result<Option<Part>, Failure> {
    let missing = |what: &str| bad(&format!("{place}.{what}"), "is missing");
    Ok(Some(match member.kind.as_str() {
        "input_text" | "output_text" | "text" => {
            Part::Text(member.text.ok_or_else(|| missing("text"))?)
        }
        "refusal" => Part::Refusal(member.refusal.ok_or_else(|| missing("refusal"))?),
        "input_image" => {
            let (source, mime) = match (member.image_url, member.file_id) {
                (Some(url), _) => address(url),
                (None, Some(id)) => (openais(id), None),
                (None, None) => return Err(missing("image_url")),
            };
            Part::Image(Media {
                source,
                mime,
                name: None,
                detail: given(member.detail, at, "detail"),
            })
        }
        "input_file" => {
            let (source, mime) = match (member.file_data, member.file_url, member.file_id) {
                (Some(data), ..) => inline(data),
                (None, Some(url), _) => (MediaSource::Url(url), None),
                (None, None, Some(id)) => (openais(id), None),
                (None, None, None) => return Err(missing("file_data")),
            };
            let media = Media {
                source,
                mime,
                name: given(member.filename, at, "filename"),
                detail: None,
            };
            media_part(media)
        }
        "input_audio" => {
            let audio = member.input_audio.ok_or_else(|| missing("input_audio"))?;
            let format = audio.format.as_deref().unwrap_or("wav");
            let mime = if format == "mp3" {
                "audio/mpeg".to_owned()
            } else {
                format!("audio/{format}")
            };
            Part::Audio(Media {
                source: MediaSource::Base64(audio.data),
                mime: Some(mime),
                name: None,
                detail: None,
            })
        }
        _ => return Ok(None),
    }))
}

fn openais(id: String) -> MediaSource {
    let keeper = Issuer::OpenAi;
    MediaSource::FileId { id, keeper }
}

fn given(text: Option<String>, at: &str, name: &str) -> Option<Given<String>> {
    text.map(|text| Given::new(text, format!("{at}/{name}")))
}

/// A data address, or bare base64: then the name tells what it is.
fn inline(data: String) -> (MediaSource, Option<String>) {
    match address(data) {
        (MediaSource::Url(data), _) => (MediaSource::Base64(data), None),
        found => found,
    }
}
