//! Streams of text that break off: another provider goes on, and the client sees one answer; what is no text alone ends with an error.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Entry, Fault, Mock, Outcome, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, chat, mock, until};
use crate::wall::UPSTREAMS;
use crate::wall::clients::CLIENTS;

const BEGINNING: &str = "one two three four five six seven eight nine ten eleven twelve";
const REST: &str = " and so on to the end.";

/// Nobody rests, so that each call meets the same.
const SETTINGS: &str = "
routing: {strategy: fill-first}
continuation: true
retry: {breaker_threshold: 1000000, cooldown_error: 1ms, max_cooldown: 1s, initial_backoff: 1ms, max_backoff: 1ms}
timeouts: {hold: 0}
health_check: {enabled: false}
";

fn always(then: Behaviour) -> Rule {
    Rule {
        then,
        ..Rule::default()
    }
}

fn says(text: &str) -> Behaviour {
    Behaviour {
        text: Some(text.to_owned()),
        ..Behaviour::default()
    }
}

fn breaks(fault: Fault) -> Behaviour {
    Behaviour {
        fault: Some(fault),
        ..says(BEGINNING)
    }
}

fn config(providers: &[(&str, &Mock)], settings: &str) -> String {
    let mut config = "providers:\n".to_owned();
    for (name, mock) in providers {
        let _ = writeln!(
            config,
            "  - {{name: {name}, type: mock, api_base: '{}', api_key: key-of-it, model_mapping: [m]}}",
            mock.url()
        );
    }
    config + settings
}

/// The text that a request says the answer has so far: whatever its format, in one string that the client has got.
fn is_told(entry: &Entry, said: &str) -> bool {
    let body = entry.body.as_deref().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).expect("JSON");
    strings(&body)
        .iter()
        .any(|text| text.trim_end() == said.trim_end())
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => vec![],
    }
}

/// The beginning that a client got before the rest; what it got is exactly both.
fn beginning(said: &str) -> &str {
    let beginning = said
        .strip_suffix(REST)
        .unwrap_or_else(|| panic!("it does not go on: {said:?}"));
    assert!(
        !beginning.is_empty() && BEGINNING.starts_with(beginning),
        "{said:?}"
    );
    beginning
}

fn is_broken_off(reply: &Reply) -> bool {
    let events = reply.events();
    let is_error = events.last().is_some_and(|last| last.contains("\"error\""));
    let text = reply.text();
    is_error && !text.contains("[DONE]") && !text.contains(REST.trim())
}

#[tokio::test]
async fn every_client_gets_one_answer_of_any_two_providers() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(always(breaks(Fault::CutAfter(8))));
    good.script(always(says(REST)));
    let mut config = "providers:\n".to_owned();
    for (side, mock) in [("bad", &bad), ("good", &good)] {
        for (format, kind) in UPSTREAMS {
            let models = UPSTREAMS.map(|(other, _)| match side {
                "bad" => format!("{format}--{other}"),
                _ => format!("{other}--{format}"),
            });
            let _ = writeln!(
                config,
                "  - {{name: {side}-{format}, type: {kind}, api_base: '{}', api_key: key-of-it, model_mapping: [{}]}}",
                mock.url(),
                models.join(", ")
            );
        }
    }
    let gate = Gate::start(&(config + SETTINGS));
    for client in &CLIENTS {
        for (cut, _) in UPSTREAMS {
            for (next, _) in UPSTREAMS {
                let model = format!("{cut}--{next}");
                let what = format!("{} of {model}", client.name);
                let path = (client.path)(&model, true);
                let reply = gate.post(&path, &(client.ask)(&model, true)).await;
                assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                assert!(
                    (client.is_complete)(&reply, true),
                    "{what}: {}",
                    reply.text()
                );
                assert!(
                    !reply.text().contains("\"error\":{"),
                    "{what}: {}",
                    reply.text()
                );
                let said = client.said(&reply, true);
                let beginning = beginning(&said);
                let asked = calls(&good).pop().expect("a call");
                assert_eq!(asked.model, model, "{what}");
                assert!(is_told(&asked, beginning), "{what}: {asked:?}");
                let numbers: Vec<u64> = reply
                    .events()
                    .iter()
                    .filter_map(|event| {
                        serde_json::from_str::<Value>(event).ok()?["sequence_number"].as_u64()
                    })
                    .collect();
                assert!(
                    numbers.is_sorted_by(|one, next| one < next),
                    "{what}: {numbers:?}"
                );
            }
        }
    }
    assert_eq!((calls(&bad).len(), calls(&good).len()), (100, 100));
    until("the log says so", || {
        gate.log().matches(":continued").count() == 100
    })
    .await;
    let metrics = gate.get("/metrics").await.text();
    assert!(metrics.contains("outcome=\"continued\""), "{metrics}");
}

#[tokio::test]
async fn tokens_of_both_are_counted() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(always(breaks(Fault::CutAfter(8))));
    good.script(always(says(REST)));
    let gate = Gate::start(&config(&[("bad", &bad), ("good", &good)], SETTINGS));
    let client = &CLIENTS[2];
    let reply = gate
        .post(&(client.path)("m", true), &(client.ask)("m", true))
        .await;
    let end = reply
        .events()
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .find(|event| event["type"] == "message_delta")
        .unwrap_or_else(|| panic!("{}", reply.text()));
    let (one, other) = (&calls(&bad)[0], &calls(&good)[0]);
    let input = one.input_tokens + other.input_tokens;
    assert_eq!(end["usage"]["input_tokens"], input, "{}", reply.text());
    let output = end["usage"]["output_tokens"].as_u64().expect("a number");
    assert!(output >= other.output_tokens, "{}", reply.text());
    until("the record says the same", || {
        gate.log().contains(&format!("input_tokens={input}"))
            || gate.log().contains(&format!("\"input_tokens\":{input}"))
    })
    .await;
    // What was said counts against the client's limit of 100.
    let body: Value = serde_json::from_slice(other.body.as_deref().expect("kept")).expect("JSON");
    let left = body["max_tokens"].as_u64().expect("a limit");
    assert!((16..100).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_no_text_alone_ends_with_an_error() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}});
    let with = |name: &str, value: Value| {
        let mut body = chat("m", true);
        body[name] = value;
        body
    };
    let mut calling = with("tools", json!([tool]));
    calling["tool_choice"] = json!("required");
    let thinking = Behaviour {
        thought: Some("let me see".to_owned()),
        ..breaks(Fault::CutAfter(10))
    };
    let cases = [
        (
            "a tool call",
            calling,
            Behaviour {
                fault: Some(Fault::CutAfter(3)),
                ..Behaviour::default()
            },
        ),
        (
            "JSON",
            with("response_format", json!({"type": "json_object"})),
            breaks(Fault::CutAfter(8)),
        ),
        (
            "log probabilities",
            with("logprobs", json!(true)),
            breaks(Fault::CutAfter(8)),
        ),
        (
            "several answers",
            with("n", json!(2)),
            breaks(Fault::CutAfter(8)),
        ),
        (
            "a member that translation would lose",
            with("prompt_cache_key", json!("k")),
            breaks(Fault::CutAfter(8)),
        ),
        ("thoughts", chat("m", true), thinking),
    ];
    for (what, body, then) in cases {
        let (bad, good) = (mock("bad").await, mock("good").await);
        bad.script(always(then));
        good.script(always(says(REST)));
        let gate = Gate::start(&config(&[("bad", &bad), ("good", &good)], SETTINGS));
        let reply = gate.post("/v1/chat/completions", &body).await;
        assert!(is_broken_off(&reply), "{what}: {}", reply.text());
        assert_eq!((calls(&bad).len(), calls(&good).len()), (1, 0), "{what}");
    }
}

#[tokio::test]
async fn a_model_says_whether_it_goes_on() {
    for (all, own, goes_on) in [
        (true, false, false),
        (false, true, true),
        (false, false, false),
    ] {
        let (bad, good) = (mock("bad").await, mock("good").await);
        bad.script(always(breaks(Fault::CutAfter(8))));
        good.script(always(says(REST)));
        let settings = SETTINGS.replace("continuation: true", &format!(
            "continuation: {all}\nmodels:\n  ours: {{continuation: {own}, targets: [{{provider: bad, model: m}}, {{provider: good, model: m}}]}}"
        ));
        let gate = Gate::start(&config(&[("bad", &bad), ("good", &good)], &settings));
        let reply = gate.post("/v1/chat/completions", &chat("ours", true)).await;
        assert_eq!(
            !is_broken_off(&reply),
            goes_on,
            "{all} {own}: {}",
            reply.text()
        );
        assert_eq!(calls(&good).len(), usize::from(goes_on));
    }
}

#[tokio::test]
async fn who_refuses_to_go_on_is_passed_over_and_who_breaks_off_is_the_last() {
    let (bad, next, third) = (mock("bad").await, mock("next").await, mock("third").await);
    let providers = [("bad", &bad), ("next", &next), ("third", &third)];
    let gate = Gate::start(&config(&providers, SETTINGS));
    bad.script(always(breaks(Fault::CutAfter(8))));
    third.script(always(says(REST)));
    next.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    beginning(&CLIENTS[0].said(&reply, true));
    assert_eq!((calls(&next).len(), calls(&third).len()), (1, 1));
    // Paid twice: not a third time.
    next.script(always(Behaviour {
        fault: Some(Fault::CutAfter(5)),
        ..says(" and more of it all the same")
    }));
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    assert!(is_broken_off(&reply), "{}", reply.text());
    let said = CLIENTS[0].said(&reply, true);
    assert!(said.contains("and more"), "{said}");
    assert_eq!((calls(&next).len(), calls(&third).len()), (2, 1));
    until("the record says who broke off", || {
        gate.log()
            .contains("bad:upstream_disconnected,next:upstream_disconnected")
            && gate.log().contains("failed")
    })
    .await;
}

#[tokio::test]
async fn the_client_is_kept_waiting_with_signs_of_life_and_no_longer_than_it_will() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(always(breaks(Fault::CutAfter(8))));
    good.script(Rule {
        times: Some(1),
        then: Behaviour {
            latency_ms: 1500,
            ..says(REST)
        },
        ..Rule::default()
    });
    good.script(always(Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    }));
    let settings = SETTINGS.replace("hold: 0", "hold: 0, keepalive: 1, idle: 1");
    let gate = Gate::start(&config(&[("bad", &bad), ("good", &good)], &settings));
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    assert!(reply.text().contains(": keepalive"), "{}", reply.text());
    beginning(&CLIENTS[0].said(&reply, true));
    let headers = [
        ("content-type", "application/json"),
        ("x-polygate-timeout", "500ms"),
    ];
    let body = chat("m", true).to_string();
    let reply = gate
        .ask(Method::POST, "/v1/chat/completions", &headers, body)
        .await;
    assert!(is_broken_off(&reply), "{}", reply.text());
    until("the other is closed", || {
        calls(&good)[1].outcome == Outcome::ClientGone
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_takes_the_other_provider_with_it() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(always(breaks(Fault::CutAfter(8))));
    good.script(always(Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    }));
    let gate = Gate::start(&config(&[("bad", &bad), ("good", &good)], SETTINGS));
    let headers = [("content-type", "application/json")];
    let body = chat("m", true).to_string();
    let answer = gate
        .send(Method::POST, "/v1/chat/completions", &headers, body)
        .await;
    let mut body = answer.into_body();
    body.frame().await.expect("a piece").expect("of the answer");
    until("the other is asked", || calls(&good).len() == 1).await;
    drop(body);
    let gone = Instant::now();
    until("the other is closed", || {
        calls(&good)[0].outcome == Outcome::ClientGone
    })
    .await;
    // The promise is 250 ms; a loaded machine gets twice that.
    assert!(gone.elapsed() < Duration::from_millis(500));
    until("the log says so", || gate.log().contains("client_gone")).await;
}

/// A chat stream that is cut behind each of its bytes.
#[tokio::test]
async fn no_cut_anywhere_is_seen() {
    let delta = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let stop = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let stream = format!("{}{}{stop}", delta("one tw"), delta("o thré"));
    let (bad, good) = (mock("bad").await, mock("good").await);
    good.script(always(says(REST)));
    for (cut, _) in stream.char_indices() {
        bad.script(Rule {
            times: Some(1),
            then: Behaviour {
                fault: Some(Fault::Raw(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{cut:x}\r\n{}\r\n",
                    &stream[..cut]
                ))),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
    }
    let providers = config(&[("bad", &bad), ("good", &good)], SETTINGS);
    let gate =
        Gate::start(&providers.replace("type: mock", "type: openai-compatible, wire_api: chat"));
    let done = stream.find("data: [DONE]").expect("an end mark");
    let mut seen = std::collections::BTreeSet::new();
    for (cut, _) in stream.char_indices() {
        let client = &CLIENTS[cut % CLIENTS.len()];
        let reply = gate
            .post(&(client.path)("m", true), &(client.ask)("m", true))
            .await;
        let (name, text, said) = (client.name, reply.text(), client.said(&reply, true));
        if cut < done {
            assert!((client.is_complete)(&reply, true), "{name} {cut}: {text}");
            seen.insert(said);
        } else {
            // The model was done, only nobody said so.
            assert_eq!(said, "one two thré", "{name} {cut}: {text}");
            assert!(is_broken_off(&reply), "{name} {cut}: {text}");
        }
    }
    let all = [
        REST.to_owned(),
        format!("one tw{REST}"),
        format!("one two thré{REST}"),
    ];
    assert_eq!(seen, all.into());
}

#[tokio::test]
async fn an_attempt_that_was_asked_beside_it_is_not_the_one_that_broke_off() {
    let (slow, silent, good) = (mock("slow").await, mock("silent").await, mock("good").await);
    slow.script(always(Behaviour {
        latency_ms: 300,
        ..breaks(Fault::CutAfter(8))
    }));
    silent.script(always(breaks(Fault::Stall)));
    good.script(always(says(REST)));
    let settings = format!("{SETTINGS}hedge: {{after: 50ms, max_percent: 100}}\n");
    let providers = [("slow", &slow), ("silent", &silent), ("good", &good)];
    let gate = Gate::start(&config(&providers, &settings));
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    beginning(&CLIENTS[0].said(&reply, true));
    for (provider, outcome) in [
        ("slow", "upstream_disconnected"),
        ("silent", "hedge_lost"),
        ("good", "continued"),
    ] {
        let is_told = |line: &&str| {
            line.starts_with("polygate_attempts_total{")
                && line.contains(&format!("provider=\"{provider}\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
        };
        let metrics = gate.get("/metrics").await.text().to_owned();
        assert_eq!(
            metrics.lines().filter(is_told).count(),
            1,
            "{provider}: {metrics}"
        );
    }
}
