//! Whole bodies: what is text in them and what is not, and what cannot be looked through.

use std::sync::Arc;

use polygate_wire::Format;
use serde_json::{Value, json};

use super::{FORMATS, doings, guard, in_pieces, maker};
use crate::guard::body::{self, Side};
use crate::guard::channel::Kind;
use crate::guard::placeholder::Restoring;
use crate::guard::stream::Stream;
use crate::guard::{Action, Doings, Guard, Watch};
use crate::lane::Output;

pub(super) fn request(format: Format, body: &Value, guards: &[Arc<Guard>]) -> (Value, Doings) {
    let mut doings = Doings::new(Side::Request, maker());
    let text = body.to_string();
    let watch = Watch::new(guards, Restoring::default());
    let out =
        body::body(text.as_bytes(), format, Side::Request, &watch, &mut doings).expect("read");
    let out = out.map_or_else(
        || body.clone(),
        |out| serde_json::from_slice(&out).expect("JSON"),
    );
    (out, doings)
}

#[test]
fn what_is_no_text_stays_as_it_is() {
    let guards = [guard("w", Action::Restore, &[], &[], &["secret"])];
    let word = request(Format::OpenaiChat, &json!({"x": "secret"}), &guards).0["x"].clone();
    for (format, body) in [
        (
            Format::OpenaiChat,
            json!({"model": "secret", "messages": [
            {"role": "secret", "name": "secret", "content": "MARK MARK."},
            {"role": "user", "content": [{"type": "text", "text": "a MARK"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,secret"}}, {"type": "input_audio", "input_audio": {"data": "secret", "format": "wav"}}]},
            {"role": "assistant", "tool_calls": [{"id": "secret", "type": "function", "function": {"name": "secret", "arguments": "{\"id\":\"MARK\",\"MARK\":[\"MARK\"]}"}}]},
            {"role": "tool", "tool_call_id": "secret", "content": "MARK"}],
            "tools": [{"type": "function", "function": {"name": "secret", "description": "MARK", "parameters": {"type": "object", "required": ["secret"], "properties": {"secret": {"type": "string", "description": "MARK", "enum": ["MARK"]}}}}}],
            "stop": ["MARK"], "user": "MARK"}),
        ),
        (
            Format::AnthropicMessages,
            json!({"model": "secret", "system": [{"type": "text", "text": "MARK", "cache_control": {"type": "ephemeral"}}], "messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "MARK", "signature": "secret"}, {"type": "redacted_thinking", "data": "secret"},
            {"type": "tool_use", "id": "secret", "name": "secret", "input": {"model": "MARK", "MARK": {"id": "MARK"}}},
            {"type": "document", "source": {"media_type": "text/plain", "data": "MARK", "type": "text"}},
            {"type": "image", "source": {"type": "base64", "data": "secret"}}]}]}),
        ),
        (
            Format::Gemini,
            json!({"systemInstruction": {"parts": [{"text": "MARK"}]}, "contents": [{"role": "user", "parts": [
            {"text": "MARK", "thoughtSignature": "secret"}, {"inlineData": {"mimeType": "secret", "data": "secret"}},
            {"functionCall": {"name": "secret", "args": {"name": "MARK", "data": "MARK"}}}, {"functionResponse": {"name": "secret", "response": {"id": "MARK"}}}]}]}),
        ),
        (
            Format::OpenaiResponses,
            json!({"model": "secret", "instructions": "MARK", "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "MARK"}, {"type": "input_file", "file_data": "data:x;base64,secret", "filename": "MARK"}]},
            {"type": "reasoning", "id": "secret", "encrypted_content": "secret", "summary": [{"type": "summary_text", "text": "MARK"}]},
            {"type": "function_call_output", "call_id": "secret", "output": "[\"MARK\"]"}]}),
        ),
    ] {
        let text = body.to_string();
        let plain: Value = serde_json::from_str(&text.replace("MARK", "secret")).expect("JSON");
        let expected: Value =
            serde_json::from_str(&text.replace("MARK", word.as_str().unwrap_or_default()))
                .expect("JSON");
        let (out, _) = request(format, &plain, &guards);
        assert_eq!(out, expected, "{format:?}");
    }
}

#[test]
fn words_are_hidden_within_json_within_strings_and_come_back() {
    let guards = [guard("w", Action::Restore, &["email"], &[], &["a\"b"])];
    // Behind an escape a letter belongs to it, and not to the word.
    let arguments = r#"{"x":"\nann@x.com","y":"a\"b","z":"\u0061\"B"}"#;
    let body = json!({"messages": [{"tool_calls": [{"function": {"arguments": arguments}}]}]});
    let (out, doings) = request(Format::OpenaiChat, &body, &guards);
    let hidden = out["messages"][0]["tool_calls"][0]["function"]["arguments"]
        .as_str()
        .expect("text");
    let inner: Value = serde_json::from_str(hidden).expect("it stays JSON");
    for (name, begins) in [("x", "\n[EMAIL_"), ("y", "[W_"), ("z", "[W_")] {
        assert!(
            inner[name]
                .as_str()
                .is_some_and(|text| text.starts_with(begins)),
            "{hidden}"
        );
    }
    let mut restoring = Restoring::default();
    restoring.extend(doings.restoring());
    let watch = Watch::new(&[], restoring);
    let (back, _) = in_pieces(Kind::Json, &watch, &[hidden]);
    let (back, was): (Value, Value) = (
        serde_json::from_str(&back).expect("JSON"),
        serde_json::from_str(arguments).expect("JSON"),
    );
    assert_eq!(back, was);
}

#[test]
fn what_is_too_deep_is_refused_and_nothing_panics() {
    let watch = Watch::new(
        &[guard("w", Action::Redact, &["email"], &[], &[])],
        Restoring::default(),
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        body::body(
            deep.as_bytes(),
            Format::OpenaiChat,
            Side::Request,
            &watch,
            &mut doings()
        )
        .is_err()
    );
    for text in [
        "",
        "{",
        "\"",
        "{\"a",
        "{\"a\":\"\\",
        "[}",
        "{\"data\":\"x\",\"type\":\"text\"",
        "\u{1}",
        "{\"logprobs\":[",
        "]",
    ] {
        for format in FORMATS {
            for side in [Side::Request, Side::Answer] {
                let _ = body::body(text.as_bytes(), format, side, &watch, &mut doings());
            }
            let mut stream = Stream::new(format, false, watch.clone(), doings());
            let _ = stream.block(format!("data: {text}\n\n").into(), &mut Output::default());
        }
    }
}

#[test]
fn text_that_is_no_json_is_looked_through_and_files_are_not_broken() {
    let watch = Watch::new(
        &[guard("w", Action::Redact, &["email"], &[], &[])],
        Restoring::default(),
    );
    let hidden = body::text(b"to ann@x.com now", &watch, &mut doings())
        .expect("text")
        .expect("changed");
    assert!(hidden.starts_with(b"to [EMAIL_"), "{hidden:?}");
    assert_eq!(
        body::text(b"\xff\xfe\x00 no address", &watch, &mut doings()).expect("a file"),
        None
    );
    assert!(body::text(b"\xff ann@x.com \xfe", &watch, &mut doings()).is_err());
}
