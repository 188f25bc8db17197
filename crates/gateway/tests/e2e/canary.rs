//! Secrets and prompts that exist once, planted everywhere: nothing that the gateway writes has one of them, at the wordiest level.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use serde_json::{Value, json};

use crate::metrics::sum;
use crate::support::{ADMIN_KEY, Gate, chat, mock, until};

/// What must be nowhere, whatever is asked for.
const SECRETS: [&str; 11] = [
    "sk-canary-client-4f1c",
    "sk-canary-upstream-8a2d",
    "canary-secret-key-of-some-length-77e0",
    "canary-database-password-19bb",
    "canary-redis-password-c3c3",
    "canary-otlp-token-5d5d",
    "canary-header-90aa",
    "canary-query-6b6b",
    "canary-tool-token-e1e1",
    "Y2FuYXJ5LWltYWdl",
    ADMIN_KEY,
];

/// What is nowhere unless bodies are asked for.
const PROMPTS: [&str; 4] = [
    "canary prompt of the client",
    "canary-tool-argument",
    "canary answer of the provider",
    "canary system prompt",
];

fn config(one: &Mock, bad: &Mock) -> String {
    format!(
        "
providers:
  - {{name: one, type: mock, api_base: '{one}', api_key: {key}, model_mapping: [m, slow, cut]}}
  - {{name: bad, type: mock, api_base: '{bad}', api_key: {key}, model_mapping: [m, echo]}}
  - {{name: chat-only, type: openai-compatible, api_base: '{one}/v1', api_key: {key}, model_mapping: {{plain: m}}}}
  - {{name: gone, type: mock, api_base: 'http://127.0.0.1:9', api_key: {key}, model_mapping: [lost]}}
retry: {{breaker_threshold: 100000}}
health_check: {{enabled: false}}
server: {{shutdown_grace: 1}}
master_keys: [{{name: k, key: {client}}}]
",
        one = one.url(),
        bad = bad.url(),
        key = SECRETS[1],
        client = SECRETS[0],
    )
}

/// A call with something to hide in each of its parts.
/// `user` is no part of the prompt: it is recorded.
fn body(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "stream": stream, "user": "somebody",
        "messages": [
            {"role": "system", "content": PROMPTS[3]},
            {"role": "user", "content": [
                {"type": "text", "text": PROMPTS[0]},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", SECRETS[9])}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {
                "name": "f", "arguments": json!({"x": PROMPTS[1]}).to_string()}}]},
            {"role": "tool", "tool_call_id": "c1", "content": PROMPTS[1]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}}],
        "metadata": {"api_key": SECRETS[8]},
    })
}

fn headers() -> Vec<(&'static str, String)> {
    vec![
        ("authorization", format!("Bearer {}", SECRETS[0])),
        ("content-type", "application/json".to_owned()),
        ("x-something", SECRETS[6].to_owned()),
        ("cookie", format!("session={}", SECRETS[6])),
    ]
}

async fn ask(gate: &Gate, path: &str, body: String) {
    let headers = headers();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    gate.ask(Method::POST, path, &headers, body).await;
}

async fn ask_over_http2(gate: &Gate, path: &str, body: String) {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let mut request = Request::post(format!("{}{path}", gate.url));
    for (name, value) in headers() {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let answer = client.request(request).await.expect("an answer");
    answer.into_body().collect().await.expect("a body");
}

/// What is no request, with secrets in it.
fn mumble(gate: &Gate) {
    for text in [
        format!(
            "GET /{} HTTP/1.1\r\nhost: x\r\nbad header {}\r\n\r\n",
            SECRETS[7], SECRETS[6]
        ),
        format!(
            "POST /v1/chat/completions?key={} HTTP/9.9\r\n\r\n",
            SECRETS[7]
        ),
        format!("{}\r\n\r\n", PROMPTS[0]),
    ] {
        let mut socket = TcpStream::connect(gate.address()).expect("it listens");
        socket.write_all(text.as_bytes()).expect("it reads");
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

async fn traffic(gate: &Gate) {
    const CHAT: &str = "/v1/chat/completions";
    for stream in [false, true] {
        for model in ["m", "echo", "cut", "plain", "lost", "nobody"] {
            ask(gate, CHAT, body(model, stream).to_string()).await;
            ask_over_http2(gate, CHAT, body(model, stream).to_string()).await;
        }
    }
    let gemini =
        json!({"contents": [{"role": "user", "parts": [{"text": PROMPTS[0]}]}]}).to_string();
    let query = format!("/v1beta/models/m:generateContent?key={}", SECRETS[7]);
    ask(gate, &query, gemini.clone()).await;
    gate.ask(Method::POST, &query, &[], gemini.clone()).await;
    let messages = json!({"model": "plain", "max_tokens": 9, "top_k": 2, "system": PROMPTS[3], "messages": [{"role": "user", "content": PROMPTS[0]}]});
    ask(gate, "/v1/messages", messages.to_string()).await;
    ask(
        gate,
        "/v1/responses",
        json!({"model": "plain", "input": PROMPTS[0]}).to_string(),
    )
    .await;
    let cut = body("m", false).to_string();
    ask(gate, CHAT, cut[..cut.len() / 2].to_owned()).await;
    for key in [SECRETS[0], SECRETS[8]] {
        let key = format!("Bearer {key}");
        for path in [
            "/admin/v1/logs",
            "/admin/config",
            "/v1/models",
            "/health/detailed",
        ] {
            gate.ask(Method::GET, path, &[("authorization", &key)], "")
                .await;
        }
        gate.ask(
            Method::POST,
            CHAT,
            &[("authorization", &key)],
            body("m", false).to_string(),
        )
        .await;
    }
    let provider = json!({"name": "new", "type": "mock", "api_base": "http://127.0.0.1:9", "api_key": SECRETS[1]});
    let admin = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("authorization", &*admin),
        ("content-type", "application/json"),
    ];
    gate.ask(
        Method::POST,
        "/admin/v1/providers",
        &headers,
        provider.to_string(),
    )
    .await;
    mumble(gate);
}

/// Every file below a folder but the configuration itself, by name.
fn written(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            written(&path, into);
        } else if !path.ends_with("config.yaml") {
            into.push((
                path.display().to_string(),
                std::fs::read(&path).unwrap_or_default(),
            ));
        }
    }
}

fn hits(outputs: &[(String, Vec<u8>)], canaries: &[&str]) -> Vec<String> {
    let mut hits = Vec::new();
    for (name, bytes) in outputs {
        let text = String::from_utf8_lossy(bytes);
        for canary in canaries {
            if let Some(at) = text.find(canary) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let line: String = text[line..].chars().take(500).collect();
                hits.push(format!("{canary} in {name}: {line}"));
            }
        }
    }
    hits
}

/// Everything that the gateway wrote or answers to operators, after traffic of every kind.
async fn outputs(database: &str, variables: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let (one, bad) = (mock("one").await, mock("bad").await);
    let said = Behaviour {
        text: Some(PROMPTS[2].to_owned()),
        ..Behaviour::default()
    };
    let cut = Behaviour {
        text: Some(PROMPTS[2].to_owned()),
        fault: Some(Fault::CutAfter(2)),
        ..Behaviour::default()
    };
    let echo = Behaviour {
        status: Some(401),
        error: Some(format!(
            "the key {} is no good for {}",
            SECRETS[1], PROMPTS[0]
        )),
        ..Behaviour::default()
    };
    for (mock, model, then) in [(&one, "m", said), (&one, "cut", cut), (&bad, "echo", echo)] {
        mock.script(Rule {
            model: Some(model.to_owned()),
            then,
            ..Rule::default()
        });
    }
    let token = format!("authorization=Bearer%20{}", SECRETS[5]);
    let redis = format!("redis://u:{}@127.0.0.1:1", SECRETS[4]);
    let mut all = vec![
        ("DB_URL", database),
        ("REDIS_URL", &*redis),
        ("POLYGATE_SECRET_KEY", SECRETS[2]),
        ("RUST_LOG", "trace"),
        ("JSONL_LOG_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", &*token),
    ];
    all.extend(variables);
    let mut gate = Gate::start_with(&config(&one, &bad), &all);
    traffic(&gate).await;
    let mut outputs = Vec::new();
    for path in [
        "/metrics",
        "/admin/metrics",
        "/admin/config",
        "/admin/v1/health",
        "/admin/v1/providers",
        "/admin/v1/master-keys",
        "/admin/v1/logs",
        "/admin/v1/error-logs",
        "/admin/v1/usage",
    ] {
        // A database that is away is waited for by each of these.
        if database.starts_with("postgres") && path.starts_with("/admin/v1/") {
            continue;
        }
        outputs.push((path.to_owned(), gate.admin(path).await.body.to_vec()));
    }
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    let log = gate.log();
    let traced = log.matches("\"level\":\"TRACE\"").count();
    assert!(traced > 100, "the wordiest level was on: {traced}");
    assert!(log.matches("\"target\":\"polygate::call\"").count() > 25);
    written(gate.dir(), &mut outputs);
    outputs
}

fn lines(outputs: &[(String, Vec<u8>)]) -> Vec<Value> {
    let log = outputs
        .iter()
        .find(|(name, _)| name.ends_with("requests.jsonl"));
    let (_, bytes) = log.expect("a request log");
    let text = String::from_utf8(bytes.clone()).expect("text");
    let line = |line: &str| serde_json::from_str(line).expect("JSON");
    text.lines().map(line).collect()
}

#[tokio::test]
async fn no_secret_and_no_prompt_is_written_anywhere() {
    let away = format!("postgres://u:{}@127.0.0.1:1/db", SECRETS[3]);
    for database in [away.as_str(), "sqlite:calls.db"] {
        let outputs = outputs(database, &[]).await;
        assert!(lines(&outputs).len() > 25);
        let all = [&SECRETS[..], &PROMPTS[..]].concat();
        let hits = hits(&outputs, &all);
        assert!(
            hits.is_empty(),
            "{database}: {} hits: {hits:#?}",
            hits.len()
        );
    }
}

#[tokio::test]
async fn bodies_that_are_asked_for_are_in_the_request_log_alone_and_without_secrets() {
    let mut outputs = outputs("sqlite:calls.db", &[("JSONL_LOG_CONTENT", "true")]).await;
    let found = hits(&outputs, &SECRETS);
    assert!(found.is_empty(), "{found:#?}");
    let log = outputs
        .iter()
        .position(|(name, _)| name.ends_with("requests.jsonl"));
    let log = outputs.remove(log.expect("a request log"));
    assert!(hits(&[log], &PROMPTS).len() >= 3, "they were asked for");
    let found = hits(&outputs, &PROMPTS);
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn what_callers_send_makes_no_line_and_no_colour() {
    let one = mock("one").await;
    let config = format!(
        "providers: [{{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: {{'*': m}}}}]\nhealth_check: {{enabled: false}}\n",
        one.url()
    );
    for format in ["json", "pretty"] {
        let variables = [
            ("POLYGATE_LOG_FORMAT", format),
            ("JSONL_LOG_ENABLED", "true"),
        ];
        let mut gate = Gate::start_with(&config, &variables);
        let model = "m\u{1b}[31m\r\nFORGED level=ERROR\u{202e}\u{9b}0m";
        let answer = gate.post("/v1/chat/completions", &chat(model, false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        gate.signal("TERM");
        assert!(gate.wait().success());
        let written = std::fs::read_to_string(gate.dir().join("logs/requests.jsonl"));
        for text in [gate.log(), written.expect("a request log")] {
            assert!(text.contains("FORGED"), "{text}");
            assert!(
                !text.contains('\u{1b}') && !text.contains('\u{9b}'),
                "{text:?}"
            );
            assert!(
                !text.lines().any(|line| line.starts_with("FORGED")),
                "{text}"
            );
        }
        let calls = gate
            .log()
            .lines()
            .filter(|line| line.contains("polygate::call"))
            .count();
        assert_eq!(calls, 1, "one line a call");
    }
}

#[tokio::test]
async fn a_request_log_that_cannot_be_written_costs_no_call() {
    let one = mock("one").await;
    let config = format!(
        "providers: [{{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\njsonl_log: {{path: /dev/full, buffer_size: 1}}\n",
        one.url()
    );
    let gate = Gate::start(&config);
    for _ in 0..40 {
        let answer = gate.post("/v1/chat/completions", &chat("m", false)).await;
        assert_eq!(answer.status, 200);
    }
    let page = gate.get("/metrics").await.text();
    let of = |fate| {
        sum(
            &page,
            "polygate_telemetry_calls_total",
            &[("destination", "jsonl"), ("fate", fate)],
        )
    };
    assert!(of("dropped") + of("refused") > 0, "{page}");
    assert_eq!(
        sum(&page, "llm_proxy_requests_total", &[("status_code", "200")]),
        40
    );
    until("it is said", || {
        gate.log().contains("the request log cannot be written")
    })
    .await;
    assert_eq!(
        gate.log()
            .matches("the request log cannot be written")
            .count(),
        1
    );
}

/// What a pipe holds that nobody reads from.
const PIPE: usize = 64 << 10;

/// A pipe that nobody reads from, and the other end of it. It is full already.
pub fn full_pipe(folder: &Path) -> (PathBuf, File) {
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let other = File::options().read(true).write(true).open(&pipe);
    let mut other = other.expect("a pipe");
    other.write_all(&[0; PIPE]).expect("it takes so much");
    (pipe, other)
}

#[tokio::test]
async fn a_request_log_that_hangs_holds_up_neither_calls_nor_the_end() {
    let one = mock("one").await;
    let folder = tempfile::tempdir().expect("a folder");
    let (pipe, _other) = full_pipe(folder.path());
    let config = format!(
        "providers: [{{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\njsonl_log: {{path: '{}', buffer_size: 10}}\n",
        one.url(),
        pipe.display()
    );
    let mut gate = Gate::start(&config);
    let dropped = |page: &str| {
        let labels = [("destination", "jsonl"), ("fate", "dropped")];
        sum(page, "polygate_telemetry_calls_total", &labels)
    };
    let mut asked = 0;
    while dropped(&gate.get("/metrics").await.text()) == 0 {
        let answer = gate.post("/v1/chat/completions", &chat("m", false)).await;
        assert_eq!(answer.status, 200);
        asked += 1;
        assert!(asked < 2000, "nobody takes what is written");
    }
    let start = std::time::Instant::now();
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    assert!(start.elapsed().as_secs() < 8, "{:?}", start.elapsed());
    assert!(gate.log().contains("not all that happened"));
}
