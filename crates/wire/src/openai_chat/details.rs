//! `reasoning_details`: thinking with its signatures, as OpenRouter brought it into this format. The one place where a chat
//! client can keep what its model's maker wants back.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::canon::{Given, Issuer, Opaque, Part, Reasoning};
use crate::request::Extra;

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    summary: Option<String>,
    data: Option<String>,
    signature: Option<String>,
    format: Option<String>,
    id: Option<String>,
}

/// An entry as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    format: &'static str,
    index: usize,
}

/// Who issues which format.
const FORMATS: [(&str, Issuer); 3] = [
    ("anthropic-claude-v1", Issuer::Anthropic),
    ("google-gemini-v1", Issuer::Google),
    ("openai-responses-v1", Issuer::OpenAi),
];

fn format_of(issuer: Issuer) -> &'static str {
    let row = FORMATS.iter().find(|(_, known)| *known == issuer);
    row.map_or("unknown", |(name, _)| name)
}

/// An entry of the answer: thinking with its signature, or hidden thinking.
pub(crate) fn detail<'a>(text: &'a str, opaque: &'a Opaque, index: usize) -> Detail<'a> {
    let is_sealed = opaque.is_redacted || opaque.issuer == Issuer::OpenAi;
    Detail {
        kind: if is_sealed {
            "reasoning.encrypted"
        } else {
            "reasoning.text"
        },
        text: (!is_sealed).then_some(text),
        data: is_sealed.then_some(&opaque.data),
        signature: (!is_sealed).then_some(&opaque.data),
        id: opaque.id.as_deref(),
        format: format_of(opaque.issuer),
        index,
    }
}

/// Reads the entries of a message; what is sealed for an issuer nobody knows is kept as unknown.
pub(crate) fn read(raw: &RawValue, at: &str, unknown: &mut Extra) -> Vec<Given<Part>> {
    let entries: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let mut parts: Vec<Given<Part>> = Vec::with_capacity(entries.len());
    for (index, raw) in entries.into_iter().enumerate() {
        let at = format!("{at}/{index}");
        let Some(entry) = serde_json::from_str::<Member>(raw.get()).ok() else {
            unknown.push(Given::new(raw.to_owned(), at));
            continue;
        };
        match reasoning(entry) {
            Some(reasoning) => join(&mut parts, reasoning, at),
            None => unknown.push(Given::new(raw.to_owned(), at)),
        }
    }
    parts
}

/// Entries come piece by piece where they were gathered from a stream: pieces without a seal between them are one thought.
fn join(parts: &mut Vec<Given<Part>>, next: Reasoning, at: String) {
    let last = parts.last_mut().map(|part| &mut part.value);
    match last {
        Some(Part::Reasoning(last)) if last.opaque.is_none() && !is_hidden(&next) => {
            last.text.push_str(&next.text);
            last.opaque = next.opaque;
        }
        _ => parts.push(Given::new(Part::Reasoning(next), at)),
    }
}

fn is_hidden(reasoning: &Reasoning) -> bool {
    let opaque = reasoning.opaque.as_ref();
    opaque.is_some_and(|opaque| opaque.is_redacted)
}

fn reasoning(entry: Member) -> Option<Reasoning> {
    let named = entry.format.as_deref().unwrap_or_default();
    let row = FORMATS.iter().find(|(name, _)| named.starts_with(name));
    let issuer = row.map(|(_, issuer)| *issuer);
    let is_encrypted = entry.kind == "reasoning.encrypted";
    let sealed = if is_encrypted {
        entry.data
    } else {
        entry.signature.filter(|text| !text.is_empty())
    };
    let opaque = match (sealed, issuer) {
        (Some(data), Some(issuer)) => Some(Opaque {
            issuer,
            data,
            id: entry.id,
            is_redacted: is_encrypted && issuer == Issuer::Anthropic,
        }),
        (Some(_), None) if is_encrypted => return None,
        _ => None,
    };
    let text = entry.text.or(entry.summary).unwrap_or_default();
    (opaque.is_some() || !text.is_empty()).then_some(Reasoning { text, opaque })
}
