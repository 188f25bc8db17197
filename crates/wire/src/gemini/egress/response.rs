//! Whole answers: checking one without a tree, reading one into the hub the way its stream would be read.

use polygate_core::{Failure, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::types::{Answer, Counts, Peek};
use super::stream::Decoder;
use crate::canon::ChatResponse;
use crate::upstream_error::{Checked, answer, has_elements, in_band, junk, member};

/// JSON without an error inside. A stream that was not asked for as events is a list of answers.
pub(crate) fn check(body: &[u8]) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    for peek in one_or_many::<Peek<'_>>(body)? {
        if let Some(error) = member(peek.error) {
            return Err(in_band(error));
        }
        if let Some(counts) = peek.usage_metadata.and_then(counts) {
            Usage::merge(checked.usage.get_or_insert_default(), counts.usage());
        }
        checked.has_turn |= has_elements(peek.candidates) || peek.prompt_feedback.is_some();
    }
    Ok(checked)
}

fn counts(raw: &RawValue) -> Option<Counts> {
    serde_json::from_str(raw.get()).ok()
}

fn one_or_many<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Vec<T>, Failure> {
    if body.trim_ascii_start().starts_with(b"[") {
        answer(body)
    } else {
        answer(body).map(|one| vec![one])
    }
}

/// Reads an answer: its first candidate, or that the prompt was blocked.
pub(crate) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answers: Vec<Answer<'_>> = one_or_many(body)?;
    let has_candidate = answers.iter().any(Answer::has_candidate);
    let explains = |answer: &Answer<'_>| answer.prompt_feedback.is_some() || answer.error.is_some();
    if !has_candidate && !answers.iter().any(explains) {
        return Err(junk("the provider's answer has no candidate"));
    }
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    for answer in answers {
        decoder.answer(answer, body, &mut events);
    }
    if !has_candidate {
        decoder.is_filtered();
    }
    decoder.end(&mut events);
    ChatResponse::gather(events)
}
