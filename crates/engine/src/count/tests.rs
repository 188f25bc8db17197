//! Counts against what vendors say, and whatever bytes.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn question(endpoint: &Endpoint) -> Question {
    Question::of(endpoint).expect("it is read")
}

fn chat(body: &serde_json::Value, model: &str) -> u64 {
    let body = Bytes::from(body.to_string());
    question(&Endpoint::Chat)
        .count(&body, model)
        .expect("a chat")
}

/// The example of OpenAI's cookbook, of which its API says that it is 124 tokens. Names, which we leave out, count as their text and one.
#[test]
fn a_conversation_is_what_openai_says_it_is() {
    let said = [
        (
            "system",
            "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        ),
        ("system", "New synergies will help drive top-line growth."),
        (
            "system",
            "Things working well together will increase revenue.",
        ),
        (
            "system",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        (
            "system",
            "Let's talk later when we're less busy about how to do better.",
        ),
        (
            "user",
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ];
    let messages = said.map(|(role, content)| json!({"role": role, "content": content}));
    let asked = chat(&json!({"model": "gpt-4o", "messages": messages}), "gpt-4o");
    let names = ["example_user", "example_assistant"].map(|name| 1 + Counter::new().count(name));
    assert_eq!(asked + 2 * names.iter().sum::<u64>(), 124);
}

#[test]
fn models_differ_in_what_stands_around_texts() {
    let hello = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    let tool = json!({"type": "function", "function": {"name": "f", "description": "Does it", "parameters": {"type": "object"}}});
    let with_tool =
        json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "tools": [tool]});
    for (model, alone, least_of_tool) in [
        ("gpt-4o", 8, 15),
        ("claude-sonnet-4-5", 8, 500),
        ("gemini-2.5-pro", 2, 15),
    ] {
        assert_eq!(chat(&hello, model), alone, "{model}");
        let more = chat(&with_tool, model) - alone;
        assert!(
            (least_of_tool..2 * least_of_tool).contains(&more),
            "{model} {more}"
        );
    }
}

#[test]
fn texts_to_embed_count_as_texts_and_tokens_as_tokens() {
    for (input, tokens) in [
        (json!("tiktoken is great!"), 6),
        (json!(["tiktoken is great!", "tiktoken is great!"]), 12),
        (json!([1, 2, 3]), 3),
        (json!([[1, 2, 3], [4]]), 4),
    ] {
        let body = Bytes::from(json!({"input": input}).to_string());
        let count = question(&Endpoint::Embeddings).count(&body, "text-embedding-3-small");
        assert_eq!(count, Some(tokens), "{input}");
    }
}

#[test]
fn answers_count_by_all_that_they_say() {
    let answer = json!({"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "tiktoken is great!", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]});
    let body = Bytes::from(answer.to_string());
    let count = |body: &Bytes| question(&Endpoint::Chat).count_answer(body, "gpt-4o");
    assert_eq!(
        count(&body),
        Some(6 + 1 + 1 + family("gpt-4o").call + family("gpt-4o").answer)
    );
    assert_eq!(count(&Bytes::from_static(b"{\"choices\": [")), None);
    let choice = |text: &str| json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let body = |choices: Vec<serde_json::Value>| {
        Bytes::from(
            json!({"id": "c", "object": "chat.completion", "model": "m", "choices": choices})
                .to_string(),
        )
    };
    let one = count(&body(vec![choice("Hello world")])).expect("tokens");
    let two = count(&body(vec![choice("Hello world"), choice("Hello world")]));
    assert_eq!(
        (two, count(&body(vec![choice("")]))),
        (Some(2 * one), Some(0))
    );
    let completion =
        json!({"choices": [{"text": "Hello world"}, {"text": " and all", "index": 1}]}).to_string();
    let completion = question(&Endpoint::Completions).count_answer(&completion.into(), "gpt-4o");
    assert_eq!(completion, Some(2 + 2));
}

const ENDPOINTS: [Endpoint; 3] = [Endpoint::Chat, Endpoint::Responses, Endpoint::Messages];

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..400), picture in any::<[u8; 48]>(), text in ".*") {
        let body = Bytes::from(bytes);
        for endpoint in ENDPOINTS {
            let question = question(&endpoint);
            let _ = question.count(&body, "gpt-4o");
            let _ = question.count_answer(&body, "gpt-4o");
        }
        let mut heard = Heard::default();
        heard.quoted(&body);
        heard.text(&text);
        let _ = heard.count("claude");
        for head in [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b""] {
            let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [head, &picture[..]].concat());
            let image = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}});
            let body = json!({"messages": [{"role": "user", "content": [image, {"type": "text", "text": text}]}]});
            for model in ["gpt-4o", "gpt-4.1-mini", "claude-opus-5", "gemini-2.5-pro"] {
                prop_assert!(chat(&body, model) < 100_000);
            }
        }
    }

    #[test]
    fn who_says_more_says_more(one in "\\PC{0,200}", more in "( [a-z]{1,9}){0,30}") {
        let count = |text: String| chat(&json!({"messages": [{"role": "user", "content": text}]}), "gpt-4o");
        let (less, all) = (count(one.clone()), count(format!("{one}{more}")));
        // A word may join the one before it.
        prop_assert!(all + 2 >= less, "{less} {all}");
    }
}
