//! A head that can wait no longer goes out, and the call goes on behind it.

use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use serde_json::Value;

use crate::support::{Gate, calls, chat, mock, until};
use crate::wall::clients::CLIENTS;

/// The first provider is silent for longer than heads are held, then the next is asked.
fn config(first: &Mock, next: Option<&Mock>) -> String {
    let provider = |name, mock: &Mock| {
        format!(
            "  - {{name: {name}, type: mock, api_base: '{}', api_key: key-of-it, model_mapping: [m]}}\n",
            mock.url()
        )
    };
    let next = next.map(|mock| provider("next", mock)).unwrap_or_default();
    format!(
        "
providers:
{}{next}
routing: {{strategy: fill-first}}
retry: {{breaker_threshold: 1000000}}
timeouts: {{hold: 150ms, keepalive: 50ms, non_stream_keepalive: 150ms, first_event: 500ms, request: 500ms}}
health_check: {{enabled: false}}
",
        provider("first", first)
    )
}

async fn silent() -> Mock {
    let mock = mock("silent").await;
    mock.script(Rule {
        then: Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    mock
}

const ARRAY: &str = "/v1beta/models/m:streamGenerateContent";

#[tokio::test]
async fn the_call_fails_over_behind_its_head() {
    let (silent, good) = (silent().await, mock("good").await);
    let gate = Gate::start(&config(&silent, Some(&good)));
    for client in &CLIENTS {
        for stream in [false, true] {
            let reply = gate
                .post(&(client.path)("m", stream), &(client.ask)("m", stream))
                .await;
            let (text, name) = (reply.text(), client.name);
            assert_eq!(reply.status, 200, "{name} {text}");
            let sign = if stream { ": keepalive\n\n" } else { "\n" };
            assert!(text.starts_with(sign), "{name} {text}");
            assert!((client.is_complete)(&reply, stream), "{name} {text}");
            let kind = if stream {
                "text/event-stream"
            } else {
                "application/json"
            };
            assert_eq!(reply.header("content-type"), kind);
        }
    }
    let translated = config(&silent, Some(&good)).replace("type: mock", "type: anthropic");
    let gate = Gate::start(&translated);
    let reply = gate.post(ARRAY, &(CLIENTS[3].ask)("m", true)).await;
    let (text, elements) = (reply.text(), reply.json());
    assert!(text.starts_with("\n"), "{text}");
    let last = elements
        .as_array()
        .and_then(|all| all.last())
        .expect("elements");
    assert_eq!(last["candidates"][0]["finishReason"], "STOP", "{text}");
    assert_eq!(calls(&good).len(), 9, "one call each");
}

#[tokio::test]
async fn who_finds_nobody_says_so_in_the_format_of_its_client() {
    let silent = silent().await;
    let gate = Gate::start(&config(&silent, None));
    for client in &CLIENTS {
        for stream in [false, true] {
            let reply = gate
                .post(&(client.path)("m", stream), &(client.ask)("m", stream))
                .await;
            let (text, name) = (reply.text(), client.name);
            assert_eq!(reply.status, 200, "{name} {text}");
            assert!(!(client.is_complete)(&reply, stream), "{name} {text}");
            let error = if stream {
                let last = reply.events().pop().expect("an event");
                serde_json::from_str(&last).expect("JSON")
            } else {
                reply.json()
            };
            let says = |member: &str| error.get(member).is_some_and(|value| !value.is_null());
            let is_error = says("error") || (says("response") && text.contains("response.failed"));
            assert!(is_error || error["type"] == "error", "{name} {text}");
        }
    }
    let reply = gate.post(ARRAY, &(CLIENTS[3].ask)("m", true)).await;
    let elements: Vec<Value> = serde_json::from_str(&reply.text()).expect("an array");
    assert_eq!(elements.len(), 1);
    assert!(elements[0]["error"].is_object(), "{elements:?}");
    until("the log has them", || {
        gate.log().matches("outcome=failed").count() == 9
            || gate.log().matches("\"outcome\":\"failed\"").count() == 9
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_while_it_waits_closes_the_upstream() {
    let silent = silent().await;
    let gate =
        Gate::start(&config(&silent, None).replace("first_event: 500ms", "first_event: 60s"));
    let body = chat("m", true).to_string();
    let headers = [("content-type", "application/json")];
    let answer = gate
        .send(http::Method::POST, "/v1/chat/completions", &headers, body)
        .await;
    assert_eq!(
        answer.status(),
        200,
        "the head is here, the provider is silent"
    );
    assert_eq!(calls(&silent)[0].outcome, Outcome::Running);
    drop(answer);
    until("the upstream sees it go", || {
        calls(&silent)[0].outcome == Outcome::ClientGone
    })
    .await;
}
