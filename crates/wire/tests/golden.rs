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

#[path = "support/drive.rs"]
mod drive;
#[path = "support/written.rs"]
mod written;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use drive::{check_grammar, decode, each_frame, say};
use polygate_core::{Failure, Kind, Origin};
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, Dialect, Egress, Format, Loss, Quirks, RawObject, ReplyHead,
    Target, dialect, egress, ingress,
};
use serde_json::Value;
use written::{counts, write_down};

/// Streams up to this size are cut at every byte, longer ones at some.
const CUT_EVERYWHERE: usize = 4096;

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
                let mutilated = random.mutilate(&bytes);
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
        let encoded = chat
            .decode_request(&object)
            .and_then(|request| translate(request, self.format));
        written_request(encoded)
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
                    let ingress = ingress(client).expect("clients speak it");
                    let body = ingress.encode_response(&response, &reply());
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
            let stream = client_stream(client, &whole.events, whole.failure.as_ref());
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
        let path = self.dir.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, actual).expect("the case's folder can be written");
            return None;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        (expected != actual)
            .then(|| self.complain(&format!("{name} should be\n{expected}\nbut is\n{actual}")))
    }

    fn complain(&self, what: &str) -> String {
        format!("{}: {what}", self.dir.display())
    }
}

fn client_stream(client: Format, events: &[ChatEvent], failure: Option<&Failure>) -> String {
    let mut out = Vec::new();
    let mut encoder = ingress(client)
        .expect("clients speak it")
        .stream_encoder(reply());
    let mut failure = failure;
    for event in events {
        match event {
            ChatEvent::Failed(reported) => failure = Some(reported),
            event => encoder.encode(event, &mut out),
        }
    }
    match failure {
        Some(failure) => {
            out.extend_from_slice(&dialect(client).encode_stream_error(failure, "req_golden"));
        }
        None => encoder.finish(&mut out),
    }
    String::from_utf8(out).expect("UTF-8")
}

fn reply() -> ReplyHead {
    ReplyHead {
        request_id: "golden".to_owned(),
        unique: "golden".to_owned(),
        model: "golden-model".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
        ..ReplyHead::default()
    }
}

/// The formats that clients speak.
const CLIENTS: [Format; 4] = [
    Format::OpenaiChat,
    Format::OpenaiResponses,
    Format::AnthropicMessages,
    Format::Gemini,
];

/// As the engine does it, for an upstream without quirks.
fn translate(mut request: ChatRequest, upstream: Format) -> Result<(Bytes, Vec<Loss>), Failure> {
    let model = request.model.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, &model);
    let quirks = Quirks::default();
    let target = Target {
        model: &model,
        quirks: &quirks,
    };
    let (body, lost) = egress(upstream).encode_request(&request, &target)?;
    losses.extend(lost);
    Ok((body, losses))
}

fn written_request(encoded: Result<(Bytes, Vec<Loss>), Failure>) -> String {
    match encoded {
        Err(failure) => format!("refused: {}\n", say(&failure)),
        Ok((body, losses)) => {
            let mut out = pretty(&body);
            if !losses.is_empty() {
                out.push_str("\ndropped:\n");
            }
            losses
                .iter()
                .for_each(|loss| out.push_str(&format!("{}\n", loss.0)));
            out
        }
    }
}

fn pretty(body: &Bytes) -> String {
    let value: Value = serde_json::from_slice(body).expect("we write JSON");
    serde_json::to_string_pretty(&value).expect("a tree can be written") + "\n"
}

/// One byte at a time; cut once everywhere, or where a generator with a fixed seed says.
fn cuts(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![bytes.chunks(1).collect::<Vec<_>>()];
    if bytes.len() <= CUT_EVERYWHERE {
        all.extend((0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]));
        return all;
    }
    let mut random = Random::default();
    for _ in 0..100 {
        let (mut rest, mut pieces) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + random.below(700)));
            pieces.push(piece);
            rest = after;
        }
        all.push(pieces);
    }
    all
}

/// Bytes that mean something in JSON or in a stream, and one that means nothing.
const NOISE: &[u8] = b"{}[]\",:0an\r\n\xff";

/// A generator with a fixed seed.
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn mutilate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let at = self.below(lines.len());
        match self.below(3) {
            0 if !lines.is_empty() => drop(lines.remove(at)),
            1 if !lines.is_empty() => lines.insert(at, lines[self.below(lines.len())]),
            _ => {}
        }
        let mut bytes = lines.concat();
        for _ in 0..self.below(3) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = NOISE[self.below(NOISE.len())];
            }
        }
        bytes
    }
}
