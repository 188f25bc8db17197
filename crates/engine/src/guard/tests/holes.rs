//! Where text may hide from a guard by accident: each of these was a hole once.

use polygate_wire::Format;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::bodies::request;
use super::{doings, guard, guarded, in_pieces, texts};
use crate::guard::body::{self, Side};
use crate::guard::channel::Kind;
use crate::guard::placeholder::Restoring;
use crate::guard::stream::Stream;
use crate::guard::{Action, Watch, finder};
use crate::lane::Output;

fn mail() -> Watch {
    let guards = [guard(
        "g",
        Action::Redact,
        &["email", "card"],
        &[],
        &["Zürich"],
    )];
    Watch::new(&guards, Restoring::default())
}

#[test]
fn what_is_written_in_an_unusual_way_is_found_all_the_same() {
    let guards = [guard(
        "g",
        Action::Redact,
        &["email", "card"],
        &[],
        &["Zürich"],
    )];
    for (format, body) in [
        (
            Format::OpenaiChat,
            r#"{"messages":[{"cont\u0065nt":"ann\u0040x.com"}]}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"messages":[{"content":"Z\u00fcrich"}]}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"messages":[{"content":"[\"Z\\u00fcrich\"]"}]}"#,
        ),
        (Format::OpenaiChat, r#"{"input":["a","ann@x.com"]}"#),
        (Format::OpenaiChat, r#"{"input":"ann@x.com"}"#),
        (Format::OpenaiChat, r#"{"metadata":{"name":"ann@x.com"}}"#),
        (Format::OpenaiChat, r#"{"metadata":{"ann@x.com":"1"}}"#),
        (
            Format::OpenaiChat,
            r#"{"tools":[{"function":{"parameters":{"examples":[{"name":"ann@x.com"}]}}}]}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"tool_calls":[{"function":{"arguments":{"id":"ann@x.com"}}}]}"#,
        ),
        (Format::OpenaiChat, r#"{"data":["to ann@x.com now"]}"#),
        (
            Format::OpenaiChat,
            r#"{"messages":[{"content":"{\"n\":4111111111111111}"}]}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"url":"https://x.com/?to=ann@x.com"}"#,
        ),
        (Format::OpenaiChat, r#""ann\u0040x.com""#),
        (
            Format::OpenaiResponses,
            r#"{"prompt":{"id":"p","variables":{"name":"ann@x.com"}}}"#,
        ),
        (
            Format::OpenaiResponses,
            r#"{"input":[{"type":"function_call_output","output":"ann@x.com"}]}"#,
        ),
        (
            Format::AnthropicMessages,
            r#"{"metadata":{"user_id":"ann@x.com"}}"#,
        ),
        (
            Format::AnthropicMessages,
            r#"{"content":[{"type":"tool_use","input":{"n":[4111111111111111]}}]}"#,
        ),
        (
            Format::AnthropicMessages,
            r#"{"source":{"type":"t\u0065xt","data":"Zürich"}}"#,
        ),
        (
            Format::Gemini,
            r#"{"functionCall":{"args":{"n":4111111111111111}}}"#,
        ),
        (
            Format::Gemini,
            r#"{"system_instruction":{"parts":{"text":"ann@x.com"}}}"#,
        ),
    ] {
        let mut doings = doings();
        let watch = Watch::new(&guards, Restoring::default());
        assert!(body::is_json(body), "{body}");
        let out = body::body(body.as_bytes(), format, Side::Request, &watch, &mut doings)
            .expect("read")
            .unwrap_or_else(|| panic!("nothing is found in {body}"));
        let out = String::from_utf8(out.to_vec()).expect("text");
        assert!(body::is_json(&out), "it stays JSON: {out}");
        assert!(
            out.contains("[EMAIL_") || out.contains("[CARD_") || out.contains("[G_"),
            "{out}"
        );
        assert_eq!(doings.acted().len(), 1, "{body}");
    }
}

/// A file in which a word is replaced is broken, and so is a number that is no card.
#[test]
fn files_and_numbers_stay_as_they_are() {
    let guards = [guard("g", Action::Redact, &["card"], &[], &["ibm"])];
    let file = "aIBMb+/0".repeat(16);
    for (format, body) in [
        (Format::OpenaiChat, json!({"data": [{"embedding": file}]})),
        (Format::OpenaiChat, json!({"audio": {"data": file}})),
        (
            Format::OpenaiChat,
            json!({"image_url": {"url": format!("data:image/png;base64,{file}")}}),
        ),
        (
            Format::OpenaiResponses,
            json!({"type": "image_generation_call", "result": file}),
        ),
        (Format::OpenaiResponses, json!({"file_data": file})),
        (
            Format::OpenaiChat,
            json!({"seed": 4_111_111_111_111_111_u64}),
        ),
        (
            Format::AnthropicMessages,
            json!({"input": {"share": 0.411_111_111_111_111_1}}),
        ),
    ] {
        assert_eq!(request(format, &body, &guards).0, body);
    }
    let words =
        json!({"messages": [{"content": "{\"share\":0.4111111111111111,\"n\":-1e9,\"ok\":true}"}]});
    assert_eq!(request(Format::OpenaiChat, &words, &guards).0, words);
}

/// What a stream says beside its text, and by whom it is said unusually: no cut hides a match.
#[test]
fn a_match_that_is_cut_is_found_wherever_a_stream_says_it() {
    let chat = |delta: fn(&str) -> Value| {
        ["to an", "n@x.c", "om now"]
            .map(|text| json!({"choices": [{"index": null, "delta": delta(text)}]}))
    };
    let gemini = |part: fn(&str) -> Value| {
        ["to an", "n@x.c", "om now"]
            .map(|text| json!({"candidates": [{"content": {"parts": [part(text)]}}]}))
    };
    for (format, events) in [
        (Format::OpenaiChat, chat(|text| json!({"content": text}))),
        (Format::OpenaiChat, chat(|text| json!({"reasoning": text, "reasoning_content": text}))),
        (Format::OpenaiChat, chat(|text| json!({"reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text}]}))),
        (Format::OpenaiChat, chat(|text| json!({"audio": {"transcript": text, "data": "AAAA"}}))),
        (Format::OpenaiChat, ["\"to an", "n@x.c", "om now\""].map(|text| json!({"choices": [{"delta": {"tool_calls": [{"index": null, "function": {"arguments": text}}]}}]}))),
        (Format::Gemini, gemini(|text| json!({"text": text, "thought": null}))),
        (Format::Gemini, gemini(|text| json!({"functionCall": {"partialArgs": [{"jsonPath": "$.to", "stringValue": text}]}}))),
        (Format::AnthropicMessages, [
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "to an"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "n@x.c"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "om now"}}),
        ]),
    ] {
        let said = guarded(format, false, &mail(), &events, 1);
        assert_eq!(said.len(), events.len());
        let said: String = said.iter().map(Value::to_string).collect();
        assert!(said.contains("to [EMAIL_"), "{said}");
        assert!(!said.contains("n@x.c"), "{said}");
    }
}

#[test]
fn events_that_are_no_json_are_looked_through_as_text() {
    for data in [
        "to ann@x.com",
        "[\"ann@x.com\"]",
        "\"ann@x.com\"",
        "{\"a\":\"ann@x.com",
    ] {
        let mut stream = Stream::new(Format::OpenaiChat, false, mail(), doings());
        let mut out = Output::default();
        let block = [
            b"data: \xff".as_slice(),
            b"\n\ndata: ",
            data.as_bytes(),
            b"\n\n",
        ]
        .concat();
        stream.block(block.into(), &mut out).expect("let through");
        stream.finish(&mut out).expect("let through");
        let all = std::iter::from_fn(|| out.pop())
            .collect::<Vec<_>>()
            .concat();
        let all = String::from_utf8(all).expect("text");
        assert!(!all.contains("ann@x.com"), "{all}");
        assert_eq!(all.matches("data: ").count(), 2, "{all}");
    }
}

/// Large repeats and classes of Unicode are measured when they are read, and not when they match.
#[test]
fn patterns_are_bounded_in_size() {
    for pattern in [
        r"\w{2000}",
        r"(?:\pL{40}\d{40}){40}",
        r"(?:(?:a{50}){50}){50}",
        r"[^a]{100000}",
    ] {
        let problem = finder::check(pattern).expect_err(pattern);
        assert!(problem.contains("too large"), "{pattern}: {problem}");
    }
    for pattern in [r"\w{3,20}@", r"\pL{1,8}-\d{1,8}", r"a{256}"] {
        finder::check(pattern).expect(pattern);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is hidden comes back, and nothing else changes, in texts and within JSON.
    #[test]
    fn what_was_taken_out_is_put_back(text in texts()) {
        let guards = [guard("g", Action::Restore, &["email", "card", "api-key"], &[r"[ab]+c"], &["projekt"])];
        let json = json!({"text": text, "n": 4_111_111_111_111_111_u64}).to_string();
        for said in [&text, &json] {
            let asked = json!({"messages": [{"content": said}]});
            let (sent, doings) = request(Format::OpenaiChat, &asked, &guards);
            let sent = sent["messages"][0]["content"].as_str().expect("a text");
            prop_assert_eq!(sent == said, doings.acted().is_empty());
            let mut restoring = Restoring::default();
            restoring.extend(doings.restoring());
            let watch = Watch::new(&[], restoring);
            match serde_json::from_str::<Value>(said) {
                Ok(was) if was.is_object() => {
                    let back: Value = serde_json::from_str(&in_pieces(Kind::Json, &watch, &[sent]).0).expect("it stays JSON");
                    prop_assert_eq!(&back["text"], &was["text"]);
                    // A number that was hidden is a string from then on.
                    prop_assert_eq!(back["n"].as_str(), Some("4111111111111111"));
                }
                _ => prop_assert_eq!(&in_pieces(Kind::Plain, &watch, &[sent]).0, said),
            }
        }
    }
}
