//! Guard rails: what providers get of a request, what clients get of an answer, in every format, both lanes, streaming and not.

mod around;
mod hook;

use http::{Method, StatusCode};
use polygate_mock_provider::Mock;
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, mock, until};

const ADDRESS: &str = "ann.lee@example.com";

/// Upstreams by what they speak; each of them is native to one client.
pub(crate) const UPSTREAMS: [(&str, &str); 4] = [
    ("chat", "openai-compatible, wire_api: chat"),
    ("responses", "response_api"),
    ("messages", "anthropic"),
    ("gemini", "gemini"),
];

/// A client: its name, the path of a question, and the question.
pub(crate) type Client = (
    &'static str,
    fn(&str, bool) -> String,
    fn(&str, &str, bool) -> Value,
);

pub(crate) const CLIENTS: [Client; 4] = [
    (
        "chat",
        |_, _| "/v1/chat/completions".to_owned(),
        |model, text, stream| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}),
    ),
    (
        "responses",
        |_, _| "/v1/responses".to_owned(),
        |model, text, stream| json!({"model": model, "stream": stream, "input": text}),
    ),
    (
        "messages",
        |_, _| "/v1/messages".to_owned(),
        |model, text, stream| json!({"model": model, "stream": stream, "max_tokens": 500, "messages": [{"role": "user", "content": text}]}),
    ),
    (
        "gemini",
        |model, stream| match stream {
            true => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            false => format!("/v1beta/models/{model}:generateContent"),
        },
        |_, text, _| json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
    ),
];

pub(crate) fn config(mock: &Mock, more: &str) -> String {
    let url = mock.url();
    let provider = |(name, kind): (&str, &str)| {
        format!(
            "  - {{name: {name}, type: {kind}, api_base: '{url}', api_key: k, model_mapping: {{{name}-m: m}}}}\n"
        )
    };
    let providers: String = UPSTREAMS.into_iter().map(provider).collect();
    format!(
        "providers:\n{providers}health_check: {{enabled: false}}\nguards_key: a-key-of-tests-0123\n{more}"
    )
}

/// One guard for each header that asks for it.
fn guards(rows: &[(&str, &str)]) -> String {
    let guard = |(name, what): &(&str, &str)| {
        format!("  - {{name: {name}, when: {{headers: {{x-guard: {name}}}}}, {what}}}\n")
    };
    let guards: String = rows.iter().map(guard).collect();
    format!("guards:\n{guards}")
}

async fn ask(
    gate: &Gate,
    guard: &str,
    client: &Client,
    model: &str,
    text: &str,
    stream: bool,
) -> Reply {
    let (_, path, body) = client;
    let headers = [("content-type", "application/json"), ("x-guard", guard)];
    let body = body(model, text, stream).to_string();
    gate.ask(Method::POST, &path(model, stream), &headers, body)
        .await
}

/// The text of an answer, in pieces or whole.
pub(crate) fn said(client: &str, reply: &Reply, stream: bool) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |event: &Value| match (client, stream) {
        ("chat", true) => text(&event["choices"][0]["delta"]["content"]),
        ("chat", false) => text(&event["choices"][0]["message"]["content"]),
        ("responses", true) if event["type"] == "response.output_text.delta" => {
            text(&event["delta"])
        }
        ("responses", true) => String::new(),
        ("responses", false) => text(&event["output"][0]["content"][0]["text"]),
        ("messages", true) => text(&event["delta"]["text"]),
        ("messages", false) => text(&event["content"][0]["text"]),
        _ => text(&event["candidates"][0]["content"]["parts"][0]["text"]),
    };
    if !stream {
        return of(&reply.json());
    }
    let events = reply.events();
    let events = events.iter().filter(|event| *event != "[DONE]");
    events
        .map(|event| of(&serde_json::from_str(event).expect("JSON")))
        .collect()
}

pub(crate) fn sent(mock: &Mock) -> String {
    let last = calls(mock).pop().expect("a call");
    String::from_utf8_lossy(&last.body.expect("bodies are kept")).into_owned()
}

/// Asks in every way: client, upstream, stream or not.
pub(crate) async fn in_every_way(
    gate: &Gate,
    guard: &str,
    text: &str,
    check: impl Fn(&str, &Reply, bool, &str),
) {
    for client in &CLIENTS {
        for (upstream, _) in UPSTREAMS {
            for stream in [false, true] {
                let model = format!("{upstream}-m");
                let reply = ask(gate, guard, client, &model, text, stream).await;
                let what = format!(
                    "{guard}: {} to {upstream}, stream {stream}: {}",
                    client.0,
                    reply.text()
                );
                check(client.0, &reply, stream, &what);
            }
        }
    }
}

#[tokio::test]
async fn each_action_holds_in_every_format_lane_and_way() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        &guards(&[
            (
                "restore",
                "detect: [email], words: [Ann Lee], action: restore",
            ),
            ("redact", "detect: [email], action: redact"),
            ("late", "on: [answer], detect: [email], action: redact"),
            ("flag", "detect: [email], action: flag"),
            ("block", "on: [request], detect: [email], action: block"),
        ]),
    ));
    let prompt = format!("Write to {ADDRESS} for Ann Lee");
    in_every_way(&gate, "restore", &prompt, |client, reply, stream, what| {
        let sent = sent(&mock);
        assert!(
            !sent.contains(ADDRESS) && !sent.contains("Ann Lee"),
            "{what} sent {sent}"
        );
        assert!(
            sent.contains("[EMAIL_") && sent.contains("[RESTORE_"),
            "{what} sent {sent}"
        );
        assert!(said(client, reply, stream).contains(&prompt), "{what}");
        assert!(!reply.text().contains("[EMAIL_"), "{what}");
        assert_eq!(reply.header("x-polygate-guards"), "restore", "{what}");
    })
    .await;
    in_every_way(&gate, "redact", &prompt, |client, reply, stream, what| {
        assert!(!sent(&mock).contains(ADDRESS), "{what}");
        assert!(
            said(client, reply, stream).contains("Write to [EMAIL_"),
            "{what}"
        );
        assert!(!reply.text().contains(ADDRESS), "{what}");
    })
    .await;
    in_every_way(&gate, "late", &prompt, |client, reply, stream, what| {
        assert!(sent(&mock).contains(ADDRESS), "{what}");
        let said = said(client, reply, stream);
        assert!(
            said.contains("Write to [EMAIL_") && said.contains("for Ann Lee"),
            "{what}"
        );
        assert!(!reply.text().contains(ADDRESS), "{what}");
    })
    .await;
    in_every_way(&gate, "flag", &prompt, |client, reply, stream, what| {
        assert!(sent(&mock).contains(ADDRESS), "{what}");
        assert!(said(client, reply, stream).contains(&prompt), "{what}");
        assert_eq!(reply.header("x-polygate-guards"), "flag", "{what}");
    })
    .await;
    let before = calls(&mock).len();
    in_every_way(&gate, "block", &prompt, |_, reply, _, what| {
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{what}");
        assert!(
            reply.text().contains("guard 'block'") && !reply.text().contains(ADDRESS),
            "{what}"
        );
        assert_eq!(reply.header("x-polygate-guards"), "block", "{what}");
    })
    .await;
    assert_eq!(calls(&mock).len(), before, "nobody is asked");
    let page = gate.get("/metrics").await.text();
    for line in [
        "polygate_guard_matches_total{guard=\"restore\",action=\"restore\",side=\"request\"} 64",
        "polygate_guard_matches_total{guard=\"late\",action=\"redact\",side=\"answer\"} 32",
        "polygate_guard_matches_total{guard=\"flag\",action=\"flag\",side=\"request\"} 32",
        "polygate_guard_matches_total{guard=\"block\",action=\"block\",side=\"request\"} 32",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert!(
        !gate.log().contains(ADDRESS),
        "what was found is never told"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_let_through_ends_and_is_paid_all_the_same() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        &guards(&[(
            "block",
            "on: [answer], patterns: ['forbidden-[0-9]+'], action: block",
        )]),
    ));
    let prompt = "Say this, and then forbidden-123 and more";
    in_every_way(&gate, "block", prompt, |client, reply, stream, what| {
        assert!(!reply.text().contains("forbidden-1"), "{what}");
        assert!(reply.text().contains("guard 'block'"), "{what}");
        if stream {
            assert_eq!(reply.status, StatusCode::OK, "{what}");
            assert!(
                said(client, reply, true).contains("Say this, and then"),
                "{what}"
            );
            let ends = [
                "[DONE]",
                "message_stop",
                "response.completed",
                "finishReason",
                "\"finish_reason\":\"stop\"",
            ];
            for end in ends {
                assert!(!reply.text().contains(end), "{what}");
            }
        } else {
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{what}");
            assert_eq!(reply.header("x-polygate-guards"), "block", "{what}");
        }
    })
    .await;
    assert_eq!(calls(&mock).len(), 32, "nobody is asked again");
    until("all are in the log", || {
        gate.log().matches("block:block:answer:1").count() == 32
    })
    .await;
    let log = gate.log();
    let tokens = log.lines().filter(|line| {
        line.contains("block:block:answer:1") && line.contains("\"output_tokens\":0")
    });
    // Whole answers are paid by what was reported; of streams that were broken off nobody reports.
    assert!(tokens.count() <= 16, "{log}");
}

/// As long as nothing has gone out an answer can be refused for what it is, and is paid all the same.
#[tokio::test]
async fn a_stream_that_is_stopped_before_its_first_word_is_a_failure() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        &guards(&[(
            "first",
            "on: [answer], patterns: ['(?i)you said'], action: block",
        )]),
    ));
    in_every_way(&gate, "first", "anything", |client, reply, _, what| {
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{client} {what}");
        assert_eq!(reply.header("content-type"), "application/json", "{what}");
        assert_eq!(reply.header("x-polygate-guards"), "first", "{what}");
        assert!(reply.json()["error"].is_object(), "{what}");
    })
    .await;
    until("all are in the log", || {
        gate.log().matches("first:block:answer:1").count() == 32
    })
    .await;
    let log = gate.log();
    let mut lines = log
        .lines()
        .filter(|line| line.contains("first:block:answer:1"));
    assert!(lines.all(|line| line.contains("\"status\":400")), "{log}");
}

#[tokio::test]
async fn arrays_of_gemini_are_guarded_as_streams_are() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        &guards(&[
            ("restore", "detect: [email], action: restore"),
            ("block", "on: [answer], words: [simulated], action: block"),
        ]),
    ));
    for (model, guard) in [
        ("gemini-m", "restore"),
        ("chat-m", "restore"),
        ("gemini-m", "block"),
        ("chat-m", "block"),
    ] {
        let path = format!("/v1beta/models/{model}:streamGenerateContent");
        let body =
            json!({"contents": [{"role": "user", "parts": [{"text": ADDRESS}]}]}).to_string();
        let reply = gate
            .ask(Method::POST, &path, &[("x-guard", guard)], body)
            .await;
        let list = reply.json();
        let list = list.as_array().expect("an array");
        let text: String = list
            .iter()
            .filter_map(|one| one["candidates"][0]["content"]["parts"][0]["text"].as_str())
            .collect();
        match guard {
            "restore" => assert!(
                text.contains(ADDRESS) && !sent(&mock).contains(ADDRESS),
                "{}",
                reply.text()
            ),
            _ => assert!(
                !text.contains("simulated")
                    && list.last().is_some_and(|last| last["error"].is_object()),
                "{}",
                reply.text()
            ),
        }
    }
}

/// What is kept for later turns is what the client means: it is guarded anew in each.
#[tokio::test]
async fn conversations_that_are_gone_on_with_are_guarded_as_one() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        "guards: [{name: mail, detect: [email], action: restore}]",
    ));
    let first = gate
        .post(
            "/v1/responses",
            &json!({"model": "messages-m", "input": format!("I am {ADDRESS}")}),
        )
        .await;
    let first_sent = sent(&mock);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let kept = gate.get(&format!("/v1/responses/{id}")).await;
    assert!(
        kept.text().contains(ADDRESS) && !kept.text().contains("[EMAIL_"),
        "{}",
        kept.text()
    );
    let second = gate.post("/v1/responses", &json!({"model": "messages-m", "input": "And bob@example.com", "previous_response_id": id, "stream": true})).await;
    let second_sent = sent(&mock);
    assert!(!second_sent.contains("@example.com"), "{second_sent}");
    let placeholder = |text: &str| {
        let at = text.find("[EMAIL_").expect("a placeholder");
        text[at..]
            .split_inclusive(']')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        placeholder(&first_sent),
        placeholder(&second_sent),
        "the same in every turn"
    );
    assert!(
        second.text().contains("bob@example.com"),
        "{}",
        second.text()
    );
}

#[tokio::test]
async fn what_is_told_of_calls_says_no_more_than_providers_hear() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "
guards: [{name: mail, detect: [email], action: restore}, {name: no, on: [request], words: [\"do not\"], action: block}]
jsonl_log: {path: calls.jsonl, content: true}
"));
    let told = || std::fs::read_to_string(gate.dir().join("calls.jsonl")).unwrap_or_default();
    for (number, stream) in [false, true].into_iter().enumerate() {
        let body = json!({"model": "messages-m", "stream": stream, "messages": [{"role": "user", "content": format!("I am {ADDRESS}")}]});
        let reply = gate.post("/v1/chat/completions", &body).await;
        assert!(
            said("chat", &reply, stream).contains(ADDRESS),
            "{}",
            reply.text()
        );
        until("it is told", || {
            told().matches("[EMAIL_").count() >= 2 * (number + 1)
        })
        .await;
    }
    let body = json!({"model": "messages-m", "messages": [{"role": "user", "content": format!("do not tell {ADDRESS}")}]});
    assert_eq!(gate.post("/v1/chat/completions", &body).await.status, 400);
    until("the refusal is told", || {
        told().contains("no:block:request:1")
    })
    .await;
    assert!(
        !told().contains(ADDRESS) && !told().contains("do not"),
        "{}",
        told()
    );
}
