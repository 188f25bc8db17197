//! How many tokens a call will be, as far as its length tells: quick enough to be asked before every call.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memchr;
use memchr::memmem::Finder;
use polygate_wire::RawObject;

use crate::call::{Call, Endpoint};
use crate::snapshot::Snapshot;

/// Output tokens of a call that names no limit of its own.
pub const OUTPUT: u64 = 4096;

/// Bytes of text for one token.
const BYTES_PER_TOKEN: u64 = 4;

/// In shorter bodies nobody looks for files.
const LONG: usize = 64 * 1024;

/// A longer text behind a mark is a file, which is so many tokens.
const FILE: usize = 2048;
const TOKENS_OF_FILE: u64 = 1000;

/// What stands before the bytes of a file.
static MARKS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new(";base64,"), Finder::new("\"data\"")]);

/// Nobody gives more answers to one call.
const MOST_ANSWERS: u64 = 128;

/// The members by which callers say how long an answer may be.
const LIMITS: [&str; 3] = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/// How many tokens a call will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its prompt.
    pub input: u64,
    /// Its answer, at most.
    pub output: u64,
    /// What of it is paid.
    pub metered: Metered,
}

/// What of a call is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metered {
    /// Its tokens.
    #[default]
    Tokens,
    /// Nothing: it asks how many tokens something is.
    Nothing,
    /// Nobody here can tell: it passes unread.
    Unread,
}

impl Expected {
    /// Of this call.
    pub fn of(call: &Call) -> Self {
        let endpoint = &call.inbound.endpoint;
        let metered = |metered| Self {
            metered,
            ..Self::default()
        };
        match &call.object {
            None => metered(Metered::Unread),
            Some(_) if endpoint.counts() => metered(Metered::Nothing),
            Some(_) if !endpoint.is_counted() => metered(Metered::Unread),
            Some(object) => Self {
                input: length(object.bytes()).saturating_add(call.added_input),
                output: output(endpoint, object).max(call.most_output),
                metered: Metered::Tokens,
            },
        }
    }
}

/// The tokens that a call surely needs room for, where models with less are passed over: three quarters of its estimated prompt, since
/// its braces and names are counted too, and the answer that it asks for. 0: nobody asks.
pub fn needs(snapshot: &Snapshot, call: &Call) -> u64 {
    let chat = call.object.as_ref().zip(call.inbound.endpoint.ingress());
    let Some((object, _)) = chat.filter(|_| snapshot.config.routing.context_aware) else {
        return 0;
    };
    let answer = asked(object).unwrap_or_default();
    (length(object.bytes()) / 4 * 3).saturating_add(answer)
}

/// The tokens of what a call asks, by its length: of a count those of what is to be counted, and nothing that the operator adds.
pub fn prompt(call: &Call) -> u64 {
    let object = call.object.as_ref();
    object.map_or(0, |object| length(object.bytes()))
}

/// The tokens of a text of so many bytes.
pub fn tokens(bytes: usize) -> u64 {
    bytes as u64 / BYTES_PER_TOKEN
}

/// What a body comes to, its files not by their length.
fn length(body: &[u8]) -> u64 {
    if body.len() < LONG {
        return tokens(body.len());
    }
    let (mut bytes, mut files) = (body.len(), 0);
    for mark in &*MARKS {
        let mut rest = body;
        while let Some(at) = mark.find(rest) {
            rest = rest.get(at + mark.needle().len()..).unwrap_or_default();
            let file = file(rest);
            if file > FILE {
                bytes = bytes.saturating_sub(file);
                files += 1;
            }
            rest = rest.get(file..).unwrap_or_default();
        }
    }
    tokens(bytes) + files * TOKENS_OF_FILE
}

/// How long the text is that stands here, or begins with the next quote.
fn file(rest: &[u8]) -> usize {
    let begins = rest.iter().position(|byte| !b": \t\r\n".contains(byte));
    let opens = begins.filter(|at| rest.get(*at) == Some(&b'"'));
    let start = opens.map_or(0, |at| at + 1);
    let text = rest.get(start..).unwrap_or_default();
    memchr(b'"', text).map_or(text.len(), |end| start + end)
}

/// The most that the answer may have, as the request says.
fn output(endpoint: &Endpoint, object: &RawObject) -> u64 {
    if endpoint.ingress().is_none() {
        return 0;
    }
    asked(object)
        .unwrap_or(OUTPUT)
        .saturating_mul(answers(object))
}

/// The same of one of its answers, where it says so.
pub(crate) fn asked(object: &RawObject) -> Option<u64> {
    number(object, &LIMITS).or_else(|| {
        let names = ["maxOutputTokens", "max_output_tokens"];
        number(&generation(object)?, &names)
    })
}

/// How many answers it asks for: each may be as long.
fn answers(object: &RawObject) -> u64 {
    let own = number(object, &["best_of", "n"]);
    let said = own.or_else(|| {
        let names = ["candidateCount", "candidate_count"];
        number(&generation(object)?, &names)
    });
    said.unwrap_or(1).clamp(1, MOST_ANSWERS)
}

/// The first of these members that is a number.
fn number(object: &RawObject, names: &[&str]) -> Option<u64> {
    let mut said = names.iter().filter_map(|name| object.get(name));
    said.find_map(amount)
}

fn generation(object: &RawObject) -> Option<RawObject> {
    let mut names = ["generationConfig", "generation_config"].iter();
    let config = names.find_map(|name| object.get(name))?;
    RawObject::parse(Bytes::copy_from_slice(config.as_bytes())).ok()
}

/// A number of tokens, however it is written: `60000`, `6e4`, `60000.0`.
pub fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = text.parse().ok();
    whole.or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number >= 0.0).then_some(number.ceil() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_do_not_count_by_their_length() {
        let picture = "A".repeat(400_000);
        for body in [
            format!(
                r#"{{"messages":[{{"content":[{{"url":"data:image/png;base64,{picture}"}}]}}]}}"#
            ),
            format!(
                r#"{{"source":{{"type":"base64","media_type":"image/png","data": "{picture}"}}}}"#
            ),
            format!(r#"{{"inlineData":{{"data":"{picture}","mimeType":"image/png"}}}}"#),
        ] {
            let tokens = length(body.as_bytes());
            assert!((1000..1100).contains(&tokens), "{tokens}");
        }
        let text = format!(r#"{{"content":"{picture}"}}"#);
        assert!(length(text.as_bytes()) > 99_000, "a long text is long");
        let cut = format!(r#"{{"content":"{picture}","data""#);
        assert!(length(cut.as_bytes()) > 99_000, "whatever it ends with");
    }

    #[test]
    fn what_the_answer_may_have_is_as_the_request_says() {
        let sse = true;
        let gemini = Endpoint::Generate { stream: true, sse };
        for (endpoint, body, expected) in [
            (
                Endpoint::Chat,
                r#"{"max_completion_tokens": 7, "max_tokens": 9}"#,
                7,
            ),
            (Endpoint::Chat, r#"{"max_tokens": "many"}"#, OUTPUT),
            (Endpoint::Messages, r#"{"max_tokens":9}"#, 9),
            (Endpoint::Responses, r#"{"max_output_tokens":8}"#, 8),
            (
                gemini.clone(),
                r#"{"generationConfig":{"maxOutputTokens":6}}"#,
                6,
            ),
            (Endpoint::Chat, r#"{"max_tokens": 9, "n": 3}"#, 27),
            (
                Endpoint::Completions,
                r#"{"max_tokens": 2, "best_of": 4, "n": 1}"#,
                8,
            ),
            (
                gemini.clone(),
                r#"{"generation_config":{"max_output_tokens":6e0,"candidateCount":2}}"#,
                12,
            ),
            (gemini, r#"{"generationConfig":[]}"#, OUTPUT),
            (Endpoint::Embeddings, r#"{"input":"x"}"#, 0),
        ] {
            let object = RawObject::parse(body.into()).expect("an object");
            assert_eq!(output(&endpoint, &object), expected, "{body}");
        }
    }
}
