//! Providers of which one fails: whom a call asks next, whom it does not ask again, and who is left alone for how long.

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};

use crate::support::{Gate, calls, chat, mock, until};
use crate::wall::clients::CLIENTS;

/// Ways to fail that rest nobody for longer than a moment; all of them are in the wall.
fn ways() -> Vec<Behaviour> {
    let faults = [
        Fault::Refuse,
        Fault::Reset,
        Fault::Stall,
        Fault::ResetAfter(0),
        Fault::CutAfter(0),
        Fault::EndAfter(0),
        Fault::StallAfter(0),
        Fault::ErrorAfter(0),
        Fault::Junk,
        Fault::Html,
        Fault::Empty,
        Fault::Redirect("http://127.0.0.1:1/stolen".to_owned()),
    ];
    let faults = faults.map(|fault| Behaviour {
        fault: Some(fault),
        ..Behaviour::default()
    });
    let statuses = [402, 404, 408, 500, 502, 503, 504, 529].map(|status| Behaviour {
        status: Some(status),
        ..Behaviour::default()
    });
    [&faults[..], &statuses].concat()
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

/// The proof: 1,000 calls, half of them streams, in front of a provider that fails in a different way each time.
#[tokio::test]
async fn a_thousand_calls_get_a_thousand_complete_answers() {
    let (bad, good) = (mock("bad").await, mock("good").await);
    let ways = ways();
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
                    .post(&(client.path)("m", stream), &(client.ask)("m", stream))
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
