//! Recorded traffic, where `POLYGATE_CORPUS` names the folder that holds it (with `train/<group>.jsonl`).

use std::fs;
use std::path::PathBuf;

use polygate_wire::Format;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The groups of recordings whose format the gateway speaks.
pub const GROUPS: [(&str, Format); 11] = [
    ("openai-chat", Format::OpenaiChat),
    ("compatible-chat", Format::OpenaiChat),
    ("deepseek-chat", Format::OpenaiChat),
    ("groq-chat", Format::OpenaiChat),
    ("mistral-chat", Format::OpenaiChat),
    ("openrouter-chat", Format::OpenaiChat),
    ("xai-chat", Format::OpenaiChat),
    ("openai-responses", Format::OpenaiResponses),
    ("compatible-responses", Format::OpenaiResponses),
    ("anthropic", Format::AnthropicMessages),
    ("gemini", Format::Gemini),
];

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
    /// `json` or `sse`.
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
            "/chat/completions",
            "/responses",
            "/messages",
            ":generateContent",
            ":streamGenerateContent",
        ];
        ends.iter().any(|end| path.ends_with(end))
    }

    fn read(line: &str) -> Self {
        let line: Line<'_> = serde_json::from_str(line).expect("a record");
        let raw = line.response_body.get();
        let body = if line.response_encoding == "json" && !raw.starts_with('"') {
            raw.to_owned()
        } else {
            serde_json::from_str(raw).expect("text")
        };
        Self {
            id: line.id,
            path: line.path,
            request: line.request_json.map(|raw| raw.get().to_owned()),
            status: line.status,
            response_encoding: line.response_encoding,
            body,
        }
    }
}

/// A group's records; `None`, said loudly, where there is no corpus.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn records(group: &str) -> Option<Vec<Record>> {
    let Some(root) = std::env::var_os("POLYGATE_CORPUS") else {
        eprintln!("POLYGATE_CORPUS is not set: recorded traffic is NOT tested ({group})");
        return None;
    };
    let path = PathBuf::from(root)
        .join("train")
        .join(format!("{group}.jsonl"));
    let text = fs::read_to_string(&path).expect("the corpus has the group");
    Some(
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(Record::read)
            .collect(),
    )
}

/// Prints a line that stays visible with `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "counts are what a corpus run is read for"
)]
pub fn report(line: &str) {
    eprintln!("{line}");
}
