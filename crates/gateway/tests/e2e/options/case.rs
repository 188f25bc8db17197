//! A case: a title, `=== config` (with `{mock}` for the provider's address), and calls.
//!
//! `=== ask MODEL HOW` is followed by the client's headers, one a line, and by what came of it. HOW is what is asked:
//! `chat`, `messages`, `stream chat`, …, or `each`, which is chat and messages, streaming and not. What is the same for several is
//! written once. `=== script` is a rule of the provider's, as JSON, from there on.

use std::fmt::Write as _;

use http::Method;
use polygate_mock_provider::{Entry, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, mock};

/// A case's text in parts: what begins a part, and its lines.
pub struct Case<'a> {
    title: &'a str,
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    head: &'a str,
    lines: Vec<&'a str>,
}

/// Where something is asked.
struct Endpoint {
    word: &'static str,
    path: &'static str,
    body: fn(&str) -> Value,
}

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint {
        word: "chat",
        path: "/v1/chat/completions",
        body: said,
    },
    Endpoint {
        word: "messages",
        path: "/v1/messages",
        body: said,
    },
    Endpoint {
        word: "responses",
        path: "/v1/responses",
        body: |model| json!({"model": model, "input": "Hi"}),
    },
    Endpoint {
        word: "count",
        path: "/v1/messages/count_tokens",
        body: said,
    },
    Endpoint {
        word: "proxy",
        path: "/v1/{model}/some/tail",
        body: said,
    },
];

fn said(model: &str) -> Value {
    json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})
}

/// What is neither the case's nor the same each time.
const SENT: [&str; 6] = [
    "host",
    "content-length",
    "content-type",
    "accept",
    "x-polygate-hops",
    "user-agent",
];
const ANSWERED: [&str; 11] = [
    "x-request-id",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "date",
    "cache-control",
    "x-accel-buffering",
    "x-polygate-overhead-ms",
    "x-polygate-attempts",
    "x-polygate-dropped",
];

impl<'a> Case<'a> {
    /// Reads a file.
    pub fn read(text: &'a str) -> Self {
        let (title, rest) = text.split_once("=== ").expect("a part");
        let parts = rest.split("\n=== ").map(|part| {
            let mut lines = part.lines();
            let head = lines.next().expect("a head");
            // What came of it the last time stands behind.
            let lines = lines.take_while(|line| !line.starts_with("--- "));
            let mut lines: Vec<&str> = lines.collect();
            while lines.last().is_some_and(|line| line.is_empty()) {
                lines.pop();
            }
            Part { head, lines }
        });
        Self {
            title,
            parts: parts.collect(),
        }
    }

    /// Plays it; gives the file as it should be.
    pub async fn run(&self) -> String {
        let mut out = self.title.to_owned();
        let mock = mock("mock").await;
        let mut gate = None;
        for part in &self.parts {
            let text = part.lines.join("\n");
            let _ = writeln!(out, "=== {}\n{text}", part.head);
            match part.head.split_once(' ') {
                None if part.head == "config" => {
                    let config = text.replace("{mock}", &mock.url());
                    gate = Some(Gate::start(&config));
                }
                None if part.head == "script" => {
                    let rule: Rule = serde_json::from_str(&text).expect("a rule");
                    mock.clear();
                    mock.script(rule);
                }
                Some(("ask", ask)) => {
                    let gate = gate.as_ref().expect("a configuration before it");
                    out.push_str(&asked(gate, &mock, ask, &part.lines).await);
                }
                _ => panic!("what is '{}'?", part.head),
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

async fn asked(gate: &Gate, mock: &Mock, ask: &str, lines: &[&str]) -> String {
    let (model, how) = ask.split_once(' ').expect("a model, and how");
    let ways: &[&str] = match how {
        "each" => &["chat", "stream chat", "messages", "stream messages"],
        ref how => std::slice::from_ref(how),
    };
    let headers: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let mut came: Vec<(Vec<&str>, String)> = Vec::new();
    for way in ways {
        let (word, is_stream) = match way.strip_prefix("stream ") {
            Some(word) => (word, true),
            None => (*way, false),
        };
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.word == word);
        let endpoint = endpoint.expect("an endpoint");
        let mut body = (endpoint.body)(model);
        if is_stream {
            body["stream"] = true.into();
        }
        let before = calls(mock).len();
        let path = endpoint.path.replace("{model}", model);
        let reply = gate
            .ask(Method::POST, &path, &headers, body.to_string())
            .await;
        let mut text = String::new();
        for entry in calls(mock).iter().skip(before) {
            text.push_str(&sent(entry, &body));
        }
        text.push_str(&answered(&reply));
        match came.iter_mut().find(|(_, known)| *known == text) {
            Some((ways, _)) => ways.push(way),
            None => came.push((vec![way], text)),
        }
    }
    let came = came.iter().map(|(ways, text)| {
        let ways = ways.join(", ");
        format!("--- {ways}\n{text}")
    });
    came.collect()
}

/// A request to the provider. The path is told where it is none of a chat's, which the lane decides.
fn sent(entry: &Entry, asked: &Value) -> String {
    let mut out = format!("provider < model {}", entry.model);
    if entry.path.ends_with("/tail") || entry.path.ends_with("/count_tokens") {
        let _ = write!(out, ", {}", entry.path);
    }
    if entry.path.ends_with("/responses") && asked["input"].is_null() {
        out.push_str(", in Responses");
    }
    out.push('\n');
    let headers = entry.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    lines("provider <", headers, &SENT, &mut out);
    out
}

fn answered(reply: &Reply) -> String {
    let mut out = format!("client   < {}\n", reply.status.as_u16());
    let headers = reply.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
    lines("client   <", headers, &ANSWERED, &mut out);
    if !reply.status.is_success() {
        let error = &reply.json()["error"]["message"];
        let _ = writeln!(out, "client   < {}", error.as_str().unwrap_or_default());
    }
    out
}

fn lines<'a>(
    front: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    but: &[&str],
    out: &mut String,
) {
    let headers: Vec<_> = headers.collect();
    let times = |name: &str| headers.iter().filter(|(other, _)| *other == name).count();
    // One of a kind, that is: another beside it is told of.
    let is_left_out = |name: &str, value: &str| {
        let is_own = name != "user-agent" || value.starts_with("polygate/");
        but.contains(&name) && times(name) == 1 && is_own && value != "theirs"
    };
    let mut told: Vec<_> = headers
        .iter()
        .filter(|(name, value)| !is_left_out(name, value))
        .collect();
    told.sort_unstable();
    for (name, value) in told {
        let _ = writeln!(out, "{front} {name}: {value}");
    }
}
