//! What is no way around a guard: models that are named elsewhere, and routes that pass unread.

use http::{Method, StatusCode};
use polygate_mock_provider::{Behaviour, Rule};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ADDRESS, config, guards, sent};
use crate::support::{Gate, calls, mock};

/// Whom a request names behind its model may be the one who answers.
#[tokio::test]
async fn models_that_are_named_behind_the_first_are_no_way_around() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        "guards: [{name: claude, when: {models: [messages-m]}, words: [hush], action: block}]",
    ));
    let ask = async |more: Value| {
        let mut body =
            json!({"model": "chat-m", "messages": [{"role": "user", "content": "hush"}]});
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        gate.post("/v1/chat/completions", &body).await
    };
    for more in [
        json!({"fallbacks": ["responses-m", "messages-m"]}),
        json!({"models": ["chat-m", "messages-m"]}),
        // What passes to upstreams as it is may mean something to them.
        json!({"models": ["chat-m", "messages-m", 1]}),
        json!({"models": "messages-m"}),
        json!({"fallbacks": [{"model": "messages-m"}]}),
    ] {
        let reply = ask(more.clone()).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{more} {}",
            reply.text()
        );
        assert!(reply.text().contains("guard 'claude'"), "{}", reply.text());
    }
    assert!(calls(&mock).is_empty(), "nobody is asked");
    let other = ask(json!({"fallbacks": ["responses-m"]})).await;
    assert_eq!(other.status, StatusCode::OK, "{}", other.text());
}

/// Nor is a body or a path of the generic proxy, which may say more of models than its first segment.
#[tokio::test]
async fn models_that_a_proxied_call_names_are_no_way_around() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        "guards: [{name: claude, when: {models: [messages-m]}, words: [hush], action: block}]",
    ));
    let headers = [("content-type", "application/json")];
    let ask = async |path: &str, members: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "hush"}]});
        for (name, value) in members.as_object().expect("members") {
            body[name] = value.clone();
        }
        gate.ask(Method::POST, path, &headers, body.to_string())
            .await
    };
    for (path, members) in [
        (
            "/v1/chat-m/chat/completions",
            json!({"model": "messages-m"}),
        ),
        (
            "/v1/chat-m/chat/completions",
            json!({"models": ["messages-m", 1]}),
        ),
        (
            "/v1/chat-m/other",
            json!({"requests": [{"model": "messages-m"}]}),
        ),
        ("/v1/gemini-m/models/messages-m:generateContent", json!({})),
        ("/v1/chat-m/other?model=messages-m", json!({})),
    ] {
        let reply = ask(path, members).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{path} {}",
            reply.text()
        );
        assert!(reply.text().contains("guard 'claude'"), "{}", reply.text());
    }
    // What nobody can read may name any.
    let packed = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let path = "/v1/chat-m/chat/completions";
    let reply = gate.ask(Method::POST, path, &packed, "?").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    assert!(calls(&mock).is_empty(), "nobody is asked");
    let other = ask("/v1/chat-m/chat/completions", json!({"model": "chat-m"})).await;
    assert_eq!(other.status, StatusCode::OK, "{}", other.text());
}

#[tokio::test]
async fn routes_that_pass_unread_are_no_way_around() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(
        &mock,
        &guards(&[
            ("restore", "detect: [email], action: restore"),
            ("flag", "detect: [email], action: flag"),
            ("block", "on: [answer], words: [never said], action: block"),
        ]),
    ));
    mock.script(Rule {
        path: Some("/odd".to_owned()),
        then: Behaviour {
            body: Some("{\"said\":\"x\"}".to_owned()),
            content_type: Some("application/json".to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let path = "/v1/chat-m/odd";
    let post = async |guard: &str, body: Vec<u8>| {
        gate.ask(
            Method::POST,
            path,
            &[("x-guard", guard), ("content-type", "text/plain")],
            body,
        )
        .await
    };
    for body in [
        json!({"x": ADDRESS}).to_string(),
        format!("plain {ADDRESS}"),
    ] {
        let reply = post("restore", body.into_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            sent(&mock).contains("[EMAIL_") && !sent(&mock).contains(ADDRESS),
            "{}",
            sent(&mock)
        );
    }
    let long = vec![b'x'; 2 << 20];
    let before = calls(&mock).len();
    // It is refused on its way: who only writes does not hear of it.
    let mut socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-guard: restore\r\ncontent-type: audio/wav\r\ncontent-length: {}\r\n\r\n",
        long.len()
    );
    let _ = socket
        .write_all(&[head.as_bytes(), &long[..1000]].concat())
        .await;
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(calls(&mock).len(), before);
    assert_eq!(
        post("flag", long).await.status,
        200,
        "who only tells holds up nobody"
    );
    // Embeddings and counts reach models too.
    let headers = [("x-guard", "restore"), ("content-type", "application/json")];
    for (path, body) in [
        (
            "/v1/embeddings",
            json!({"model": "chat-m", "input": [ADDRESS]}),
        ),
        (
            "/v1/completions",
            json!({"model": "chat-m", "prompt": ADDRESS}),
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "messages-m", "messages": [{"role": "user", "content": ADDRESS}]}),
        ),
        (
            "/v1beta/models/gemini-m:embedContent",
            json!({"content": {"parts": [{"text": ADDRESS}]}}),
        ),
    ] {
        let reply = gate
            .ask(Method::POST, path, &headers, body.to_string())
            .await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert!(
            sent(&mock).contains("[EMAIL_") && !sent(&mock).contains(ADDRESS),
            "{path}: {}",
            sent(&mock)
        );
    }
}
