//! Recorded event streams of Bedrock: the events are those that the recorder's own decoder found, and they are written back byte
//! for byte.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use polygate_wire::Frame;
use polygate_wire::event_stream::{EventStream, encode};
use polygate_wire::sse::{Framer, frames};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Record {
    id: String,
    response_encoding: String,
    response_body: Value,
    #[serde(default)]
    response_events: Vec<Value>,
}

#[test]
fn recorded_streams_are_read_and_written_back() {
    let Some(root) = std::env::var_os("POLYGATE_CORPUS") else {
        report("POLYGATE_CORPUS is not set: 1 corpus test SKIPPED (event streams)");
        return;
    };
    let path = PathBuf::from(root).join("train/bedrock-converse.jsonl");
    let text = fs::read_to_string(path).expect("the corpus has the group");
    let (mut streams, mut events) = (0, 0);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let record: Record = serde_json::from_str(line).expect("a record");
        if record.response_encoding != "aws-eventstream-base64" {
            continue;
        }
        let bytes = base64(record.response_body.as_str().expect("text"));
        let whole = read(&[&bytes]);
        let (found, written) = understood(&whole);
        assert_eq!(found, record.response_events, "{}", record.id);
        assert!(written == bytes, "{}: other bytes come back", record.id);
        for cut in 0..=bytes.len().min(600) {
            assert!(
                read(&[&bytes[..cut], &bytes[cut..]]) == whole,
                "{}: cut at {cut}",
                record.id
            );
        }
        for size in [1, 7, 100, 1000] {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            assert!(read(&pieces) == whole, "{}: pieces of {size}", record.id);
        }
        streams += 1;
        events += found.len();
    }
    report(&format!(
        "event streams: {streams} with {events} events read and written back"
    ));
    assert!(streams > 10 && events > 500, "{streams}, {events}");
}

/// Prints a line that stays visible with `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "a skipped test and a corpus run's counts must be seen"
)]
fn report(line: &str) {
    eprintln!("{line}");
}

fn read(pieces: &[&[u8]]) -> Bytes {
    let mut machine = EventStream::default();
    let mut out = Vec::new();
    for piece in pieces {
        let events = machine.push(Bytes::copy_from_slice(piece));
        out.extend_from_slice(&events.expect("whole messages"));
    }
    out.extend_from_slice(&machine.finish().expect("a whole stream"));
    out.into()
}

/// The events as the recorder notes them, and the messages they were.
fn understood(events: &Bytes) -> (Vec<Value>, Vec<u8>) {
    let block = Framer::new().push(events.clone()).expect("short");
    assert_eq!(block.len(), events.len(), "only whole frames");
    let (mut found, mut written) = (Vec::new(), Vec::new());
    for raw in frames(&block) {
        let frame = Frame::parse(&raw);
        let name = frame.event.expect("a name");
        let data: Value = serde_json::from_slice(&frame.data).expect("JSON");
        found.push(json!({ name: data }));
        written.extend_from_slice(&encode(name, &frame.data));
    }
    (found, written)
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = ALPHABET.iter().position(|letter| *letter == byte);
        bits = (bits << 6) | u32::try_from(digit.expect("base64")).expect("small");
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).expect("a byte"));
        }
    }
    out
}
