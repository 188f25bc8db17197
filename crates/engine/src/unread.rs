//! Calls of the generic proxy: nobody reads their bodies, but for whom a key's list of models would mean nothing otherwise.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use memchr::memmem;
use percent_encoding::percent_decode_str;
use polygate_core::{Failure, Kind};
use polygate_wire::RawObject;

use crate::call::{Call, Endpoint, InboundBody, Tail};
use crate::route::Route;

/// Segments of paths behind which a model stands.
const SEGMENTS: [&str; 4] = ["models", "model", "deployments", "engines"];

/// Members that name models, and those whose items do.
const MEMBERS: [&str; 3] = ["model", "models", "fallbacks"];
const NESTED: [&str; 3] = [
    "requests",
    "generateContentRequest",
    "generate_content_request",
];

/// The mark that some write before text: it says nothing.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A body as it is understood: in UTF-8, as JSON is. `Err`: it is JSON in another encoding, which nobody here could look through.
pub(crate) fn plain(body: Bytes) -> Result<Bytes, Failure> {
    let unmarked = body.strip_prefix(MARK).map(|rest| body.slice_ref(rest));
    let body = unmarked.unwrap_or(body);
    match is_wide(&body) {
        true => {
            let message =
                "the body is JSON in another encoding than UTF-8, the only one that is taken here";
            Err(Failure::new(Kind::InvalidRequest, message))
        }
        false => Ok(body),
    }
}

/// Whether it begins as JSON in UTF-16 or UTF-32 does: its first sign among zeros, with a mark before it or not.
fn is_wide(body: &[u8]) -> bool {
    let start = body.get(..8).unwrap_or(body);
    let is_marked = [&b"\xff\xfe"[..], b"\xfe\xff", b"\0\0\xfe\xff"]
        .iter()
        .any(|mark| start.starts_with(mark));
    let signs = start.iter().filter(|byte| !b"\0\xff\xfe".contains(byte));
    let is_json =
        signs.clone().all(|byte| byte.is_ascii()) && signs.clone().any(|byte| b"{[".contains(byte));
    let spaces_only = start
        .iter()
        .take_while(|byte| !b"{[".contains(byte))
        .all(|byte| b"\0\xff\xfe \t\r\n".contains(byte));
    (is_marked || start.contains(&0)) && is_json && spaces_only
}

/// Refuses a call that names models that its key may not use, or of which nobody can tell what it names.
pub(crate) fn check(call: &Call, body: &InboundBody, route: &Route) -> Result<(), Failure> {
    let Endpoint::Proxy(tail) = &call.inbound.endpoint else {
        return Ok(());
    };
    let caller = &call.inbound.caller;
    if !caller.has_model_list() {
        return Ok(());
    }
    let unseen = |what: &str| {
        let message = format!(
            "the key is for certain models only, and {what} may name others that nobody here sees"
        );
        Err(Failure::new(Kind::Forbidden, message))
    };
    let headers = &call.inbound.headers;
    if headers.contains_key(CONTENT_ENCODING) {
        return unseen("a compressed body");
    }
    let mut names = in_path(tail);
    match body {
        InboundBody::Whole(body) => names.extend(in_body(headers, body)),
        InboundBody::Passing(_) => return unseen("an upload that passes unread"),
    }
    for name in &names {
        let name = name.strip_prefix("models/").unwrap_or(name);
        let is_routes = name == call.model || route.candidates().any(|one| *one.model == *name);
        if !is_routes {
            caller.allowed(name)?;
        }
    }
    Ok(())
}

/// Behind the path's segments for models, and in its query.
fn in_path(tail: &Tail) -> Vec<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut names = Vec::new();
    let path = decoded(&tail.path);
    let mut segments = path.split('/');
    while let Some(segment) = segments.next() {
        if SEGMENTS.contains(&segment)
            && let Some(named) = segments.next().filter(|named| !named.is_empty())
        {
            // Behind Google's names stands a method, behind Amazon's a version.
            let is_method = |last: &str| last.starts_with(|sign: char| sign.is_ascii_alphabetic());
            let cut = named.rsplit_once(':').filter(|(_, last)| is_method(last));
            names.push(cut.map_or(named, |(name, _)| name).to_owned());
        }
    }
    let query = tail.query.as_deref().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let models = pairs.filter(|(name, _)| decoded(name) == "model");
    names.extend(models.map(|(_, value)| decoded(value)));
    names
}

fn in_body(headers: &HeaderMap, body: &Bytes) -> Vec<String> {
    if let Ok(object) = RawObject::parse(body.clone()) {
        return in_object(&object);
    }
    let kind = headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.starts_with("multipart/") {
        true => in_form(body),
        false => Vec::new(),
    }
}

/// All that are named, however often a member is there: a reader may believe any of them.
fn in_object(object: &RawObject) -> Vec<String> {
    let mut names = Vec::new();
    for (name, text) in object.iter() {
        if MEMBERS.contains(&name) {
            names.extend(strings(text));
        }
        if NESTED.contains(&name) {
            for inner in objects(text) {
                let named = inner.iter().filter(|(name, _)| *name == "model");
                names.extend(named.flat_map(|(_, text)| strings(text)));
            }
        }
    }
    names
}

/// A text, or those of a list.
fn strings(text: &str) -> Vec<String> {
    let one = serde_json::from_str::<String>(text).map(|one| vec![one]);
    one.or_else(|_| serde_json::from_str(text))
        .unwrap_or_default()
}

/// An object, or those of a list.
fn objects(text: &str) -> Vec<RawObject> {
    let parse = |text: &str| RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).ok();
    let listed = || -> Option<Vec<RawObject>> {
        let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(text).ok()?;
        Some(items.iter().filter_map(|item| parse(item.get())).collect())
    };
    parse(text)
        .map(|one| vec![one])
        .or_else(listed)
        .unwrap_or_default()
}

/// What fields of a form that are called `model` say.
fn in_form(body: &[u8]) -> Vec<String> {
    const FIELDS: [&[u8]; 3] = [b"name=\"model\"", b"name=model\r\n", b"name=model;"];
    let mut names = Vec::new();
    for field in FIELDS {
        for at in memmem::find_iter(body, field) {
            let rest = body.get(at..).unwrap_or_default();
            let Some(begins) = memmem::find(rest, b"\r\n\r\n") else {
                continue;
            };
            let said = rest.get(begins + 4..).unwrap_or_default();
            let ends = memmem::find(said, b"\r\n").unwrap_or(said.len());
            let said = said.get(..ends).unwrap_or_default();
            names.push(String::from_utf8_lossy(said).trim().to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_model_is_found_wherever_it_stands() {
        let tail = Tail {
            path: "v1beta/models/gemini%2Dpro:generateContent".to_owned(),
            query: Some("a=b&mod%65l=x".to_owned()),
        };
        assert_eq!(in_path(&tail), ["gemini-pro", "x"]);
        let tail = Tail {
            path: "model/anthropic.claude-v2:0/invoke".to_owned(),
            query: None,
        };
        assert_eq!(in_path(&tail), ["anthropic.claude-v2:0"]);
        let text = r#"{"model":"a","mod\u0065l":"b","models":["c"],"requests":[{"model":"models/d"},1],"generate_content_request":{"model":"e"}}"#;
        let object = RawObject::parse(Bytes::from(text)).expect("an object");
        assert_eq!(in_object(&object), ["a", "b", "c", "models/d", "e"]);
        let form = b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x--";
        assert_eq!(in_form(form), ["whisper-1"]);
    }

    #[test]
    fn json_is_in_one_encoding() {
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let big =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
        for body in [
            wide("{\"a\":1}"),
            big(" {\"a\":1}"),
            wide("\u{feff}{\"a\":1}"),
            big("\u{feff}[1]"),
            b"{\0\0\0\"\0\0\0".to_vec(),
        ] {
            assert!(plain(body.clone().into()).is_err(), "{body:?}");
        }
        let marked = Bytes::from_static(b"\xef\xbb\xbf{\"a\":1}");
        assert_eq!(plain(marked).expect("plain"), "{\"a\":1}");
        for body in [
            &b"\xff\xfbaudio\0"[..],
            b"\0\0\0\x20ftyp",
            b"PK\x03\x04",
            b"",
            b"{}",
            b"text",
        ] {
            let body = Bytes::copy_from_slice(body);
            assert_eq!(plain(body.clone()).expect("as it is"), body);
        }
    }
}
