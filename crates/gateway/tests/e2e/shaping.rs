//! Shaping: what a provider is sent, by configuration and request. The cases are text files; UPDATE_GOLDEN=1 writes them anew.
//!
//! In a file the configuration is indented, with `$MOCK` for the provider's address; `>` is a call, `<` what the provider got of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use http::Method;
use polygate_mock_provider::Entry;

use crate::support::{Gate, calls, mock};

/// Headers that every request has, and those of keys.
const USUAL: [&str; 9] = [
    "accept",
    "api-key",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "x-api-key",
    "x-goog-api-key",
    "x-polygate-hops",
];

/// Pseudonyms are of this key: they stay the same.
const SECRET: (&str, &str) = ("POLYGATE_SECRET_KEY", "a-secret-for-golden-files");

/// A call of a file.
#[derive(Default)]
struct Call {
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// A file: everything before its calls as it stands, and these.
struct Case {
    head: String,
    config: String,
    calls: Vec<Call>,
}

impl Case {
    fn read(text: &str) -> Case {
        let is_call = |line: &&str| line.starts_with('>');
        let head: Vec<&str> = text.lines().take_while(|line| !is_call(line)).collect();
        let config = head.iter().filter_map(|line| line.strip_prefix("    "));
        let config: Vec<&str> = config.collect();
        let mut calls: Vec<Call> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("> ")) {
            if let Some(target) = line.strip_prefix("POST ") {
                calls.push(Call {
                    target: target.to_owned(),
                    ..Call::default()
                });
                continue;
            }
            let call = calls.last_mut().expect("a call");
            match line.split_once(": ").filter(|_| !line.starts_with('{')) {
                Some((name, value)) => call.headers.push((name.to_owned(), value.to_owned())),
                None => line.clone_into(&mut call.body),
            }
        }
        Case {
            head: head.join("\n"),
            config: config.join("\n"),
            calls,
        }
    }

    /// The file with what came of its calls.
    async fn played(&self) -> String {
        let mock = mock("p").await;
        let config = self.config.replace("$MOCK", &mock.url());
        let gate = Gate::start_with(&config, &[SECRET]);
        let mut names = BTreeMap::new();
        let mut out = self.head.clone();
        for call in &self.calls {
            let _ = write!(out, "\n> POST {}", call.target);
            for (name, value) in &call.headers {
                let _ = write!(out, "\n> {name}: {value}");
            }
            let _ = writeln!(out, "\n> {}", call.body);
            let before = calls(&mock).len();
            let headers: Vec<(&str, &str)> = call
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let reply = gate
                .ask(Method::POST, &call.target, &headers, call.body.clone())
                .await;
            if reply.status != 200 {
                let _ = writeln!(out, "< {}: {}", reply.status.as_u16(), reply.text().trim());
            }
            for entry in calls(&mock).iter().skip(before) {
                out.push_str(&seen(entry, &mut names));
            }
        }
        out
    }
}

/// What the provider got. Pseudonyms are numbered: those of a file that are the same have one number.
fn seen(entry: &Entry, names: &mut BTreeMap<String, usize>) -> String {
    let mut out = format!("< {} {}\n", entry.method, entry.path);
    for (name, value) in &entry.headers {
        if !USUAL.contains(&name.as_str()) && !value.starts_with("polygate/") {
            let _ = writeln!(out, "< {name}: {value}");
        }
    }
    let body = entry.body.as_ref().expect("bodies are kept");
    let mut body = String::from_utf8_lossy(body).into_owned();
    let is_hex =
        |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found: Vec<String> = body.split('"').filter(is_hex).map(str::to_owned).collect();
    for name in found {
        let number = names.len() + 1;
        let number = *names.entry(name.clone()).or_insert(number);
        body = body.replace(&name, &format!("pseudonym {number}"));
    }
    let _ = writeln!(out, "< {body}");
    out
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/shaping");
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn providers_are_sent_what_the_files_say() {
    let files = files();
    assert!(!files.is_empty());
    let mut stale = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let played = Case::read(&text).played().await;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, played).expect("written");
        } else if played != text {
            stale.push(format!("{}:\n{played}", file.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "UPDATE_GOLDEN=1 writes them anew:\n{}",
        stale.join("\n")
    );
}
