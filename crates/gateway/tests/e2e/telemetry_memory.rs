//! Those who are told of calls hang, and prompts are long: memory stays within bounds, and of every call at least the figures are told.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use polygate_mock_provider::{Mock, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::canary::full_pipe;
use crate::metrics::sum;
use crate::support::{Gate, until};
use crate::telemetry::{Collector, said};

/// So many calls, each with a prompt of so many bytes: 240 MB, of which three destinations could each keep all.
const CALLS: u64 = 1000;
const PROMPT: usize = 240_000;

/// What the process may grow by: a budget of 32 MiB, which the three share as they keep the same, and for two of them a page that is on
/// its way; the rest is for the allocator.
const GROWTH: u64 = 100 << 20;

const PATHS: [(&str, &str); 2] = [
    ("otlp_traces", "/v1/traces"),
    ("langfuse", "/api/public/otel/v1/traces"),
];

fn config(mock: &Mock, url: &str, pipe: &std::path::Path) -> String {
    format!(
        "
providers: [{{name: one, type: mock, api_base: '{mock}', api_key: k, model_mapping: [m]}}]
health_check: {{enabled: false}}
otlp: {{endpoint: '{url}', metrics: false, timeout: 120, content: true}}
langfuse: {{enabled: true, host: '{url}', public_key: p, secret_key: s, timeout: 120}}
jsonl_log: {{path: '{pipe}', buffer_size: 5000, content: true}}
",
        mock = mock.url(),
        pipe = pipe.display(),
    )
}

async fn ask(gate: &Gate, calls: u64, prompt: &str) {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": prompt}]});
    let asks = (0..calls).map(|_| gate.post("/v1/chat/completions", &body));
    let mut replies = futures_util::stream::iter(asks).buffer_unordered(8);
    while let Some(reply) = replies.next().await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// What is counted of a destination: sent, refused or dropped whole, told without content.
async fn counts(gate: &Gate, destination: &str) -> (u64, u64, u64) {
    let page = gate.get("/metrics").await.text();
    let calls = |fate| {
        let labels = [("destination", destination), ("fate", fate)];
        sum(&page, "polygate_telemetry_calls_total", &labels)
    };
    let labels = [("destination", destination)];
    let silenced = sum(&page, "polygate_telemetry_contents_dropped_total", &labels);
    (calls("sent"), calls("refused") + calls("dropped"), silenced)
}

async fn memory(gate: &Gate) -> u64 {
    let page = gate.get("/metrics").await.text();
    sum(&page, "process_resident_memory_bytes", &[])
}

/// What comes to a collector of calls once it takes them, against what is counted of them.
async fn all_are_told(gate: &Gate, collector: &Collector, calls: u64) {
    for (destination, path) in PATHS {
        // A call is a span, and its one attempt another.
        until("all spans are there", || {
            collector.spans_at(path).len() as u64 >= 2 * calls
        })
        .await;
        let spans = collector.spans_at(path);
        let of_calls: Vec<_> = spans.iter().filter(|span| span.kind == 2).collect();
        assert_eq!(of_calls.len() as u64, calls, "{destination}");
        let silenced = |span: &&&_| is_silenced(span);
        let silenced = of_calls.iter().filter(silenced).count() as u64;
        // A batch counts as sent when the answer to it is read.
        let start = Instant::now();
        let mut counted = counts(gate, destination).await;
        while counted.0 < calls && start.elapsed() < Duration::from_secs(10) {
            counted = counts(gate, destination).await;
        }
        assert_eq!(counted, (calls, 0, silenced), "{destination}");
    }
}

fn is_silenced(span: &opentelemetry_proto::tonic::trace::v1::Span) -> bool {
    said(&span.attributes, "polygate.content_dropped") == Value::Bool(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_that_hang_keep_no_more_than_their_budget() {
    let options = Options {
        models: vec!["m".to_owned()],
        ..Options::default()
    };
    let one = Mock::start(options).await.expect("a mock");
    let folder = TempDir::new().expect("a folder");
    let (pipe, _other) = full_pipe(folder.path());
    // Connections wait in its backlog until somebody takes them.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let gate = Gate::start(&config(&one, &url, &pipe));
    ask(&gate, 100, "Hello there").await;
    let before = memory(&gate).await;
    ask(&gate, CALLS, &"word ".repeat(PROMPT / 5)).await;
    let grown = memory(&gate).await.saturating_sub(before);
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
    for destination in ["otlp_traces", "langfuse", "jsonl"] {
        let (sent, lost, silenced) = counts(&gate, destination).await;
        assert_eq!(lost, 0, "{destination}");
        // Some small lines find room in the buffer of the request log's writer.
        assert!(sent <= if destination == "jsonl" { 50 } else { 0 });
        assert!((CALLS / 2..CALLS).contains(&silenced), "{silenced}");
    }
    let collector = Collector::default();
    collector.serve(listener);
    all_are_told(&gate, &collector, 100 + CALLS).await;
    // What they kept is given back: prompts are told again.
    ask(&gate, 100, &"word ".repeat(PROMPT / 5)).await;
    let (_, path) = PATHS[0];
    let spans = || collector.spans_at(path);
    until("more spans are there", || {
        spans().len() as u64 >= 2 * (200 + CALLS)
    })
    .await;
    let spans = spans();
    let last = spans.iter().filter(|span| span.kind == 2).rev().take(100);
    let told = last.filter(|span| {
        let asked = said(&span.attributes, "gen_ai.input.messages");
        !is_silenced(span) && asked.as_str().is_some_and(|text| text.len() > PROMPT)
    });
    assert_eq!(told.count(), 100);
}
