//! Streams as Converse sends them, and what they come to.

use std::borrow::Cow;
use std::fmt::Write;

use super::*;
use crate::canon::Issuer;

/// Events of a stream, a line each, `name payload`; what they come to, in short.
fn read(stream: &str) -> String {
    let mut decoder = Decoder::default();
    let mut told = String::new();
    for line in stream
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (event, data) = line.split_once(' ').unwrap_or((line, ""));
        let frame = Frame {
            event: Some(event),
            data: Cow::Borrowed(data.as_bytes()),
        };
        let mut out = vec![];
        let read = decoder.decode(&frame, &mut out);
        out.iter().for_each(|event| tell(event, &mut told));
        if let Err(failure) = read {
            let _ = write!(told, "Err({}) ", failure.kind.name());
        }
    }
    let ends = decoder.may_end();
    let whole = decoder.finish(&mut vec![]).is_ok();
    assert_eq!(ends, whole);
    told + if whole { "." } else { "?" }
}

fn tell(event: &ChatEvent, told: &mut String) {
    let _ = match event {
        ChatEvent::Start { .. } => write!(told, "Start "),
        ChatEvent::Open { index, block } => match block {
            Block::ToolCall { id, name, .. } => write!(told, "{index}:{name}({id}) "),
            Block::Media(media) => write!(told, "{index}:{:?} ", media.mime),
            other => write!(told, "{index}:{other:?} "),
        },
        ChatEvent::Delta { index, text } => write!(told, "{index}+{text} "),
        ChatEvent::Seal { index, opaque } => {
            assert_eq!(opaque.issuer, Issuer::Anthropic);
            write!(told, "{index}#{}{} ", opaque.data, opaque.is_redacted)
        }
        ChatEvent::Cite { index, citation } => write!(told, "{index}@{} ", citation.url),
        ChatEvent::Close { index } => write!(told, "{index}; "),
        ChatEvent::Usage(usage) => write!(told, "{}/{} ", usage.input, usage.output),
        ChatEvent::Stop(stop) => write!(told, "{stop:?}"),
        ChatEvent::Failed(failure) => {
            write!(told, "Failed({}) ", failure.code.as_deref().unwrap_or("-"))
        }
        ChatEvent::Logprobs { .. } => write!(told, "? "),
    };
}

fn check(stream: &str, expected: &str) {
    assert_eq!(read(stream), expected, "{stream}");
}

const TEXT: &str = r#"
    messageStart {"role":"assistant","p":"abc"}
    contentBlockDelta {"contentBlockIndex":0,"delta":{"text":""}}
    contentBlockDelta {"contentBlockIndex":0,"delta":{"text":"hi"}}
    contentBlockStop {"contentBlockIndex":0}
    messageStop {"stopReason":"end_turn"}
    metadata {"usage":{"inputTokens":3,"outputTokens":4,"cacheReadInputTokens":2},"metrics":{"latencyMs":1}}
"#;

#[test]
fn text_needs_no_start_and_counts_come_last() {
    check(TEXT, "Start 0:Text 0+hi 0; End5/4 .");
}

#[test]
fn what_follows_the_end_is_nobodys() {
    let more =
        "\nmessageStart {}\nmetadata {\"usage\":{\"inputTokens\":9}}\nexception:x {}\nx junk";
    check(&format!("{TEXT}{more}"), "Start 0:Text 0+hi 0; End5/4 .");
}

#[test]
fn thoughts_calls_and_pictures_are_told() {
    check(
        r#"
        messageStart {"role":"assistant"}
        contentBlockDelta {"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}}}
        contentBlockDelta {"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"s"}}}
        contentBlockStop {"contentBlockIndex":0}
        contentBlockDelta {"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"r"}}}
        contentBlockStop {"contentBlockIndex":1}
        contentBlockDelta {"contentBlockIndex":2,"delta":{"text":"a"}}
        contentBlockDelta {"contentBlockIndex":2,"delta":{"citation":{"title":"doc"}}}
        contentBlockStop {"contentBlockIndex":2}
        contentBlockStart {"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"x","name":"f"}}}
        contentBlockStart {"contentBlockIndex":4,"start":{"toolUse":{"toolUseId":"y","name":"g"}}}
        contentBlockDelta {"contentBlockIndex":3,"delta":{"toolUse":{"input":"{\"a\":"}}}
        contentBlockDelta {"contentBlockIndex":3,"delta":{"toolUse":{"input":"1}"}}}
        contentBlockStop {"contentBlockIndex":4}
        contentBlockStop {"contentBlockIndex":3}
        contentBlockStart {"contentBlockIndex":5,"start":{"image":{"format":"png"}}}
        contentBlockDelta {"contentBlockIndex":5,"delta":{"image":{"source":{"bytes":"iVBO"}}}}
        contentBlockStop {"contentBlockIndex":5}
        messageStop {"stopReason":"tool_use"}
        "#,
        "Start 0:Reasoning 0+hm 0#sfalse 0; 1:Reasoning 1#rtrue 1; 2:Text 2+a 2@doc 2; \
         3:f(x) 4:g(y) 3+{\"a\": 3+1} 4+{} 4; 3; 5:Some(\"image/png\") 5; ToolUse.",
    );
}

#[test]
fn the_vendors_own_tools_are_skipped() {
    check(
        r#"
        messageStart {}
        contentBlockStart {"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"x","name":"nova_grounding","type":"server_tool_use"}}}
        contentBlockDelta {"contentBlockIndex":0,"delta":{"toolUse":{"input":"{}"}}}
        contentBlockStop {"contentBlockIndex":0}
        contentBlockStart {"contentBlockIndex":1,"start":{"toolResult":{"toolUseId":"x"}}}
        contentBlockDelta {"contentBlockIndex":1,"delta":{"toolResult":[{"text":"found"}]}}
        contentBlockStop {"contentBlockIndex":1}
        contentBlockDelta {"contentBlockIndex":2,"delta":{"text":"a"}}
        somethingNew {"a":1}
        messageStop {"additionalModelResponseFields":{"delta":{"stop_sequence":"X"}},"stopReason":"stop_sequence"}
        "#,
        "Start 0:Text 0+a 0; StopSequence(Some(\"X\")).",
    );
}

#[test]
fn failures_are_told() {
    check(
        "messageStart {}\nexception:throttlingException {\"message\":\"slow\"}\nmessageStop {}",
        "Start Failed(throttlingException) ?",
    );
    check(
        "messageStop {\"stopReason\":\"malformed_tool_use\"}",
        "Failed(malformed_tool_use) ?",
    );
    check("messageStart {}\nmessageSto", "Start ?");
    check("contentBlockDelta {\"delta\":3}", "Err(upstream_invalid) ?");
}

#[test]
fn frames_mean_what_they_say() {
    let cases = [
        (
            "messageStart",
            r#"{"role":"assistant"}"#,
            Progress::Preamble,
        ),
        (
            "contentBlockDelta",
            r#"{"delta":{"text":""}}"#,
            Progress::Preamble,
        ),
        (
            "contentBlockDelta",
            r#"{"delta":{"text":"a"}}"#,
            Progress::Content,
        ),
        (
            "contentBlockDelta",
            r#"{"delta":{"reasoningContent":{"text":"a"}}}"#,
            Progress::Content,
        ),
        (
            "contentBlockStart",
            r#"{"start":{"toolUse":{"name":"f"}}}"#,
            Progress::Content,
        ),
        ("contentBlockStop", "{}", Progress::Preamble),
        (
            "messageStop",
            r#"{"stopReason":"end_turn"}"#,
            Progress::Finish,
        ),
        ("metadata", r#"{"usage":{"inputTokens":1}}"#, Progress::End),
    ];
    for (event, data, progress) in cases {
        let frame = Frame {
            event: Some(event),
            data: Cow::Borrowed(data.as_bytes()),
        };
        let signal = sniff(&frame);
        assert_eq!(signal.progress, progress, "{event} {data}");
        assert_eq!(signal.usage.is_some(), event == "metadata");
        assert!(signal.failure.is_none());
    }
    let frame = Frame {
        event: Some("exception:throttlingException"),
        data: Cow::Borrowed(b"{}"),
    };
    let failure = sniff(&frame).failure.expect("a failure");
    assert_eq!(failure.kind, Kind::UpstreamRateLimited);
}
