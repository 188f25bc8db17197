//! What single frames and whole answers mean, without translating any.

use polygate_core::Failure;

use super::types::{AnswerPeek, DeltaPeek, Peek, counts};
use crate::upstream_error::{Checked, decode, has_elements, in_band, member, object};
use crate::{Frame, Progress, Signal};

/// A JSON object without an error inside. Embeddings and legacy completions too.
pub(crate) fn check(body: &[u8]) -> Result<Checked, Failure> {
    let peek: AnswerPeek<'_> = object(body)?;
    // Some vendors say their errors bare: `{"message": …}`.
    let bare = || {
        let is_answer = peek.is_answer();
        (!is_answer).then(|| decode(body)).flatten()
    };
    match member(peek.error).or_else(bare) {
        Some(error) => Err(in_band(error)),
        None => Ok(Checked {
            usage: counts(peek.usage, peek.service_tier),
            has_turn: has_elements(peek.choices),
        }),
    }
}

/// What a chunk means.
pub(crate) fn sniff(frame: &Frame<'_>) -> Signal {
    if frame.data.trim_ascii() == b"[DONE]" {
        return Signal {
            progress: Progress::End,
            ..Signal::default()
        };
    }
    let Ok(chunk) = serde_json::from_slice::<Peek<'_>>(&frame.data) else {
        return Signal::unreadable(frame);
    };
    let choices = chunk.choices.unwrap_or_default();
    let error =
        member(chunk.error).or_else(|| choices.iter().find_map(|choice| member(choice.error)));
    if let Some(error) = error {
        return Signal::failed(in_band(error));
    }
    let has_content = choices.iter().any(|choice| {
        let delta = choice
            .delta
            .and_then(|raw| serde_json::from_str::<DeltaPeek<'_>>(raw.get()).ok());
        delta.is_some_and(|delta| delta.has_content())
            || choice
                .text
                .is_some_and(|raw| !matches!(raw.get(), "null" | "\"\""))
    });
    let finished = choices.iter().any(|choice| {
        choice
            .finish_reason
            .as_deref()
            .is_some_and(|reason| !reason.is_empty())
    });
    let progress = match (finished, has_content) {
        (true, _) => Progress::Finish,
        (false, true) => Progress::Content,
        (false, false) => Progress::Preamble,
    };
    let usage = chunk
        .usage
        .and_then(|usage| counts(Some(usage), chunk.service_tier));
    let of_groq = || counts(chunk.x_groq.and_then(|groq| groq.usage), chunk.service_tier);
    let usage = usage.or_else(of_groq);
    Signal {
        progress,
        usage,
        is_only_usage: usage.is_some() && choices.is_empty(),
        ..Signal::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_a_frame_are_no_answers() {
        for body in [
            r#"{"message":"m"}"#,
            r#"{"object":"error","message":"m","type":"invalid_model","param":null,"code":"1500"}"#,
        ] {
            let failure = check(body.as_bytes()).expect_err(body);
            assert_eq!(failure.message, "m", "{body}");
        }
        for body in [
            r#"{"object":"list","message":"m"}"#,
            r#"{"choices":[],"message":"m"}"#,
        ] {
            assert_eq!(
                check(body.as_bytes()).ok(),
                Some(Checked::default()),
                "{body}"
            );
        }
    }
}
