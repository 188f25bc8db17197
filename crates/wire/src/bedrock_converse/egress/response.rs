//! Whole answers: checking one without a tree, reading one into the hub.

use polygate_core::{Failure, Scope};

use super::super::error;
use super::super::types::{Answer, Block, Outcome, Peek, StopReason, usage};
use crate::UpstreamError;
use crate::canon::{self as hub, CallKind, ChatResponse, Said};
use crate::upstream_error::{Checked, junk, object};

/// A JSON object without an error inside.
pub(crate) fn check(body: &[u8]) -> Result<Checked, Failure> {
    let peek: Peek<'_> = object(body)?;
    match error::decode(body).filter(|_| peek.output.is_none()) {
        Some(error) => Err(error::reported(error, None)),
        None => Ok(Checked {
            usage: usage(peek.usage),
            has_turn: peek.output.is_some(),
        }),
    }
}

/// Reads an answer.
pub(crate) fn decode(body: &[u8]) -> Result<ChatResponse, Failure> {
    let answer: Answer<'_> = object(body)?;
    let message = answer.output.and_then(|output| output.message);
    let Some(content) = message.and_then(|message| message.content) else {
        return Err(match error::decode(body) {
            Some(error) => error::reported(error, None),
            None => junk("the provider's answer has no content"),
        });
    };
    let said: Vec<Said> = content.into_iter().filter_map(said).collect();
    let known = answer
        .stop_reason
        .filter(|reason| *reason != StopReason::Other);
    let reason = known.unwrap_or_else(|| presumed(&said));
    let stop = match reason.outcome(answer.additional_model_response_fields) {
        Outcome::Stopped(stop) => stop,
        Outcome::Botched(code) => return Err(botched(code)),
    };
    Ok(ChatResponse {
        id: None,
        model: None,
        said,
        stop,
        usage: usage(answer.usage),
    })
}

/// The model wrote what Bedrock could not read. Whatever came before it is no whole answer: an agent would take it for the end.
pub(super) fn botched(code: &str) -> Failure {
    let error = UpstreamError {
        message: format!("the model's answer could not be read by its provider: {code}"),
        code: Some(code.to_owned()),
        param: None,
    };
    let mut failure = error::reported(error, None);
    // The model's slip, not the provider's: nobody has to rest.
    failure.scope = Scope::Request;
    failure
}

/// Where the reason is left out, what was said tells it.
fn presumed(said: &[Said]) -> StopReason {
    let called = |said: &Said| matches!(said.block, hub::Block::ToolCall { .. });
    if said.iter().any(called) {
        StopReason::ToolUse
    } else {
        StopReason::EndTurn
    }
}

/// A block; `None` for what the hub has no name for: tools that run at the vendor.
fn said(block: Block<'_>) -> Option<Said> {
    if let Some(call) = block.tool_use {
        let kind = hub::Block::ToolCall {
            id: call.tool_use_id.as_deref().unwrap_or_default().to_owned(),
            name: call.name.as_deref().unwrap_or_default().to_owned(),
            kind: CallKind::Function,
        };
        return (!call.is_theirs()).then(|| Said::new(kind, call.input()));
    }
    if let Some(image) = block.image {
        return Some(Said::new(hub::Block::Media(image.media()?), ""));
    }
    let mut said = Said::new(hub::Block::Text, "");
    if let Some(thought) = block.reasoning_content {
        said.block = hub::Block::Reasoning;
        thought.shown().clone_into(&mut said.text);
        said.opaque = thought.opaque();
    } else if let Some(cited) = block.citations_content {
        (said.text, said.citations) = cited.parts();
    } else {
        said.text = block.text?.into();
    }
    (!said.text.is_empty() || said.opaque.is_some()).then_some(said)
}

#[cfg(test)]
mod tests {
    use polygate_core::Kind;

    use crate::canon::Stop;

    use super::*;

    /// The answer with this content, its texts and what they are.
    fn read(content: &str, rest: &str) -> Result<ChatResponse, Failure> {
        let body = format!(
            r#"{{"output":{{"message":{{"role":"assistant","content":[{content}]}}}},{rest}}}"#
        );
        assert!(check(body.as_bytes()).is_ok(), "{body}");
        decode(body.as_bytes())
    }

    const COUNTED: &str = r#""stopReason":"end_turn","usage":{"inputTokens":5,"outputTokens":7,"cacheReadInputTokens":20,"cacheWriteInputTokens":300,"cacheDetails":[{"ttl":"1h","inputTokens":100},{"ttl":"5m","inputTokens":200}]}"#;

    #[test]
    fn blocks_are_read() {
        let content = r#"
            {"reasoningContent":{"reasoningText":{"text":"hm","signature":"sig"}}},
            {"reasoningContent":{"redactedContent":"cmVk"}},
            {"text":""},
            {"text":"hi"},
            {"citationsContent":{"content":[{"text":"a "},{"text":"b"}],"citations":[{"title":"t","sourceContent":[{"text":"c"}],"location":{"web":{"url":"https://x"}}},{"title":"doc","location":{"documentChar":{"start":1}}}]}},
            {"toolUse":{"toolUseId":"id","name":"f","input":{ "a":1}}},
            {"toolUse":{"toolUseId":"id2","name":"nova_grounding","input":{},"type":"server_tool_use"}},
            {"toolResult":{"toolUseId":"id2","content":[]}},
            {"image":{"format":"png","source":{"bytes":"iVBO"}}}"#;
        let answer = read(content, COUNTED).expect("an answer");
        let texts: Vec<&str> = answer.said.iter().map(|said| &*said.text).collect();
        assert_eq!(texts, ["hm", "", "hi", "a b", "{ \"a\":1}", ""]);
        let opaque = |at: usize| answer.said[at].opaque.as_ref();
        assert!(opaque(0).is_some_and(|opaque| opaque.data == "sig" && !opaque.is_redacted));
        assert!(opaque(1).is_some_and(|opaque| opaque.data == "cmVk" && opaque.is_redacted));
        let citations = &answer.said[3].citations;
        let urls: Vec<&str> = citations.iter().map(|citation| &*citation.url).collect();
        assert_eq!(urls, ["https://x", "doc"]);
        assert_eq!(citations[0].cited.as_deref(), Some("c"));
        assert_eq!(answer.stop, Stop::End);
        let usage = answer.usage.expect("counts");
        assert_eq!((usage.input, usage.output), (325, 7));
        assert_eq!(
            (usage.cache_read, usage.cache_write, usage.cache_write_1h),
            (20, 300, 100)
        );
    }

    #[test]
    fn reasons_are_read() {
        let cases = [
            (r#""stopReason":"end_turn""#, Stop::End),
            (r#""stopReason":"tool_use""#, Stop::ToolUse),
            (r#""stopReason":"max_tokens""#, Stop::Length),
            (
                r#""stopReason":"model_context_window_exceeded""#,
                Stop::Length,
            ),
            (
                r#""stopReason":"guardrail_intervened""#,
                Stop::ContentFilter,
            ),
            (r#""stopReason":"content_filtered""#, Stop::ContentFilter),
            (r#""stopReason":"stop_sequence""#, Stop::StopSequence(None)),
            (
                r#""stopReason":"stop_sequence","additionalModelResponseFields":{"stop_sequence":"X"}"#,
                Stop::StopSequence(Some("X".to_owned())),
            ),
            (
                r#""stopReason":"stop_sequence","additionalModelResponseFields":{"delta":{"stop_sequence":"X"}}"#,
                Stop::StopSequence(Some("X".to_owned())),
            ),
            (r#""stopReason":"never_heard_of""#, Stop::End),
            (r#""stopReason":null"#, Stop::End),
        ];
        for (rest, stop) in cases {
            let answer = read(r#"{"text":"hi"}"#, rest).expect(rest);
            assert_eq!(answer.stop, stop, "{rest}");
        }
        for (content, code) in [
            ("", "malformed_tool_use"),
            (r#"{"text":"hi"}"#, "malformed_tool_use"),
            (r#"{"text":"hi"}"#, "malformed_model_output"),
        ] {
            let failure = read(content, &format!(r#""stopReason":"{code}""#)).expect_err(code);
            assert_eq!(failure.code.as_deref(), Some(code), "{content}");
        }
    }

    #[test]
    fn what_is_no_answer_fails() {
        let cases = [
            ("", Kind::UpstreamJunk),
            ("[]", Kind::UpstreamJunk),
            ("{}", Kind::UpstreamJunk),
            (r#"{"output":{}}"#, Kind::UpstreamJunk),
            (r#"{"output":{"message":{"content":["#, Kind::UpstreamJunk),
            (r#"{"message":"m"}"#, Kind::UpstreamError),
            (
                r#"{"__type":"x#ThrottlingException","Message":"m"}"#,
                Kind::UpstreamRateLimited,
            ),
        ];
        for (body, kind) in cases {
            let failure = decode(body.as_bytes()).expect_err(body);
            assert_eq!(failure.kind, kind, "{body}");
        }
        assert!(check(br#"{"message":"m"}"#).is_err());
        assert!(check(br#"{"inputTokens":3}"#).is_ok());
    }
}
