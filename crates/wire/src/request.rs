//! What the readers of requests share: members as types, failures that name them, and the rest kept to be named as lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use polygate_core::{Failure, Kind};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::{CachePoint, Given, Media, MediaSource, Part};

/// Members that nobody modelled, by their pointers.
pub(crate) type Extra = Vec<Given<Box<RawValue>>>;

/// A member as a type, or a failure that names it.
pub(crate) fn value<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason
            .split(" at line ")
            .next()
            .unwrap_or("not as expected");
        // serde repeats what it did not expect, which may be a whole picture.
        let reason: String = reason.chars().take(160).collect();
        bad(name, &format!("is not as it should be: {reason}"))
    })
}

/// A member of the request itself, with its place.
pub(crate) fn given<'a, T: Deserialize<'a>>(
    name: &str,
    text: &'a str,
) -> Result<Option<Given<T>>, Failure> {
    Ok(Some(Given::new(
        value(name, text)?,
        format!("/{}", escape(name)),
    )))
}

/// A member's JSON text, kept.
pub(crate) fn raw(name: &str, text: &str) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(text.to_owned()).map_err(|_| bad(name, "is not valid"))
}

/// A request that is not as its format says.
pub(crate) fn bad(name: &str, what: &str) -> Failure {
    Failure::new(Kind::InvalidRequest, format!("'{name}' {what}")).param(name)
}

/// A request that means something only its own vendor can do: to leave it out would be to answer another question.
pub(crate) fn refuse(name: &str, why: &str) -> Failure {
    Failure::new(Kind::Untranslatable, format!("'{name}' {why}")).param(name)
}

/// A member's name as part of a JSON pointer.
pub(crate) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether JSON text says nothing: `null`, and what is empty.
pub(crate) fn says_nothing(text: &str) -> bool {
    matches!(text, "null" | "[]" | "{}" | "\"\"" | "false")
}

/// Whether JSON text holds nothing; `false` may say something where only its own vendor knows what.
pub(crate) fn is_empty(text: &str) -> bool {
    matches!(text, "null" | "[]" | "{}" | "\"\"")
}

/// Keeps the members of an object that are not among the known ones and say something.
pub(crate) fn keep_unknown(text: &str, known: &[&str], at: &str, extra: &mut Extra) {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    for (name, value) in members {
        if !known.contains(&&*name) && !says_nothing(value.get()) {
            extra.push(Given::new(
                value.to_owned(),
                format!("{at}/{}", escape(&name)),
            ));
        }
    }
}

/// A data address taken apart; any other address as it is.
pub(crate) fn address(url: String) -> (MediaSource, Option<String>) {
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

/// Media as the kind of part that its type says.
pub(crate) fn media_part(media: Media) -> Part {
    let kind = crate::media::mime(&media).unwrap_or_default();
    match kind.split('/').next() {
        Some("image") => Part::Image(media),
        Some("audio") => Part::Audio(media),
        _ => Part::File(media),
    }
}

#[derive(Deserialize)]
struct CacheControl {
    ttl: Option<String>,
}

/// Anthropic's `cache_control`, as others took it over.
pub(crate) fn cache_control(raw: Option<&RawValue>) -> Option<CachePoint> {
    let text = raw.map(RawValue::get).filter(|text| !says_nothing(text))?;
    let control: CacheControl = serde_json::from_str(text).ok()?;
    Some(CachePoint { ttl: control.ttl })
}
