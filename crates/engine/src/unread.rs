//! Calls of the generic proxy: nobody reads their bodies, but where a key's list of models, or a guard's, would mean nothing otherwise.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use memchr::memmem;
use percent_encoding::percent_decode_str;
use polygate_core::{Failure, Kind};
use polygate_wire::RawObject;
use serde_json::Value;

use crate::call::{Call, Endpoint, InboundBody, Tail};
use crate::route::Route;
use crate::snapshot::Snapshot;

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

/// Models that a call names where no lane reads them.
#[derive(Clone, Debug, Default)]
pub struct Mentioned {
    /// Their names.
    pub names: Vec<String>,
    /// Nobody here sees all that it names.
    pub is_unseen: bool,
}

impl Mentioned {
    /// By a call of the generic proxy: in its path and its body.
    pub(crate) fn by(tail: &Tail, headers: &HeaderMap, body: &InboundBody) -> Self {
        let mut names = in_path(tail);
        let body = match body {
            InboundBody::Whole(body) if !headers.contains_key(CONTENT_ENCODING) => Some(body),
            _ => None,
        };
        names.extend(body.into_iter().flat_map(|body| in_body(headers, body)));
        // Google's names stand behind a word.
        let bare = |name: &String| name.strip_prefix("models/").unwrap_or(name).to_owned();
        Self {
            names: names.iter().map(bare).collect(),
            is_unseen: body.is_none(),
        }
    }

    /// The same as clients mean them.
    pub(crate) fn stripped(mut self, snapshot: &Snapshot) -> Self {
        for name in &mut self.names {
            *name = snapshot.strip(name).to_owned();
        }
        self
    }
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
    if let InboundBody::Passing(..) = body {
        return unseen("an upload that passes unread");
    }
    for name in &Mentioned::by(tail, headers, body).names {
        let is_routes = *name == call.model || route.candidates().any(|one| *one.model == **name);
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
            names.extend(named_in(text));
        }
        if NESTED.contains(&name) {
            for inner in objects(text) {
                let named = inner.iter().filter(|(name, _)| *name == "model");
                names.extend(named.flat_map(|(_, text)| named_in(text)));
            }
        }
    }
    names
}

/// Every text in a value, whatever its shape: some upstream may read it as a model.
pub(crate) fn named_in(text: &str) -> Vec<String> {
    let mut open: Vec<Value> = serde_json::from_str(text).into_iter().collect();
    let mut names = Vec::new();
    while let Some(value) = open.pop() {
        match value {
            Value::String(name) => names.push(name),
            Value::Array(items) => open.extend(items.into_iter().rev()),
            Value::Object(members) => open.extend(members.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    names
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
        let text = r#"{"model":"a","mod\u0065l":"b","models":["c",1,{"x":["f"]}],"requests":[{"model":"models/d"},1],"generate_content_request":{"model":"e"}}"#;
        let object = RawObject::parse(Bytes::from(text)).expect("an object");
        assert_eq!(in_object(&object), ["a", "b", "c", "f", "models/d", "e"]);
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
