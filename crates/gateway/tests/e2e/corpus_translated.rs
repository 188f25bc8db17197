//! Recorded answers of every upstream format, through real sockets, to clients of every other format: what is good comes out whole,
//! errors keep their status and have the client's shape, what broke off never ends well.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::corpus::{Record, Stage, answer, default_type, is_broken, records, upstream};
use crate::support::{Gate, Reply};

/// The corpus's names of formats, and what configuration says to get each.
const UPSTREAMS: [(&str, &str); 5] = [
    ("openai-chat", "openai-compatible, wire_api: chat"),
    ("openai-responses", "response_api"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
    ("bedrock-converse", "bedrock"),
];

/// A client format: its name in the corpus, its question, how it ends well, and where its errors have their sentence.
struct Client {
    dialect: &'static str,
    path: fn(&str, bool) -> String,
    ask: fn(&str, bool) -> Value,
    ends: &'static [&'static str],
    sentence: &'static str,
    own: &'static str,
}

const CLIENTS: [Client; 4] = [
    Client {
        dialect: "openai-chat",
        path: |_, _| "/v1/chat/completions".to_owned(),
        ask: |model, stream| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}),
        ends: &["data: [DONE]"],
        sentence: "/error/message",
        own: "/error/code",
    },
    Client {
        dialect: "openai-responses",
        path: |_, _| "/v1/responses".to_owned(),
        ask: |model, stream| json!({"model": model, "stream": stream, "input": "Hi"}),
        ends: &["event: response.completed", "event: response.incomplete"],
        sentence: "/error/message",
        own: "/error/code",
    },
    Client {
        dialect: "anthropic",
        path: |_, _| "/v1/messages".to_owned(),
        ask: |model, stream| json!({"model": model, "stream": stream, "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}),
        ends: &["event: message_stop"],
        sentence: "/error/message",
        own: "/type",
    },
    Client {
        dialect: "gemini",
        path: |model, stream| {
            let method = if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            };
            format!("/v1beta/models/{model}:{method}")
        },
        ask: |_, _| json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
        ends: &["\"finishReason\":", "\"blockReason\":"],
        sentence: "/error/message",
        own: "/error/status",
    },
];

fn config(url: &str) -> String {
    let providers = UPSTREAMS.map(|(dialect, kind)| {
        format!("  - {{name: {dialect}, type: {kind}, api_base: '{url}', api_key: replay-key, model_mapping: [{dialect}]}}\n")
    });
    format!(
        "
providers:
{}
retry: {{max_retries: 0, breaker_threshold: 1000000, cooldown_rate_limit: 1ms, cooldown_quota: 1ms, cooldown_error: 1ms, max_cooldown: 1ms}}
health_check: {{enabled: false}}
",
        providers.concat()
    )
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the counts are the point")]
async fn every_recorded_answer_reaches_every_other_client() {
    let Ok(corpus) = std::env::var("POLYGATE_CORPUS") else {
        eprintln!("POLYGATE_CORPUS IS NOT SET: recorded traffic was NOT tested");
        return;
    };
    let stage = Arc::new(Stage::default());
    let config = config(&upstream(stage.clone()).await);
    let mut gate = Gate::start(&config);
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in records(&corpus) {
        let Some((kind, body)) = played(&record).filter(|_| is_chat(&record)) else {
            continue;
        };
        let is_stream = record.response_encoding != "json" && record.status < 400;
        *stage.answer.lock().expect("the stage") = (record.status, kind, body.clone());
        for client in CLIENTS
            .iter()
            .filter(|client| client.dialect != record.dialect)
        {
            let path = (client.path)(&record.dialect, is_stream);
            let reply = gate
                .post(&path, &(client.ask)(&record.dialect, is_stream))
                .await;
            if !reply.status.is_success() {
                // What failed rests: the next begins with a gateway that has seen nothing.
                gate = Gate::start(&config);
            }
            let cell = format!("{} -> {}", record.dialect, client.dialect);
            let count = counts.entry(cell.clone()).or_default();
            match judge(&record, &body, client, &reply, is_stream) {
                Ok(verdict) => count[verdict as usize] += 1,
                Err(why) => wrong.push(format!("{cell} {} {}: {why}", record.id, record.status)),
            }
        }
    }
    eprintln!(
        "recorded answers through the translated lane [good, errors, broken off]: {counts:#?}"
    );
    let first: Vec<&str> = wrong.iter().map(String::as_str).take(20).collect();
    assert!(
        wrong.is_empty(),
        "{} came out wrong:\n{}",
        wrong.len(),
        first.join("\n")
    );
    assert_eq!(counts.len(), 16, "every cell that is not native");
}

/// What an answer came to.
#[derive(Clone, Copy)]
enum Verdict {
    Good,
    Error,
    Broken,
}

fn judge(
    record: &Record,
    recorded: &Bytes,
    client: &Client,
    reply: &Reply,
    is_stream: bool,
) -> Result<Verdict, String> {
    let text = reply.text();
    let shown: String = text.chars().take(400).collect();
    let ends_well = client.ends.iter().any(|end| text.contains(end));
    if !reply.status.is_success() {
        let body = reply.json();
        let sentence = body.pointer(client.sentence).and_then(Value::as_str);
        if sentence.is_none_or(str::is_empty) || body.pointer(client.own).is_none() {
            return Err(format!("the error is not of the client's shape: {shown}"));
        }
        if record.status >= 400 {
            let same = reply.status.as_u16() == record.status;
            return if same {
                Ok(Verdict::Error)
            } else {
                Err(format!("{} {shown}", reply.status))
            };
        }
        let recorded = String::from_utf8_lossy(recorded);
        return if is_broken(record, &recorded) || says_nothing(&recorded) {
            Ok(Verdict::Broken)
        } else {
            Err(format!("{} {shown}", reply.status))
        };
    }
    if record.status >= 400 {
        return Err(format!("an error passes as an answer: {shown}"));
    }
    match (is_stream, ends_well) {
        (true, true) => Ok(Verdict::Good),
        (true, false) if text.contains("\"error\"") => Ok(Verdict::Broken),
        (true, false) => Err(format!("no end: {shown}")),
        (false, _) => {
            let whole = serde_json::from_slice::<Value>(&reply.body);
            whole
                .map(|_| Verdict::Good)
                .map_err(|error| format!("{error}: {shown}"))
        }
    }
}

/// An answer without anything said in any format: it is none, and another provider may do better.
fn says_nothing(recorded: &str) -> bool {
    let says = ["\"content\"", "\"choices\"", "\"output\""];
    !says.iter().any(|name| recorded.contains(name))
}

/// Its type and bytes as the vendor sent them.
fn played(record: &Record) -> Option<(String, Bytes)> {
    if record.response_encoding == "aws-eventstream-base64" {
        let bytes = base64(record.response_body.as_str()?);
        return Some((
            "application/vnd.amazon.eventstream".to_owned(),
            bytes.into(),
        ));
    }
    Some((default_type(record).to_owned(), answer(record)?))
}

fn is_chat(record: &Record) -> bool {
    let is_known = UPSTREAMS
        .iter()
        .any(|(dialect, _)| *dialect == record.dialect);
    let path = record.path.as_deref().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let ends = [
        "/chat/completions",
        "/responses",
        "/messages",
        ":generateContent",
        ":streamGenerateContent",
        "/converse",
        "/converse-stream",
    ];
    is_known && ends.iter().any(|end| path.ends_with(end))
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = ALPHABET
            .iter()
            .position(|letter| *letter == byte)
            .expect("base64");
        bits = (bits << 6) | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
