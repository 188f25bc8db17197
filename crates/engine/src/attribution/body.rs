//! What a body says of its caller, and what in it keeps calls together.

use std::collections::BTreeMap;

use polygate_wire::RawObject;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Broken;
use super::table::Says;

/// Longer ones are no caller's word about itself, and are not read.
const LONGEST_METADATA: usize = 16 * 1024;
const LONGEST_TEXT: usize = 2048;

const METADATA: &str = "metadata";

/// Where a body names whom it is for, strongest first.
const END_USERS: [&str; 3] = ["user", "safety_identifier", "metadata.user_id"];

/// What of a body keeps calls together, strongest first, and whether it is also a name of the session: who says who they are, or what went
/// before, names none.
const HINTS: [(&str, bool); 6] = [
    ("metadata.session_id", true),
    ("prompt_cache_key", true),
    ("metadata.user_id", true),
    ("previous_response_id", false),
    ("conversation", true),
    ("user", false),
];

const TAGS: &str = "metadata.tags";

/// Where Claude Code says whom a call is for, and in which session, in one text.
const CLAUDE_CODE: &str = "metadata.user_id";

/// A body, as far as it says something of its caller.
pub(crate) struct Body<'a> {
    object: &'a RawObject,
    metadata: Result<BTreeMap<String, &'a RawValue>, Broken>,
}

/// Something said: of what, in which words, where.
pub(super) type Word = (Says, Result<String, Broken>, &'static str);

impl<'a> Body<'a> {
    /// Of this object.
    pub(crate) fn of(object: &'a RawObject) -> Self {
        let metadata = match object.get(METADATA).filter(|text| is_name(text)) {
            None => Ok(BTreeMap::new()),
            Some(text) if text.len() > LONGEST_METADATA => Err(Broken),
            Some(text) => serde_json::from_str(text).map_err(|_| Broken),
        };
        Self { object, metadata }
    }

    /// What keeps its calls together, as it stands.
    pub(crate) fn hint(&self) -> Option<&'a str> {
        HINTS.iter().find_map(|(path, _)| self.get(path))
    }

    /// All that it says of its caller, the strongest first.
    pub(super) fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        for path in END_USERS {
            let text = self.get(path);
            words.extend(text.map(|text| (Says::EndUser, end_user(path, text), path)));
        }
        for (path, _) in HINTS.into_iter().filter(|(_, names)| *names) {
            let said = self.get(path).and_then(|text| match path {
                CLAUDE_CODE => within(text).map(|(_, session)| Ok(session)),
                _ => Some(name(text)),
            });
            words.extend(said.map(|text| (Says::Session, text, path)));
        }
        let tags = self.get(TAGS);
        words.extend(tags.map(|text| (Says::Tags, listed(text), TAGS)));
        if self.metadata.is_err() {
            words.push((Says::Metadata, Err(Broken), METADATA));
        }
        words
    }

    /// Whether it names whom it is for.
    pub(super) fn names_user(&self) -> bool {
        END_USERS.iter().any(|path| self.get(path).is_some())
    }

    /// A member as JSON, unless it is empty.
    fn get(&self, path: &str) -> Option<&'a str> {
        let text = match path.strip_prefix("metadata.") {
            Some(name) => self.metadata.as_ref().ok()?.get(name)?.get(),
            None => self.object.get(path)?,
        };
        is_name(text).then_some(text)
    }
}

fn is_name(json: &str) -> bool {
    !matches!(json.trim(), "null" | "\"\"" | "{}" | "[]")
}

/// A name, or an object that has one.
fn name(json: &str) -> Result<String, Broken> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    if json.len() > LONGEST_TEXT {
        return Err(Broken);
    }
    let name = match json.starts_with('{') {
        true => serde_json::from_str(json).map(|named: Named| named.id),
        false => serde_json::from_str(json),
    };
    name.map_err(|_| Broken)
}

fn end_user(path: &str, json: &str) -> Result<String, Broken> {
    let both = (path == CLAUDE_CODE).then(|| within(json)).flatten();
    both.map_or_else(|| name(json), |(user, _)| Ok(user))
}

/// User and session, where one name holds both, as Claude Code's do: `user_…_account_…_session_…`, or an object of JSON in a text.
fn within(json: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Ids {
        #[serde(default)]
        device_id: String,
        #[serde(default)]
        account_uuid: String,
        session_id: String,
    }
    let text = name(json).ok()?;
    if let Some((user, session)) = text.rsplit_once("_session_") {
        return Some((user.to_owned(), session.to_owned()));
    }
    let ids: Ids = serde_json::from_str(&text).ok()?;
    let accounts = [ids.account_uuid, ids.device_id];
    let user = accounts.into_iter().find(|id| !id.is_empty());
    Some((user.unwrap_or_default(), ids.session_id))
}

/// A list of texts, or one text with commas.
fn listed(json: &str) -> Result<String, Broken> {
    let list = serde_json::from_str::<Vec<String>>(json).map(|tags| tags.join(","));
    list.or_else(|_| name(json))
}
