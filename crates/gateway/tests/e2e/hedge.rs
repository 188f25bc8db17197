//! A second attempt beside a slow first one: whichever is good first answers, and the other is given up at once.

use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};

use crate::support::{Gate, calls, chat, mock, until};
use crate::wall::clients::CLIENTS;

fn config(first: &Mock, next: &Mock, hedge: &str) -> String {
    format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: key-of-it, model_mapping: [m]}}
  - {{name: next, type: mock, api_base: '{}', api_key: key-of-it, model_mapping: [m]}}
routing: {{strategy: fill-first}}
hedge: {hedge}
health_check: {{enabled: false}}
",
        first.url(),
        next.url()
    )
}

fn always(then: Behaviour) -> Rule {
    Rule {
        then,
        ..Rule::default()
    }
}

fn late(ms: u64) -> Rule {
    always(Behaviour {
        latency_ms: ms,
        ..Behaviour::default()
    })
}

#[tokio::test]
async fn the_second_answers_where_the_first_is_silent() {
    let (first, next) = (mock("first").await, mock("next").await);
    first.script(always(Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    }));
    let gate = Gate::start(&config(&first, &next, "{after: 100ms, max_percent: 100}"));
    let mut asked = 0;
    for client in &CLIENTS {
        for stream in [false, true] {
            let reply = gate
                .post(&(client.path)("m", stream), &(client.ask)("m", stream))
                .await;
            asked += 1;
            let (name, text) = (client.name, reply.text());
            assert_eq!(reply.status, 200, "{name} {text}");
            assert!((client.is_complete)(&reply, stream), "{name} {text}");
            assert_eq!(reply.header("x-polygate-provider"), "next");
            assert_eq!(reply.header("x-polygate-attempts"), "2");
            assert_eq!((calls(&first).len(), calls(&next).len()), (asked, asked));
            until("the loser is closed", || {
                calls(&first)
                    .iter()
                    .all(|call| call.outcome == Outcome::ClientGone)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_first_answers_where_it_is_good_first() {
    let (first, next) = (mock("first").await, mock("next").await);
    first.script(late(400));
    next.script(always(Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    }));
    let gate = Gate::start(&config(&first, &next, "{after: 100ms, max_percent: 100}"));
    for stream in [false, true] {
        let reply = gate.post("/v1/chat/completions", &chat("m", stream)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-polygate-provider"), "first");
    }
    assert_eq!(calls(&next).len(), 2);
    until("the loser is closed", || {
        calls(&next)
            .iter()
            .all(|call| call.outcome == Outcome::ClientGone)
    })
    .await;
}

#[tokio::test]
async fn a_failure_of_one_leaves_the_other() {
    let (first, next) = (mock("first").await, mock("next").await);
    first.script(always(Behaviour {
        latency_ms: 300,
        status: Some(500),
        ..Behaviour::default()
    }));
    next.script(late(500));
    let gate = Gate::start(&config(&first, &next, "{after: 100ms, max_percent: 100}"));
    let reply = gate.post("/v1/chat/completions", &chat("m", true)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-polygate-provider"), "next");
    assert_eq!(
        calls(&next).len(),
        1,
        "the second was under way: nobody is asked again"
    );
}

#[tokio::test]
async fn there_are_no_more_than_are_paid_for_and_none_unasked() {
    for (hedge, expected) in [
        ("{after: 20ms, max_percent: 10}", 2),
        ("{after: 20ms, max_percent: 0}", 0),
    ] {
        let (first, next) = (mock("first").await, mock("next").await);
        first.script(late(120));
        let gate = Gate::start(&config(&first, &next, hedge));
        for _ in 0..20 {
            let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert_eq!(calls(&next).len(), expected, "{hedge}");
    }
}

/// Twenty answers are needed, of whole ones and of streams each for themselves.
#[tokio::test]
async fn where_the_target_says_what_is_slow_it_is_asked_often_enough_first() {
    let silent = || {
        always(Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        })
    };
    let (first, next) = (mock("first").await, mock("next").await);
    let gate = Gate::start(&config(&first, &next, "{after: p95, max_percent: 100}"));
    let ask = async |stream: bool, by: &str| {
        let reply = gate.post("/v1/chat/completions", &chat("m", stream)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-polygate-provider"), by);
    };
    first.script(late(50));
    for _ in 0..20 {
        ask(false, "first").await;
    }
    // Ten times as long as whole answers take, which says nothing of streams.
    first.clear();
    first.script(late(500));
    ask(true, "first").await;
    assert_eq!(calls(&next).len(), 0, "too little is known");
    first.clear();
    first.script(silent());
    ask(false, "next").await;
    until("the loser is closed", || {
        let last = calls(&first).pop();
        last.is_some_and(|call| call.outcome == Outcome::ClientGone)
    })
    .await;
    first.clear();
    for _ in 0..19 {
        ask(true, "first").await;
    }
    first.script(silent());
    ask(true, "next").await;
}
