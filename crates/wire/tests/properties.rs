//! Properties that hold for any bytes: nothing panics, cuts do not matter, edits touch only what they name. And for any value of the
//! hub: what a format can carry comes back as it was, and what is written for an upstream is a request.

#[path = "support/canonical.rs"]
mod canonical;
#[path = "support/carried.rs"]
mod carried;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/marks.rs"]
mod marks;
#[path = "support/told.rs"]
mod told;

use bytes::Bytes;
use carried::{CARRIERS, UNIQUE, quirks};
use drive::{check_grammar, decode, say};
use lines::{Lines, Name};
use marks::Marks;
use polygate_core::Failure;
use polygate_wire::array::ArrayCutter;
use polygate_wire::canon::Block;
use polygate_wire::raw::{Edit, quote};
use polygate_wire::sse::{FRAME_LIMIT, Framer, frames};
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, ChatResponse, Format, Frame, Loss, Quirks, RawObject,
    ReplyHead, Target, dialect, egress, ingress,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Cuts bytes where the numbers say.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

fn events(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut framer = Framer::new();
    let mut blocks: Vec<Bytes> = pieces
        .iter()
        .filter_map(|piece| framer.push(Bytes::copy_from_slice(piece)).ok())
        .collect();
    blocks.push(framer.finish());
    let data = blocks
        .iter()
        .flat_map(frames)
        .map(|raw| Frame::parse(&raw).data.into_owned())
        .filter(|data| !data.is_empty());
    let data = data.collect();
    (blocks.concat(), data)
}

/// Bytes that look like event streams more often than chance would have it.
fn stream_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data:{\"a\":1}".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b": comment".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n\n".to_vec()),
        Just("é😀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// JSON of the names and words that formats know, in any arrangement.
fn json_like() -> impl Strategy<Value = serde_json::Value> {
    const WORDS: [&str; 22] = [
        "type",
        "message",
        "content",
        "delta",
        "text",
        "error",
        "choices",
        "usage",
        "role",
        "tool_calls",
        "function",
        "arguments",
        "index",
        "candidates",
        "parts",
        "finishReason",
        "content_block_delta",
        "message_start",
        "response.completed",
        "output",
        "item",
        "user",
    ];
    let word = (0..WORDS.len()).prop_map(|at| WORDS[at].to_owned());
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut(bytes in stream_like(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let whole = events(&[&bytes]);
        let cut = events(&pieces(&bytes, &cuts));
        prop_assert_eq!(&cut, &whole);
        let passed = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        prop_assert_eq!(&whole.0, passed, "what passes is what came");
        prop_assert!(bytes.len() < FRAME_LIMIT);
    }

    #[test]
    fn arrays_pass_unchanged_however_they_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let mut cutter = ArrayCutter::default();
        let mut passed = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            passed.extend_from_slice(&cutter.push(Bytes::copy_from_slice(piece)).expect("short"));
        }
        passed.extend_from_slice(&cutter.finish());
        prop_assert_eq!(passed, bytes);
    }

    #[test]
    fn an_edit_changes_the_member_it_names_and_nothing_else(
        members in prop::collection::btree_map("[a-z\\\\\"é]{1,6}", json_like(), 0..6),
        space in "[ \\n\\t]{0,2}",
        model in ".{0,10}",
    ) {
        let body: Vec<String> = members.iter().map(|(name, value)| format!("{space}{}{space}:{space}{value}{space}", quote(name))).collect();
        let text = format!("{{{}}}", body.join(","));
        let object = RawObject::parse(Bytes::from(text)).expect("an object");
        let edited = RawObject::parse(object.edit(&[Edit::Set("model", &quote(&model))])).expect("still an object");
        let said = edited.string("model").expect("a string").map(std::borrow::Cow::into_owned);
        prop_assert_eq!(said, Some(model));
        for (name, value) in object.iter().filter(|(name, _)| *name != "model") {
            prop_assert_eq!(edited.get(name), Some(value), "byte for byte");
        }
        let removed = RawObject::parse(edited.edit(&[Edit::Remove("model")])).expect("still an object");
        prop_assert!(removed.get("model").is_none());
        prop_assert_eq!(removed.iter().count(), object.iter().filter(|(name, _)| *name != "model").count());
    }

    #[test]
    fn no_bytes_make_any_format_panic(bytes in prop_oneof![stream_like(), json_like().prop_map(|json| json.to_string().into_bytes())]) {
        for format in Format::ALL {
            let dialect = dialect(format);
            let _ = dialect.check_answer(&bytes);
            let _ = dialect.decode_error(&bytes);
            let frame = Frame { event: None, data: bytes.as_slice().into() };
            let _ = dialect.sniff(&frame);
            let egress = egress(format);
            let _ = egress.decode_response(&bytes);
            let mut decoder = egress.stream_decoder();
            let mut out = Vec::new();
            let _ = decoder.decode(&frame, &mut out);
            let _ = decoder.finish(&mut out);
        }
    }

    #[test]
    fn no_request_makes_a_translation_panic(messages in json_like(), tools in json_like(), rest in json_like()) {
        let body = serde_json::json!({
            "model": "m", "messages": messages, "input": messages, "contents": messages, "tools": tools,
            "response_format": rest, "stop": rest, "generationConfig": rest, "text": rest, "output_config": rest,
        });
        let object = RawObject::parse(Bytes::from(body.to_string())).expect("an object");
        for client in Format::ALL {
            let Some(request) = ingress(client).and_then(|ingress| ingress.decode_request(&object).ok()) else { continue };
            for upstream in Format::ALL {
                let mut request = request.clone();
                let _ = Bridge::build(&mut request, upstream, "m");
                let target = Target { model: "m", quirks: &Quirks::default() };
                let _ = egress(upstream).encode_request(&request, &target);
            }
        }
    }
}

/// Whom requests are for: models that take different things.
const ASKED: [(Format, &str); 15] = [
    (Format::OpenaiChat, "gpt-4o"),
    (Format::OpenaiChat, "gpt-5"),
    (Format::OpenaiChat, "model"),
    (Format::OpenaiResponses, "gpt-4o"),
    (Format::OpenaiResponses, "gpt-5"),
    (Format::AnthropicMessages, "claude-3-haiku-20240307"),
    (Format::AnthropicMessages, "claude-opus-4-1"),
    (Format::AnthropicMessages, "claude-haiku-4-5"),
    (Format::AnthropicMessages, "claude-opus-5"),
    (Format::Gemini, "gemini-1.5-pro"),
    (Format::Gemini, "gemini-2.5-flash"),
    (Format::Gemini, "gemini-3-pro"),
    (
        Format::BedrockConverse,
        "us.anthropic.claude-opus-4-1-20250805-v1:0",
    ),
    (Format::BedrockConverse, "amazon.nova-pro-v1:0"),
    (Format::BedrockConverse, "meta.llama3-3-70b-instruct-v1:0"),
];

/// What an answer says of itself.
fn head() -> ReplyHead {
    ReplyHead {
        request_id: "call".to_owned(),
        unique: UNIQUE.to_owned(),
        model: "model".to_owned(),
        include_usage: true,
        ..ReplyHead::default()
    }
}

/// The events of an answer, its texts in pieces of so many characters; calls that follow each other come side by side.
fn pieces_of(answer: &ChatResponse, size: usize) -> Vec<ChatEvent> {
    let mut events = Vec::new();
    let mut waiting: Vec<ChatEvent> = Vec::new();
    for event in answer.clone().events() {
        match event {
            ChatEvent::Delta { index, text } => {
                let letters: Vec<char> = text.chars().collect();
                events.extend(letters.chunks(size).map(|piece| ChatEvent::Delta {
                    index,
                    text: piece.iter().collect(),
                }));
            }
            ChatEvent::Open { index, block } => {
                if !matches!(block, Block::ToolCall { .. }) {
                    events.append(&mut waiting);
                }
                events.push(ChatEvent::Open { index, block });
            }
            ChatEvent::Close { index } if is_call(answer, index) => {
                waiting.push(ChatEvent::Close { index });
            }
            ChatEvent::Usage(_) | ChatEvent::Stop(_) => {
                events.append(&mut waiting);
                events.push(event);
            }
            other => events.push(other),
        }
    }
    events
}

fn is_call(answer: &ChatResponse, index: usize) -> bool {
    let said = answer.said.get(index);
    said.is_some_and(|said| matches!(said.block, Block::ToolCall { .. }))
}

/// As the engine does it.
fn translate(
    request: &ChatRequest,
    upstream: Format,
    model: &str,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut request = request.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, model);
    let quirks = Quirks {
        developer: true,
        ..Quirks::default()
    };
    let target = Target {
        model,
        quirks: &quirks,
    };
    let (body, lost) = egress(upstream).encode_request(&request, &target)?;
    losses.extend(lost);
    Ok((body, losses))
}

proptest! {
    #[test]
    fn a_request_comes_back_as_it_was(request in canonical::request()) {
        for carrier in CARRIERS {
            let asked = carrier.request(request.clone());
            let target = Target { model: carrier.model, quirks: &quirks() };
            let (body, losses) = egress(carrier.format).encode_request(&asked, &target).expect("it can be carried");
            let object = RawObject::parse(body.clone()).expect("an object");
            let read = ingress(carrier.format).expect("both halves").decode_request(&object).expect("a request");
            let body = String::from_utf8_lossy(&body);
            let differences = told::differences(&told::request(&asked), &told::request(&read));
            prop_assert!(differences.is_empty(), "{:?}:\n{}\n{}", carrier, differences.join("\n"), body);
            prop_assert_eq!(losses, vec![], "{:?}: {}", carrier, body);
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was(answer in canonical::answer()) {
        for carrier in CARRIERS.into_iter().step_by(2) {
            let answer = carrier.answer(answer.clone());
            let ingress = ingress(carrier.format).expect("both halves");
            let body = ingress.encode_response(&answer, &head());
            let read = egress(carrier.format).decode_response(&body).expect("an answer");
            let body = String::from_utf8_lossy(&body);
            let differences = told::differences(&told::answer(&answer), &told::answer(&read));
            prop_assert!(differences.is_empty(), "{:?}:\n{}\n{}", carrier, differences.join("\n"), body);
        }
    }

    #[test]
    fn a_stream_comes_back_as_it_was(answer in canonical::answer(), size in 1_usize..8) {
        for carrier in CARRIERS.into_iter().step_by(2) {
            let answer = carrier.answer(answer.clone());
            let bytes = streamed(carrier.format, &answer, size);
            let told = decode(egress(carrier.format), &[&bytes]);
            let bytes = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(told.failure.as_ref().map(say), None, "{:?}: {}", carrier, bytes);
            prop_assert_eq!(check_grammar(&told), Ok(()), "{:?}: {}", carrier, bytes);
            let read = ChatResponse::gather(told.events).expect("an answer");
            let differences = told::differences(&told::answer(&answer), &told::answer(&read));
            prop_assert!(differences.is_empty(), "{:?}:\n{}\n{}", carrier, differences.join("\n"), bytes);
        }
    }

    #[test]
    fn what_is_not_sent_is_named(mut request in canonical::request()) {
        // Tools that may not be called need not be offered.
        request.tool_choice = None;
        let marks = Marks::put(&mut request);
        for (upstream, model) in ASKED {
            let (body, losses) = translate(&request, upstream, model).expect("it can be sent");
            let body = String::from_utf8_lossy(&body);
            let missing = marks.missing(&body, &losses);
            prop_assert!(missing.is_empty(), "{:?} {}: {:?} is dropped in silence: {}\n{:?}", upstream, model, missing, body, losses);
        }
    }

    #[test]
    fn nonsense_is_written_as_an_object_or_refused(request in canonical::nonsense()) {
        for (upstream, model) in ASKED {
            if let Ok((body, _)) = translate(&request, upstream, model) {
                RawObject::parse(body).expect("an object");
            }
        }
    }
}

/// Requests that clients might have meant, for `tests/cells/validate.py` to hold them to the providers' descriptions.
#[test]
fn requests_that_are_valid() {
    let mut lines = Lines::new("generated-requests");
    let mut runner = TestRunner::deterministic();
    for number in 0..300 {
        let request = made(canonical::request(), &mut runner);
        for upstream in Format::ALL {
            let models = ASKED.iter().filter(|(format, _)| *format == upstream);
            let models: Vec<&str> = models.map(|(_, model)| *model).collect();
            let model = models[number % models.len()];
            let (body, _) = translate(&request, upstream, model).expect("it can be sent");
            let name = Name {
                client: "generated",
                upstream: upstream.name(),
                id: &format!("{model} {number}"),
            };
            lines.request(name, &body, &[]);
        }
    }
}

/// Answers, whole and in pieces, for the SDKs' types.
#[test]
fn answers_that_are_valid() {
    let mut lines = Lines::new("generated-answers");
    let mut runner = TestRunner::deterministic();
    for number in 0..300 {
        let answer = made(canonical::answer(), &mut runner);
        for client in Format::ALL {
            let Some(ingress) = ingress(client) else {
                continue;
            };
            let name = Name {
                client: client.name(),
                upstream: "generated",
                id: &number.to_string(),
            };
            lines.answer(name, &ingress.encode_response(&answer, &head()));
            lines.stream(name, &streamed(client, &answer, 1 + number % 7));
        }
    }
}

fn made<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, runner: &mut TestRunner) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

fn streamed(client: Format, answer: &ChatResponse, size: usize) -> Vec<u8> {
    let mut encoder = ingress(client)
        .expect("clients speak it")
        .stream_encoder(head());
    let mut bytes = Vec::new();
    pieces_of(answer, size)
        .iter()
        .for_each(|event| encoder.encode(event, &mut bytes));
    encoder.finish(&mut bytes);
    bytes
}
