//! Recorded traffic, where `POLYGATE_CORPUS` names the folder that holds it (with `train/<group>.jsonl`).

use std::fs;
use std::path::PathBuf;

use polygate_wire::Format;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Recordings of which the gateway speaks the format.
#[derive(Debug)]
pub struct Group {
    /// The file.
    pub file: &'static str,
    /// What is answered in it, and where clients speak it asked.
    pub format: Format,
    /// What the paths of those that are meant have in them, where others are in the file.
    pub only: &'static [&'static str],
}

const fn group(file: &'static str, format: Format) -> Group {
    Group {
        file,
        format,
        only: &[],
    }
}

/// All of them.
pub const GROUPS: [Group; 14] = [
    group("openai-chat", Format::OpenaiChat),
    group("compatible-chat", Format::OpenaiChat),
    group("deepseek-chat", Format::OpenaiChat),
    group("groq-chat", Format::OpenaiChat),
    group("mistral-chat", Format::OpenaiChat),
    group("openrouter-chat", Format::OpenaiChat),
    group("xai-chat", Format::OpenaiChat),
    group("openai-responses", Format::OpenaiResponses),
    group("compatible-responses", Format::OpenaiResponses),
    group("anthropic", Format::AnthropicMessages),
    group("gemini", Format::Gemini),
    group("bedrock-converse", Format::BedrockConverse),
    // Invoke passes the models' own formats through.
    Group {
        file: "bedrock-invoke",
        format: Format::AnthropicMessages,
        only: &["claude-3", "claude-sonnet-4"],
    },
    Group {
        file: "bedrock-invoke",
        format: Format::BedrockConverse,
        only: &["nova"],
    },
];

/// What clients ask who want a text completed.
pub const COMPLETIONS: Group = Group {
    file: "misc",
    format: Format::OpenaiChat,
    only: &["/completions"],
};

/// One recorded exchange.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The path that was asked.
    pub path: String,
    /// The request's body, where it was kept.
    pub request: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// `json`, `sse` or `text`.
    pub response_encoding: String,
    body: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    path: String,
    status: u16,
    response_encoding: String,
    #[serde(borrow)]
    request_json: Option<&'a RawValue>,
    #[serde(borrow)]
    response_body: &'a RawValue,
    #[serde(default, borrow)]
    response_events: Vec<&'a RawValue>,
}

impl Record {
    /// The answer's bytes.
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// Whether it is a turn of a chat: not embeddings, counted tokens and the like.
    pub fn is_chat(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        let ends = [
            "/completions",
            "/responses",
            "/messages",
            ":generateContent",
            ":streamGenerateContent",
            "/converse",
            "/converse-stream",
            "/invoke",
            "/invoke-with-response-stream",
        ];
        ends.iter().any(|end| path.ends_with(end))
    }

    fn read(line: &str) -> Self {
        let line: Line<'_> = serde_json::from_str(line).expect("a record");
        let raw = line.response_body.get();
        let (encoding, body) = match &*line.response_encoding {
            // The recorder's own reading of AWS's frames: `event_stream.rs` shows that the gateway's is the same.
            "aws-eventstream-base64" => (
                "sse",
                line.response_events.iter().map(|raw| event(raw)).collect(),
            ),
            // A recorder's too, where it kept nothing else.
            "json" if raw.starts_with('[') && line.path.ends_with("/converse-stream") => {
                let events: Vec<&RawValue> = serde_json::from_str(raw).expect("a list");
                ("sse", events.into_iter().map(event).collect())
            }
            "json" if !raw.starts_with('"') => ("json", raw.to_owned()),
            other => (other, serde_json::from_str(raw).expect("text")),
        };
        Self {
            id: line.id,
            path: line.path,
            request: line.request_json.map(|raw| raw.get().to_owned()),
            status: line.status,
            response_encoding: encoding.to_owned(),
            body,
        }
    }
}

/// An event of AWS's: Claude's have their type in them, Converse's are `{"type": {…}}`.
fn event(raw: &RawValue) -> String {
    let event: Map<String, Value> = serde_json::from_str(raw.get()).expect("an event");
    let (first, inner) = event.iter().next().expect("a member");
    match event.get("type") {
        Some(name) => format!("event: {}\ndata: {raw}\n\n", name.as_str().expect("text")),
        None => format!("event: {first}\ndata: {inner}\n\n"),
    }
}

/// A group's records; `None`, said loudly, where there is no corpus.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn records(group: &Group) -> Option<Vec<Record>> {
    let Group { file, only, .. } = group;
    let Some(root) = std::env::var_os("POLYGATE_CORPUS") else {
        eprintln!("POLYGATE_CORPUS is not set: recorded traffic is NOT tested ({file})");
        return None;
    };
    let path = PathBuf::from(root)
        .join("train")
        .join(format!("{file}.jsonl"));
    let text = fs::read_to_string(&path).expect("the corpus has the group");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let is_meant =
        |record: &Record| only.is_empty() || only.iter().any(|model| record.path.contains(model));
    Some(lines.map(Record::read).filter(is_meant).collect())
}

/// Prints a line that stays visible with `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "counts are what a corpus run is read for"
)]
pub fn report(line: &str) {
    eprintln!("{line}");
}
