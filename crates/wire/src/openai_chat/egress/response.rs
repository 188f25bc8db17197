//! Whole chat answers, read the way their stream would be.

use polygate_core::Failure;

use super::super::types::Answer;
use super::stream::Decoder;
use crate::canon::ChatResponse;
use crate::upstream_error::{junk, object};

/// Reads an answer: its first choice.
pub(crate) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = object(body)?;
    let has_choice = answer
        .choices
        .as_ref()
        .is_some_and(|choices| !choices.is_empty());
    if !has_choice && answer.error.is_none() {
        return Err(junk("the provider's answer has no choice"));
    }
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    decoder.answer(answer, &mut events);
    decoder.end(&mut events);
    ChatResponse::gather(events)
}
