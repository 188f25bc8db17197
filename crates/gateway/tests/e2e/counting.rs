//! How many tokens a request is: each client asks in its own words, each upstream is asked in its, and where nobody counts an
//! estimate says that it is one.

use std::time::{Duration, Instant};

use polygate_mock_provider::{Behaviour, Endpoint, Mock, Rule};
use serde_json::{Value, json};

use crate::metrics::sum;
use crate::support::{Gate, Reply, calls, mock};

const TEXT: &str = "How many tokens is a question of this length, give or take a few?";

/// A client's path and question, and where its answer has the count.
type Client = (&'static str, fn() -> Value, &'static str);

const CLIENTS: [Client; 4] = [
    (
        "/v1/messages/count_tokens",
        || json!({"model": "m", "messages": [{"role": "user", "content": TEXT}]}),
        "input_tokens",
    ),
    (
        "/v1/responses/input_tokens",
        || json!({"model": "m", "input": TEXT}),
        "input_tokens",
    ),
    (
        "/v1beta/models/m:countTokens",
        || json!({"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}),
        "totalTokens",
    ),
    (
        "/v1beta/models/m:countTokens",
        || json!({"generateContentRequest": {"model": "models/m", "contents": [{"role": "user", "parts": [{"text": TEXT}]}]}}),
        "totalTokens",
    ),
];

/// Upstreams and where they are asked; `None` for those that do not count.
const UPSTREAMS: [(&str, Option<Endpoint>); 5] = [
    ("anthropic", Some(Endpoint::CountTokens)),
    ("gemini", Some(Endpoint::GeminiCount)),
    ("bedrock", Some(Endpoint::ConverseCount)),
    ("openai", Some(Endpoint::ResponsesCount)),
    ("openai-compatible, wire_api: chat", None),
];

fn gate(kind: &str, mock: &Mock) -> Gate {
    Gate::start(&format!(
        "providers: [{{name: p, type: {kind}, api_base: '{}', api_key: k, model_mapping: {{m: upstream-m}}}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ))
}

/// Every client's count, and whether it says that it is an estimate.
async fn counts(gate: &Gate) -> Vec<(u64, bool)> {
    let mut counts = Vec::new();
    for (path, question, member) in CLIENTS {
        let reply = gate.post(path, &question()).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        counts.push((
            count(&reply, member),
            reply.header("x-polygate-estimated") == "true",
        ));
    }
    counts
}

fn count(reply: &Reply, member: &str) -> u64 {
    let count = reply.json()[member].as_u64();
    count.unwrap_or_else(|| panic!("no {member} in {}", reply.text()))
}

#[tokio::test]
async fn who_counts_is_asked_and_the_rest_is_estimated() {
    for (kind, endpoint) in UPSTREAMS {
        let mock = mock("p").await;
        let gate = gate(kind, &mock);
        let counts = counts(&gate).await;
        let asked = calls(&mock);
        match endpoint {
            Some(endpoint) => {
                // The mock counts four characters a token.
                let native = (TEXT.len() as u64 / 4, false);
                assert_eq!(counts, vec![native; CLIENTS.len()], "{kind}");
                assert_eq!(asked.len(), CLIENTS.len(), "{kind}");
                assert!(
                    asked.iter().all(|call| call.endpoint == endpoint),
                    "{kind}: {asked:?}"
                );
            }
            None => {
                assert!(
                    counts
                        .iter()
                        .all(|(tokens, is_estimate)| (15..25).contains(tokens) && *is_estimate),
                    "{kind}: {counts:?}"
                );
                assert!(asked.is_empty(), "{kind}: nobody is asked: {asked:?}");
            }
        }
    }
}

/// What we count ourselves is no attempt: it is there while the provider rests, and says nothing of its health.
#[tokio::test]
async fn our_own_count_asks_nobody_and_heals_nobody() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = gate("openai-compatible, wire_api: chat", &mock);
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let page = async || gate.get("/metrics").await.text();
    let is_open = |page: &str| {
        let labels = [("provider", "p"), ("state", "open")];
        sum(page, "polygate_provider_breaker_state", &labels) == 1
    };
    while !is_open(&page().await) {
        gate.post("/v1/chat/completions", &chat).await;
    }
    let attempts = |page: &str| sum(page, "polygate_attempts_total", &[]);
    let (before, asked) = (page().await, calls(&mock).len());
    for (tokens, is_estimate) in counts(&gate).await {
        assert!((15..25).contains(&tokens) && is_estimate, "{tokens}");
    }
    let after = page().await;
    assert_eq!(
        (attempts(&after), calls(&mock).len()),
        (attempts(&before), asked)
    );
    assert!(is_open(&after), "{after}");
    let labels = [("status_code", "200"), ("provider", "none")];
    assert_eq!(
        sum(&after, "llm_proxy_requests_total", &labels),
        CLIENTS.len() as u64
    );
}

/// A model of one that counts and one that does not: who counts is asked, as long as it can be.
#[tokio::test]
async fn where_one_of_two_counts_that_one_is_asked() {
    let (one, two) = (mock("one").await, mock("two").await);
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: one, type: anthropic, api_base: '{}', api_key: k, model_mapping: {{m: m}}, priority: 0}}
  - {{name: two, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: {{m: m}}, priority: 1}}
retry: {{max_retries: 0}}
health_check: {{enabled: false}}
",
        one.url(),
        two.url()
    ));
    assert!(
        counts(&gate)
            .await
            .iter()
            .all(|(_, is_estimate)| !is_estimate)
    );
    one.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    assert!(
        counts(&gate)
            .await
            .iter()
            .all(|(_, is_estimate)| *is_estimate)
    );
    assert!(calls(&two).is_empty());
}

/// A provider that speaks the format and has no such path: its answer is no reason to fail, nor to rest it.
#[tokio::test]
async fn who_knows_no_such_question_is_estimated() {
    for (kind, status) in [("anthropic", 404), ("gemini", 405), ("bedrock", 501)] {
        let mock = mock("p").await;
        mock.script(Rule {
            then: Behaviour {
                status: Some(status),
                error: Some("no such path".to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let gate = gate(kind, &mock);
        for (tokens, is_estimate) in counts(&gate).await {
            assert!((15..25).contains(&tokens) && is_estimate, "{kind} {tokens}");
        }
        mock.clear();
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(
            gate.post("/v1/chat/completions", &chat).await.status,
            200,
            "{kind}"
        );
    }
}

/// Ten tokens of OpenAI's.
const SAID: &str = "The quick brown fox jumps over the lazy dog.";

/// An answer that does not say how many tokens it was.
fn silent(is_stream: bool) -> Behaviour {
    telling(is_stream, &json!({}))
}

/// An answer with these members beside its choices.
fn telling(is_stream: bool, members: &Value) -> Behaviour {
    let with = |object: &str, choice: Value| {
        let mut answer = json!({"id": "c", "object": object, "choices": [choice]});
        for (name, value) in members.as_object().into_iter().flatten() {
            answer[name] = value.clone();
        }
        answer
    };
    if is_stream {
        let object = "chat.completion.chunk";
        let chunk = json!({"id": "c", "object": object, "choices": [{"index": 0, "delta": {"content": SAID}, "finish_reason": null}]});
        let last = with(
            object,
            json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
        );
        return events(&[chunk, last]);
    }
    let message = json!({"role": "assistant", "content": SAID});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    Behaviour {
        body: Some(with("chat.completion", choice).to_string()),
        content_type: Some("application/json".to_owned()),
        ..Behaviour::default()
    }
}

/// A stream of these.
fn events(chunks: &[Value]) -> Behaviour {
    let chunks: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    Behaviour {
        body: Some(format!("{chunks}data: [DONE]\n\n")),
        content_type: Some("text/event-stream".to_owned()),
        ..Behaviour::default()
    }
}

/// An answer that failed before its first word and says what it took is paid, and is not asked for there again.
#[tokio::test]
async fn what_failed_and_has_tokens_is_paid() {
    let failed = json!({"id": "resp_1", "object": "response", "status": "failed", "model": "m", "output": [], "usage": {"input_tokens": 111, "output_tokens": 22, "total_tokens": 133}, "error": {"code": "server_error", "message": "Broke."}});
    for stream in [false, true] {
        let mock = mock("p").await;
        let then = match stream {
            false => Behaviour {
                body: Some(failed.to_string()),
                content_type: Some("application/json".to_owned()),
                ..Behaviour::default()
            },
            true => events(&[json!({"type": "response.failed", "response": failed})]),
        };
        mock.script(Rule {
            then,
            ..Rule::default()
        });
        let gate = gate("response_api", &mock);
        let chat = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let input = json!({"model": "m", "stream": stream, "input": "hi"});
        for (at, (path, body)) in [("/v1/responses", input), ("/v1/chat/completions", chat)]
            .into_iter()
            .enumerate()
        {
            let reply = gate.post(path, &body).await;
            assert!(reply.status.is_server_error(), "{path} {}", reply.text());
            let calls_made = calls(&mock).len();
            assert_eq!(calls_made, at + 1, "{path}: it is asked once");
            let page = gate.get("/metrics").await.text();
            for (kind, count) in [("input", 111), ("output", 22)] {
                let charged = sum(&page, "polygate_charged_tokens_total", &[("kind", kind)]);
                assert_eq!(charged, count * (at as u64 + 1), "{path} {stream}: {page}");
            }
        }
    }
}

/// Memory of the process, in megabytes.
fn memory(gate: &Gate) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.expect("a number") / 1024.0
}

/// Waits for the row of a call.
async fn row(gate: &Gate, number: usize) -> Value {
    let start = Instant::now();
    loop {
        let logs = gate.admin("/admin/v1/logs").await.json();
        if logs["total"] == json!(number) {
            return logs["items"][0].clone();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{logs}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What nobody reports is counted by the tokenizer, in both lanes, and only then is its vocabulary read.
#[tokio::test]
async fn what_is_not_reported_is_counted() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [gpt-4o]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let asked = |is_stream: bool| json!({"model": "gpt-4o", "stream": is_stream, "max_tokens": 99, "messages": [{"role": "user", "content": "tiktoken is great!"}]});
    let reply = gate.post("/v1/chat/completions", &asked(false)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(row(&gate, 1).await["state"], "reported");
    let before = memory(&gate);
    let mut number = 1;
    for is_stream in [false, true] {
        mock.clear();
        mock.script(Rule {
            then: silent(is_stream),
            ..Rule::default()
        });
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let reply = gate.post(path, &asked(is_stream)).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            number += 1;
            let row = row(&gate, number).await;
            let counted = (&row["state"], &row["input_tokens"], &row["output_tokens"]);
            // Six and what stands around them, ten and an end.
            let expected = (&json!("estimated"), &json!(13), &json!(11));
            assert_eq!(counted, expected, "{path} {is_stream}: {row}");
        }
    }
    let loaded = memory(&gate);
    assert!(
        (5.0..50.0).contains(&(loaded - before)),
        "{before} {loaded}"
    );
}

fn compatible(mock: &Mock) -> Gate {
    Gate::start(&format!(
        "providers: [{{name: p, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [gpt-4o]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ))
}

/// Of what a provider reports a half that is nothing is counted, unless it is nothing.
#[tokio::test]
async fn halves_that_are_missing_are_counted() {
    let mock = mock("p").await;
    let gate = compatible(&mock);
    let mut number = 0;
    for (input, output, state, counted) in [
        (0, 0, "estimated", (13, 11)),
        (9, 0, "estimated", (9, 11)),
        (0, 5, "estimated", (13, 5)),
        (9, 5, "reported", (9, 5)),
    ] {
        let usage = json!({"usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}});
        for is_stream in [false, true] {
            mock.clear();
            mock.script(Rule {
                then: telling(is_stream, &usage),
                ..Rule::default()
            });
            for path in ["/v1/chat/completions", "/v1/messages"] {
                let asked = json!({"model": "gpt-4o", "stream": is_stream, "max_tokens": 99, "messages": [{"role": "user", "content": "tiktoken is great!"}]});
                let reply = gate.post(path, &asked).await;
                assert_eq!(reply.status, 200, "{path}: {}", reply.text());
                number += 1;
                let row = row(&gate, number).await;
                assert_eq!(
                    (&row["state"], &row["input_tokens"], &row["output_tokens"]),
                    (&json!(state), &json!(counted.0), &json!(counted.1)),
                    "{path} {is_stream} {usage}: {row}"
                );
            }
        }
    }
    mock.clear();
    let empty = json!({"usage": {"prompt_tokens": 9, "completion_tokens": 0}, "choices": [
        {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]});
    mock.script(Rule {
        then: telling(false, &empty),
        ..Rule::default()
    });
    let asked =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Say nothing."}]});
    assert_eq!(gate.post("/v1/chat/completions", &asked).await.status, 200);
    let row = row(&gate, number + 1).await;
    assert_eq!(
        (&row["state"], &row["output_tokens"]),
        (&json!("reported"), &json!(0)),
        "an answer that says nothing: {row}"
    );
}

/// Whatever a stream says is counted where nobody reports it: in all choices, as a refusal, as thoughts, as a text that goes on, in one
/// long piece.
#[tokio::test]
async fn all_that_streams_say_is_counted() {
    let mock = mock("p").await;
    let gate = compatible(&mock);
    let chat =
        |choices: Value| json!({"id": "c", "object": "chat.completion.chunk", "choices": choices});
    let end = chat(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
    let long = "语言模型".repeat(600);
    let mut number = 0;
    for (what, path, said, tokens) in [
        (
            "two choices",
            "/v1/chat/completions",
            chat(
                json!([{"index": 0, "delta": {"content": SAID}}, {"index": 1, "delta": {"content": SAID}}]),
            ),
            20..23,
        ),
        (
            "a refusal",
            "/v1/chat/completions",
            chat(json!([{"index": 0, "delta": {"refusal": SAID}}])),
            11..12,
        ),
        (
            "thoughts",
            "/v1/chat/completions",
            chat(json!([{"index": 0, "delta": {"reasoning": SAID, "content": null}}])),
            11..12,
        ),
        (
            "thoughts under two names",
            "/v1/chat/completions",
            chat(json!([{"index": 0, "delta": {"reasoning": SAID, "reasoning_content": SAID}}])),
            11..12,
        ),
        (
            "a text that goes on",
            "/v1/completions",
            json!({"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": SAID, "finish_reason": "stop"}]}),
            11..12,
        ),
        (
            "a long piece",
            "/v1/chat/completions",
            chat(json!([{"index": 0, "delta": {"content": long}}])),
            1150..1260,
        ),
    ] {
        mock.clear();
        mock.script(Rule {
            then: events(&[said, end.clone()]),
            ..Rule::default()
        });
        let asked = json!({"model": "gpt-4o", "stream": true, "prompt": "Go on", "messages": [{"role": "user", "content": "Hi"}]});
        let reply = gate.post(path, &asked).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        number += 1;
        let row = row(&gate, number).await;
        let counted = row["output_tokens"].as_u64().unwrap_or_default();
        assert!(
            row["state"] == "estimated" && tokens.contains(&counted),
            "{what}: {row}"
        );
    }
}
