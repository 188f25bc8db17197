//! A client that goes closes the upstream at once, in every phase; a gateway that is told to stop lets streams finish.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

#[tokio::test]
async fn a_client_that_goes_while_a_call_backs_off_is_not_called_for_again() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    // Full jitter: of ten waits up to 300 ms, most are still to come when the client has gone.
    let gate = Gate::start(&format!(
        "retry: {{max_retries: 10, initial_backoff: 300ms, max_backoff: 300ms, breaker_threshold: 100}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let socket = ask_raw(&gate, true).await;
    until("it was asked again", || calls(&mock).len() >= 2).await;
    drop(socket);
    until("the log says so", || gate.log().contains("client_gone")).await;
    let asked = calls(&mock).len();
    assert!(asked < 11, "all attempts were over before");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(calls(&mock).len(), asked);
}

#[tokio::test]
async fn a_reset_http_2_stream_closes_its_upstream_and_no_other() {
    let mock = mock("p").await;
    let gate = gate(&mock);
    let socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let (mut send, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(socket),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);
    let request = || {
        http::Request::post(format!("{}/v1/chat/completions", gate.url))
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(bytes::Bytes::from(
                chat("m", true).to_string(),
            )))
            .expect("a request")
    };
    mock.script(Rule {
        then: Behaviour {
            token_ms: 20,
            tokens: Some(60),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let mut kept = send
        .send_request(request())
        .await
        .expect("an answer")
        .into_body();
    mock.clear();
    for (count, fault) in [Fault::Stall, Fault::StallAfter(1)].into_iter().enumerate() {
        mock.script(Rule {
            then: Behaviour {
                fault: Some(fault),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let asked = tokio::spawn(send.send_request(request()));
        until("the upstream was asked", || calls(&mock).len() == count + 2).await;
        asked.abort();
        until("it was let go", || {
            let calls = calls(&mock);
            let gone = calls
                .iter()
                .filter(|call| call.outcome == Outcome::ClientGone);
            gone.count() == count + 1
        })
        .await;
        mock.clear();
    }
    let mut text = String::new();
    while let Some(Ok(frame)) = kept.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

/// Until the other side closes, or for ten seconds.
async fn closes(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    let read = async { while let Ok(1..) = socket.read(&mut buffer).await {} };
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_connection_that_is_being_made_is_given_up_too() {
    // Neither TLS nor a proxy's tunnel is answered.
    for proxy in [false, true] {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a listener");
        let place = silent.local_addr().expect("its address");
        let proxy = if proxy {
            format!(", proxy_url: 'http://{place}'")
        } else {
            String::new()
        };
        let gate = Gate::start(&format!(
            "timeouts: {{connect: 60}}\nproviders: [{{name: p, type: mock, api_base: 'https://{place}', api_key: k, model_mapping: [m]{proxy}}}]\nhealth_check: {{enabled: false}}"
        ));
        let client = ask_raw(&gate, true).await;
        let (mut upstream, _) = silent.accept().await.expect("it connects");
        let mut first = [0; 1];
        upstream.read_exact(&mut first).await.expect("it speaks");
        drop(client);
        let gone = Instant::now();
        assert!(closes(&mut upstream).await, "{proxy}");
        // The promise is 250 ms; a loaded machine gets twice that.
        assert!(
            gone.elapsed() < Duration::from_millis(500),
            "{proxy}: {:?}",
            gone.elapsed()
        );
        until("the log says so", || gate.log().contains("client_gone")).await;
    }
}

#[tokio::test]
async fn both_attempts_of_a_hedge_are_closed() {
    let (first, next) = (mock("first").await, mock("next").await);
    for mock in [&first, &next] {
        mock.script(Rule {
            then: Behaviour {
                fault: Some(Fault::Stall),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
    }
    let gate = Gate::start(&format!(
        "
hedge: {{after: 50ms, max_percent: 100}}
routing: {{strategy: fill-first}}
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
  - {{name: next, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
health_check: {{enabled: false}}",
        first.url(),
        next.url()
    ));
    for stream in [false, true] {
        let before = calls(&next).len();
        let client = ask_raw(&gate, stream).await;
        until("both are asked", || calls(&next).len() > before).await;
        drop(client);
        let gone = Instant::now();
        until("both are closed", || {
            let all = [calls(&first), calls(&next)];
            all.iter()
                .flatten()
                .all(|call| call.outcome == Outcome::ClientGone)
        })
        .await;
        assert!(
            gone.elapsed() < Duration::from_millis(500),
            "{:?}",
            gone.elapsed()
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_while_a_call_waits_for_a_rest_to_end_is_not_called_for() {
    let mock = mock("p").await;
    mock.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(429),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "retry: {{cooldown_rate_limit: 700ms, max_wait: 10, max_retries: 10}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let client = ask_raw(&gate, true).await;
    until("it was refused", || calls(&mock).len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    let gone = Instant::now();
    until("the log says so", || gate.log().contains("client_gone")).await;
    assert!(
        gone.elapsed() < Duration::from_millis(500),
        "{:?}",
        gone.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(calls(&mock).len(), 1);
}
