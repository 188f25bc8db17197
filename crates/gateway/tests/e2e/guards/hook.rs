//! Guards that ask somebody else.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{CLIENTS, ask, config, guards, in_every_way, said, sent};
use crate::support::{Gate, mock, until};

/// Somebody who is asked: by what is said he blocks, says it otherwise, answers nonsense, or does not answer.
async fn hook() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!(
        "http://{}/secret-path",
        listener.local_addr().expect("an address")
    );
    let asked = Arc::new(Mutex::new(Vec::new()));
    let questions = asked.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer_questions(socket, questions.clone()));
        }
    });
    (url, asked)
}

async fn answer_questions(socket: TcpStream, questions: Arc<Mutex<Vec<Value>>>) {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut length, mut line) = (0, String::new());
        while socket.read_line(&mut line).await.is_ok_and(|read| read > 0) && line != "\r\n" {
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if length == 0 || socket.read_exact(&mut body).await.is_err() {
            return;
        }
        let question: Value = serde_json::from_slice(&body).expect("a question");
        let texts = question["texts"].to_string();
        questions
            .lock()
            .expect("nobody panics")
            .push(question.clone());
        let says = |word: &str| texts.contains(word);
        let verdict = match question["side"].as_str() {
            _ if says("SLOW") => std::future::pending().await,
            _ if says("ODD") => json!("?"),
            Some("request") if says("BAD") => json!({"action": "block"}),
            Some("answer") if says("WORSE") => json!({"action": "block"}),
            _ if says("SAME") => json!({"action": "redact", "texts": question["texts"]}),
            _ if says("SWAP") => {
                let texts: Value =
                    serde_json::from_str(&texts.replace("SWAP", "GOOD \\\"é")).expect("texts");
                json!({"action": "redact", "texts": texts})
            }
            _ => json!({"action": "allow"}),
        };
        let verdict = verdict.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{verdict}",
            verdict.len()
        );
        if socket.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn somebody_else_may_be_asked() {
    let mock = mock("p").await;
    let (url, asked) = hook().await;
    let webhook = |failure: &str| {
        format!(
            "webhook: {{url: '{url}', headers: {{authorization: Bearer hook-secret}}, timeout: 300ms, on_failure: {failure}}}"
        )
    };
    let gate = Gate::start(&config(
        &mock,
        &guards(&[
            ("open", &webhook("open")),
            ("closed", &webhook("closed")),
            ("late", &format!("on: [answer], {}", webhook("closed"))),
        ]),
    ));
    in_every_way(
        &gate,
        "open",
        "all is well",
        |client, reply, stream, what| {
            assert!(
                said(client, reply, stream).contains("all is well"),
                "{what}"
            );
            assert_eq!(reply.header("x-polygate-guards"), "", "{what}");
        },
    )
    .await;
    let first = asked.lock().expect("nobody panics")[0].clone();
    assert_eq!(
        (first["guard"].as_str(), first["side"].as_str()),
        (Some("open"), Some("request")),
        "{first}"
    );
    assert_eq!(
        (first["model"].as_str(), first["texts"][0].as_str()),
        (Some("chat-m"), Some("all is well")),
        "{first}"
    );
    in_every_way(&gate, "closed", "this is BAD", |_, reply, _, what| {
        assert!(
            reply.status == 400 && reply.text().contains("guard 'closed'"),
            "{what}"
        );
    })
    .await;
    in_every_way(&gate, "late", "this is WORSE", |_, reply, _, what| {
        assert_eq!(reply.status, 400, "{what}");
        assert_eq!(reply.header("content-type"), "application/json", "{what}");
        assert!(
            reply.text().contains("guard 'late'") && !reply.text().contains("WORSE"),
            "{what}"
        );
    })
    .await;
    let client = &CLIENTS[0];
    let swapped = ask(&gate, "closed", client, "messages-m", "a SWAP", false).await;
    assert!(
        sent(&mock).contains("a GOOD") && !sent(&mock).contains("SWAP"),
        "{}",
        sent(&mock)
    );
    assert!(
        said("chat", &swapped, false).contains("a GOOD \"é"),
        "{}",
        swapped.text()
    );
    let same = ask(&gate, "closed", client, "chat-m", "the SAME", true).await;
    assert!(
        said("chat", &same, true).contains("the SAME"),
        "{}",
        same.text()
    );
    let late = ask(&gate, "late", client, "chat-m", "an ODD one", true).await;
    assert_eq!(
        late.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        late.text()
    );
    for text in ["SLOW", "ODD"] {
        let refused = ask(&gate, "closed", client, "chat-m", text, false).await;
        assert_eq!(
            refused.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            refused.text()
        );
        let passed = ask(&gate, "open", client, "chat-m", text, true).await;
        assert!(
            said("chat", &passed, true).contains(text),
            "{}",
            passed.text()
        );
    }
    until("it is in the log", || {
        gate.log().matches("webhook did not answer").count() >= 4
    })
    .await;
    for secret in ["secret-path", "hook-secret"] {
        assert!(!gate.log().contains(secret), "{secret}");
    }
}
