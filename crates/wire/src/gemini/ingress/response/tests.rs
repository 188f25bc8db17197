//! Answers, and the parts that they become.

use super::*;

fn reply() -> ReplyHead {
    ReplyHead {
        request_id: "call".to_owned(),
        model: "m".to_owned(),
        ..ReplyHead::default()
    }
}

fn answer(said: Vec<Said>) -> String {
    let answer = ChatResponse {
        id: Some("r".to_owned()),
        model: None,
        said,
        stop: Stop::End,
        usage: None,
    };
    String::from_utf8(encode(&answer, &reply()).to_vec()).expect("text")
}

fn opaque(issuer: Issuer) -> Option<Opaque> {
    Some(Opaque {
        issuer,
        data: "c2ln".to_owned(),
        id: None,
        is_redacted: false,
    })
}

fn call(kind: CallKind, text: &str) -> Said {
    let (id, name) = ("a".to_owned(), "f".to_owned());
    Said::new(Block::ToolCall { id, name, kind }, text)
}

#[test]
fn parts_of_an_answer() {
    let sealed = |said: Said, issuer| Said {
        opaque: opaque(issuer),
        ..said
    };
    let picture = Media {
        source: MediaSource::Base64("AAAA".to_owned()),
        mime: Some("image/png".to_owned()),
        ..Media::default()
    };
    let thought = || Said::new(Block::Reasoning, "hm");
    let (function, custom) = (CallKind::Function, CallKind::Custom);
    for (said, part) in [
        (Said::new(Block::Text, "hi"), r#"{"text":"hi"}"#),
        (Said::new(Block::Refusal, "no"), r#"{"text":"no"}"#),
        (Said::new(Block::Reasoning, ""), r#"{"text":""}"#),
        (thought(), r#"{"text":"hm","thought":true}"#),
        (
            sealed(thought(), Issuer::Google),
            r#"{"text":"hm","thought":true,"thoughtSignature":"c2ln"}"#,
        ),
        (
            sealed(thought(), Issuer::Anthropic),
            r#"{"text":"hm","thought":true}"#,
        ),
        (
            sealed(call(function, r#"{"x": 1.0}"#), Issuer::Google),
            r#"{"functionCall":{"id":"a","name":"f","args":{"x": 1.0}},"thoughtSignature":"c2ln"}"#,
        ),
        (
            call(function, ""),
            r#"{"functionCall":{"id":"a","name":"f","args":{}}}"#,
        ),
        (
            call(function, "[1"),
            r#"{"functionCall":{"id":"a","name":"f","args":{"arguments":"[1"}}}"#,
        ),
        (
            call(custom, "{}"),
            r#"{"functionCall":{"id":"a","name":"f","args":{"input":"{}"}}}"#,
        ),
        (
            Said::new(Block::Media(picture), ""),
            r#"{"inlineData":{"mimeType":"image/png","data":"AAAA"}}"#,
        ),
    ] {
        let expected = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{part}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}},"modelVersion":"m","responseId":"r"}}"#
        );
        assert_eq!(answer(vec![said]), expected);
    }
}

#[test]
fn sources_count_bytes_of_the_whole_text() {
    let cited = |text: &str, span| Said {
        citations: vec![Citation {
            url: "u".to_owned(),
            span,
            ..Citation::default()
        }],
        ..Said::new(Block::Text, text)
    };
    let said = vec![
        cited("é!", Some((0, 1))),
        cited("añb", Some((1, 9))),
        cited("", None),
    ];
    let text = answer(said);
    let sources = r#""citationMetadata":{"citationSources":[{"startIndex":0,"endIndex":2,"uri":"u"},{"startIndex":4,"endIndex":7,"uri":"u"},{"uri":"u"}]}"#;
    assert!(text.contains(sources), "{text}");
}

#[test]
fn counts_reasons_and_logprobs() {
    let token = |top| TokenLogprob {
        token: "t".to_owned(),
        logprob: -0.5,
        bytes: None,
        top,
    };
    let whole = ChatResponse {
        id: None,
        model: None,
        said: vec![Said {
            logprobs: vec![token(vec![token(vec![])]), token(vec![])],
            ..Said::new(Block::Text, "tt")
        }],
        stop: Stop::Length,
        usage: Some(Usage {
            input: 10,
            output: 7,
            reasoning: 3,
            ..Usage::default()
        }),
    };
    assert_eq!(
        encode(&whole, &reply()),
        concat!(
            r#"{"candidates":[{"content":{"parts":[{"text":"tt"}],"role":"model"},"finishReason":"MAX_TOKENS","index":0,"#,
            r#""logprobsResult":{"topCandidates":[{"candidates":[{"token":"t","logProbability":-0.5}]},{"candidates":[]}],"#,
            r#""chosenCandidates":[{"token":"t","logProbability":-0.5},{"token":"t","logProbability":-0.5}]}}],"#,
            r#""usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":4,"totalTokenCount":17,"thoughtsTokenCount":3},"#,
            r#""modelVersion":"m","responseId":"call"}"#,
        )
    );
    for (stop, reason) in [
        (Stop::ToolUse, "STOP"),
        (Stop::StopSequence(None), "STOP"),
        (Stop::Pause, "STOP"),
        (Stop::ContentFilter, "SAFETY"),
        (Stop::Refusal, "SAFETY"),
    ] {
        assert_eq!(finish_reason(&stop), reason);
    }
}
