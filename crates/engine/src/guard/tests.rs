//! Whatever the cuts, the same comes out, and the work is linear.

mod bodies;
mod holes;

use std::sync::Arc;

use bytes::Bytes;
use polygate_wire::{Format, Frame, array, sse};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::body::{self, Side};
use super::channel::{Channel, Kind};
use super::placeholder::{Maker, Restoring};
use super::scan::{Edit, Scan};
use super::stream::Stream;
use super::*;
use crate::condition::Condition;
use crate::lane::Output;

fn guard(
    name: &str,
    action: Action,
    detectors: &[&str],
    patterns: &[&str],
    words: &[&str],
) -> Arc<Guard> {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let looks = config::Looks {
        action,
        detectors: detectors
            .iter()
            .filter_map(|name| detect::Detector::named(name))
            .collect(),
        patterns: texts(patterns),
        words: texts(words),
        case_sensitive: false,
    };
    let guard = config::Guard {
        name: name.to_owned(),
        when: Condition::default(),
        requests: true,
        answers: true,
        by: config::By::Looks(looks),
    };
    Arc::new(Guard::compile(&guard, &Config::default()).expect("a guard"))
}

fn maker() -> Maker {
    Maker::new(b"test")
}

fn doings() -> Doings {
    Doings::new(Side::Answer, maker())
}

/// What hides this text, and puts it back.
fn hidden(text: &str) -> (String, Restoring) {
    let mut doings = Doings::new(Side::Request, maker());
    let name = doings.hidden.hide("NAME", text, true);
    let mut restoring = Restoring::default();
    restoring.extend(doings.restoring());
    (name, restoring)
}

/// Everything at once: matches of all lengths, what reaches over ends of windows, and what is put back.
fn watch() -> (Watch, String) {
    let (name, restoring) = hidden("O'Neil \"\\\" é");
    let guards = [
        guard(
            "keys",
            Action::Redact,
            &["api-key", "email", "card"],
            &[],
            &[],
        ),
        guard(
            "words",
            Action::Redact,
            &[],
            &[r"[ab]+c", r"x(y|z).*!", r"(?m)^> \w+$"],
            &["Projekt Zürich", "projekt"],
        ),
        guard("told", Action::Flag, &["email"], &[r"a.{0,400}b"], &[]),
    ];
    (Watch::new(&guards, restoring), name)
}

fn applied(text: &str, edits: &[Edit]) -> String {
    body::spliced(text, edits)
}

fn in_pieces(kind: Kind, watch: &Watch, pieces: &[&str]) -> (String, Vec<Acted>) {
    let (mut channel, mut edits, mut doings) = (Channel::new(kind), Vec::new(), doings());
    for piece in pieces {
        channel.push(watch, piece, &mut doings, &mut edits);
    }
    channel.finish(watch, &mut doings, &mut edits);
    (applied(&pieces.concat(), &edits), doings.acted)
}

/// A tool may be called with JSON in a string: there a text stands in a string of that.
#[test]
fn what_is_put_back_into_json_in_a_string_of_json_leaves_both_whole() {
    let (name, restoring) = hidden("O'Neil \"\\\" é\n");
    let watch = Watch::new(&[], restoring);
    let inner = json!({"to": name, "cc": [name]}).to_string();
    for (value, meant) in [
        (
            inner.clone(),
            json!({"to": "O'Neil \"\\\" é\n", "cc": ["O'Neil \"\\\" é\n"]}).to_string(),
        ),
        (
            format!(" [\n{inner}]"),
            format!(
                " [\n{}]",
                json!({"to": "O'Neil \"\\\" é\n", "cc": ["O'Neil \"\\\" é\n"]})
            ),
        ),
        (
            format!("{name}: {{x}}"),
            "O'Neil \"\\\" é\n: {x}".to_owned(),
        ),
        (format!("{{{name}}}"), "{O'Neil \"\\\" é\n}".to_owned()),
    ] {
        let arguments = json!({"body": value, "note": name}).to_string();
        let letters: Vec<String> = arguments.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        let expected = json!({"body": meant, "note": "O'Neil \"\\\" é\n"});
        for pieces in [vec![&*arguments], letters] {
            let (out, _) = in_pieces(Kind::Json, &watch, &pieces);
            let out: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(out, expected);
        }
        let call = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"body": value}}}]}}]});
        let (side, text) = (Side::Answer, call.to_string());
        let out = body::body(text.as_bytes(), Format::Gemini, side, &watch, &mut doings());
        let out = out.expect("read").expect("something is put back");
        let out: Value = serde_json::from_slice(&out).expect("JSON");
        let args = &out["candidates"][0]["content"]["parts"][0]["functionCall"]["args"];
        assert_eq!(args["body"], expected["body"]);
    }
}

/// Texts in which there is much to find.
fn texts() -> impl Strategy<Value = String> {
    let (_, name) = watch();
    let pieces = prop_oneof![
        Just("ann@x.com".to_owned()),
        Just("b.c@de.f.org ".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("sk-abcdefghijklmnopqrstuv".to_owned()),
        Just(name.clone()),
        Just(name[..6].to_owned()),
        Just("PROJEKT zÜRICH".to_owned()),
        Just("projekt ".to_owned()),
        Just("\n> quote\n".to_owned()),
        Just("\"\\\u{e9}😀".to_owned()),
        "[abcxyz!@. \n\\[\\]\"\\\\]{0,12}",
        "[ab]{200,300}c?",
        "\\PC{0,6}",
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// Cuts a text where these say.
fn cut<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
    let mut places: Vec<usize> = places.iter().map(|at| at % (text.len() + 1)).collect();
    places.retain(|at| text.is_char_boundary(*at));
    places.sort_unstable();
    let ends = places.iter().copied().chain([text.len()]);
    let mut from = 0;
    let pieces = ends.map(|end| {
        let piece = &text[from..end];
        from = end;
        piece
    });
    pieces.collect()
}

const FORMATS: [Format; 4] = [
    Format::OpenaiChat,
    Format::OpenaiResponses,
    Format::AnthropicMessages,
    Format::Gemini,
];

/// A stream of a format that says this, each text in pieces.
fn events(format: Format, said: &[&str], arguments: &[&str]) -> Vec<Value> {
    let whole = said.concat();
    let mut all = Vec::new();
    match format {
        Format::OpenaiChat => {
            all.push(
                json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
            );
            all.extend(said.iter().map(|text| json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": [{"token": text}]}}]})));
            all.extend(arguments.iter().map(|text| json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_1", "function": {"arguments": text}}]}}]})));
            all.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        }
        Format::OpenaiResponses => {
            all.extend(said.iter().map(|text| json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text})));
            all.push(json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": whole}));
            all.extend(arguments.iter().map(|text| json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": text})));
            let arguments = arguments.concat();
            all.push(json!({"type": "response.function_call_arguments.done", "output_index": 1, "arguments": arguments}));
            all.push(json!({"type": "response.completed", "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": whole}]}, {"type": "function_call", "arguments": arguments}]}}));
        }
        Format::AnthropicMessages => {
            all.push(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
            all.extend(said.iter().map(|text| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})));
            all.push(json!({"type": "content_block_stop", "index": 0}));
            all.extend(arguments.iter().map(|text| json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": text}})));
            all.push(json!({"type": "content_block_stop", "index": 1}));
            all.push(json!({"type": "message_stop"}));
        }
        _ => {
            all.extend(
                said.iter()
                    .map(|text| json!({"candidates": [{"content": {"parts": [{"text": text}]}}]})),
            );
            let arguments: Value = serde_json::from_str(&arguments.concat()).unwrap_or(Value::Null);
            all.push(json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": arguments}}]}, "finishReason": "STOP"}]}));
        }
    }
    all
}

/// What events say: of the text and of the arguments, in pieces, and wherever they are repeated.
fn added_up(format: Format, events: &[Value]) -> Vec<String> {
    let (mut text, mut arguments) = (String::new(), String::new());
    let mut repeated = Vec::new();
    let add = |to: &mut String, value: &Value| to.push_str(value.as_str().unwrap_or_default());
    for event in events {
        match format {
            Format::OpenaiChat => {
                let delta = &event["choices"][0]["delta"];
                add(&mut text, &delta["content"]);
                add(
                    &mut arguments,
                    &delta["tool_calls"][0]["function"]["arguments"],
                );
            }
            Format::OpenaiResponses => match event["type"].as_str() {
                Some("response.output_text.delta") => add(&mut text, &event["delta"]),
                Some("response.function_call_arguments.delta") => {
                    add(&mut arguments, &event["delta"])
                }
                Some("response.completed") => {
                    let output = &event["response"]["output"];
                    repeated.push(
                        output[0]["content"][0]["text"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    );
                    repeated.push(
                        output[1]["arguments"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    );
                }
                _ => {
                    let said = [&event["text"], &event["arguments"]];
                    repeated.extend(
                        said.iter()
                            .filter_map(|value| value.as_str())
                            .map(str::to_owned),
                    );
                }
            },
            Format::AnthropicMessages => {
                add(&mut text, &event["delta"]["text"]);
                add(&mut arguments, &event["delta"]["partial_json"]);
            }
            _ => {
                let part = &event["candidates"][0]["content"]["parts"][0];
                add(&mut text, &part["text"]);
                if !part["functionCall"].is_null() {
                    arguments = part["functionCall"]["args"].to_string();
                }
            }
        }
    }
    let mut all = vec![text, arguments];
    all.extend(repeated);
    all
}

/// A stream past the guards, so many events in a block.
fn guarded(
    format: Format,
    is_array: bool,
    watch: &Watch,
    events: &[Value],
    blocks: usize,
) -> Vec<Value> {
    let mut stream = Stream::new(format, is_array, watch.clone(), doings());
    let mut out = Output::default();
    for (at, some) in events.chunks(blocks.max(1)).enumerate() {
        let mut block = String::new();
        for (inside, event) in some.iter().enumerate() {
            block.push_str(&match (is_array, at + inside) {
                (false, _) => format!("event: e\ndata: {event}\n\n"),
                (true, 0) => format!("[{event}"),
                (true, _) => format!(",\r\n{event}"),
            });
        }
        stream
            .block(block.into(), &mut out)
            .expect("nothing is blocked");
    }
    let last = if is_array {
        "\r\n]"
    } else {
        "data: [DONE]\n\n"
    };
    stream
        .block(Bytes::from_static(last.as_bytes()), &mut out)
        .expect("nothing is blocked");
    stream.finish(&mut out).expect("nothing is blocked");
    let all: Bytes = std::iter::from_fn(|| out.pop())
        .collect::<Vec<_>>()
        .concat()
        .into();
    assert!(all.ends_with(last.as_bytes()), "{all:?}");
    if is_array {
        let list: Vec<Value> = serde_json::from_slice(&all).expect("an array");
        assert_eq!(list.len(), array::elements(&all).count());
        return list;
    }
    let frames = sse::frames(&all);
    let data = frames.map(|raw| Frame::parse(&raw).data.into_owned());
    data.filter(|data| data != b"[DONE]")
        .map(|data| serde_json::from_slice(&data).expect("JSON"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_cut_of_a_text_gives_the_same(text in texts(), places in prop::collection::vec(any::<usize>(), 0..20)) {
        let (watch, _) = watch();
        let json = json!({"a\nb": text, "n": [1, {"é": text}]}).to_string();
        // As some write it: every sign outside of ASCII as a code.
        let codes: String = json.chars().map(|sign| if sign.is_ascii() { sign.to_string() } else {
            sign.encode_utf16(&mut [0; 2]).iter().map(|code| format!("\\u{code:04x}")).collect()
        }).collect();
        let halves = codes.replace("\\n", "\\ud83d\\n").replace("ann", "\\ud83da\\udc00\\ud83d\\u006en");
        for (kind, text) in [(Kind::Plain, &text), (Kind::Json, &json), (Kind::Json, &codes), (Kind::Json, &halves), (Kind::Json, &text)] {
            let whole = in_pieces(kind, &watch, &[text]);
            prop_assert_eq!(&in_pieces(kind, &watch, &cut(text, &places)), &whole);
            let signs: Vec<String> = text.chars().map(String::from).collect();
            let signs: Vec<&str> = signs.iter().map(String::as_str).collect();
            prop_assert_eq!(&in_pieces(kind, &watch, &signs), &whole);
        }
        let halves = in_pieces(Kind::Json, &watch, &[&halves]).0;
        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&halves).is_ok(), "{}", halves);
        let whole: Value = serde_json::from_str(&in_pieces(Kind::Json, &watch, &[&json]).0).expect("it stays JSON");
        let coded: Value = serde_json::from_str(&in_pieces(Kind::Json, &watch, &[&codes]).0).expect("it stays JSON");
        prop_assert_eq!(&whole, &coded);
        let plain = in_pieces(Kind::Plain, &watch, &[&text]).0;
        prop_assert_eq!(whole["n"][1]["é"].as_str(), Some(&*plain));
    }

    #[test]
    fn any_cut_of_a_stream_of_any_format_says_the_same(
        text in texts(),
        argument in texts(),
        places in prop::collection::vec(any::<usize>(), 0..20),
        blocks in 1..5_usize,
    ) {
        let (watch, _) = watch();
        let arguments = json!({"x": argument}).to_string();
        let plain = in_pieces(Kind::Plain, &watch, &[&text]).0;
        let json = in_pieces(Kind::Json, &watch, &[&arguments]).0;
        for (format, is_array) in FORMATS.map(|format| (format, false)).into_iter().chain([(Format::Gemini, true)]) {
            let events = events(format, &cut(&text, &places), &cut(&arguments, &places));
            let said = guarded(format, is_array, &watch, &events, blocks);
            prop_assert_eq!(said.len(), events.len(), "no event is made up or lost");
            for (at, one) in added_up(format, &said).iter().enumerate() {
                prop_assert_eq!(one, if at % 2 == 0 { &plain } else { &json }, "{:?} {}", format, at);
            }
        }
    }

    #[test]
    fn a_whole_answer_says_what_its_stream_does(text in texts()) {
        let (watch, _) = watch();
        let plain = in_pieces(Kind::Plain, &watch, &[&text]).0;
        let answer = json!({"id": text, "choices": [{"message": {"role": "assistant", "content": text}}]}).to_string();
        let guarded = body::body(answer.as_bytes(), Format::OpenaiChat, Side::Answer, &watch, &mut doings()).expect("read");
        let guarded = guarded.unwrap_or_else(|| answer.into());
        let guarded: Value = serde_json::from_slice(&guarded).expect("JSON");
        prop_assert_eq!(guarded["choices"][0]["message"]["content"].as_str(), Some(&*plain));
        prop_assert_eq!(guarded["id"].as_str(), Some(&*text), "ids are no text");
    }
}

/// Ordinary text is not held up: only what may become a match is.
#[test]
fn what_cannot_become_a_match_goes_out_at_once() {
    let (name, restoring) = hidden("Ann");
    let watch = Watch::new(
        &[guard("mail", Action::Redact, &["card"], &[], &["secret"])],
        restoring,
    );
    let mut stream = Stream::new(Format::OpenaiChat, false, watch, doings());
    let mut out = Output::default();
    let mut say = |text: &str| {
        let event = json!({"choices": [{"delta": {"content": text}}]});
        stream
            .block(format!("data: {event}\n\n").into(), &mut out)
            .expect("let through");
        std::iter::from_fn(|| out.pop()).count()
    };
    for (text, events) in [
        ("Hello there, ", 1),
        ("this is a sec", 0),
        ("ond one. A sec", 1),
        // Whether it is all of the word, the next sign says.
        ("ret", 0),
        (&name[..4], 2),
        (" x ", 2),
        ("4111 1", 0),
        (" a", 2),
    ] {
        assert_eq!(say(text), events, "{text}");
    }
}

/// Work is counted, not timed: it grows as the text does, whatever pattern and text.
#[test]
fn patterns_that_others_never_end_with_stay_linear() {
    let patterns = [
        r"(a+)+$",
        r"(a|a)*b",
        r"(x+x+)+y",
        r"a.*z",
        r"(.*a){12}c",
        r"([a-z]+)*\d",
    ];
    for pattern in patterns {
        let watch = Watch::new(
            &[guard(
                "g",
                Action::Redact,
                &["email", "api-key"],
                &[pattern],
                &[],
            )],
            Restoring::default(),
        );
        for sign in ["a", "x", "ax", "sk-a", "a@a.", "[a"] {
            let work = |size: usize| {
                let text = sign.repeat(size / sign.len());
                let mut scan = Scan::default();
                scan.whole(&watch, &text, &mut doings());
                let mut pieces = Scan::default();
                for piece in text.as_bytes().chunks(3) {
                    let piece = std::str::from_utf8(piece).expect("ASCII");
                    pieces.push(&watch, piece, &mut doings(), &mut Vec::new());
                }
                (scan.work(), pieces.work())
            };
            let ((small, small_pieces), (large, large_pieces)) = (work(10_000), work(80_000));
            assert!(
                large <= 10 * small.max(40_000),
                "{pattern} {sign}: {small} {large}"
            );
            assert!(
                large_pieces <= 10 * small_pieces.max(40_000),
                "{pattern} {sign} in pieces: {small_pieces} {large_pieces}"
            );
            let most = 80_000 * 3 * (WINDOW as u64 + 512 + 300);
            assert!(
                large <= most && large_pieces <= most,
                "{pattern} {sign}: {large} {large_pieces}"
            );
        }
    }
}

#[test]
fn patterns_that_cannot_be_kept_to_are_refused() {
    for (pattern, why) in [
        ("a*", "nothing"),
        ("(|b)", "nothing"),
        ("(?-u:\\b)", "nothing"),
        ("\\bx\\b", "(?-u:\\b)"),
        ("a(", "unclosed group"),
        ("(?:x{1000}){1000}", "too large"),
        ("(a)\\1", "backreference"),
        ("a(?=b)", "look-around"),
    ] {
        let problem = finder::check(pattern).expect_err(pattern);
        assert!(problem.contains(why), "{pattern}: {problem}");
    }
}
