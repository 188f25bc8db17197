//! Holds a request as an upstream gets it to the request as its client wrote it: what the client wrote is in it, or named as lost.
//!
//! Told by texts: prose, and what is too long to be found anywhere by chance. What a format says in words of its own (roles, types,
//! efforts) is left to the golden files.

use polygate_wire::{Format, Loss};
use serde_json::Value;

use crate::words::{has, texts, words};

/// Texts without a blank that are shorter may be anywhere.
const SHORTEST: usize = 12;

/// Members that formats say in words of their own, or leave to the address.
const OWN_WORDS: [&str; 10] = [
    "type",
    "model",
    "role",
    "status",
    "include",
    "mimeType",
    "mime_type",
    "media_type",
    "responseMimeType",
    "response_mime_type",
];

/// Pointers of texts that are neither in the upstream's body nor under a loss.
pub fn silently_dropped(
    asked: &[u8],
    sent: &[u8],
    losses: &[Loss],
    upstream: Format,
) -> Vec<String> {
    let request: Value = serde_json::from_slice(asked).expect("JSON");
    let sent = texts(sent);
    let mut written = words(asked);
    unbroken(&request, "", &mut written);
    written.retain(|(at, text)| {
        !has_own_word(at)
            && !is_named(at, losses)
            && !is_bent(at, &request, upstream)
            && !is_in(text, &sent)
    });
    written.into_iter().map(|(at, _)| at).collect()
}

/// Texts without a blank: names, addresses, signatures, media; those inside JSON that stands in a text under the text's own pointer.
fn unbroken(tree: &Value, at: &str, all: &mut Vec<(String, String)>) {
    match tree {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ (Value::Array(_) | Value::Object(_))) => {
                let mut inside = Vec::new();
                unbroken(&inner, "", &mut inside);
                all.extend(inside.into_iter().map(|(_, text)| (at.to_owned(), text)));
            }
            _ if text.len() >= SHORTEST && !text.trim().contains(' ') => {
                all.push((at.to_owned(), text.clone()));
            }
            _ => {}
        },
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unbroken(item, &format!("{at}/{index}"), all);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                unbroken(member, &format!("{at}/{name}"), all);
            }
        }
        _ => {}
    }
}

fn has_own_word(at: &str) -> bool {
    let name = |step: &&str| step.parse::<usize>().is_err();
    let last = at.rsplit('/').find(name).unwrap_or_default();
    OWN_WORDS.contains(&last)
}

fn is_named(at: &str, losses: &[Loss]) -> bool {
    let is_under = |loss: &Loss| {
        let rest = at.strip_prefix(loss.0.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    losses.iter().any(is_under)
}

/// What is said otherwise, and lost nowhere.
fn is_bent(at: &str, request: &Value, upstream: Format) -> bool {
    // A label that only OpenAI's formats ask for.
    let is_label = at.ends_with("/json_schema/name") || at == "/text/format/name";
    // An item's own bookkeeping, which tells nothing to anybody but its maker.
    let is_id = at.starts_with("/input/") && (at.ends_with("/id") || is_search(at, request));
    // Documents have other names there.
    let is_name = at.ends_with("/filename") || at.ends_with("/title");
    let is_renamed = upstream == Format::BedrockConverse && is_name;
    let is_withheld = at.starts_with("/tools/") && withholds_tools(request);
    is_label || is_id || is_renamed || is_withheld || is_text(at, request)
}

/// Documents of text in base64, which are sent as what they say.
fn is_text(at: &str, request: &Value) -> bool {
    let media = at.strip_suffix("/data");
    let media = media.and_then(|media| request.pointer(media));
    let mime = media.and_then(|media| media["mimeType"].as_str());
    mime.is_some_and(|mime| mime.starts_with("text/"))
}

/// Tools that may not be called are not offered where that cannot be said.
fn withholds_tools(request: &Value) -> bool {
    let choices = [
        "/tool_choice",
        "/tool_choice/type",
        "/toolConfig/functionCallingConfig/mode",
    ];
    let said = |at: &&str| request.pointer(at).and_then(Value::as_str);
    let mut said = choices.iter().filter_map(said);
    said.any(|word| matches!(word, "none" | "NONE" | "allowed_tools"))
}

/// The tools that a search found are offered with the others.
fn is_search(at: &str, request: &Value) -> bool {
    let item = at.strip_suffix("/call_id");
    let item = item.and_then(|item| request.pointer(item));
    item.is_some_and(|item| item["type"] == "tool_search_output")
}

/// The text, in whatever letters: base64's other alphabet, a data address, a text that was sent in base64.
fn is_in(text: &str, sent: &str) -> bool {
    let data = text
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','));
    match data {
        Some((kind, data)) => kind.starts_with("text/") || sent.contains(data),
        None => has(sent, text) || sent.contains(&text.replace('-', "+").replace('_', "/")),
    }
}
