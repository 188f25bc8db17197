//! What the gateway writes, a JSON line each, for `tests/cells/validate.py`, where `POLYGATE_CELLS` names a folder for it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use polygate_wire::Loss;
use serde_json::json;

/// A file of lines; without a folder nothing is written.
pub struct Lines(Option<BufWriter<File>>);

/// Whom a line is about: the names of the client's and the upstream's format, and of the record.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    /// The client's format.
    pub client: &'a str,
    /// The upstream's format.
    pub upstream: &'a str,
    /// The record.
    pub id: &'a str,
}

impl Lines {
    /// A new file of this name.
    pub fn new(name: &str) -> Self {
        let folder = std::env::var_os("POLYGATE_CELLS").map(PathBuf::from);
        let file = folder.map(|folder| {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            File::create(folder.join(format!("{name}.jsonl"))).expect("a file can be made")
        });
        Self(file.map(BufWriter::new))
    }

    /// A request for an upstream.
    pub fn request(&mut self, name: Name<'_>, body: &[u8], losses: &[Loss]) {
        let losses: Vec<&str> = losses.iter().map(|loss| loss.0.as_str()).collect();
        self.line("request", name, body, &losses);
    }

    /// A whole answer for a client.
    pub fn answer(&mut self, name: Name<'_>, body: &[u8]) {
        self.line("answer", name, body, &[]);
    }

    /// A stream for a client.
    pub fn stream(&mut self, name: Name<'_>, body: &[u8]) {
        self.line("stream", name, body, &[]);
    }

    fn line(&mut self, kind: &str, name: Name<'_>, body: &[u8], losses: &[&str]) {
        let Some(file) = &mut self.0 else {
            return;
        };
        let line = json!({
            "kind": kind,
            "client": name.client,
            "upstream": name.upstream,
            "id": name.id,
            "body": std::str::from_utf8(body).expect("UTF-8"),
            "losses": losses,
        });
        writeln!(file, "{line}").expect("a line can be written");
    }
}
