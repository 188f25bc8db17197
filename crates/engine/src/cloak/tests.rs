//! Pseudonyms, and what holds of every body under a cloak.

use polygate_wire::Format;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FORMATS: [Format; 5] = Format::ALL;
const PROMPT: &str = "You work for \"Example\".\n";

fn sent(asks: Asks, format: Format) -> Sent<'static> {
    Sent {
        asks,
        format,
        row: &polygate_providers::table()[0],
        model: "m",
        refused: &[],
        has_made_limit: false,
    }
}

fn object(value: &Value) -> RawObject {
    RawObject::parse(value.to_string().into()).expect("an object")
}

fn tree(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn pseudonyms_are_of_the_pepper_and_the_name() {
    let (one, other) = (Pseudonyms::keyed(&[1; 32]), Pseudonyms::keyed(&[2; 32]));
    assert_eq!(one.of("alice"), Pseudonyms::keyed(&[1; 32]).of("alice"));
    assert_ne!(one.of("alice"), one.of("bob"));
    assert_ne!(one.of("alice"), other.of("alice"));
    assert_eq!(one.of("alice").len(), 2 * LENGTH);
    assert_eq!(format!("{one:?}"), "Pseudonyms");
}

#[test]
fn what_no_provider_would_take_is_no_way_around_the_operators_words() {
    for format in FORMATS {
        for odd in [json!(7), json!({"a": 1}), json!(null), json!({"parts": 7})] {
            let body = json!({"system": odd, "instructions": odd, "systemInstruction": odd, "messages": []});
            let bytes = sent(Asks::Turn, format).instructed(&object(&body), PROMPT, false);
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            assert!(text.contains("Example"), "{format:?} {text}");
        }
    }
}

#[test]
fn instructions_that_are_there_twice_are_there_once_behind_the_operators() {
    const TEXTS: [(Format, &str); 4] = [
        (
            Format::Gemini,
            r#"{"systemInstruction":{"parts":[{"text":"CLIENT"}]},"system_instruction":{"parts":[{"text":"CLIENT"}]}}"#,
        ),
        (
            Format::Gemini,
            r#"{"systemInstruction":{"parts":[{"text":"CLIENT"}],"parts":[{"text":"CLIENT"}]}}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"messages":[{"role":"system","content":"CLIENT","content":"CLIENT"}]}"#,
        ),
        (
            Format::OpenaiChat,
            r#"{"messages":[{"role":"user","content":"CLIENT","role":"system"}]}"#,
        ),
    ];
    for (format, text) in TEXTS {
        for strict in [true, false] {
            let object = body::once(RawObject::parse(text.into()).expect("an object"));
            let bytes = sent(Asks::Turn, format).instructed(&object, "OPERATOR", strict);
            // As the last of two is read, and in either spelling.
            let text = String::from_utf8_lossy(&bytes);
            let read = tree(&bytes).to_string();
            let words = (read.matches("OPERATOR").count(), text.contains("CLIENT"));
            assert_eq!(words, (1, !strict), "{text}");
            let spellings = ["systemInstruction", "system_instruction"];
            let both = spellings
                .iter()
                .all(|name| tree(&bytes).get(name).is_some());
            assert!(!both, "{text}");
        }
    }
}

#[test]
fn members_that_are_there_twice_hide_nobody() {
    let body =
        r#"{"user":"a","messages":[],"user":"b","metadata":{"user_id":"c","user_id":"d"},"z":1}"#;
    let object = body::once(RawObject::parse(body.into()).expect("an object"));
    let bytes = sent(Asks::Turn, Format::OpenaiChat).named(object, None);
    assert_eq!(&*bytes, br#"{"messages":[],"metadata":{},"z":1}"#);
}

#[test]
fn a_provider_that_refuses_the_member_does_not_get_it() {
    let refused = ["user".to_owned()];
    let sent = Sent {
        refused: &refused,
        ..sent(Asks::Turn, Format::OpenaiChat)
    };
    let bytes = sent.named(object(&json!({"user": "a", "n": 1})), Some("x"));
    assert_eq!(tree(&bytes), json!({"n": 1}));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!("client-7")),
        "\\PC{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop::sample::select(vec!["role", "content", "user_id", "parts", "text", "a"]);
        let role = prop::sample::select(vec!["system", "developer", "user", "assistant"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner.clone()), 0..4).prop_map(|pairs| {
                let pairs = pairs.into_iter();
                Value::Object(
                    pairs
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
            (role, inner).prop_map(|(role, content)| json!({"role": role, "content": content})),
        ]
    })
}

/// Members that a cloak has to do with, and others.
fn any_body() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "system",
        "messages",
        "instructions",
        "input",
        "systemInstruction",
        "user",
        "safety_identifier",
        "metadata",
        "requestMetadata",
        "other",
    ]);
    prop::collection::vec((name, any_json()), 0..8).prop_map(|pairs| {
        let pairs = pairs.into_iter();
        Value::Object(
            pairs
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    })
}

/// Where the format has the end user's name.
fn user_of(body: &Value, format: Format) -> Value {
    match format {
        Format::OpenaiChat => body["user"].clone(),
        Format::OpenaiResponses => body["safety_identifier"].clone(),
        Format::AnthropicMessages => body["metadata"]["user_id"].clone(),
        Format::BedrockConverse => body["requestMetadata"]["user_id"].clone(),
        Format::Gemini => Value::Null,
    }
}

proptest! {
    #[test]
    fn any_body_stays_json_with_the_operators_words_and_no_client(
        body in any_body(),
        at in 0..FORMATS.len(),
        strict in any::<bool>(),
        user in prop::option::of(Just("pseudonym")),
        pretty in any::<bool>(),
    ) {
        let format = FORMATS[at];
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let whole = RawObject::parse(text.expect("text").into()).expect("an object");
        let sent = sent(Asks::Turn, format);
        let bytes = sent.instructed(&whole, PROMPT, strict);
        let instructed = RawObject::parse(bytes).expect("an object");
        let after = tree(&sent.named(instructed, user));
        let expected = match format {
            Format::Gemini => Value::Null,
            _ => user.map_or(Value::Null, Value::from),
        };
        prop_assert_eq!(user_of(&after, format), expected);
        if format != Format::OpenaiChat || body["messages"].is_array() {
            prop_assert!(after.to_string().contains("Example"), "{after}");
        }
        let system = |message: &&Value| matches!(message["role"].as_str(), Some("system" | "developer"));
        if strict && format == Format::OpenaiChat {
            let kept = after["messages"].as_array().into_iter().flatten().filter(system).count();
            prop_assert!(kept <= 1, "{after}");
        }
        prop_assert_eq!(&after["other"], &body["other"]);
    }
}
