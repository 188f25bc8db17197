//! A client that goes closes the upstream at once, in every phase; a gateway that is told to stop lets streams finish.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Gate, calls, chat, mock, until};

fn gate(mock: &Mock) -> Gate {
    Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ))
}

async fn ask_raw(gate: &Gate, stream: bool) -> TcpStream {
    let mut socket = TcpStream::connect(gate.url.trim_start_matches("http://"))
        .await
        .expect("a connection");
    let body = chat("m", stream).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .expect("it is sent");
    socket
}

#[tokio::test]
async fn the_upstream_is_closed_when_the_client_goes() {
    let mock = mock("p").await;
    let gate = gate(&mock);
    let phases: [(&str, bool, Behaviour); 4] = [
        (
            "silent, whole",
            false,
            Behaviour {
                fault: Some(Fault::Stall),
                ..Behaviour::default()
            },
        ),
        (
            "silent, stream",
            true,
            Behaviour {
                fault: Some(Fault::Stall),
                ..Behaviour::default()
            },
        ),
        (
            "in the preamble",
            true,
            Behaviour {
                fault: Some(Fault::StallAfter(1)),
                ..Behaviour::default()
            },
        ),
        (
            "after some words",
            true,
            Behaviour {
                token_ms: 20,
                tokens: Some(500),
                ..Behaviour::default()
            },
        ),
    ];
    for (count, (phase, stream, then)) in phases.into_iter().enumerate() {
        mock.clear();
        mock.script(Rule {
            then,
            ..Rule::default()
        });
        let socket = ask_raw(&gate, stream).await;
        until("the upstream was asked", || calls(&mock).len() == count + 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(socket);
        let gone = Instant::now();
        until(phase, || {
            calls(&mock)
                .last()
                .is_some_and(|call| call.outcome == Outcome::ClientGone)
        })
        .await;
        // The promise is 250 ms; a loaded machine gets twice that.
        assert!(
            gone.elapsed() < Duration::from_millis(500),
            "{phase}: {:?}",
            gone.elapsed()
        );
    }
    until("the log says so", || {
        gate.log().matches("client_gone").count() == 4
    })
    .await;
}

#[tokio::test]
async fn told_to_stop_it_lets_streams_finish_and_takes_no_more() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            token_ms: 20,
            tokens: Some(40),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let mut gate = gate(&mock);
    let mut answer = gate
        .send(
            Method::POST,
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            chat("m", true).to_string(),
        )
        .await
        .into_body();
    assert!(answer.frame().await.is_some());
    gate.signal("TERM");
    let mut text = String::new();
    while let Some(Ok(frame)) = answer.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    drop(answer);
    assert_eq!(gate.wait().code(), Some(0));
    assert!(
        TcpStream::connect(gate.url.trim_start_matches("http://"))
            .await
            .is_err()
    );
    assert!(
        gate.log().contains("\"outcome\":\"completed\""),
        "its record was written"
    );
}

#[tokio::test]
async fn with_nothing_in_flight_it_stops_at_once() {
    let mock = mock("p").await;
    let mut gate = gate(&mock);
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        200
    );
    let told = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait().code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(1),
        "{:?}",
        told.elapsed()
    );
}

#[tokio::test]
async fn connections_on_which_nothing_was_said_do_not_hold_it_up() {
    let mock = mock("p").await;
    let mut gate = gate(&mock);
    let _silent = TcpStream::connect(gate.url.trim_start_matches("http://"))
        .await
        .expect("a connection");
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        200
    );
    let told = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait().code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(1),
        "{:?}",
        told.elapsed()
    );
}
