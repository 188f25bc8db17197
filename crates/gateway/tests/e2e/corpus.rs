//! Recorded traffic through the native lane: every record's answer comes out byte for byte, every request goes in so.
//!
//! The corpus is not part of the project; `POLYGATE_CORPUS` names its directory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::support::Gate;

/// One recorded exchange.
#[derive(Deserialize)]
pub struct Record {
    pub id: String,
    pub dialect: String,
    #[serde(default)]
    model: Option<String>,
    request_json: Option<Box<RawValue>>,
    pub status: u16,
    #[serde(default)]
    response_content_type: Option<String>,
    pub response_encoding: String,
    pub response_body: serde_json::Value,
    method: String,
    #[serde(default)]
    pub path: Option<String>,
}

/// What the upstream plays next, and what it was sent.
#[derive(Default)]
pub struct Stage {
    pub answer: Mutex<(u16, String, Bytes)>,
    sent: Mutex<Bytes>,
}

pub async fn upstream(stage: Arc<Stage>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stage = stage.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let stage = stage.clone();
                async move {
                    let body = request
                        .into_body()
                        .collect()
                        .await
                        .map(http_body_util::Collected::to_bytes)
                        .unwrap_or_default();
                    *stage.sent.lock().expect("the stage") = body;
                    let (status, kind, body) = stage.answer.lock().expect("the stage").clone();
                    let response = Response::builder()
                        .status(status)
                        .header("content-type", kind)
                        .body(Full::new(body));
                    Ok::<_, Infallible>(response.expect("a response"))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    url
}

/// Where a record's request goes, and the request's bytes.
fn question(record: &Record) -> Option<(String, String)> {
    let body = record.request_json.as_ref()?.get().to_owned();
    let model = record.model.clone().unwrap_or_else(|| "m".to_owned());
    let names_model = serde_json::from_str::<serde_json::Value>(&body)
        .is_ok_and(|body| body["model"].is_string());
    let recorded = record.path.as_deref().unwrap_or_default();
    let path = match record.dialect.as_str() {
        // Azure names the model in the path.
        "openai-chat" if !names_model => format!("/v1/models/{}/chat/completions", encoded(&model)),
        other if !names_model && other != "gemini" => return None,
        "openai-chat" => "/v1/chat/completions".to_owned(),
        "openai-responses" if recorded.contains("input_tokens") => {
            "/v1/responses/input_tokens".to_owned()
        }
        "openai-responses" => "/v1/responses".to_owned(),
        "anthropic" if recorded.contains("count_tokens") => "/v1/messages/count_tokens".to_owned(),
        "anthropic" => "/v1/messages".to_owned(),
        "openai-completions" => "/v1/completions".to_owned(),
        "openai-embeddings" => "/v1/embeddings".to_owned(),
        "gemini" => {
            let method = recorded
                .rsplit_once(':')
                .map_or("generateContent", |(_, method)| method);
            let method = method
                .split(['?', '/'])
                .next()
                .filter(|method| method.ends_with("Content") || *method == "countTokens");
            let method = method.unwrap_or(if record.response_encoding == "sse" {
                "streamGenerateContent"
            } else {
                "generateContent"
            });
            let query = if record.response_encoding == "sse" {
                "?alt=sse"
            } else {
                ""
            };
            format!(
                "/v1beta/models/{}:{method}{query}",
                encoded(model.trim_start_matches("models/"))
            )
        }
        _ => return None,
    };
    Some((path, body))
}

fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A record's answer as bytes, where it is text.
pub fn answer(record: &Record) -> Option<Bytes> {
    match (&record.response_body, record.response_encoding.as_str()) {
        (serde_json::Value::String(text), "sse" | "text") => Some(text.clone().into()),
        (value, "json") => Some(value.to_string().into()),
        _ => None,
    }
}

/// Whether a request came through with nothing changed but what the lane owns: the model where only the path named it, and
/// the usage option.
fn is_only_ours(sent: &str, asked: &str, model: &str) -> bool {
    let model_undone = [
        sent.to_owned(),
        sent.replacen(&format!("\"model\":\"{model}\","), "", 1),
        sent.replacen(&format!("\"model\": \"{model}\""), "\"model\": null", 1),
    ];
    let usage_undone = |sent: &String| {
        [
            sent.clone(),
            sent.replacen("\"stream_options\":{\"include_usage\":true},", "", 1),
            sent.replacen("\"include_usage\":true,", "", 1),
            sent.replacen("\"include_usage\": true", "\"include_usage\": false", 1),
        ]
    };
    model_undone
        .iter()
        .flat_map(usage_undone)
        .any(|undone| undone == asked)
}

/// What it may change in a stream: the usage frame that it asked for.
fn without_usage_frame(text: &str) -> String {
    text.split_inclusive("\n\n")
        .filter(|frame| !(frame.contains("\"choices\":[]") && frame.contains("\"usage\":{")))
        .collect()
}

#[derive(Default, Debug)]
struct Counts {
    equal: usize,
    usage_frame_removed: usize,
    errors_equal: usize,
    refused_as_broken: usize,
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the counts are the point")]
async fn every_record_passes_the_native_lane_unchanged() {
    let Ok(corpus) = std::env::var("POLYGATE_CORPUS") else {
        eprintln!("POLYGATE_CORPUS IS NOT SET: recorded traffic was NOT tested");
        return;
    };
    let stage = Arc::new(Stage::default());
    let url = upstream(stage.clone()).await;
    let config = format!(
        "
providers: [{{name: replay, type: mock, api_base: '{url}', api_key: replay-key}}]
retry: {{max_retries: 0, breaker_threshold: 1000000}}
health_check: {{enabled: false}}
"
    );
    let mut gate = Gate::start(&config);
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in records(&corpus) {
        let Some((path, body)) = question(&record) else {
            continue;
        };
        let Some(recorded) = answer(&record).filter(|_| record.method == "POST") else {
            continue;
        };
        let kind = record
            .response_content_type
            .clone()
            .unwrap_or_else(|| default_type(&record).to_owned());
        *stage.answer.lock().expect("the stage") = (record.status, kind, recorded.clone());
        let reply = gate
            .ask(
                Method::POST,
                &path,
                &[("content-type", "application/json")],
                body.clone(),
            )
            .await;
        if !reply.status.is_success() {
            // What failed rests: the next record begins with a gateway that has seen nothing.
            gate = Gate::start(&config);
        }
        let sent = String::from_utf8_lossy(&stage.sent.lock().expect("the stage")).into_owned();
        let count = counts.entry(record.dialect.clone()).or_default();
        let verdict = judge(&record, &recorded, &reply, count);
        if let Err(verdict) = verdict {
            wrong.push(format!(
                "{} {} {}: {verdict}",
                record.dialect, record.id, record.response_encoding
            ));
        } else if !is_only_ours(&sent, &body, record.model.as_deref().unwrap_or("m")) {
            wrong.push(format!(
                "{} {}: the request changed\n  {body}\n  {sent}",
                record.dialect, record.id
            ));
        }
    }
    eprintln!("recorded traffic through the native lane: {counts:#?}");
    assert!(
        wrong.is_empty(),
        "{} records came out otherwise:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(12)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    assert!(counts.values().map(|count| count.equal).sum::<usize>() > 1000);
}

fn judge(
    record: &Record,
    recorded: &Bytes,
    reply: &crate::support::Reply,
    count: &mut Counts,
) -> Result<(), String> {
    let shown = || reply.text().chars().take(300).collect::<String>();
    if record.status >= 400 {
        if reply.status.as_u16() != record.status {
            return Err(format!(
                "status {} instead of {}: {}",
                reply.status,
                record.status,
                shown()
            ));
        }
        count.errors_equal += usize::from(reply.body == *recorded);
        return Ok(());
    }
    if reply.body == *recorded {
        count.equal += 1;
        return Ok(());
    }
    let text = String::from_utf8_lossy(recorded);
    if record.response_encoding == "sse" && reply.text() == without_usage_frame(&text) {
        count.usage_frame_removed += 1;
        return Ok(());
    }
    // Recordings that were cut, or that hold an error, must come out as errors, never as ends that look proper.
    let says_error = reply.text().contains("\"error\"");
    if says_error && is_broken(record, &text) {
        count.refused_as_broken += 1;
        return Ok(());
    }
    Err(format!("status {}: {}", reply.status, shown()))
}

/// Whether the recording itself is no complete, good answer.
pub fn is_broken(record: &Record, text: &str) -> bool {
    if record.response_encoding != "sse" {
        return text.contains("\"error\"") || !text.starts_with('{');
    }
    let ends = [
        "[DONE]",
        "message_stop",
        "response.completed",
        "response.incomplete",
        "\"finishReason\"",
        "\"finish_reason\":\"",
        "\"finish_reason\": \"",
        "blockReason",
    ];
    !ends.iter().any(|end| text.contains(end))
        || text.contains("\"error\":{")
        || text.contains("response.failed")
        || text.contains("event: error")
}

pub fn default_type(record: &Record) -> &'static str {
    if record.response_encoding == "sse" {
        "text/event-stream"
    } else {
        "application/json"
    }
}

pub fn records(corpus: &str) -> Vec<Record> {
    let mut files: Vec<_> = std::fs::read_dir(format!("{corpus}/train"))
        .expect("the corpus")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let texts = files
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .map(|path| std::fs::read_to_string(path).expect("a file"));
    texts
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| serde_json::from_str::<Record>(line).ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
