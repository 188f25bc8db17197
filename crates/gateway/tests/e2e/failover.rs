//! Two providers, one of which fails in every way there is: every call gets one complete answer.

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, chat, mock, until};

/// Every way to fail before the first good event, for streams and whole answers alike. `preamble`: how many events of the
/// format are no answer yet.
fn ways(preamble: u32) -> Vec<(&'static str, Behaviour)> {
    let fault = |fault: Fault| Behaviour {
        fault: Some(fault),
        ..Behaviour::default()
    };
    let status = |status: u16| Behaviour {
        status: Some(status),
        ..Behaviour::default()
    };
    vec![
        ("refused", fault(Fault::Refuse)),
        ("reset", fault(Fault::Reset)),
        ("silent", fault(Fault::Stall)),
        ("reset after the head", fault(Fault::ResetAfter(0))),
        ("cut after the head", fault(Fault::CutAfter(0))),
        ("ended after the preamble", fault(Fault::EndAfter(preamble))),
        (
            "silent after the preamble",
            fault(Fault::StallAfter(preamble)),
        ),
        ("error inside 200", fault(Fault::ErrorAfter(0))),
        (
            "error after the preamble",
            fault(Fault::ErrorAfter(preamble)),
        ),
        ("junk", fault(Fault::Junk)),
        ("a web page", fault(Fault::Html)),
        ("nothing", fault(Fault::Empty)),
        (
            "a redirect",
            fault(Fault::Redirect("http://127.0.0.1:1/stolen".to_owned())),
        ),
        ("401", status(401)),
        ("402", status(402)),
        ("403", status(403)),
        ("404", status(404)),
        ("408", status(408)),
        ("429", status(429)),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("504", status(504)),
        ("529", status(529)),
    ]
}

fn config(bad: &Mock, good: &Mock, kind: &str, strategy: &str) -> String {
    // No rest and a short patience: each call must meet the failure anew.
    format!(
        "
providers:
  - {{name: bad, type: {kind}, api_base: '{}', api_key: bad-key-123, model_mapping: [m]}}
  - {{name: good, type: {kind}, api_base: '{}', api_key: good-key-123, model_mapping: [m]}}
routing: {{strategy: {strategy}}}
retry: {{breaker_threshold: 1000000, cooldown_rate_limit: 1ms, cooldown_quota: 1ms, cooldown_error: 1ms, max_cooldown: 1s}}
timeouts: {{first_event: 400ms, request: 400ms, idle: 5s}}
health_check: {{enabled: false}}
",
        bad.url(),
        good.url()
    )
}

/// Client formats with a question of theirs, streaming or not, and how to tell a complete answer.
pub struct Client {
    pub name: &'static str,
    pub path: fn(bool) -> &'static str,
    pub ask: fn(bool) -> Value,
    pub is_complete: fn(&Reply, bool) -> bool,
}

pub const CLIENTS: [Client; 4] = [
    Client {
        name: "openai-chat",
        path: |_| "/v1/chat/completions",
        ask: |stream| chat("m", stream),
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().ends_with("data: [DONE]\n\n")
                    && reply.text().matches("\"finish_reason\":\"stop\"").count() == 1
            }
            false => reply.json()["choices"][0]["finish_reason"] == "stop",
        },
    },
    Client {
        name: "openai-responses",
        path: |_| "/v1/responses",
        ask: |stream| json!({"model": "m", "stream": stream, "input": "Hello there"}),
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().matches("event: response.completed").count() == 1
                    && reply.text().matches("event: response.created").count() == 1
            }
            false => reply.json()["status"] == "completed",
        },
    },
    Client {
        name: "anthropic-messages",
        path: |_| "/v1/messages",
        ask: |stream| json!({"model": "m", "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello there"}]}),
        is_complete: |reply, stream| match stream {
            true => {
                reply.text().matches("event: message_stop").count() == 1
                    && reply.text().matches("event: message_start").count() == 1
            }
            false => reply.json()["stop_reason"] == "end_turn",
        },
    },
    Client {
        name: "gemini",
        path: |stream| {
            if stream {
                "/v1beta/models/m:streamGenerateContent?alt=sse"
            } else {
                "/v1beta/models/m:generateContent"
            }
        },
        ask: |_| json!({"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}),
        is_complete: |reply, stream| match stream {
            true => reply.text().matches("\"finishReason\":\"STOP\"").count() == 1,
            false => reply.json()["candidates"][0]["finishReason"] == "STOP",
        },
    },
];

/// Upstreams of one format each: the format, and what configuration says to get it.
const UPSTREAMS: [(&str, &str); 5] = [
    ("openai-chat", "openai-compatible, wire_api: chat"),
    ("openai-responses", "response_api"),
    ("anthropic-messages", "anthropic"),
    ("gemini", "gemini"),
    ("bedrock-converse", "bedrock"),
];

async fn every_call_is_answered(client: &Client, kind: &str, ways: &[(&'static str, Behaviour)]) {
    let (bad, good) = (mock("bad").await, mock("good").await);
    for (way, then) in ways {
        bad.clear();
        bad.script(Rule {
            path: None,
            then: then.clone(),
            ..Rule::default()
        });
        // A new gateway for each: a refused credential rests until the configuration changes.
        let gate = Gate::start(&config(&bad, &good, kind, "fill-first"));
        for stream in [false, true, false, true] {
            let reply = gate
                .post((client.path)(stream), &(client.ask)(stream))
                .await;
            let context = format!(
                "{} {way} stream={stream}: {} {}",
                client.name,
                reply.status,
                reply.text()
            );
            assert_eq!(reply.status, 200, "{context}");
            assert!((client.is_complete)(&reply, stream), "{context}");
            assert_eq!(reply.header("x-polygate-provider"), "good", "{context}");
        }
    }
    assert!(
        calls(&bad).len() >= ways.len(),
        "the failing provider was asked"
    );
    assert_eq!(
        calls(&good).len(),
        ways.len() * 4,
        "one call each, none twice"
    );
}

/// How many events of a format's stream are no answer yet.
fn preamble(format: &str) -> u32 {
    u32::from(format != "gemini")
}

async fn natively(client: &Client) {
    every_call_is_answered(client, "mock", &ways(preamble(client.name))).await;
}

/// What a status means does not depend on the lane: the ways that a body can fail are enough.
async fn translated(client: &Client) {
    let others = UPSTREAMS
        .iter()
        .filter(|(format, _)| *format != client.name);
    for (format, kind) in others {
        let mut ways = ways(preamble(format));
        ways.retain(|(way, _)| !way.starts_with(|c: char| c.is_ascii_digit()));
        every_call_is_answered(client, kind, &ways).await;
    }
}

#[tokio::test]
async fn openai_chat_survives_every_way() {
    natively(&CLIENTS[0]).await;
}

#[tokio::test]
async fn openai_responses_survives_every_way() {
    natively(&CLIENTS[1]).await;
}

#[tokio::test]
async fn anthropic_messages_survives_every_way() {
    natively(&CLIENTS[2]).await;
}

#[tokio::test]
async fn gemini_survives_every_way() {
    natively(&CLIENTS[3]).await;
}

#[tokio::test]
async fn translated_openai_chat_survives_every_way() {
    translated(&CLIENTS[0]).await;
}

#[tokio::test]
async fn translated_openai_responses_survives_every_way() {
    translated(&CLIENTS[1]).await;
}

#[tokio::test]
async fn translated_anthropic_messages_survives_every_way() {
    translated(&CLIENTS[2]).await;
}

#[tokio::test]
async fn translated_gemini_survives_every_way() {
    translated(&CLIENTS[3]).await;
}

/// The proof: 1,000 calls, half of them streams, in front of a provider that fails in a different way each time.
#[tokio::test]
async fn a_thousand_calls_get_a_thousand_complete_answers() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    // Ways that rest a credential for longer than the test have their own tests above.
    let ways: Vec<Behaviour> = ways(0)
        .into_iter()
        .filter(|(way, _)| !matches!(*way, "401" | "403" | "429"))
        .map(|(_, then)| then)
        .collect();
    for then in ways.iter().cycle().take(600) {
        bad.script(Rule {
            times: Some(1),
            then: then.clone(),
            ..Rule::default()
        });
    }
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&bad, &good, "mock", "round-robin"));
    let mut complete = 0;
    for batch in 0..50 {
        let asked = (0..20).map(|at| {
            let client = &CLIENTS[(batch + at) % CLIENTS.len()];
            let stream = at % 2 == 0;
            let gate = &gate;
            async move {
                let reply = gate
                    .post((client.path)(stream), &(client.ask)(stream))
                    .await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert!(
                    (client.is_complete)(&reply, stream),
                    "{} {}",
                    client.name,
                    reply.text()
                );
            }
        });
        complete += join_all(asked).await;
    }
    assert_eq!(complete, 1000);
    assert_eq!(calls(&good).len(), 1000, "each answered once, none twice");
    let failed = calls(&bad).len();
    assert!(
        failed > 300,
        "the failing provider was asked {failed} times"
    );
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) -> usize {
    let mut set: Vec<_> = futures.map(Box::pin).collect();
    let count = set.len();
    std::future::poll_fn(|cx| {
        set.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if set.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    count
}

#[tokio::test]
async fn after_the_first_word_a_failure_is_an_error_event_and_no_proper_end() {
    let bad = mock("bad").await;
    let faults = [
        Fault::ResetAfter(8),
        Fault::CutAfter(8),
        Fault::EndAfter(8),
        Fault::StallAfter(8),
        Fault::ErrorAfter(8),
    ];
    for (format, kind) in UPSTREAMS {
        for fault in &faults {
            bad.clear();
            bad.script(Rule {
                then: Behaviour {
                    fault: Some(fault.clone()),
                    tokens: Some(30),
                    ..Behaviour::default()
                },
                ..Rule::default()
            });
            let gate = Gate::start(&format!(
                "
providers: [{{name: bad, type: {kind}, api_base: '{}', api_key: k, model_mapping: [m]}}]
timeouts: {{idle: 300ms}}
health_check: {{enabled: false}}
",
                bad.url()
            ));
            for client in &CLIENTS {
                let before = calls(&bad).len();
                let reply = gate.post((client.path)(true), &(client.ask)(true)).await;
                let text = reply.text();
                let context = format!("{format} {} {fault:?}: {text}", client.name);
                assert_eq!(reply.status, 200, "{context}");
                for end in [
                    "[DONE]",
                    "message_stop",
                    "response.completed",
                    "\"finish_reason\":\"stop\"",
                    "\"finishReason\"",
                ] {
                    assert!(!text.contains(end), "a proper end that lies, {context}");
                }
                let last = reply.events().pop().unwrap_or_default();
                assert!(
                    last.contains("\"error\""),
                    "the last event says so, {context}"
                );
                if client.name == "openai-responses" {
                    let numbers: Vec<u64> =
                        reply.events().iter().map(|event| number(event)).collect();
                    assert!(numbers.is_sorted_by(|one, next| one < next), "{context}");
                }
                assert_eq!(
                    calls(&bad).len(),
                    before + 1,
                    "never asked again after the first word, {context}"
                );
            }
        }
    }
}

/// The number of an event of Responses: each has one.
fn number(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).expect("an event is JSON");
    event["sequence_number"].as_u64().expect("a numbered event")
}

#[tokio::test]
async fn one_candidate_is_asked_again_after_an_error_status_but_never_after_a_break() {
    let only = mock("only").await;
    let config = format!(
        "
providers: [{{name: only, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]
retry: {{initial_backoff: 1ms}}
health_check: {{enabled: false}}
",
        only.url()
    );
    let gate = Gate::start(&config);
    only.script(Rule {
        times: Some(2),
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-polygate-attempts")),
        (200, "3")
    );
    let before = calls(&only).len();
    only.script(Rule {
        times: Some(1),
        then: Behaviour {
            fault: Some(Fault::Reset),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(
        calls(&only).len(),
        before + 1,
        "what may have been paid is not sent again to the same one"
    );
}

#[tokio::test]
async fn a_refused_request_is_not_tried_elsewhere() {
    let (one, two) = (mock("one").await, mock("two").await);
    for mock in [&one, &two] {
        let then = Behaviour {
            status: Some(400),
            error: Some("temperature is out of range".to_owned()),
            ..Behaviour::default()
        };
        mock.script(Rule {
            then,
            ..Rule::default()
        });
    }
    let gate = Gate::start(&config(&one, &two, "mock", "round-robin"));
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-polygate-origin")),
        (400, "provider")
    );
    assert_eq!(
        reply.json()["error"]["message"],
        "temperature is out of range"
    );
    assert_eq!(calls(&one).len() + calls(&two).len(), 1);
}

#[tokio::test]
async fn a_limit_rests_the_credential_for_as_long_as_it_says() {
    let only = mock("only").await;
    let then = Behaviour {
        status: Some(429),
        headers: [("retry-after".to_owned(), "7".to_owned())].into(),
        ..Behaviour::default()
    };
    only.script(Rule {
        times: Some(1),
        then,
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "providers: [{{name: only, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        only.url()
    ));
    let first = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(
        (first.status.as_u16(), first.header("retry-after")),
        (429, "7"),
        "{}",
        first.text()
    );
    let second = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(
        (second.status.as_u16(), second.header("x-polygate-origin")),
        (429, "gateway"),
        "{}",
        second.text()
    );
    assert!(
        (1..=7).contains(
            &second
                .header("retry-after")
                .parse::<u32>()
                .expect("seconds")
        )
    );
    assert_eq!(calls(&only).len(), 1);
    let health = gate
        .ask(Method::GET, "/health/detailed", &[], "")
        .await
        .json();
    assert_eq!(health["only"]["credentials"][0]["reason"], "limit");
}

#[tokio::test]
async fn a_provider_that_was_gone_is_found_again_by_the_health_check() {
    let (coming, other) = (mock("coming").await, mock("other").await);
    let (addr, url) = (coming.addr(), coming.url());
    drop(coming);
    until("nobody listens there", || {
        std::net::TcpStream::connect(addr).is_err()
    })
    .await;
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: coming, type: mock, api_base: '{url}', api_key: k, model_mapping: [m]}}
  - {{name: other, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
routing: {{strategy: fill-first}}
",
        other.url()
    ));
    let asked = async || gate.post("/v1/chat/completions", &chat("m", false)).await;
    until("the check finds it gone", || {
        gate.log().contains("health check failed")
    })
    .await;
    let reply = asked().await;
    assert_eq!(
        (
            reply.header("x-polygate-provider"),
            reply.header("x-polygate-attempts")
        ),
        ("other", "1"),
        "nobody asks where nobody is"
    );
    let health = gate.get("/health/detailed").await.json();
    assert_eq!(
        (
            health["coming"]["status"].as_str(),
            health["coming"]["reason"].as_str()
        ),
        (Some("error"), Some("unreachable"))
    );
    let options = polygate_mock_provider::Options {
        addr: Some(addr),
        ..Default::default()
    };
    let _back = Mock::start(options).await.expect("the same port");
    for _ in 0..100 {
        if asked().await.header("x-polygate-provider") == "coming" {
            assert!(
                gate.get("/metrics")
                    .await
                    .text()
                    .contains("llm_proxy_provider_health{provider=\"coming\"} 1")
            );
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it was not found again: {}", gate.log());
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone_for_a_while() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: bad, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
  - {{name: good, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
routing: {{strategy: fill-first}}
retry: {{breaker_threshold: 3, cooldown_error: 60s}}
health_check: {{enabled: false}}
",
        bad.url(),
        good.url()
    ));
    let mut attempts = Vec::new();
    for _ in 0..6 {
        attempts.push(
            gate.post("/v1/chat/completions", &chat("m", false))
                .await
                .header("x-polygate-attempts")
                .to_owned(),
        );
    }
    assert_eq!(attempts, ["2", "2", "2", "1", "1", "1"]);
    assert_eq!((calls(&bad).len(), calls(&good).len()), (3, 6));
    let health = gate.get("/health/detailed").await.json();
    assert_eq!(
        (
            health["bad"]["reason"].as_str(),
            health["good"]["status"].as_str()
        ),
        (Some("breaker"), Some("ok"))
    );
}
