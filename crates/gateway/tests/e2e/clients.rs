//! Clients that are slow, silent or too many: each meets its deadline, and health stays within reach.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Outcome, Rule};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::metrics::sum;
use crate::support::{Gate, calls, chat, mock, until};

fn config(mock: &Mock, server: &str) -> String {
    format!(
        "server: {{{server}}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    )
}

async fn connect(gate: &Gate) -> TcpStream {
    TcpStream::connect(gate.address())
        .await
        .expect("a connection")
}

/// What comes until the other side closes; fails when it does not.
async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        loop {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => all.extend_from_slice(&buffer[..n]),
            }
        }
    };
    timeout(Duration::from_secs(10), read)
        .await
        .expect("it is closed");
    String::from_utf8_lossy(&all).into_owned()
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn slow_heads_and_silence_end_at_their_deadlines() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "header_timeout: 300ms, idle_timeout: 900ms"));
    for said in ["", "P", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"] {
        let mut socket = connect(&gate).await;
        let began = Instant::now();
        socket.write_all(said.as_bytes()).await.expect("sent");
        assert_eq!(rest(&mut socket).await, "", "{said}");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(290) && took < Duration::from_millis(850),
            "{said}: {took:?}"
        );
    }
    // Between requests it is the other deadline.
    let mut socket = connect(&gate).await;
    let body = chat("m", false).to_string();
    socket
        .write_all(format!("{}{body}", head(body.len())).as_bytes())
        .await
        .expect("sent");
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.expect("an answer");
    let began = Instant::now();
    assert_eq!(&first, b"HTTP/1.1 200");
    rest(&mut socket).await;
    assert!(
        began.elapsed() >= Duration::from_millis(850),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn slow_bodies_are_answered_with_408() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "body_timeout: 400ms"));
    // One stops in the middle; one brings a byte now and then.
    for drips in [false, true] {
        let mut socket = connect(&gate).await;
        let began = Instant::now();
        socket
            .write_all(format!("{}{{", head(1000)).as_bytes())
            .await
            .expect("sent");
        let (mut read, mut write) = socket.into_split();
        let drip = tokio::spawn(async move {
            while drips && write.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            write
        });
        let mut first = [0; 12];
        timeout(Duration::from_secs(5), read.read_exact(&mut first))
            .await
            .expect("in time")
            .expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 408");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(390) && took < Duration::from_secs(3),
            "{took:?}"
        );
        drip.abort();
    }
    assert!(calls(&mock).is_empty());
}

/// Uploads this much of what should be more; the answer's first line.
async fn upload(gate: &Gate, body: &[u8]) -> String {
    let mut socket = connect(gate).await;
    let head = "POST /v1/m/files HTTP/1.1\r\nhost: x\r\ncontent-type: audio/wav\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [
        format!("{head}{:x}\r\n", body.len()).as_bytes(),
        body,
        b"\r\n",
    ]
    .concat();
    // Refused on the way, it may not be taken to its end.
    let _ = socket.write_all(&chunk).await;
    let answer = rest(&mut socket).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn uploads_that_pass_end_when_their_client_is_slow_and_no_provider_is_blamed() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "body_timeout: 400ms, body_limit: 3MB"));
    for _ in 0..10 {
        assert_eq!(upload(&gate, b"half").await, "HTTP/1.1 408 Request Timeout");
    }
    let large = vec![b'x'; 4_000_000];
    assert_eq!(
        upload(&gate, &large).await,
        "HTTP/1.1 413 Payload Too Large"
    );
    let answer = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(answer.status, 200, "the provider rests for nothing");
    let page = gate.get("/metrics").await.text();
    let counted = |status| {
        sum(
            &page,
            "llm_proxy_requests_total",
            &[("status_code", status)],
        )
    };
    let refused = (counted("408"), counted("413"), counted("499"));
    assert_eq!(refused, (10, 1, 0), "who refuses is not the client: {page}");
}

#[tokio::test]
async fn an_upload_that_is_refused_lets_its_upstream_go() {
    let provider = TcpListener::bind("127.0.0.1:0").await.expect("a provider");
    let address = provider.local_addr().expect("its address");
    let gate = Gate::start(&format!(
        "server: {{body_timeout: 400ms}}\nproviders: [{{name: p, type: mock, api_base: 'http://{address}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}"
    ));
    let (answer, received) = tokio::join!(upload(&gate, b"half"), async {
        let (mut socket, _) = provider.accept().await.expect("a call");
        rest(&mut socket).await
    });
    assert_eq!(answer, "HTTP/1.1 408 Request Timeout");
    assert!(received.contains("half"), "{received}");
}

fn more_than_sockets_hold() -> Rule {
    Rule {
        then: Behaviour {
            text: Some(vec!["x".repeat(2000); 20_000].join(" ")),
            ..Behaviour::default()
        },
        ..Rule::default()
    }
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_let_go_and_the_upstream_with_it() {
    let mock = mock("p").await;
    mock.script(more_than_sockets_hold());
    let gate = Gate::start(&config(&mock, "write_timeout: 500ms"));
    let mut socket = connect(&gate).await;
    let body = chat("m", true).to_string();
    socket
        .write_all(format!("{}{body}", head(body.len())).as_bytes())
        .await
        .expect("sent");
    until("the upstream is let go", || {
        calls(&mock)
            .last()
            .is_some_and(|call| call.outcome == Outcome::ClientGone)
    })
    .await;
    until("the log says so", || gate.log().contains("client_gone")).await;
}

#[tokio::test]
async fn an_http_2_client_that_gives_no_window_is_let_go_too() {
    let mock = mock("p").await;
    mock.script(more_than_sockets_hold());
    let gate = Gate::start(&config(&mock, "write_timeout: 500ms"));
    let (mut send, connection) =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(1024)
            .handshake(hyper_util::rt::TokioIo::new(connect(&gate).await))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("{}/v1/chat/completions", gate.url))
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(bytes::Bytes::from(
            chat("m", true).to_string(),
        )));
    let answer = send.send_request(request.expect("a request")).await;
    let _unread = answer.expect("an answer");
    let ended = timeout(Duration::from_secs(5), connection).await;
    assert!(ended.is_ok(), "the connection is closed");
    until("the upstream is let go", || {
        calls(&mock)
            .last()
            .is_some_and(|call| call.outcome == Outcome::ClientGone)
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_connections_leaves_health_within_reach() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "max_connections: 20"));
    // The pool's connection is within the limit as long as it is used: each request here takes a new one.
    let ask = async |path: &str, body: &str| {
        let mut socket = connect(&gate).await;
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        rest(&mut socket).await
    };
    let call = chat("m", false).to_string();
    assert!(
        ask("/v1/chat/completions", &call)
            .await
            .starts_with("HTTP/1.1 200")
    );
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(connect(&gate).await);
    }
    for path in ["/health", "/health/ready", "/metrics"] {
        let answer = ask(path, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let began = Instant::now();
    let refused = ask("/v1/chat/completions", &call).await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"),
        "{refused}"
    );
    // The promise is 50 ms; a loaded machine gets more.
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    drop(flood);
    for _ in 0..100 {
        if ask("/v1/chat/completions", &call)
            .await
            .starts_with("HTTP/1.1 200")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not recover");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once_in_their_own_words() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            fault: Some(Fault::StallAfter(3)),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&mock, "max_concurrent_requests: 2"));
    let mut held = Vec::new();
    for _ in 0..2 {
        let headers = [("content-type", "application/json")];
        let body = chat("m", true).to_string();
        let answer = gate
            .send(Method::POST, "/v1/chat/completions", &headers, body)
            .await;
        assert_eq!(answer.status(), 200);
        held.push(answer);
    }
    let messages =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let contents = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    for (path, body, said) in [
        ("/v1/chat/completions", chat("m", false), "\"error\":{"),
        ("/v1/messages", messages, "\"type\":\"error\""),
        (
            "/v1beta/models/m:generateContent",
            contents,
            "\"status\":\"UNAVAILABLE\"",
        ),
    ] {
        let began = Instant::now();
        let refused = gate.post(path, &body).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(refused.header("x-polygate-origin"), "gateway");
        assert!(refused.text().contains(said), "{}", refused.text());
        // The promise is 50 ms; a loaded machine gets more.
        assert!(began.elapsed() < Duration::from_millis(500));
    }
    // A flood of them, with health and metrics in between.
    let flood = futures_util::stream::iter(0..400).map(async |number| {
        let began = Instant::now();
        match number % 20 {
            0 => assert_eq!(gate.get("/health").await.status, 200),
            1 => assert_eq!(gate.get("/metrics").await.status, 200),
            _ => {
                let refused = gate.post("/v1/chat/completions", &chat("m", true)).await;
                assert_eq!(refused.status, 503);
            }
        }
        began.elapsed()
    });
    let mut times: Vec<Duration> = flood.buffer_unordered(8).collect().await;
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(
        median < Duration::from_millis(50) && worst < Duration::from_millis(500),
        "{median:?}, {worst:?}"
    );
    assert_eq!(calls(&mock).len(), 2);
    mock.clear();
    drop(held);
    for _ in 0..100 {
        if gate
            .post("/v1/chat/completions", &chat("m", false))
            .await
            .status
            == 200
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("places do not come back");
}

/// Processor time of a process so far, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().expect("a number"))
        .sum()
}

#[tokio::test]
async fn without_free_descriptors_it_neither_dies_nor_spins_and_recovers() {
    let mock = mock("p").await;
    // With the limit that follows from 256 open files, and with one that is far beyond them.
    for (server, fails) in [("", false), ("max_connections: 100000", true)] {
        let gate = Gate::start_after(&config(&mock, server), "ulimit -n 256");
        let mut flood = Vec::new();
        for _ in 0..400 {
            flood.push(connect(&gate).await);
        }
        if fails {
            until("it says that it cannot accept", || {
                gate.log().contains("connections cannot be accepted")
            })
            .await;
        } else {
            let mut socket = connect(&gate).await;
            let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            socket.write_all(request).await.expect("sent");
            assert!(rest(&mut socket).await.starts_with("HTTP/1.1 200"));
            assert!(!gate.log().contains("connections cannot be accepted"));
        }
        let before = ticks(gate.pid());
        tokio::time::sleep(Duration::from_millis(600)).await;
        let spent = ticks(gate.pid()) - before;
        assert!(spent < 20, "{spent} ticks in 600 ms");
        drop(flood);
        let call = chat("m", false);
        // Until it has noticed that they are gone, it may have no descriptor for the ledger or an upstream: then it says so.
        let recovers = async {
            loop {
                let answer = gate.post("/v1/chat/completions", &call).await;
                match answer.status.as_u16() {
                    200 => break,
                    status => assert_eq!(status, 503, "{}", answer.text()),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let recovers = timeout(Duration::from_secs(10), recovers);
        recovers.await.expect("it recovers");
    }
}
