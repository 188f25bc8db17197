//! What must hold for any bytes, one module a target. A broken promise is a panic: that is what a fuzzer looks for.
//!
//! Everything is written over `Format::ALL`: a format that is added is fuzzed without a change here, but for its seeds and words.

#[path = "../../crates/wire/tests/support/drive.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod drive;
pub mod guard;
pub mod messages;
pub mod mutate;
pub mod path;
pub mod request;
pub mod response;
pub mod sse;
pub mod stream;

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use polygate_wire::{
    Bridge, Dialect, Egress, Format, Ingress, RawObject, ReplyHead, egress, ingress,
};
use serde_json::value::RawValue;

/// The format that a byte picks.
fn pick(byte: u8) -> Format {
    Format::ALL[usize::from(byte) % Format::ALL.len()]
}

/// The client half of a format, where it has one.
fn client_half(format: Format) -> Option<&'static dyn Ingress> {
    half(ingress(format))
}

/// The upstream half of a format, where it has one.
fn upstream_half(format: Format) -> Option<&'static dyn Egress> {
    half(egress(format))
}

/// For registries that always know a half, and for those that may not.
fn half<T>(found: impl Into<Option<T>>) -> Option<T> {
    found.into()
}

/// Panics where bytes are not one JSON value.
fn assert_json(bytes: &[u8], what: &str) {
    if let Err(why) = check_json(bytes) {
        panic!("{what}: {why}: {}", String::from_utf8_lossy(bytes));
    }
}

fn check_json(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    // A raw value is read without recursion: how deep it is nested does not matter.
    let read: Result<&RawValue, _> = serde_json::from_str(text);
    read.map(drop).map_err(|error| error.to_string())
}

/// Panics where a failure cannot be said, whole and in a stream.
fn assert_can_be_said(dialect: &dyn Dialect, failure: &Failure) {
    assert_json(&dialect.encode_error(failure, "req_fuzz"), "an error");
    let event = dialect.encode_stream_error(failure, "req_fuzz");
    assert_frames(&event, "an error in a stream");
}

/// Panics where the events of a stream are not JSON; returns their data.
fn assert_frames(bytes: &[u8], what: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    drive::each_frame(&[bytes], |raw, frame| {
        assert!(
            raw.ends_with(b"\n\n") || raw.ends_with(b"\r\n\r\n"),
            "{what}: a frame without its blank line: {}",
            String::from_utf8_lossy(raw)
        );
        if frame.data.as_ref() != b"[DONE]" && !frame.is_empty() {
            assert_json(&frame.data, what);
        }
        all.push(frame.data.to_vec());
        true
    });
    all
}

/// A failure of an upstream, as the engine would make it of its words.
fn upstream_failure(dialect: &dyn Dialect, body: &[u8]) -> Option<Failure> {
    let said = dialect.decode_error(body)?;
    let mut failure = Failure::new(Kind::UpstreamError, said.message);
    (failure.code, failure.param) = (said.code, said.param);
    Some(failure)
}

/// What answers say of themselves; the flags come from the data.
fn reply(include_usage: bool, is_array: bool) -> ReplyHead {
    ReplyHead {
        request_id: "req_fuzz".to_owned(),
        model: "m \"quoted\"".to_owned(),
        created: 1_700_000_000,
        include_usage,
        is_array,
        unique: "0123456789abcdef0123456789abcdef".to_owned(),
        ..ReplyHead::default()
    }
}

/// A bridge that bends all it can for this upstream: a freeform tool, a name too long, an answer by a tool.
fn bridge(upstream: Format) -> Bridge {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"response_format":{{"type":"json_object"}},"tools":[
            {{"type":"custom","custom":{{"name":"patch"}}}},
            {{"type":"function","function":{{"name":"{}"}}}}]}}"#,
        "long".repeat(30)
    );
    let object = RawObject::parse(Bytes::from(body)).expect("an object");
    let request = client_half(Format::OpenaiChat).map(|client| client.decode_request(&object));
    let mut request = request.expect("clients speak it").expect("a request");
    Bridge::build(&mut request, upstream, "m").0
}

/// Bytes cut in pieces whose lengths the bytes themselves choose.
fn cut_by_itself(bytes: &[u8]) -> Vec<&[u8]> {
    let mut state = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Few pieces for some, many for others.
    let longest = 1 + (state >> 32) as usize % (2 + bytes.len().min(400));
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // An empty chunk is one too.
        let (piece, after) = rest.split_at(rest.len().min(state as usize % (1 + longest)));
        pieces.push(piece);
        rest = after;
        state = state.max(1);
    }
    pieces
}

/// Every way in which a target cuts its bytes, but for the whole.
fn cuts(bytes: &[u8]) -> [(&'static str, Vec<&[u8]>); 2] {
    [
        ("one byte at a time", bytes.chunks(1).collect()),
        ("cut by itself", cut_by_itself(bytes)),
    ]
}
