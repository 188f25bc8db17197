//! Golden cases: `tests/golden/<upstream format>/<case>/` holds what comes in, and beside it what must come out.
//!
//! | in | out |
//! | --- | --- |
//! | `request.json`: a request of an OpenAI chat client | `request.out`: the upstream's body, then what was dropped |
//! | `response.json`: the upstream's answer | `response.out`: the answer in every client format |
//! | `stream.sse`: the upstream's stream | `events.out`, `stream.out` (the stream in every client format), `signals.out` (what the native lane sees) |
//! | `error.json`, `status`: the upstream's error | `error.out`: how it is read, and said again in the same format |
//!
//! Streams run whole, one byte at a time, and cut everywhere: all must come out the same. `UPDATE_GOLDEN=1` writes the outs.

#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/outs.rs"]
mod outs;
#[path = "support/translate.rs"]
#[expect(dead_code, reason = "shared with cells, which read more of it")]
mod translate;
#[path = "support/written.rs"]
mod written;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cuts::{Random, cuts};
use drive::{check_grammar, decode, each_frame, say};
use polygate_core::{Failure, Kind, Origin};
use polygate_wire::{Dialect, Egress, Format, Quirks, RawObject, dialect, egress, ingress};
use serde_json::Value;
use translate::{CLIENTS, Upstream, answer, ask, head, stream, written_request};
use written::{counts, write_down};

struct Case {
    dir: PathBuf,
    format: Format,
    egress: &'static dyn Egress,
    dialect: &'static dyn Dialect,
}

#[test]
fn every_case_comes_out_as_written() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for format in Format::ALL {
        let egress = egress(format);
        for dir in folders(&root(format)) {
            let case = Case {
                dir,
                format,
                egress,
                dialect: dialect(format),
            };
            count += 1;
            wrong.extend(case.run());
        }
    }
    assert!(count > 0, "there are no cases");
    assert!(
        wrong.is_empty(),
        "{} of {count} cases are wrong:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// Bytes changed, doubled and left out: whatever comes, nothing panics, and what is told keeps to the grammar.
#[test]
fn mutilated_streams_keep_to_the_grammar() {
    let mut random = Random::default();
    for format in Format::ALL {
        let egress = egress(format);
        for path in folders(&root(format))
            .iter()
            .map(|dir| dir.join("stream.sse"))
        {
            let bytes = fs::read(&path).unwrap_or_default();
            for _ in 0..200 {
                let mutilated = mutilate(&mut random, &bytes);
                let told = decode(egress, &[&mutilated]);
                let text = String::from_utf8_lossy(&mutilated);
                assert_eq!(
                    check_grammar(&told),
                    Ok(()),
                    "{} as\n{text}",
                    path.display()
                );
                each_frame(&[&mutilated], |_, frame| {
                    dialect(format).sniff(frame);
                    true
                });
                let _ = egress.decode_response(&mutilated);
            }
        }
    }
}

fn root(format: Format) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format.name())
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else {
        return vec![];
    };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    dirs
}

impl Case {
    fn run(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(body) = self.read("request.json") {
            wrong.extend(self.compare("request.out", &self.request(body)));
        }
        if let Some(body) = self.read("response.json") {
            wrong.extend(self.compare("response.out", &self.response(&body)));
        }
        if let Some(bytes) = self.read("stream.sse") {
            wrong.extend(self.stream(&bytes));
        }
        if let Some(body) = self.read("error.json") {
            wrong.extend(self.compare("error.out", &self.error(&body)));
        }
        wrong
    }

    fn request(&self, body: Vec<u8>) -> String {
        let object = RawObject::parse(body.into()).expect("a JSON object");
        let chat = ingress(Format::OpenaiChat).expect("clients speak it");
        let asked = chat.decode_request(&object).and_then(|request| {
            // An upstream without quirks.
            let upstream = Upstream {
                format: self.format,
                model: request.model.clone(),
                quirks: Quirks::default(),
            };
            ask(request, &upstream)
        });
        let asked = asked.as_ref();
        written_request(asked.map(|asked| (&asked.body, &*asked.losses)), pretty)
    }

    fn response(&self, body: &[u8]) -> String {
        let checked = match self.dialect.check_answer(body) {
            Ok(usage) => usage.map_or("no usage".to_owned(), |usage| counts(&usage)),
            Err(failure) => say(&failure),
        };
        let answer = match self.egress.decode_response(body) {
            Err(failure) => format!("{}\n", say(&failure)),
            Ok(response) => {
                let answers = CLIENTS.map(|client| {
                    let body = answer(client, &response, &head());
                    format!("== {}\n{}", client.name(), pretty(&body))
                });
                answers.concat()
            }
        };
        format!("checked: {checked}\n\n{answer}")
    }

    fn stream(&self, bytes: &[u8]) -> Vec<String> {
        let whole = decode(self.egress, &[bytes]);
        let events = write_down(&whole);
        let mut wrong: Vec<String> = check_grammar(&whole)
            .err()
            .map(|what| self.complain(&what))
            .into_iter()
            .collect();
        wrong.extend(self.compare("events.out", &events));
        let streams = CLIENTS.map(|client| {
            let stream = stream(client, &whole, head());
            format!("== {}\n{stream}", client.name())
        });
        wrong.extend(self.compare("stream.out", &streams.concat()));
        wrong.extend(self.signals(bytes));
        for pieces in cuts(bytes) {
            let cut = write_down(&decode(self.egress, &pieces));
            if cut != events {
                let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).take(8).collect();
                wrong.push(self.complain(&format!("cut into {lengths:?}… it gives\n{cut}")));
                break;
            }
        }
        wrong
    }

    /// What the native lane sees, frame by frame; and that a frame that says more than progress has a mark.
    fn signals(&self, bytes: &[u8]) -> Vec<String> {
        let mut out = String::new();
        let mut wrong = Vec::new();
        each_frame(&[bytes], |raw, frame| {
            let signal = self.dialect.sniff(frame);
            let usage = signal
                .usage
                .map(|usage| format!(" {}", counts(&usage)))
                .unwrap_or_default();
            let failure = signal
                .failure
                .map(|failure| format!(" {}", say(&failure)))
                .unwrap_or_default();
            let line = format!("{:?}{usage}{failure}", signal.progress);
            let has_mark = self
                .dialect
                .marks()
                .iter()
                .any(|mark| raw.windows(mark.len()).any(|window| window == *mark));
            if !has_mark
                && !matches!(line.as_str(), "Content" | "Preamble")
                && !line.contains("upstream_invalid")
            {
                wrong.push(self.complain(&format!("a frame without a mark says {line}")));
            }
            let _ = writeln!(out, "{line}");
            true
        });
        wrong.extend(self.compare("signals.out", &out));
        wrong
    }

    fn error(&self, body: &[u8]) -> String {
        let status = self.read("status").map_or(400, |text| {
            String::from_utf8(text)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .expect("a status")
        });
        let said = self.dialect.decode_error(body).unwrap_or_default();
        let mut failure = Failure::new(Kind::UpstreamError, said.message.clone());
        (failure.status, failure.origin, failure.code) =
            (status, Origin::Upstream, said.code.clone());
        let again = self.dialect.encode_error(&failure, "req_golden");
        let in_stream = self.dialect.encode_stream_error(&failure, "req_golden");
        let in_stream = String::from_utf8_lossy(&in_stream);
        format!("{said:#?}\n\n{}\n{in_stream}", pretty(&again))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join(name)).ok()
    }

    fn compare(&self, name: &str, actual: &str) -> Option<String> {
        outs::compare(&self.dir.join(name), actual)
    }

    fn complain(&self, what: &str) -> String {
        format!("{}: {what}", self.dir.display())
    }
}

/// JSON, indented.
fn pretty(body: &Bytes) -> String {
    let value: Value = serde_json::from_slice(body).expect("we write JSON");
    serde_json::to_string_pretty(&value).expect("a tree can be written") + "\n"
}

/// Bytes that mean something in JSON or in a stream, and one that means nothing.
const NOISE: &[u8] = b"{}[]\",:0an\r\n\xff";

fn mutilate(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let at = random.below(lines.len());
    match random.below(3) {
        0 if !lines.is_empty() => drop(lines.remove(at)),
        1 if !lines.is_empty() => lines.insert(at, lines[random.below(lines.len())]),
        _ => {}
    }
    let mut bytes = lines.concat();
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = NOISE[random.below(NOISE.len())];
        }
    }
    bytes
}
