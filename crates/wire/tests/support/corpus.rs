//! Recorded traffic, where `POLYGATE_CORPUS` names the folder that holds it (with `train/<group>.jsonl`).

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One recorded exchange, as far as these tests read it.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The path that was asked.
    #[allow(dead_code, reason = "not every test that shares this file reads it")]
    pub path: String,
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
    response_body: &'a RawValue,
}

impl Record {
    /// The answer's bytes.
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
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
            status: line.status,
            response_encoding: line.response_encoding,
            body,
        }
    }
}

/// A group's records; `None`, said loudly, where there is no corpus.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn records(group: &str, tests: usize) -> Option<Vec<Record>> {
    let Some(root) = std::env::var_os("POLYGATE_CORPUS") else {
        eprintln!("POLYGATE_CORPUS is not set: {tests} corpus tests skipped ({group})");
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
