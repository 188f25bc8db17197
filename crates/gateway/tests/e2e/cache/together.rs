//! Calls that ask the same at the same time: one of them asks, the others have its answer, and nobody depends on who asked.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, join_all, select};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use polygate_store::usage::State;

use super::{asks, config, seen};
use crate::ledger::{KEY, rows, until_count};
use crate::support::{Gate, calls, chat, mock, until};

#[tokio::test]
async fn a_thousand_that_ask_the_same_at_once_are_one_call() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            latency_ms: 1500,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&mock, "{rules: [{coalesce: true}]}", ""));
    for (at, stream) in [false, true].into_iter().enumerate() {
        let body = chat("m", stream);
        let replies = join_all((0..1000).map(|_| asks(&gate, &[], &body))).await;
        let count = |word: &str| replies.iter().filter(|reply| seen(reply) == word).count();
        assert_eq!(count("miss"), 1, "{stream}");
        assert_eq!(count("shared") + count("hit"), 999, "{stream}");
        assert!(count("shared") > 0, "{stream}");
        assert!(replies.iter().all(|reply| reply.body == replies[0].body));
        assert_eq!(calls(&mock).len(), at + 1, "{stream}");
    }
}

#[tokio::test]
async fn where_the_first_goes_or_fails_one_other_asks_for_the_rest() {
    let mock = mock("p").await;
    let more = "retry: {max_retries: 0, breaker_threshold: 1000}";
    let gate = Gate::start(&config(&mock, "{rules: [{coalesce: true}]}", more));
    let slowly = |status| Behaviour {
        latency_ms: 700,
        status,
        ..Behaviour::default()
    };
    mock.script(Rule {
        times: Some(1),
        then: slowly(Some(500)),
        ..Rule::default()
    });
    mock.script(Rule {
        then: slowly(None),
        ..Rule::default()
    });
    let body = chat("m", false);
    let replies = join_all((0..50).map(|_| asks(&gate, &[], &body))).await;
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((good, calls(&mock).len()), (49, 2));
}

#[tokio::test]
async fn a_call_waits_for_another_no_longer_than_for_a_provider() {
    let mock = mock("p").await;
    mock.script(Rule {
        times: Some(1),
        then: Behaviour {
            latency_ms: 60_000,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&mock, "{rules: [{coalesce: true}]}", ""));
    let body = chat("m", true);
    let text = body.to_string();
    let headers = [("content-type", "application/json")];
    let mut first = pin!(gate.send(Method::POST, "/v1/chat/completions", &headers, text));
    let is_asked = pin!(until("the first asks", || calls(&mock).len() == 1));
    assert!(matches!(
        select(is_asked, &mut first).await,
        Either::Left(_)
    ));
    let patience = [("x-polygate-first-event-timeout", "200ms")];
    let start = Instant::now();
    let second = asks(&gate, &patience, &body).await;
    assert_eq!(
        (second.status.as_u16(), seen(&second)),
        (200, "miss"),
        "{}",
        second.text()
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A stream of so many words, one each 20 ms.
fn slow(mock: &Mock, words: u32, fault: Option<Fault>) {
    mock.script(Rule {
        times: Some(1),
        then: Behaviour {
            token_ms: 20,
            tokens: Some(words),
            fault,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
}

async fn begins(gate: &Gate, body: &serde_json::Value) -> http::Response<Incoming> {
    let headers = [("content-type", "application/json")];
    let path = "/v1/chat/completions";
    gate.send(Method::POST, path, &headers, body.to_string())
        .await
}

/// What there is of it until it has so many events, or is over.
async fn reads(answer: &mut http::Response<Incoming>, events: usize) -> String {
    let mut text = String::new();
    while text.matches("data:").count() < events {
        match answer.body_mut().frame().await {
            Some(Ok(frame)) => {
                let piece = frame.into_data().unwrap_or_default();
                text += &String::from_utf8_lossy(&piece);
            }
            Some(Err(_)) => return text + "BROKEN",
            None => break,
        }
    }
    text
}

#[tokio::test]
async fn a_stream_is_shared_as_it_comes_and_goes_on_when_who_asked_goes() {
    let mock = mock("p").await;
    slow(&mock, 100, None);
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/gate.db", folder.path().display());
    let gate = Gate::start_with(
        &config(&mock, "{rules: [{coalesce: true}]}", ""),
        &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)],
    );
    let body = chat("m", true);
    let mut first = begins(&gate, &body).await;
    let start = reads(&mut first, 5).await;
    assert_eq!(first.headers()["x-polygate-cache"], "miss");
    let mut second = begins(&gate, &body).await;
    assert_eq!(second.headers()["x-polygate-cache"], "shared");
    assert_eq!(second.headers()["x-polygate-cost"], "0.000000");
    // It has the beginning at once, and goes on with who asked.
    let same = reads(&mut second, 5).await;
    assert!(same.starts_with(&start) || start.starts_with(&same));
    assert!(!same.contains("[DONE]"), "it is under way");
    drop(first);
    let rest = reads(&mut second, usize::MAX).await;
    let all = same + &rest;
    assert!(all.trim_end().ends_with("data: [DONE]"), "{all}");
    let words = all.matches("\"content\"").count();
    assert!(words >= 100, "{words}");
    assert_eq!(calls(&mock).len(), 1);
    // What was shared is kept too.
    let again = asks(&gate, &[], &body).await;
    assert_eq!((seen(&again), again.text()), ("hit", all));
    assert_eq!(calls(&mock).len(), 1);
    until_count(&url, 3, &gate).await;
    let rows = rows(&url).await;
    let of = |cached: Option<&str>| {
        let found = rows.iter().find(|row| row.cached.as_deref() == cached);
        found.expect("a row").clone()
    };
    let (paid, shared, hit) = (of(None), of(Some("shared")), of(Some("hit")));
    assert_eq!((paid.attempts.len(), paid.state), (1, State::Reported));
    assert_eq!((shared.cost, shared.attempts.len()), (0, 0));
    assert_eq!(shared.outcome, "completed");
    assert_eq!(shared.saved, Some(paid.usage));
    assert_eq!(hit.saved, Some(paid.usage));
}

#[tokio::test]
async fn a_stream_that_nobody_wants_any_more_is_let_go() {
    let mock = mock("p").await;
    slow(&mock, 500, None);
    let gate = Gate::start(&config(&mock, "{rules: [{coalesce: true}]}", ""));
    let body = chat("m", true);
    let mut first = begins(&gate, &body).await;
    reads(&mut first, 3).await;
    let mut second = begins(&gate, &body).await;
    reads(&mut second, 3).await;
    drop(first);
    drop(second);
    let has_ended = || calls(&mock)[0].outcome == Outcome::ClientGone;
    until("the upstream is closed", has_ended).await;
    assert_eq!(seen(&asks(&gate, &[], &body).await), "miss");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_badly_for_all_and_is_asked_for_anew() {
    let mock = mock("p").await;
    slow(&mock, 50, Some(Fault::CutAfter(20)));
    let gate = Gate::start(&config(&mock, "{rules: [{coalesce: true}]}", ""));
    let body = chat("m", true);
    let mut first = begins(&gate, &body).await;
    let mut second = begins(&gate, &body).await;
    for answer in [&mut first, &mut second] {
        let text = reads(answer, usize::MAX).await;
        assert!(
            text.contains("\"error\"") && !text.contains("[DONE]"),
            "{text}"
        );
    }
    let again = asks(&gate, &[], &body).await;
    assert_eq!(seen(&again), "miss");
    assert!(again.text().contains("[DONE]"));
}

#[tokio::test]
async fn what_is_too_long_to_be_kept_is_shared_to_its_end_and_joined_no_more() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            token_ms: 1,
            tokens: Some(600),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(
        &mock,
        "{max_entry: 16KiB, rules: [{coalesce: true}]}",
        "",
    ));
    let body = chat("m", true);
    let mut first = begins(&gate, &body).await;
    let mut second = begins(&gate, &body).await;
    assert_eq!(second.headers()["x-polygate-cache"], "shared");
    let text = reads(&mut second, usize::MAX).await;
    assert!(text.len() > 16 * 1024 && text.trim_end().ends_with("data: [DONE]"));
    assert_eq!(reads(&mut first, usize::MAX).await, text);
    assert_eq!(calls(&mock).len(), 1);
    assert_eq!(seen(&asks(&gate, &[], &body).await), "miss");
}
