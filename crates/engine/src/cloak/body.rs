//! Where each format has instructions and names of end users, and how they are put there. All other bytes stay as they came.

use bytes::Bytes;
use polygate_wire::raw::{Edit, quote};
use polygate_wire::{Format, RawObject};
use serde_json::value::RawValue;

use crate::shape::{Asks, REQUEST, Sent};

/// A member of an object, or a member of that.
type Place = (&'static str, Option<&'static str>);

const USER: Place = ("user", None);
const SAFETY_IDENTIFIER: Place = ("safety_identifier", None);
const METADATA: Place = ("metadata", Some("user_id"));

/// Where a format has the end user's name, and where else a client may have written one.
fn places(format: Format) -> (Option<Place>, &'static [Place]) {
    match format {
        Format::OpenaiChat => (Some(USER), &[SAFETY_IDENTIFIER, METADATA]),
        Format::OpenaiResponses => (Some(SAFETY_IDENTIFIER), &[USER, METADATA]),
        Format::AnthropicMessages => (Some(METADATA), &[]),
        Format::BedrockConverse => (Some(("requestMetadata", Some("user_id"))), &[]),
        Format::Gemini => (None, &[]),
    }
}

/// What is changed, in every format, or has in it what is: there once only, since readers believe the last.
const OURS: [&str; 12] = [
    "system",
    "messages",
    "instructions",
    "input",
    "systemInstruction",
    "system_instruction",
    "user",
    "safety_identifier",
    "metadata",
    "requestMetadata",
    "generateContentRequest",
    "generate_content_request",
];

/// The body with each member once that is changed: the last.
pub(super) fn once(object: RawObject) -> RawObject {
    OURS.iter().fold(object, |object, name| last(object, name))
}

/// The object with the last of the members of a name only.
fn last(object: RawObject, name: &str) -> RawObject {
    let places = object.iter().enumerate();
    let mut places = places.filter(|(_, (known, _))| *known == name);
    let (Some(_), Some((last, _))) = (places.next(), places.last()) else {
        return object;
    };
    let members = object.iter().enumerate();
    let kept = members.filter(|(at, (known, _))| *known != name || *at == last);
    let written: Vec<String> = kept
        .map(|(_, (name, text))| format!("{}:{text}", quote(name)))
        .collect();
    let text = format!("{{{}}}", written.join(","));
    RawObject::parse(text.into()).unwrap_or(object)
}

impl Sent<'_> {
    /// The body with another name of the end user; `None`: without any.
    pub(super) fn named(self, mut object: RawObject, user: Option<&str>) -> Bytes {
        let (own, others) = places(self.format);
        let user = user.filter(|_| self.asks != Asks::Count).map(quote);
        for place in own.iter().chain(others) {
            let is_refused = self.refused.iter().any(|name| name == place.0);
            let is_own = self.asks == Asks::Turn && own == Some(*place);
            let user = user.as_deref().filter(|_| !is_refused);
            // Nobody asked for one more name than there is.
            if (is_own || has(&object, *place))
                && let Ok(changed) = RawObject::parse(with(&object, *place, user))
            {
                object = changed;
            }
        }
        object.bytes().clone()
    }

    /// The body with the operator's words before the client's instructions, or in their stead.
    pub(super) fn instructed(self, object: &RawObject, prompt: &str, strict: bool) -> Bytes {
        let words = Words {
            text: quote(prompt),
            strict,
        };
        match (self.asks, self.format) {
            // The question is around the request.
            (Asks::Count, Format::Gemini) => {
                let mut spellings = REQUEST.into_iter();
                let name = spellings.find(|name| object.get(name).is_some());
                below(object, name.unwrap_or_default(), |request| {
                    words.in_gemini(request)
                })
            }
            (Asks::Count, Format::BedrockConverse) => below(object, "input", |input| {
                below(input, "converse", |request| words.put(request, self.format))
            }),
            (_, format) => words.put(object, format),
        }
    }
}

fn has(object: &RawObject, (outer, inner): Place) -> bool {
    match (object.get(outer), inner) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(text), Some(inner)) => inside(text).is_none_or(|object| object.get(inner).is_some()),
    }
}

/// With this JSON at a place, or without any.
fn with(object: &RawObject, (outer, inner): Place, json: Option<&str>) -> Bytes {
    let edit = |name, json: Option<&str>, object: &RawObject| match json {
        Some(json) => object.edit(&[Edit::Set(name, json)]),
        None => object.edit(&[Edit::Remove(name)]),
    };
    let Some(inner) = inner else {
        return edit(outer, json, object);
    };
    match (object.get(outer).and_then(inside), json) {
        (Some(below), json) => {
            let below = edit(inner, json, &last(below, inner));
            edit(outer, Some(&String::from_utf8_lossy(&below)), object)
        }
        (None, Some(json)) => {
            let below = format!("{{{}:{json}}}", quote(inner));
            edit(outer, Some(&below), object)
        }
        (None, None) => edit(outer, None, object),
    }
}

/// The object with a change inside of one of its members, where that is an object.
fn below(object: &RawObject, name: &str, change: impl FnOnce(&RawObject) -> Bytes) -> Bytes {
    match object.get(name).and_then(inside) {
        Some(member) => {
            let changed = change(&member);
            object.edit(&[Edit::Set(name, &String::from_utf8_lossy(&changed))])
        }
        None => object.bytes().clone(),
    }
}

/// The operator's words.
struct Words {
    /// As JSON.
    text: String,
    /// Nothing of the client's stays beside them.
    strict: bool,
}

impl Words {
    fn put(&self, object: &RawObject, format: Format) -> Bytes {
        match format {
            Format::AnthropicMessages => {
                let system = self.before(object.get("system"), Block::Typed);
                let messages = self.alone(object.get("messages"));
                edited(object, [("system", Some(system)), ("messages", messages)])
            }
            Format::OpenaiResponses => {
                let instructions = self.before(object.get("instructions"), Block::Typed);
                let input = self.alone(object.get("input"));
                edited(
                    object,
                    [("instructions", Some(instructions)), ("input", input)],
                )
            }
            Format::OpenaiChat => {
                let messages = object.get("messages").unwrap_or_default();
                edited(object, [("messages", self.message(messages))])
            }
            Format::Gemini => self.in_gemini(object),
            Format::BedrockConverse => {
                let given = object.get("system").filter(|text| text.starts_with('['));
                let system = match given {
                    Some(_) => self.before(given, Block::Bare),
                    None => format!("[{}]", Block::Bare.of(&self.text)),
                };
                edited(object, [("system", Some(system))])
            }
        }
    }

    /// Before instructions that are a text or a list of blocks. What is neither no provider would take.
    fn before(&self, given: Option<&str>, block: Block) -> String {
        match given {
            Some(text) if self.strict && text.starts_with('[') => {
                format!("[{}]", block.of(&self.text))
            }
            Some(text) if !self.strict && text.starts_with('[') => {
                first_in(text, &block.of(&self.text))
            }
            Some(text) if !self.strict && text.starts_with('"') => joined(&self.text, text),
            _ => self.text.clone(),
        }
    }

    /// A list of messages without the client's instructions, where these are not to stay.
    fn alone(&self, list: Option<&str>) -> Option<String> {
        let items = items(list.filter(|_| self.strict)?)?;
        let others: Vec<&str> = items
            .into_iter()
            .filter(|item| !is_of(item, &["system", "developer"]))
            .collect();
        Some(format!("[{}]", others.join(",")))
    }

    /// As the first message. Where the client's first one is of the system too, in front of its text: some take no second.
    fn message(&self, list: &str) -> Option<String> {
        let message = format!(r#"{{"role":"system","content":{}}}"#, self.text);
        if let Some(list) = self.alone(Some(list)) {
            return Some(first_in(&list, &message));
        }
        let first = items(list)?.into_iter().next();
        let is_system = first.filter(|item| is_of(item, &["system"]));
        let content = is_system.and_then(inside);
        let content = content.as_ref().and_then(|message| {
            let content = message.get("content").filter(|text| is_said(text))?;
            let content = self.before(Some(content), Block::Typed);
            Some(message.edit(&[Edit::Set("content", &content)]))
        });
        match (first, content) {
            (Some(first), Some(content)) => {
                // It borrows from the list: its address tells where it stands.
                let start = (first.as_ptr() as usize).saturating_sub(list.as_ptr() as usize);
                let rest = list.get(start + first.len()..).unwrap_or_default();
                let before = list.get(..start).unwrap_or_default();
                Some([before, &String::from_utf8_lossy(&content), rest].concat())
            }
            _ => Some(first_in(list, &message)),
        }
    }

    /// Google knows its members in two spellings.
    fn in_gemini(&self, object: &RawObject) -> Bytes {
        const SPELLINGS: [&str; 2] = ["systemInstruction", "system_instruction"];
        let given = object
            .iter()
            .filter(|(name, _)| SPELLINGS.contains(name))
            .last();
        // Of both the last is meant, as of one that is there twice.
        let [name, other] = match given {
            Some(("system_instruction", _)) => ["system_instruction", "systemInstruction"],
            _ => SPELLINGS,
        };
        let part = Block::Bare.of(&self.text);
        let said = object.get(name).and_then(inside).filter(|_| !self.strict);
        let parts = said.as_ref().and_then(|said| {
            let parts = said.get("parts").filter(|text| text.starts_with('['))?;
            let parts = first_in(parts, &part);
            let said = said.edit(&[Edit::Set("parts", &parts)]);
            Some(String::from_utf8_lossy(&said).into_owned())
        });
        let instruction = parts.unwrap_or_else(|| format!(r#"{{"parts":[{part}]}}"#));
        object.edit(&[Edit::Set(name, &instruction), Edit::Remove(other)])
    }
}

/// How a format writes a piece of instructions.
#[derive(Clone, Copy)]
enum Block {
    /// `{"type":"text","text":…}`.
    Typed,
    /// `{"text":…}`.
    Bare,
}

impl Block {
    fn of(self, text: &str) -> String {
        match self {
            Block::Typed => format!(r#"{{"type":"text","text":{text}}}"#),
            Block::Bare => format!(r#"{{"text":{text}}}"#),
        }
    }
}

/// With the members that have a new text.
fn edited<const N: usize>(object: &RawObject, members: [(&str, Option<String>); N]) -> Bytes {
    let edits: Vec<Edit<'_>> = members
        .iter()
        .filter_map(|(name, text)| Some(Edit::Set(name, text.as_deref()?)))
        .collect();
    object.edit(&edits)
}

fn inside(text: &str) -> Option<RawObject> {
    RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).ok()
}

fn items(list: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}

/// Whether a text or a list has something in it.
fn is_said(json: &str) -> bool {
    json.starts_with(['"', '[']) && json != r#""""#
}

/// One text behind the other, a blank line between them.
fn joined(first: &str, second: &str) -> String {
    let (first, second) = (first.strip_suffix('"'), second.strip_prefix('"'));
    let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
    match second {
        "\"" => [first, second].concat(),
        _ => [first, r"\n\n", second].concat(),
    }
}

/// The list with one more item before all others.
fn first_in(list: &str, item: &str) -> String {
    let rest = list.trim_start().strip_prefix('[').unwrap_or("]");
    let comma = if rest.trim_start().starts_with(']') {
        ""
    } else {
        ","
    };
    format!("[{item}{comma}{rest}")
}

/// Whether a message is one of these roles', by any of the roles that it names.
fn is_of(message: &str, roles: &[&str]) -> bool {
    let message = inside(message);
    message.is_some_and(|message| {
        let mut named = message.iter().filter(|(name, _)| *name == "role");
        named.any(|(_, json)| {
            serde_json::from_str(json).is_ok_and(|role: String| roles.contains(&role.as_str()))
        })
    })
}
