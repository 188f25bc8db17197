//! What keeps calls together: the name of their session, or how their prompts begin. A number each, never kept.

use http::HeaderMap;
use polygate_wire::{Format, RawObject};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::attribution::{self, Body};
use crate::call::Call;
use crate::config::Affinity;

/// What a prompt begins with, in any format, but for its first turn.
const PREFIX_MEMBERS: [&str; 6] = [
    "tools",
    "system",
    "instructions",
    "systemInstruction",
    "system_instruction",
    "cachedContent",
];

/// Where the turns are.
const TURNS: [&str; 3] = ["messages", "input", "contents"];

/// The key by which a call prefers a candidate; `None` where it has none.
pub fn key(call: &Call, affinity: Affinity) -> Option<u64> {
    let session = || session(call);
    let prefix = || prefix(&call.model, call.object.as_ref()?);
    let of_session = affinity.session.then(session).flatten();
    of_session.or_else(|| affinity.prefix.then(prefix).flatten())
}

/// The session that a call is part of; `None` where nobody names one.
pub fn session(call: &Call) -> Option<u64> {
    let headers = &call.inbound.headers;
    named(
        headers,
        call.object.as_ref(),
        call.inbound.endpoint.format(),
    )
}

fn named(headers: &HeaderMap, object: Option<&RawObject>, format: Format) -> Option<u64> {
    if let Some(header) = attribution::session_header(headers) {
        return Some(hash(&[header.as_bytes()]));
    }
    let object = object?;
    if format == Format::Gemini {
        return object
            .get("cachedContent")
            .map(|text| hash(&[text.as_bytes()]));
    }
    let hint = Body::of(object).hint()?;
    Some(hash(&[hint.as_bytes()]))
}

/// Model, tools, instructions and the first turn, as they stand.
fn prefix(model: &str, object: &RawObject) -> Option<u64> {
    let turns = TURNS.iter().find_map(|name| object.get(name))?;
    let mut pieces = vec![model.as_bytes()];
    let members = PREFIX_MEMBERS.iter();
    pieces.extend(members.map(|name| object.get(name).unwrap_or_default().as_bytes()));
    pieces.extend(beginning(turns).into_iter().map(str::as_bytes));
    Some(hash(&pieces))
}

/// The first turn with the instructions before it; a plain text is one turn.
fn beginning(turns: &str) -> Vec<&str> {
    #[derive(Deserialize)]
    struct Turn<'a> {
        #[serde(borrow)]
        role: Option<std::borrow::Cow<'a, str>>,
    }
    let Ok(turns) = serde_json::from_str::<Vec<&RawValue>>(turns) else {
        return vec![turns];
    };
    let mut pieces = Vec::new();
    for turn in turns {
        pieces.push(turn.get());
        let role = serde_json::from_str::<Turn<'_>>(turn.get()).ok();
        let role = role.and_then(|turn| turn.role).unwrap_or_default();
        if !matches!(&*role, "system" | "developer") {
            break;
        }
    }
    pieces
}

/// FNV-1a, the same in every process. Pieces are kept apart.
pub fn hash(pieces: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for piece in pieces {
        // A byte that no text has.
        for byte in piece.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> RawObject {
        RawObject::parse(json.to_owned().into()).expect("an object")
    }

    #[test]
    fn sessions_are_named_in_many_ways_and_the_strongest_counts() {
        let session = |json: &str, header: &str| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert("x-session-id", header.parse().expect("a value"));
            }
            named(&headers, Some(&object(json)), Format::OpenaiChat)
        };
        assert_eq!(session("{}", ""), None);
        assert_eq!(session(r#"{"user":null,"metadata":{}}"#, ""), None);
        let all = r#"{"user":"u","conversation":{"id":"c"},"metadata":{"user_id":"m"},"prompt_cache_key":"p"}"#;
        assert_eq!(session(all, "h"), session("{}", "h"));
        assert_eq!(session(all, ""), session(r#"{"prompt_cache_key":"p"}"#, ""));
        let without = r#"{"user":"u","metadata":{"user_id":"m"}}"#;
        assert_eq!(
            session(without, ""),
            session(r#"{"metadata":{"user_id":"m"}}"#, "")
        );
        assert_ne!(session(without, ""), session(r#"{"user":"u"}"#, ""));
    }

    #[test]
    fn prompts_that_begin_alike_have_one_key() {
        let key = |json: &str| prefix("m", &object(json));
        let first =
            r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}"#;
        let later = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"n":1}"#;
        let other =
            r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"x"}]}"#;
        assert_eq!(key(first), key(later));
        assert_ne!(key(first), key(other));
        assert_ne!(key(r#"{"input":"a"}"#), key(r#"{"input":"a","tools":[1]}"#));
        assert_eq!(key("{}"), None, "no turns, no prompt");
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
