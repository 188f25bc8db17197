//! Contents of a request → turns of the hub.

use std::borrow::Cow;
use std::collections::BTreeMap;

use polygate_core::Failure;
use serde_json::value::RawValue;

use super::calls::Calls;
use super::{Member, items, members, place};
use crate::canon::{
    CallKind, Given, Issuer, Media, MediaSource, Message, Opaque, Part, Reasoning, Role, ToolCall,
    ToolResult,
};
use crate::request::{Extra, bad, media_part};

/// Reads contents; what nobody models is kept, so that its loss can be named.
#[derive(Default)]
pub(super) struct Reader {
    calls: Calls,
    /// How many times the model has had its turn.
    turn: usize,
    is_models_turn: bool,
    /// Unknown members and parts, by their pointers.
    pub unknown: Extra,
}

/// A part and where it stands: its pointer, and the number of its content and its own.
struct Place {
    at: String,
    content: usize,
    part: usize,
}

impl Reader {
    /// Reads `contents`.
    pub(super) fn contents(&mut self, text: &str, at: &str) -> Result<Vec<Message>, Failure> {
        let items = items(text, at)?.into_iter().enumerate();
        items
            .map(|(index, (text, at))| self.content(text, at, index, role))
            .collect()
    }

    /// Reads `systemInstruction`; whatever role it names, it is the operator's.
    pub(super) fn system(&mut self, text: &str, at: String) -> Result<Message, Failure> {
        let mut message = self.content(text, at, 0, |_| Ok(Role::System))?;
        message.role = Role::System;
        Ok(message)
    }

    fn content(
        &mut self,
        text: &str,
        at: String,
        index: usize,
        role: fn(&Member<'_>) -> Result<Role, Failure>,
    ) -> Result<Message, Failure> {
        let mut message = Message {
            role: Role::User,
            parts: vec![],
            at: String::new(),
        };
        let mut said = None;
        for member in members(text, &at)? {
            match &*member.name {
                "role" => message.role = role(&member)?,
                "parts" => said = Some(member),
                _ => member.keep_if_said(&mut self.unknown),
            }
        }
        self.begin(message.role);
        if let Some(said) = said {
            for (part, (text, at)) in items(said.text, &said.at())?.into_iter().enumerate() {
                let place = Place {
                    at,
                    content: index,
                    part,
                };
                message.parts.extend(self.part(text, place)?);
            }
        }
        message.at = at;
        Ok(message)
    }

    fn begin(&mut self, role: Role) {
        let is_models = role == Role::Assistant;
        if is_models && !self.is_models_turn {
            self.turn += 1;
        }
        self.is_models_turn = is_models;
    }

    /// One part, unless nothing of it is known.
    fn part(&mut self, text: &str, place: Place) -> Result<Option<Given<Part>>, Failure> {
        let at = place.at.clone();
        let (mut data, mut signature, mut is_thought) = (None::<Member<'_>>, None, false);
        for member in members(text, &at)? {
            match &*member.name {
                "text" | "inlineData" | "fileData" | "functionCall" | "functionResponse" => {
                    if let Some(other) = data.replace(member) {
                        other.keep(&mut self.unknown);
                    }
                }
                "thought" => is_thought = member.value()?,
                "thoughtSignature" => signature = Some(member),
                _ => member.keep(&mut self.unknown),
            }
        }
        let part = match data.as_ref().map(|member| (&*member.name, member)) {
            Some(("functionCall", member)) => Some(Part::ToolCall(ToolCall {
                opaque: opaque(signature.take())?,
                ..self.call(member, &place)?
            })),
            Some(("functionResponse", member)) => {
                Some(Part::ToolResult(self.response(member, &place)?))
            }
            Some(("inlineData" | "fileData", member)) => Some(self.media(member)?),
            Some((_, member)) if is_thought => thought(member.value()?, signature.take())?,
            None if is_thought => thought(String::new(), signature.take())?,
            Some((_, member)) => {
                let text: String = member.value()?;
                (!text.is_empty()).then_some(Part::Text(text))
            }
            None => None,
        };
        if let Some(signature) = signature {
            signature.keep_if_said(&mut self.unknown);
        }
        Ok(part.map(|part| Given::new(part, place.at)))
    }

    fn call(&mut self, member: &Member<'_>, place: &Place) -> Result<ToolCall, Failure> {
        let at = member.at();
        let mut call = ToolCall {
            arguments: "{}".to_owned(),
            ..ToolCall::default()
        };
        for member in members(member.text, &at)? {
            match &*member.name {
                "id" => call.id = member.value()?,
                "name" => call.name = member.value()?,
                "args" if !member.text.starts_with('{') => {
                    return Err(member.bad("is not an object"));
                }
                "args" => call.arguments = member.text.to_owned(),
                _ => member.keep_if_said(&mut self.unknown),
            }
        }
        if call.name.is_empty() {
            return Err(missing(&at, "name"));
        }
        if call.id.is_empty() {
            call.id = self.made_id(place);
        }
        self.calls.made(&call.id, &call.name, self.turn);
        Ok(call)
    }

    fn made_id(&self, place: &Place) -> String {
        self.calls
            .new_id(format!("call_{}_{}", place.content, place.part))
    }

    fn response(&mut self, member: &Member<'_>, place: &Place) -> Result<ToolResult, Failure> {
        let at = member.at();
        let mut result = ToolResult {
            kind: CallKind::Function,
            ..ToolResult::default()
        };
        let (mut name, mut shown) = (String::new(), Vec::new());
        for member in members(member.text, &at)? {
            match &*member.name {
                "id" => result.call_id = member.value()?,
                "name" => name = member.value()?,
                "response" => answer(&member, &mut result)?,
                "parts" => shown = self.shown(&member)?,
                _ => member.keep_if_said(&mut self.unknown),
            }
        }
        result.content.extend(shown);
        if name.is_empty() && result.call_id.is_empty() {
            return Err(missing(&at, "name"));
        }
        self.settle(&mut result.call_id, &mut name, place);
        result.name = Some(name).filter(|name| !name.is_empty());
        Ok(result)
    }

    /// Names the call that a response answers.
    fn settle(&mut self, id: &mut String, name: &mut String, place: &Place) {
        if let Some(call) = self.calls.answered(id, name, self.turn) {
            (*id, *name) = call;
        } else if id.is_empty() {
            *id = self.made_id(place);
        }
    }

    /// Media that a function answered with.
    fn shown(&mut self, member: &Member<'_>) -> Result<Vec<Given<Part>>, Failure> {
        let mut parts = Vec::new();
        for (text, at) in items(member.text, &member.at())? {
            for member in members(text, &at)? {
                match &*member.name {
                    "inlineData" | "fileData" => {
                        parts.push(Given::new(self.media(&member)?, at.clone()));
                    }
                    _ => member.keep_if_said(&mut self.unknown),
                }
            }
        }
        Ok(parts)
    }

    fn media(&mut self, member: &Member<'_>) -> Result<Part, Failure> {
        let at = member.at();
        let (mut media, mut source) = (Media::default(), None);
        for member in members(member.text, &at)? {
            match &*member.name {
                "mimeType" => {
                    media.mime = Some(member.value()?).filter(|mime: &String| !mime.is_empty());
                }
                "displayName" => media.name = member.given(Member::value)?,
                "data" => source = Some(MediaSource::Base64(standard(member.value()?))),
                "fileUri" => source = Some(address(member.value()?)),
                _ => member.keep_if_said(&mut self.unknown),
            }
        }
        let content = if member.name == "fileData" {
            "fileUri"
        } else {
            "data"
        };
        media.source = source.ok_or_else(|| missing(&at, content))?;
        Ok(media_part(media))
    }
}

fn role(member: &Member<'_>) -> Result<Role, Failure> {
    let role: Cow<'_, str> = member.value()?;
    match &*role {
        "user" | "function" | "tool" | "" => Ok(Role::User),
        "model" => Ok(Role::Assistant),
        other => Err(member.bad(&format!("is '{other}', which no one is"))),
    }
}

fn missing(at: &str, name: &str) -> Failure {
    bad(&format!("{}.{name}", place(at)), "is missing")
}

fn opaque(signature: Option<Member<'_>>) -> Result<Option<Opaque>, Failure> {
    let Some(signature) = signature else {
        return Ok(None);
    };
    let data: String = signature.value()?;
    Ok((!data.is_empty()).then_some(Opaque {
        issuer: Issuer::Google,
        data,
        id: None,
        is_redacted: false,
    }))
}

fn thought(text: String, signature: Option<Member<'_>>) -> Result<Option<Part>, Failure> {
    let opaque = opaque(signature)?;
    let says_something = opaque.is_some() || !text.is_empty();
    Ok(says_something.then_some(Part::Reasoning(Reasoning { text, opaque })))
}

/// What a function answered: the words alone where they stand under the one name that Google's SDKs put them, else its JSON.
fn answer(member: &Member<'_>, result: &mut ToolResult) -> Result<(), Failure> {
    let at = member.at();
    let text = if member.text.starts_with('"') {
        member.value()?
    } else if let Some((name, text)) = sole_text(member.text) {
        if name == "error" {
            result.error = Some(Given::new(true, format!("{at}/error")));
        }
        text
    } else {
        member.text.to_owned()
    };
    result.content.push(Given::new(Part::Text(text), at));
    Ok(())
}

/// `{"result": "…"}` and its like.
fn sole_text(text: &str) -> Option<(Cow<'_, str>, String)> {
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
    let (name, raw) = members.pop_first()?;
    let is_known = members.is_empty() && matches!(&*name, "result" | "output" | "error");
    let text = is_known.then(|| serde_json::from_str(raw.get()))?.ok()?;
    Some((name, text))
}

/// Addresses that only Google's models read: what is stored there, and films.
const GOOGLES: [&str; 5] = [
    "https://generativelanguage.googleapis.com/",
    "gs://",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://youtu.be/",
];

fn address(uri: String) -> MediaSource {
    if GOOGLES.iter().any(|own| uri.starts_with(own)) {
        let keeper = Issuer::Google;
        return MediaSource::FileId { id: uri, keeper };
    }
    MediaSource::Url(uri)
}

/// Base64 in the standard alphabet, padded: Google takes the one for addresses too, and its Python SDK writes it; others take it not.
fn standard(data: String) -> String {
    let mut data = if data.contains(['-', '_']) {
        data.replace('-', "+").replace('_', "/")
    } else {
        data
    };
    while data.len() % 4 != 0 && !data.ends_with("==") {
        data.push('=');
    }
    data
}

#[cfg(test)]
mod tests;
