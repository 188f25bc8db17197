//! What an event of a stream costs the gateway, for every client format in front of every upstream format, native cells beside
//! translated ones in one run: `cargo bench -p polygate --bench streams`.
//!
//! CPU time of the gateway's process alone (Linux: `/proc/<pid>/task/*/schedstat`), per event that the upstream sends. Cells take
//! turns, and the least of their rounds counts, since everything else on the machine only adds. Twice: events one by one, as
//! models make them, and as fast as the mock can, when many come in one read.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::panic, reason = "a helper that cannot go on fails its run")]

#[path = "../tests/e2e/support.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::fs;

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};
use support::{Gate, mock};

const WORDS: u32 = 400;
const ROUNDS: usize = 7;
const STREAMS: usize = 16;

/// A client format: name, path, and question to a model.
type Client = (&'static str, &'static str, fn(&str) -> Value);

const CLIENTS: [Client; 4] = [
    (
        "openai-chat",
        "/v1/chat/completions",
        |model| json!({"model": model, "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "Hello"}]}),
    ),
    (
        "openai-responses",
        "/v1/responses",
        |model| json!({"model": model, "stream": true, "store": false, "input": "Hello"}),
    ),
    (
        "anthropic-messages",
        "/v1/messages",
        |model| json!({"model": model, "stream": true, "max_tokens": 4000, "messages": [{"role": "user", "content": "Hello"}]}),
    ),
    (
        "gemini",
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        |_| json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}),
    ),
];

/// Upstream formats, and what configuration says to get each.
const UPSTREAMS: [(&str, &str); 5] = [
    ("openai-chat", "openai-compatible, wire_api: chat"),
    ("openai-responses", "response_api"),
    ("anthropic-messages", "anthropic"),
    ("gemini", "gemini"),
    ("bedrock-converse", "bedrock"),
];

fn config(mock: &Mock) -> String {
    let providers = UPSTREAMS.map(|(format, kind)| {
        let url = mock.url();
        format!("  - {{name: {format}, type: {kind}, api_base: '{url}', api_key: k, model_mapping: [{format}]}}\n")
    });
    format!(
        "providers:\n{}health_check: {{enabled: false}}\n",
        providers.concat()
    )
}

#[tokio::main]
async fn main() {
    for (title, token_ms) in [("events one by one", 1), ("events as fast as they come", 0)] {
        let mock = mock("p").await;
        mock.script(Rule {
            then: Behaviour {
                tokens: Some(WORDS),
                token_ms,
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let gate = Gate::start(&config(&mock));
        let mut costs = [[f64::MAX; UPSTREAMS.len()]; CLIENTS.len()];
        for _ in 0..ROUNDS {
            for (client, row) in CLIENTS.iter().zip(&mut costs) {
                for ((format, _), least) in UPSTREAMS.iter().zip(row) {
                    let cost = round(&gate, client, format).await;
                    *least = least.min(cost);
                }
            }
        }
        println!("\n{title}: CPU µs an event (times the client's native cell)\n");
        let head = UPSTREAMS.map(|(format, _)| format!("{format:>24}"));
        println!("{:20}{}", "", head.concat());
        for ((name, ..), row) in CLIENTS.iter().zip(&costs) {
            let native = UPSTREAMS.iter().position(|(format, _)| format == name);
            let native = native.and_then(|at| row.get(at)).copied();
            let cells =
                row.map(|cost| format!("{cost:>15.2} ({:5.2})", cost / native.unwrap_or(cost)));
            println!(
                "{name:20}{}",
                cells.map(|cell| format!("{cell:>24}")).concat()
            );
        }
    }
}

/// The CPU time of an event, over some streams at once.
async fn round(gate: &Gate, client: &Client, format: &str) -> f64 {
    let (_, path, question) = client;
    let path = path.replace("{model}", format);
    let body = question(format).to_string();
    let before = cpu(gate.pid());
    let streams = (0..STREAMS).map(|_| gate.ask(Method::POST, &path, &[], body.clone()));
    for reply in futures_util::future::join_all(streams).await {
        let text = reply.text();
        assert!(
            reply.status == 200 && text.matches("word").count() > 100,
            "{text}"
        );
    }
    (cpu(gate.pid()) - before) / (STREAMS as f64 * f64::from(WORDS))
}

/// Microseconds on a CPU, all threads together.
fn cpu(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process on Linux");
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() as f64 / 1000.0
}
