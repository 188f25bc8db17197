//! What of an answer survives its way through a client's format: told again, read again, and compared.

use std::collections::BTreeSet;

use polygate_core::Usage;
use polygate_wire::ChatResponse;
use polygate_wire::canon::{Block, CallKind, Citation, Issuer, Opaque, Said, Stop, TokenLogprob};
use serde_json::Value;

/// What the second answer lacks or tells otherwise, by name.
pub fn lost(first: &ChatResponse, second: &ChatResponse) -> BTreeSet<String> {
    let mut lost = BTreeSet::new();
    if first.stop != second.stop {
        lost.insert(format!(
            "`stop`: {} becomes {}",
            word(&first.stop),
            word(&second.stop)
        ));
    }
    lost.extend(said(&first.said, &second.said));
    let usage = |response: &ChatResponse| response.usage.unwrap_or_default();
    lost.extend(counts(usage(first), usage(second)));
    lost
}

fn word(stop: &Stop) -> String {
    match stop {
        Stop::StopSequence(Some(_)) => "StopSequence with its text".to_owned(),
        Stop::StopSequence(None) => "StopSequence".to_owned(),
        other => format!("{other:?}"),
    }
}

fn counts(first: Usage, second: Usage) -> Vec<String> {
    let rows = [
        ("input", first.input, second.input),
        ("output", first.output, second.output),
        ("cache_read", first.cache_read, second.cache_read),
        ("cache_write", first.cache_write, second.cache_write),
        (
            "cache_write_1h",
            first.cache_write_1h,
            second.cache_write_1h,
        ),
        ("reasoning", first.reasoning, second.reasoning),
        ("input_audio", first.input_audio, second.input_audio),
        ("output_audio", first.output_audio, second.output_audio),
    ];
    let differ = rows
        .into_iter()
        .filter(|(_, first, second)| first != second);
    differ.map(|(name, ..)| format!("`usage.{name}`")).collect()
}

fn said(first: &[Said], second: &[Said]) -> Vec<String> {
    let mut lost = Vec::new();
    let mut check = |name: &str, differs: bool| {
        if differs {
            lost.push(name.to_owned());
        }
    };
    let texts = |said: &[Said], which: fn(&Block) -> bool| -> String {
        let said = said.iter().filter(|said| which(&said.block));
        said.map(|said| said.text.as_str()).collect()
    };
    let is_refusal = |block: &Block| matches!(block, Block::Refusal);
    let is_shown = |block: &Block| matches!(block, Block::Text | Block::Refusal);
    let is_thought = |block: &Block| matches!(block, Block::Reasoning);
    check("`text`", texts(first, is_shown) != texts(second, is_shown));
    check(
        "that it is a refusal",
        texts(first, is_shown) == texts(second, is_shown)
            && texts(first, is_refusal) != texts(second, is_refusal),
    );
    check(
        "`thinking`",
        texts(first, is_thought) != texts(second, is_thought),
    );
    check(
        "order of the blocks",
        order(first) != order(second) && kinds(first) == kinds(second),
    );
    let both = |part: fn(&Said) -> Vec<String>| {
        let all = |said: &[Said]| -> Vec<String> { said.iter().flat_map(part).collect() };
        all(first) != all(second)
    };
    check("`calls`", both(call));
    check("ids of calls", both(call_id));
    check("that a call is freeform", both(call_kind));
    check("media", both(media));
    check("logprobs", both(logprobs));
    check(
        "`citations`",
        both(|said| cited(said, |citation| citation.url.clone())),
    );
    check(
        "titles of citations",
        both(|said| cited(said, |citation| format!("{:?}", citation.title))),
    );
    check(
        "words that are cited",
        both(|said| cited(said, |citation| format!("{:?}", citation.cited))),
    );
    check("places of citations", places(first) != places(second));
    for (name, which) in SEALS {
        let all = |said: &[Said]| -> Vec<Opaque> {
            let said = said
                .iter()
                .filter_map(|said| Some((&said.block, said.opaque.as_ref()?)));
            let own = said.filter(|(block, opaque)| which(block, opaque));
            own.map(|(_, opaque)| opaque.clone()).collect()
        };
        check(name, all(first) != all(second));
    }
    lost
}

type IsSeal = fn(&Block, &Opaque) -> bool;

/// State that makers want back, by what it stands on.
const SEALS: [(&str, IsSeal); 5] = [
    ("Claude's signatures", |_, opaque| {
        opaque.issuer == Issuer::Anthropic && !opaque.is_redacted
    }),
    ("Claude's redacted thinking", |_, opaque| {
        opaque.issuer == Issuer::Anthropic && opaque.is_redacted
    }),
    ("OpenAI's encrypted reasoning", |_, opaque| {
        opaque.issuer == Issuer::OpenAi
    }),
    ("Gemini's signatures of calls", |block, opaque| {
        opaque.issuer == Issuer::Google && matches!(block, Block::ToolCall { .. })
    }),
    (
        "Gemini's signatures of texts and thoughts",
        |block, opaque| opaque.issuer == Issuer::Google && !matches!(block, Block::ToolCall { .. }),
    ),
];

/// Kinds of blocks in their order; neighbours of one kind are one.
fn order(said: &[Said]) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = said.iter().map(kind).collect();
    kinds.dedup();
    kinds
}

fn kinds(said: &[Said]) -> BTreeSet<&'static str> {
    said.iter().map(kind).collect()
}

fn kind(said: &Said) -> &'static str {
    match said.block {
        Block::Text => "text",
        Block::Reasoning => "reasoning",
        Block::Refusal => "refusal",
        Block::ToolCall { .. } => "call",
        Block::Media(_) => "media",
    }
}

/// Name and arguments, as JSON where they are.
fn call(said: &Said) -> Vec<String> {
    let Block::ToolCall { name, .. } = &said.block else {
        return vec![];
    };
    let arguments: Result<Value, _> = serde_json::from_str(&said.text);
    vec![arguments.map_or_else(
        |_| format!("{name} {}", said.text),
        |json| format!("{name} {json}"),
    )]
}

fn call_id(said: &Said) -> Vec<String> {
    match &said.block {
        Block::ToolCall { id, .. } => vec![id.clone()],
        _ => vec![],
    }
}

fn call_kind(said: &Said) -> Vec<String> {
    match &said.block {
        Block::ToolCall { kind, .. } => vec![format!("{}", *kind == CallKind::Custom)],
        _ => vec![],
    }
}

fn media(said: &Said) -> Vec<String> {
    match &said.block {
        Block::Media(media) => vec![format!("{:?} {:?}", media.mime, media.source)],
        _ => vec![],
    }
}

fn logprobs(said: &Said) -> Vec<String> {
    let token = |token: &TokenLogprob| format!("{} {} {:?}", token.token, token.logprob, token.top);
    said.logprobs.iter().map(token).collect()
}

fn cited(said: &Said, what: fn(&Citation) -> String) -> Vec<String> {
    said.citations.iter().map(what).collect()
}

/// Where in the whole text the citations stand; one without a place stands behind its whole block.
fn places(said: &[Said]) -> Vec<(u64, u64)> {
    let (mut before, mut places) = (0, Vec::new());
    for said in said.iter().filter(|said| said.block == Block::Text) {
        let length = said.text.chars().count() as u64;
        let place = |citation: &Citation| citation.span.unwrap_or((0, length));
        let own = said.citations.iter().map(place);
        places.extend(own.map(|(start, end)| (before + start, before + end)));
        before += length;
    }
    places
}
