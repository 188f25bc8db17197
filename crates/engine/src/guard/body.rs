//! Whole bodies of JSON past the guards: every string that is text, wherever it stands; all other bytes stay.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use polygate_core::{Failure, Kind as FailureKind};
use polygate_wire::Format;
use serde::de::IgnoredAny;

use super::channel::{Channel, Kind};
use super::json::{escaped, unescaped};
use super::scan::{Edit, Scan};
use super::{Doings, Watch};

/// So deep a body may be nested.
const DEEPEST: usize = 512;

/// Members whose strings are no text, in every format: names of things, ids, what only its maker can read.
const NO_TEXT: [&str; 38] = [
    "$id",
    "$ref",
    "$schema",
    "b64_json",
    "detail",
    "effort",
    "embedding",
    "encoding_format",
    "encrypted_content",
    "finishReason",
    "finish_reason",
    "format",
    "id",
    "language",
    "media_type",
    "mimeType",
    "mime_type",
    "model",
    "modality",
    "modalities",
    "name",
    "object",
    "partial_image_b64",
    "pattern",
    "quality",
    "reasoning_effort",
    "required",
    "responseMimeType",
    "role",
    "service_tier",
    "signature",
    "size",
    "status",
    "stop_reason",
    "thoughtSignature",
    "thought_signature",
    "type",
    "voice",
];

/// Members that hold files, or where files are.
const FILES: [&str; 6] = ["file_data", "fileUri", "image_url", "result", "uri", "url"];

/// So long at least is a file in base64 that says nothing else of itself.
const LEAST_FILE: usize = 64;

/// Members, in every format, within which names are the client's own and say nothing.
const CLIENTS_OWN: [&str; 10] = [
    "arguments",
    "attributes",
    "const",
    "default",
    "env",
    "example",
    "examples",
    "input_examples",
    "metadata",
    "variables",
];

/// Which side of a call a body is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is asked.
    Request,
    /// What is answered.
    Answer,
}

impl Side {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Answer => "answer",
        }
    }
}

/// What stands somewhere in a body.
#[derive(Debug)]
enum Spot {
    /// The inside of a string that is text.
    Text(Range<usize>, Kind),
    /// A whole number that is the client's own.
    Number(Range<usize>),
    /// How likely each sign of the text was, sign by sign: not to be told of text that was replaced.
    Likelihoods(Range<usize>),
}

/// A body past the guards; `None`: it stays as it is. `Err`: it cannot be looked through.
pub fn body(
    bytes: &[u8],
    format: Format,
    side: Side,
    watch: &Watch,
    doings: &mut Doings,
) -> Result<Option<Bytes>, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
    let edits = edits(text, format, side, &[], watch, doings)?;
    Ok((!edits.is_empty()).then(|| Bytes::from(spliced(text, &edits))))
}

/// What is to be replaced in a body, in order; strings that begin at these places are left to others.
pub(super) fn edits(
    text: &str,
    format: Format,
    side: Side,
    others: &[usize],
    watch: &Watch,
    doings: &mut Doings,
) -> Result<Vec<Edit>, Failure> {
    let (mut scan, mut edits, mut likelihoods) = (Scan::default(), Vec::new(), Vec::new());
    for spot in spots(text, format, side)? {
        match spot {
            Spot::Text(range, _) if others.contains(&range.start) => {}
            Spot::Text(range, kind) => {
                let raw = text.get(range.clone()).unwrap_or_default();
                string(raw, range.start, kind, &mut scan, watch, doings, &mut edits);
            }
            Spot::Number(range) => {
                let digits = text.get(range.clone()).unwrap_or_default();
                edits.extend(number(digits, range.start, &mut scan, watch, doings));
            }
            Spot::Likelihoods(range) => likelihoods.push(range),
        }
    }
    if !edits.is_empty() {
        edits.extend(silenced(text, likelihoods));
        edits.sort_by_key(|edit| edit.range.start);
    }
    Ok(edits)
}

/// Where it is told how likely the signs of a text were, nothing is.
pub(super) fn silent(text: &str, format: Format, side: Side) -> Vec<Edit> {
    let spots = spots(text, format, side).unwrap_or_default();
    let likelihoods = spots.into_iter().filter_map(|spot| match spot {
        Spot::Likelihoods(range) => Some(range),
        Spot::Text(..) | Spot::Number(_) => None,
    });
    silenced(text, likelihoods.collect())
}

fn silenced(text: &str, likelihoods: Vec<Range<usize>>) -> Vec<Edit> {
    let nothing = |range: Range<usize>| {
        let is_list = text.as_bytes().get(range.start) == Some(&b'[');
        let with = if is_list { "[]" } else { "null" };
        Edit {
            range,
            with: with.to_owned(),
        }
    };
    likelihoods.into_iter().map(nothing).collect()
}

/// What is to be replaced in a string, by places of the body; the string's inside begins at `from`.
fn string(
    raw: &str,
    from: usize,
    kind: Kind,
    scan: &mut Scan,
    watch: &Watch,
    doings: &mut Doings,
    edits: &mut Vec<Edit>,
) {
    let (text, places) = unescaped(raw);
    for mut edit in Channel::whole(kind, scan, watch, &text, doings) {
        let range = match &places {
            Some(places) => places.stretch(&edit.range),
            None => edit.range,
        };
        edit.range = from + range.start..from + range.end;
        edit.with = escaped(&edit.with).into_owned();
        edits.push(edit);
    }
}

/// What takes the place of a whole number, which becomes a string then.
pub(super) fn number(
    digits: &str,
    from: usize,
    scan: &mut Scan,
    watch: &Watch,
    doings: &mut Doings,
) -> Option<Edit> {
    let edits = scan.whole(watch, digits, doings);
    (!edits.is_empty()).then(|| Edit {
        range: from..from + digits.len(),
        with: format!("\"{}\"", escaped(&spliced(digits, &edits))),
    })
}

/// A text with its edits done.
pub(super) fn spliced(text: &str, edits: &[Edit]) -> String {
    let grown: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = String::with_capacity(text.len() + grown);
    let mut from = 0;
    for edit in edits {
        out.push_str(text.get(from..edit.range.start).unwrap_or_default());
        out.push_str(&edit.with);
        from = edit.range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// A body that is no JSON: all of it is text, as far as it is any.
pub fn text(bytes: &[u8], watch: &Watch, doings: &mut Doings) -> Result<Option<Bytes>, Failure> {
    let mut scan = Scan::default();
    if let Ok(text) = std::str::from_utf8(bytes) {
        let edits = scan.whole(watch, text, doings);
        return Ok((!edits.is_empty()).then(|| Bytes::from(spliced(text, &edits))));
    }
    for chunk in bytes.utf8_chunks() {
        // A file in which text has another length is broken.
        if !scan.whole(watch, chunk.valid(), doings).is_empty() {
            return Err(unreadable());
        }
    }
    Ok(None)
}

/// Every text of a body, in order, as it says it.
pub(super) fn texts(
    bytes: &[u8],
    format: Format,
    side: Side,
) -> Result<Vec<Cow<'_, str>>, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
    if !is_json(text) {
        return Ok(vec![Cow::Borrowed(text)]);
    }
    let said = |range| unescaped(text.get(range).unwrap_or_default()).0;
    Ok(ranges(text, format, side)?.into_iter().map(said).collect())
}

/// The same body with these texts in it; `None`: all are as they were.
pub(super) fn with_texts(
    bytes: &[u8],
    format: Format,
    side: Side,
    texts: &[String],
) -> Result<Option<Bytes>, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
    if !is_json(text) {
        return Ok(texts.first().map(|text| Bytes::from(text.clone())));
    }
    let ranges = ranges(text, format, side)?.into_iter().zip(texts);
    let changed = ranges
        .filter(|(range, with)| unescaped(text.get(range.clone()).unwrap_or_default()).0 != **with);
    let edits = changed.map(|(range, with)| Edit {
        range,
        with: escaped(with).into_owned(),
    });
    let edits: Vec<Edit> = edits.collect();
    Ok((!edits.is_empty()).then(|| Bytes::from(spliced(text, &edits))))
}

fn ranges(text: &str, format: Format, side: Side) -> Result<Vec<Range<usize>>, Failure> {
    let ranges = spots(text, format, side)?
        .into_iter()
        .filter_map(|spot| match spot {
            Spot::Text(range, _) => Some(range),
            Spot::Number(_) | Spot::Likelihoods(_) => None,
        });
    Ok(ranges.collect())
}

/// Whether a body is an object, a list or a string.
pub(super) fn is_json(text: &str) -> bool {
    let is_one = text.trim_start().starts_with(['{', '[', '"']);
    is_one && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn unreadable() -> Failure {
    let message =
        "a guard is in force for this call, and the body is none that it could be kept to";
    Failure::new(FailureKind::Blocked, message)
}

/// An object or a list that is open.
struct Open<'a> {
    is_object: bool,
    /// Everything in it is the client's own: names say nothing.
    is_free: bool,
    /// The name of the member that is read.
    name: Cow<'a, str>,
    is_name_read: bool,
    /// What would be a file, unless the object says that it is text.
    data: Option<Range<usize>>,
    is_text: bool,
}

/// Everything of interest in a body that is valid JSON.
fn spots(text: &str, format: Format, side: Side) -> Result<Vec<Spot>, Failure> {
    let mut reader = Reader {
        text,
        format,
        side,
        open: Vec::new(),
        spots: Vec::new(),
    };
    reader.read()?;
    Ok(reader.spots)
}

struct Reader<'a> {
    text: &'a str,
    format: Format,
    side: Side,
    open: Vec<Open<'a>>,
    spots: Vec<Spot>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Failure> {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'{' | b'[' if self.tells_likelihoods() => {
                    let end = self.skip(at);
                    self.spots.push(Spot::Likelihoods(at..end));
                    at = end;
                    continue;
                }
                b'{' | b'[' => self.begin(*byte == b'{')?,
                b'}' | b']' => self.end(),
                b',' => {
                    if let Some(open) = self.open.last_mut() {
                        open.is_name_read = false;
                    }
                }
                b'"' => {
                    let end = string_end(bytes, at);
                    self.string(at + 1..end);
                    at = end;
                }
                b'-' | b'0'..=b'9' => {
                    let end = number_end(bytes, at);
                    if self.open.last().is_some_and(|open| open.is_free)
                        && is_whole(bytes.get(at..end).unwrap_or_default())
                    {
                        self.spots.push(Spot::Number(at..end));
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }

    fn tells_likelihoods(&self) -> bool {
        self.side == Side::Answer
            && self.open.last().is_some_and(|open| {
                open.is_object
                    && !open.is_free
                    && matches!(&*open.name, "logprobs" | "logprobsResult")
            })
    }

    /// Where the value ends that begins here.
    fn skip(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => at + values.byte_offset(),
            _ => self.text.len(),
        }
    }

    fn begin(&mut self, is_object: bool) -> Result<(), Failure> {
        if self.open.len() >= DEEPEST {
            return Err(unreadable());
        }
        let is_free = match self.open.last() {
            None => false,
            Some(open) => open.is_free || (is_object && self.is_clients_own(&open.name)),
        };
        self.open.push(Open {
            is_object,
            is_free,
            name: match self.open.last() {
                // What a list holds is called as the list is.
                Some(open) if !is_object => open.name.clone(),
                _ => Cow::Borrowed(""),
            },
            is_name_read: false,
            data: None,
            is_text: false,
        });
        Ok(())
    }

    /// What tools are called with, and what they say, as objects; and what else callers name themselves.
    fn is_clients_own(&self, name: &str) -> bool {
        match self.format {
            _ if CLIENTS_OWN.contains(&name) => true,
            Format::Gemini => matches!(name, "args" | "response"),
            Format::AnthropicMessages | Format::BedrockConverse => name == "input",
            _ => false,
        }
    }

    fn end(&mut self) {
        if let Some(open) = self.open.pop()
            && open.is_text
            && let Some(data) = open.data
        {
            self.text_at(data, "");
        }
    }

    fn string(&mut self, range: Range<usize>) {
        let raw = self.text.get(range.clone()).unwrap_or_default();
        let Some(open) = self.open.last_mut() else {
            return self.text_at(range, "");
        };
        if open.is_object && !open.is_name_read {
            open.is_name_read = true;
            open.name = unescaped(raw).0;
            if open.is_free {
                self.text_at(range, "");
            }
            return;
        }
        if open.is_free {
            return self.text_at(range, "");
        }
        let name = open.name.clone();
        match &*name {
            "type" => open.is_text |= unescaped(raw).0 == "text",
            "data" if is_base64(raw) || is_file(raw) => open.data = Some(range),
            name if NO_TEXT.contains(&name) || is_id(name) => {}
            name if FILES.contains(&name) && is_file(raw) => {}
            name => self.text_at(range, name),
        }
    }

    fn text_at(&mut self, range: Range<usize>, name: &str) {
        let raw = self.text.get(range.clone()).unwrap_or_default();
        let kind = match self.side {
            Side::Answer if name == "arguments" => Kind::Json,
            Side::Answer if !name.is_empty() => Kind::Plain,
            // And what tools are called with, as an object.
            _ => kind(raw),
        };
        self.spots.push(Spot::Text(range, kind));
    }
}

/// What a string of a request is: a text that is JSON is read as such, or what is replaced in it might break it.
fn kind(raw: &str) -> Kind {
    if !raw.trim_start().starts_with(['{', '[']) {
        return Kind::Plain;
    }
    let is_json = serde_json::from_str::<IgnoredAny>(&unescaped(raw).0).is_ok();
    if is_json { Kind::Json } else { Kind::Plain }
}

fn is_id(name: &str) -> bool {
    name.ends_with("_id") || name.ends_with("Id")
}

fn is_file(raw: &str) -> bool {
    let begins = raw.get(..raw.len().min(128)).unwrap_or_default();
    (begins.starts_with("data:") && begins.contains(";base64,"))
        || (raw.len() >= LEAST_FILE && is_base64(raw))
}

/// Whether the inside of a string may be base64, line ends and slashes escaped or not.
fn is_base64(raw: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(&byte);
    raw.bytes().all(is_sign)
}

/// Where the number ends that begins here.
fn number_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| is_numeric(byte)).count()
}

/// Whether it is part of a number.
pub(super) fn is_numeric(byte: u8) -> bool {
    byte.is_ascii_digit() || b"+-.eE".contains(&byte)
}

/// Whether a number is a whole one that is written as such: digits behind a point are no card.
pub(super) fn is_whole(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Where the string ends whose quote stands here.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut from = at + 1;
    loop {
        let rest = bytes.get(from..).unwrap_or_default();
        let Some(gap) = memchr::memchr2(b'"', b'\\', rest) else {
            return bytes.len();
        };
        if rest.get(gap) == Some(&b'"') {
            return from + gap;
        }
        from += gap + 2;
    }
}
