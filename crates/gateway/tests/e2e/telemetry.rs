//! Collectors and Langfuse are told what happened, and nobody waits for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use prost::Message;
use serde_json::{Value, json};

use crate::metrics::sum;
use crate::support::{Gate, Reply, mock, until};

/// What came to a collector.
#[derive(Clone)]
struct Post {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A collector that keeps what it is told.
#[derive(Clone, Default)]
pub struct Collector {
    posts: Arc<Mutex<Vec<Post>>>,
    /// What it answers, from first to last; then 200.
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Collector {
    pub async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a socket");
        let address = listener.local_addr().expect("its address");
        self.serve(listener);
        format!("http://{address}")
    }

    /// Takes what comes to a socket, and what waits there already.
    pub fn serve(&self, listener: tokio::net::TcpListener) {
        let collector = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let collector = collector.clone();
                let service = service_fn(move |request| collector.clone().take(request));
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
    }

    async fn take(self, request: http::Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let status = if answers.is_empty() {
            200
        } else {
            answers.remove(0)
        };
        drop(answers);
        if status == 200 {
            self.posts().push(Post {
                path: head.uri.path().to_owned(),
                headers: head.headers,
                body: body.to_bytes(),
            });
        }
        let answer = Response::builder().status(status).body(Full::default());
        answer.map_err(|error| error.to_string())
    }

    fn posts(&self) -> std::sync::MutexGuard<'_, Vec<Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All spans so far that came to a path.
    pub fn spans_at(&self, path: &str) -> Vec<Span> {
        let posts = self.posts();
        let posts = posts.iter().filter(|post| post.path == path);
        posts.flat_map(spans_of).collect()
    }

    /// All spans so far, once there are so many.
    pub async fn spans(&self, count: usize) -> Vec<Span> {
        let start = Instant::now();
        loop {
            let spans: Vec<Span> = self.posts().iter().flat_map(spans_of).collect();
            if spans.len() >= count {
                assert_eq!(spans.len(), count, "{spans:#?}");
                return spans;
            }
            assert!(start.elapsed() < Duration::from_secs(15), "{spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spans_of(post: &Post) -> Vec<Span> {
    let request: ExportTraceServiceRequest = match post.headers["content-type"].to_str() {
        Ok("application/json") => serde_json::from_slice(&post.body).expect("JSON of spans"),
        Ok("application/x-protobuf") => {
            if post.path.ends_with("/metrics") {
                return Vec::new();
            }
            Message::decode(post.body.clone()).expect("spans")
        }
        other => panic!("{other:?}"),
    };
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// An attribute as JSON.
pub fn said(attributes: &[KeyValue], key: &str) -> Value {
    let found = attributes.iter().find(|pair| pair.key == key);
    let value = found.and_then(|pair| pair.value.clone()?.value);
    match value {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::BoolValue(flag)) => flag.into(),
        Some(Any::ArrayValue(list)) => {
            let texts = list.values.into_iter().map(|one| match one.value {
                Some(Any::StringValue(text)) => Value::from(text),
                other => panic!("{other:?}"),
            });
            texts.collect()
        }
        Some(other) => panic!("{other:?}"),
    }
}

fn object(attributes: &[KeyValue], key: &str) -> Value {
    let text = said(attributes, key);
    serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SECRET: &str = "sk-provider-secret";
const PROMPT: &str = "Whisper: violet-umbrella-42";

async fn ask(gate: &Gate, stream: bool) -> Reply {
    let body = json!({
        "model": "m", "stream": stream, "temperature": 0.5, "max_tokens": 300,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
    });
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = [
        ("authorization", "Bearer sk-of-alice"),
        ("content-type", "application/json"),
        ("traceparent", &*parent),
        ("tracestate", "shop=7"),
    ];
    let path = "/v1/chat/completions";
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

/// A provider that fails, one that answers, and a gateway in front of both that tells.
async fn telling(told: &str, variables: &[(&str, &str)]) -> (Mock, Mock, Gate) {
    let (bad, good) = (mock("bad").await, mock("good").await);
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let config = format!(
        "
providers:
  - {{name: bad, type: mock, api_base: '{}', api_key: {SECRET}-1, priority: 0}}
  - {{name: good, type: mock, api_base: '{}', api_key: {SECRET}-2, priority: 1}}
health_check: {{enabled: false}}
retry: {{cooldown_5xx_secs: 0, initial_backoff_ms: 1}}
master_keys: [{{key: sk-of-alice, name: alice, tags: [a]}}]
price_overrides: [{{model: m, price: {{input: 1, output: 10}}, date: 2026-11}}]
{told}
",
        bad.url(),
        good.url()
    );
    let gate = Gate::start_with(&config, variables);
    (bad, good, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_a_call_and_for_each_attempt() {
    for protocol in ["http/protobuf", "http/json"] {
        let collector = Collector::default();
        collector
            .answers
            .lock()
            .expect("a lock")
            .extend([503_u16, 429]);
        let url = collector.start().await;
        let told = format!(
            "otlp: {{endpoint: '{url}', protocol: {protocol}, metrics: false, headers: {{x-team: ours}}}}"
        );
        let (bad, good, gate) = telling(&told, &[("OTEL_SERVICE_NAME", "edge")]).await;
        let reply = ask(&gate, true).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let spans = collector.spans(3).await;
        let [call, lost, won] = &*spans else {
            panic!("{spans:?}");
        };
        for span in &spans {
            assert_eq!(hex(&span.trace_id), TRACE);
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            assert!(call.start_time_unix_nano <= span.start_time_unix_nano);
            assert!(span.end_time_unix_nano <= call.end_time_unix_nano);
        }
        assert_eq!(hex(&call.parent_span_id), "b7ad6b7169203331");
        assert_eq!(lost.parent_span_id, call.span_id);
        assert_eq!(won.parent_span_id, call.span_id);
        assert_eq!((call.kind, lost.kind), (2, 3), "server and client");
        // Each provider was told the span of its own attempt.
        for (mock, span) in [(&bad, lost), (&good, won)] {
            let entry = mock.ledger().pop().expect("an entry");
            let told = |name: &str| {
                let header = entry.headers.iter().find(|(known, _)| known == name);
                header.map(|(_, value)| value.clone())
            };
            let parent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
            assert_eq!(told("traceparent"), Some(parent));
            assert_eq!(told("tracestate").as_deref(), Some("shop=7"));
        }
        let entry = good.ledger().pop().expect("an entry");
        assert_eq!(said(&call.attributes, "gen_ai.operation.name"), "chat");
        assert_eq!(said(&call.attributes, "gen_ai.request.model"), "m");
        assert_eq!(said(&won.attributes, "polygate.provider"), "good");
        let tokens = |span: &Span, which: &str| {
            said(&span.attributes, &format!("gen_ai.usage.{which}_tokens"))
        };
        for span in [call, won] {
            assert_eq!(tokens(span, "input"), entry.input_tokens);
            assert_eq!(tokens(span, "output"), entry.output_tokens);
        }
        let cost = entry.input_tokens + 10 * entry.output_tokens;
        assert_eq!(said(&call.attributes, "polygate.cost_micro_usd"), cost);
        let status = |span: &Span| span.status.clone().unwrap_or_default();
        assert_eq!((status(call).code, status(won).code), (0, 0));
        assert_eq!(
            (status(lost).code, status(lost).message),
            (2, "upstream_error".to_owned())
        );
        let posts = collector.posts();
        assert_eq!(posts[0].path, "/v1/traces");
        assert_eq!(posts[0].headers["x-team"], "ours");
        let all = String::from_utf8_lossy(&posts[0].body).into_owned();
        assert!(all.contains("edge"));
        for hidden in [SECRET, PROMPT, "sk-of-alice"] {
            assert!(!all.contains(hidden), "{hidden}");
        }
    }
}

/// The answer had begun: the failure is the provider's all the same, in spans, metrics and the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_broke_off_is_its_providers_failure() {
    let collector = Collector::default();
    let url = collector.start().await;
    let told = format!("otlp: {{endpoint: '{url}', metrics: false}}");
    let (bad, _good, gate) = telling(&told, &[]).await;
    let mut ended = 0;
    for (fault, word) in [
        (Fault::CutAfter(4), "upstream_disconnected"),
        (Fault::ErrorAfter(4), "upstream_error"),
    ] {
        bad.clear();
        bad.script(Rule {
            then: Behaviour {
                tokens: Some(20),
                fault: Some(fault),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let reply = ask(&gate, true).await;
        assert_eq!(reply.header("x-polygate-attempts"), "1", "{word}");
        ended += 2;
        let spans = collector.spans(ended).await;
        for span in &spans[ended - 2..] {
            let status = span.status.clone().unwrap_or_default();
            assert_eq!((status.code, &*status.message), (2, word));
        }
        let page = gate.get("/metrics").await.text();
        let labels = [("provider", "bad"), ("outcome", word)];
        assert_eq!(sum(&page, "polygate_attempts_total", &labels), 1, "{page}");
        assert_eq!(
            sum(&page, "polygate_attempts_total", &[("outcome", "ok")]),
            0
        );
        until("it is said", || gate.log().contains(&format!("bad:{word}"))).await;
    }
}

/// What passes through the generic proxy as it is, is a failure of its provider all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_is_its_providers_failure() {
    let collector = Collector::default();
    let url = collector.start().await;
    let told = format!("otlp: {{endpoint: '{url}', metrics: false}}");
    let (bad, good, gate) = telling(&told, &[]).await;
    good.script(Rule {
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let headers = [
        ("authorization", "Bearer sk-of-alice"),
        ("content-type", "application/json"),
    ];
    let path = "/v1/m/chat/completions";
    let reply = gate.ask(Method::POST, path, &headers, "{}").await;
    assert!(reply.status.is_server_error(), "{}", reply.text());
    let page = gate.get("/metrics").await.text();
    let attempts = bad.ledger().len() + good.ledger().len();
    let failed = [("outcome", "upstream_error")];
    let counted = |labels: &[(&str, &str)]| sum(&page, "polygate_attempts_total", labels);
    assert_eq!(counted(&failed), attempts as u64, "{page}");
    assert_eq!(counted(&[]), attempts as u64);
    for span in &collector.spans(attempts + 1).await[1..] {
        assert_eq!(span.status.clone().unwrap_or_default().code, 2, "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_says_who_was_passed_over() {
    let collector = Collector::default();
    let url = collector.start().await;
    let told = format!("otlp: {{endpoint: '{url}', metrics: false}}");
    let (bad, _good, gate) = telling(&told, &[]).await;
    bad.clear();
    bad.script(Rule {
        then: Behaviour {
            status: Some(429),
            headers: [("retry-after".to_owned(), "60".to_owned())].into(),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    for attempts in ["2", "1"] {
        let reply = ask(&gate, false).await;
        assert_eq!(reply.header("x-polygate-attempts"), attempts);
    }
    let spans = collector.spans(5).await;
    let calls = spans.iter().filter(|span| span.kind == 2);
    let passed: Vec<Value> = calls
        .map(|span| said(&span.attributes, "polygate.passed_over"))
        .collect();
    assert_eq!(passed[0], Value::Null);
    let passed = passed[1][0].as_str().expect("a text");
    assert!(passed.starts_with("bad/bad#1 as m: limit for "), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_told_where_that_is_asked_for_and_measurements_agree() {
    let collector = Collector::default();
    let url = collector.start().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
    ];
    let (_bad, good, gate) = telling("", &variables).await;
    for stream in [false, true] {
        assert_eq!(ask(&gate, stream).await.status, 200);
    }
    let spans = collector.spans(6).await;
    let calls = spans.iter().filter(|span| span.kind == 2);
    for call in calls {
        let system = object(&call.attributes, "gen_ai.system_instructions");
        assert_eq!(system, json!([{"type": "text", "content": "Be brief."}]));
        let asked = object(&call.attributes, "gen_ai.input.messages");
        assert_eq!(
            asked,
            json!([{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}])
        );
        let answered = object(&call.attributes, "gen_ai.output.messages");
        assert_eq!(answered[0]["role"], "assistant");
        assert_eq!(answered[0]["finish_reason"], "stop");
        let text = answered[0]["parts"][0]["content"].as_str();
        assert!(text.is_some_and(|text| text.len() > 10), "{answered}");
        assert_eq!(said(&call.attributes, "gen_ai.request.max_tokens"), 300);
        assert_eq!(said(&call.attributes, "gen_ai.request.temperature"), 0.5);
    }
    let served: u64 = good.ledger().iter().map(|entry| entry.output_tokens).sum();
    let start = Instant::now();
    loop {
        let posts = collector.posts().clone();
        let of_metrics = posts.iter().rfind(|post| post.path == "/v1/metrics");
        if let Some((calls, tokens)) = of_metrics.map(measured)
            && (calls, tokens) == (2, served)
        {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Calls, and tokens of answers.
fn measured(post: &Post) -> (u64, u64) {
    let request = ExportMetricsServiceRequest::decode(post.body.clone()).expect("measurements");
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let (mut calls, mut tokens) = (0, 0);
    for metric in metrics {
        let Some(Data::Histogram(histogram)) = &metric.data else {
            panic!("{metric:?}");
        };
        for point in &histogram.data_points {
            assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
            assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
            let kind = said(&point.attributes, "gen_ai.token.type");
            match &*metric.name {
                "gen_ai.client.operation.duration" => calls += point.count,
                "gen_ai.client.token.usage" if kind == "output" => {
                    tokens += point.sum.unwrap_or_default() as u64;
                }
                _ => {}
            }
        }
    }
    (calls, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn langfuse_gets_a_trace_with_a_generation_for_each_attempt() {
    let collector = Collector::default();
    let url = collector.start().await;
    let variables = [
        ("LANGFUSE_ENABLED", "true"),
        ("LANGFUSE_PUBLIC_KEY", "pk-lf-1"),
        ("LANGFUSE_SECRET_KEY", "sk-lf-2"),
        ("LANGFUSE_HOST", &*url),
        ("LANGFUSE_FLUSH_INTERVAL", "0.1"),
    ];
    let (_bad, good, gate) = telling("", &variables).await;
    assert_eq!(ask(&gate, true).await.status, 200);
    let spans = collector.spans(3).await;
    let [call, lost, won] = &*spans else {
        panic!("{spans:?}");
    };
    let entry = good.ledger().pop().expect("an entry");
    for span in &spans {
        assert_eq!(
            said(&span.attributes, "langfuse.trace.name"),
            "llm-proxy-request"
        );
        assert_eq!(said(&span.attributes, "langfuse.user.id"), "alice");
        let tags = said(&span.attributes, "langfuse.trace.tags");
        let tags = tags.as_array().expect("tags");
        for tag in ["credential:alice", "provider:good", "a"] {
            assert!(tags.contains(&tag.into()), "{tags:?}");
        }
    }
    let observation =
        |span: &Span, key: &str| object(&span.attributes, &format!("langfuse.observation.{key}"));
    assert_eq!(observation(call, "type"), "span");
    assert_eq!(observation(lost, "type"), "generation");
    assert_eq!(observation(lost, "level"), "ERROR");
    assert_eq!(observation(lost, "status_message"), "upstream_error");
    assert_eq!(observation(won, "level"), "DEFAULT");
    assert_eq!(observation(won, "model.name"), "m");
    let usage = observation(won, "usage_details");
    assert_eq!(usage["input"], entry.input_tokens);
    assert_eq!(usage["output"], entry.output_tokens);
    assert_eq!(usage["total"], entry.input_tokens + entry.output_tokens);
    let cost = (entry.input_tokens + 10 * entry.output_tokens) as f64 / 1e6;
    assert_eq!(observation(won, "cost_details"), json!({ "total": cost }));
    let first = observation(won, "completion_start_time");
    assert!(
        first.as_str().is_some_and(|time| time.ends_with('Z')),
        "{first}"
    );
    let input = observation(won, "input");
    assert_eq!(input[1], json!({"role": "user", "content": PROMPT}));
    assert!(observation(won, "output").is_string());
    let parameters = json!({"temperature": 0.5, "max_tokens": 300});
    assert_eq!(observation(won, "model.parameters"), parameters);
    let posts = collector.posts();
    assert_eq!(posts[0].path, "/api/public/otel/v1/traces");
    assert_eq!(
        posts[0].headers["authorization"],
        "Basic cGstbGYtMTpzay1sZi0y"
    );
    assert_eq!(posts[0].headers["x-langfuse-ingestion-version"], "4");
    assert!(!gate.log().contains("sk-lf-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_slows_nobody_and_what_is_lost_is_counted() {
    // It takes connections, and says nothing for ever.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let told = format!("otlp: {{endpoint: '{url}', metrics: false, timeout: 60}}");
    let (_bad, _good, gate) = telling(&told, &[]).await;
    let calls = 4096 + 1200;
    let start = Instant::now();
    let asks = (0..calls).map(|_| ask(&gate, false));
    let mut asks =
        futures_util::stream::StreamExt::buffer_unordered(futures_util::stream::iter(asks), 16);
    while let Some(reply) = futures_util::stream::StreamExt::next(&mut asks).await {
        assert_eq!(reply.status, 200);
    }
    drop(asks);
    let took = start.elapsed();
    let start = Instant::now();
    loop {
        let metrics = gate.get("/metrics").await.text();
        let dropped = metrics.lines().find_map(|line| {
            line.strip_prefix(
                r#"polygate_telemetry_calls_total{destination="otlp_traces",fate="dropped"} "#,
            )
        });
        let dropped: u64 = dropped
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        if dropped > 0 {
            // One batch is on its way, one queue is full, the rest is lost.
            assert!(dropped <= 1200, "{dropped}");
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{took:?}\n{metrics}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
