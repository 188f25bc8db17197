//! The generic proxy is no way around: lists of models, rules, cloaks; and a provider's key does not come back through it.

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::guards::sent;
use crate::support::{Gate, Reply, calls, mock};

fn config(mock: &Mock) -> String {
    format!(
        "
providers:
  - {{name: p, type: openai, api_base: '{url}', api_key: sk-provider-secret-1, model_mapping: [gpt-4o-mini, gpt-4o, whisper-1], headers: {{x-relay-token: relay-secret-2}}}}
  - {{name: g, type: gemini, api_base: '{url}', api_key: sk-provider-secret-1, model_mapping: [gemini-flash, gemini-pro]}}
models: {{fast: {{targets: [{{provider: p, model: gpt-4o-mini}}]}}}}
master_keys:
  - {{name: listed, key: sk-listed-0123456789, allowed_models: [gpt-4o-mini, gemini-flash, fast]}}
  - {{name: free, key: sk-free-0123456789}}
payload: {{override: [{{when: {{keys: [free]}}, params: {{max_tokens: 7}}}}]}}
passthrough_headers: ['x-*']
health_check: {{enabled: false}}",
        url = mock.url()
    )
}

async fn post(gate: &Gate, key: &str, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Reply {
    let key = format!("Bearer sk-{key}-0123456789");
    let headers = [("authorization", &*key), ("content-type", kind)];
    gate.ask(Method::POST, path, &headers, body.into()).await
}

/// What is said of a form of two megabytes while it comes: who only writes may not hear of it.
async fn long_upload(gate: &Gate) -> String {
    let mut socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let head = "POST /v1/gpt-4o-mini/audio HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-listed-0123456789\r\n";
    let body = format!("content-type: {FORM}\r\ncontent-length: 2000000\r\n\r\n--x");
    let sent = socket.write_all(format!("{head}{body}").as_bytes()).await;
    sent.expect("sent");
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=x";

#[tokio::test]
async fn a_list_of_models_holds_in_bodies_and_paths() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    let chat = "/v1/gpt-4o-mini/chat/completions";
    let form = |model: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--x--")
    };
    let body = |model: &str| json!({"model": model, "messages": []}).to_string();
    for (path, kind, body) in [
        (chat, JSON, body("gpt-4o-mini")),
        ("/v1/fast/chat/completions", JSON, body("gpt-4o-mini")),
        ("/v1/fast/things", JSON, body("fast")),
        ("/v1/gpt-4o-mini/audio", FORM, form("gpt-4o-mini")),
        (
            "/v1/gpt-4o-mini/things",
            "text/plain",
            "anything".to_owned(),
        ),
        (
            "/v1/gemini-flash/models/gemini-flash:generateContent",
            JSON,
            "{}".to_owned(),
        ),
    ] {
        let reply = post(&gate, "listed", path, kind, body.clone()).await;
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
    }
    let before = calls(&mock).len();
    let twice = r#"{"model":"gpt-4o-mini","mod\u0065l":"gpt-4o"}"#;
    for (path, kind, body) in [
        (chat, JSON, body("gpt-4o")),
        (chat, "text/plain", body("gpt-4o")),
        (chat, JSON, twice.to_owned()),
        (chat, JSON, format!("\u{feff}{}", body("gpt-4o"))),
        (chat, JSON, json!({"models": ["gpt-4o"]}).to_string()),
        ("/v1/gpt-4o-mini/audio", FORM, form("whisper-1")),
        ("/v1/gpt-4o-mini/x?model=gpt-4o", JSON, "{}".to_owned()),
        (
            "/v1/gemini-flash/models/gemini-pro:generateContent",
            JSON,
            "{}".to_owned(),
        ),
    ] {
        let reply = post(&gate, "listed", path, kind, body).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text());
    }
    assert_eq!(long_upload(&gate).await, "HTTP/1.1 403 Forbidden");
    let wide: Vec<u8> = body("gpt-4o")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let reply = post(&gate, "listed", chat, JSON, wide).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(calls(&mock).len(), before, "nobody was asked");
    let reply = post(&gate, "free", chat, JSON, body("gpt-4o")).await;
    assert_eq!(reply.status, 200, "who has no list may name any");
}

#[tokio::test]
async fn json_is_seen_however_it_is_sent() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    let long = "x".repeat(2 << 20);
    for (path, kind, body) in [
        (
            "/v1/gpt-4o/chat/completions",
            JSON,
            "\u{feff}{\"model\":\"m\"}",
        ),
        ("/v1/gpt-4o/chat/completion%73/", JSON, "{\"model\":\"m\"}"),
        (
            "/v1/gpt-4o/chat/completions",
            "",
            &*format!("{{\"model\":\"m\",\"a\":\"{long}\"}}"),
        ),
        (
            "/v1/gpt-4o/chat/completions",
            JSON,
            &*format!("{{\"model\":\"m\",\"a\":\"{long}\"}}"),
        ),
    ] {
        let reply = post(&gate, "free", path, kind, body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert!(sent(&mock).contains("\"max_tokens\":7"), "{path} {kind}");
    }
}

#[tokio::test]
async fn keys_of_the_operator_do_not_come_back() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    let secrets = ["sk-provider-secret-1", "relay-secret-2"];
    for secret in secrets {
        for status in [200, 400, 401, 429] {
            mock.script(Rule {
                then: Behaviour {
                    status: Some(status),
                    headers: [("x-e".to_owned(), format!("Bearer {secret}"))].into(),
                    body: Some(format!(
                        "{{\"error\":{{\"message\":\"bad key {secret}\"}}}}"
                    )),
                    content_type: Some(JSON.to_owned()),
                    ..Behaviour::default()
                },
                times: Some(2),
                ..Rule::default()
            });
            let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]});
            for path in ["/v1/gpt-4o/things", "/v1/chat/completions"] {
                let reply = post(&gate, "free", path, JSON, body.to_string()).await;
                let is_answer = status == 200;
                assert_eq!(reply.header("x-e"), "", "{path} {status} {secret}");
                assert!(
                    is_answer || !reply.text().contains(secret),
                    "{path} {status}: {}",
                    reply.text()
                );
            }
        }
    }
    assert!(secrets.iter().all(|secret| !gate.log().contains(secret)));
}
