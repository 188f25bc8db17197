//! What a caller says of itself: its end user, the session, tags and metadata, read once from the headers and members that are known
//! for it. It is recorded and never obeyed: nothing is admitted, routed or charged by it, but that sessions keep calls together.

mod body;
mod table;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_wire::RawObject;
use serde_json::{Map, Value};

pub(crate) use body::Body;
use table::{HEADERS, PROPERTY, PROPERTY_PREFIX, Says};

/// Characters of an end user's or a session's name.
const LONGEST_NAME: usize = 200;
/// Tags, and characters of one.
const MOST_TAGS: usize = 16;
const LONGEST_TAG: usize = 64;
/// Bytes of metadata, as JSON.
const MOST_METADATA: usize = 2048;
/// In metadata, who Portkey's callers say is behind a call.
const USER_IN_METADATA: &str = "_user";

/// What a caller says of itself. Nothing is allocated where nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribution(Option<Box<Words>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Words {
    end_user: Option<String>,
    session: Option<String>,
    tags: Vec<String>,
    /// Each with its value as JSON, which is smaller than what it says.
    metadata: Vec<(Box<str>, Box<str>)>,
    /// Of the bound on metadata.
    bytes: usize,
    ignored: Vec<&'static str>,
}

/// What is said is too long, or has characters that nothing here may carry. It is passed over whole: half a name is another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

impl Attribution {
    /// What the headers say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said: Vec<(usize, &HeaderName, &HeaderValue)> = headers
            .iter()
            .filter_map(|(name, value)| Some((table::rank(name.as_str())?, name, value)))
            .collect();
        if said.is_empty() {
            return Self::default();
        }
        said.sort_by_key(|(rank, ..)| *rank);
        let mut words = Words::default();
        for (rank, name, value) in said {
            words.header(rank, name.as_str(), value);
        }
        if words.end_user.is_none()
            && let Some(user) = words.user_in_metadata()
        {
            words.say(Says::EndUser, &user, USER_IN_METADATA);
        }
        Self(Some(Box::new(words)))
    }

    /// What the body says beside.
    pub(crate) fn read(&mut self, object: &RawObject) {
        let said = Body::of(object).words();
        if said.is_empty() {
            return;
        }
        let words = self.0.get_or_insert_default();
        for (says, text, place) in said {
            match text {
                Ok(text) => words.say(says, &text, place),
                Err(Broken) => words.ignore(place),
            }
        }
    }

    /// Whom the call is made for.
    pub fn end_user(&self) -> Option<&str> {
        self.0.as_ref()?.end_user.as_deref()
    }

    /// The session that it is part of.
    pub fn session(&self) -> Option<&str> {
        self.0.as_ref()?.session.as_deref()
    }

    /// About so many bytes it keeps.
    pub(crate) fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |words| {
            let names = [&words.end_user, &words.session];
            let texts = names.into_iter().flatten().chain(&words.tags);
            let texts: usize = texts.map(|text| size_of_val(text) + text.len()).sum();
            let pairs = size_of_val(words.metadata.as_slice());
            size_of::<Words>() + texts + pairs + words.bytes
        })
    }

    /// What it is tagged with.
    pub fn tags(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |words| &words.tags)
    }

    /// What else is said of it.
    pub fn metadata(&self) -> Option<Map<String, Value>> {
        let pairs = self.0.as_ref()?.metadata.iter();
        let read = |(key, json): &(Box<str>, Box<str>)| {
            Some((String::from(&**key), serde_json::from_str(json).ok()?))
        };
        let metadata: Map<String, Value> = pairs.filter_map(read).collect();
        (!metadata.is_empty()).then_some(metadata)
    }

    /// The headers and members that were passed over, since they are too long or broken.
    pub fn ignored(&self) -> &[&'static str] {
        self.0.as_ref().map_or(&[], |words| &words.ignored)
    }
}

/// The header that names a call's session; of several the strongest.
pub(crate) fn session_header(headers: &HeaderMap) -> Option<&HeaderValue> {
    let names = HEADERS.iter().filter(|(_, says)| *says == Says::Session);
    let mut values = names.filter_map(|(name, _)| headers.get(*name));
    values.find(|value| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::trim);
        text.is_ok_and(|text| !text.is_empty() && is_plain(text, LONGEST_NAME))
    })
}

/// Whether a body names whom it is for.
pub(crate) fn names_user(object: &RawObject) -> bool {
    Body::of(object).names_user()
}

/// Whether a header of this name says something of its caller.
pub(crate) fn is_word(name: &str) -> bool {
    table::rank(name).is_some()
}

/// The beginning of what names the caller's program: a copy, since the header itself would keep all that came with it.
pub(crate) fn program(headers: &HeaderMap) -> Option<HeaderValue> {
    let agent = headers.get(USER_AGENT)?.as_bytes();
    HeaderValue::from_bytes(agent.get(..LONGEST_NAME).unwrap_or(agent)).ok()
}

impl Words {
    fn header(&mut self, rank: usize, name: &str, value: &HeaderValue) {
        let (place, says) = HEADERS.get(rank).copied().unwrap_or(PROPERTY);
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
            return self.ignore(place);
        };
        match name.strip_prefix(PROPERTY_PREFIX) {
            Some(key) => {
                let added = self.add(key.to_owned(), text.trim().into());
                self.unless_broken(added, place);
            }
            None => self.say(says, text, place),
        }
    }

    /// The first who names somebody is believed; tags and metadata add up.
    fn say(&mut self, says: Says, text: &str, place: &'static str) {
        let said = match says {
            Says::EndUser => first(&mut self.end_user, text),
            Says::Session => first(&mut self.session, text),
            Says::Tags => self.tag(text),
            Says::Metadata => self.describe(text),
        };
        self.unless_broken(said, place);
    }

    fn tag(&mut self, text: &str) -> Result<(), Broken> {
        let mut result = Ok(());
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            if self.tags.iter().any(|known| known == tag) {
                continue;
            }
            if self.tags.len() < MOST_TAGS && is_plain(tag, LONGEST_TAG) {
                self.tags.push(tag.to_owned());
            } else {
                result = Err(Broken);
            }
        }
        result
    }

    fn describe(&mut self, text: &str) -> Result<(), Broken> {
        if text.len() > MOST_METADATA {
            return Err(Broken);
        }
        let read: Map<String, Value> = serde_json::from_str(text).map_err(|_| Broken)?;
        let mut result = Ok(());
        for (key, value) in read {
            result = self.add(key, value).and(result);
        }
        result
    }

    fn user_in_metadata(&self) -> Option<String> {
        let mut pairs = self.metadata.iter();
        let (_, json) = pairs.find(|(key, _)| **key == *USER_IN_METADATA)?;
        serde_json::from_str(json).ok()
    }

    fn add(&mut self, key: String, value: Value) -> Result<(), Broken> {
        if self.metadata.iter().any(|(known, _)| **known == *key) {
            return Ok(());
        }
        let json = value.to_string();
        let bytes = key.len() + json.len() + r#""":,"#.len();
        let fits = self.bytes + bytes <= MOST_METADATA;
        if !fits || !is_plain(&key, LONGEST_TAG) || !is_plain_value(&value) {
            return Err(Broken);
        }
        self.bytes += bytes;
        self.metadata.push((key.into(), json.into()));
        Ok(())
    }

    fn unless_broken(&mut self, said: Result<(), Broken>, place: &'static str) {
        if said.is_err() {
            self.ignore(place);
        }
    }

    fn ignore(&mut self, place: &'static str) {
        if !self.ignored.contains(&place) {
            self.ignored.push(place);
        }
    }
}

fn first(known: &mut Option<String>, text: &str) -> Result<(), Broken> {
    let text = text.trim();
    if known.is_some() || text.is_empty() {
        return Ok(());
    }
    if !is_plain(text, LONGEST_NAME) {
        return Err(Broken);
    }
    *known = Some(text.to_owned());
    Ok(())
}

fn is_plain(text: &str, most: usize) -> bool {
    text.chars().take(most + 1).count() <= most && !text.chars().any(is_hidden)
}

/// What terminals obey, or what turns the order of what is read: nobody sees it.
fn is_hidden(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control()
}

/// As deep as JSON may be read, and no deeper.
fn is_plain_value(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.chars().any(is_hidden),
        Value::Array(values) => values.iter().all(is_plain_value),
        Value::Object(members) => members
            .iter()
            .all(|(key, value)| !key.chars().any(is_hidden) && is_plain_value(value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
