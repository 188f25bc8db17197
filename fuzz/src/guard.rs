//! Any body and any stream of any client's format past the guards: nothing panics, what was JSON stays JSON, every way of cutting a
//! stream or a text gives the same, and what was taken out of a text comes back as it was.

use std::sync::LazyLock;

use bytes::Bytes;
use polygate_engine::condition::Condition;
use polygate_engine::config::{self, Config};
use polygate_engine::guard::body::{self, Side};
use polygate_engine::guard::detect::DETECTORS;
use polygate_engine::guard::placeholder::{Maker, Restoring};
use polygate_engine::guard::stream::Stream;
use polygate_engine::guard::{Action, Doings, Guards, Watch};
use polygate_engine::lane::Output;
use polygate_wire::sse::frames;
use polygate_wire::{Format, Frame, Framer};
use serde_json::{Value, json};

static REDACTS: LazyLock<Guards> = LazyLock::new(|| guards(Action::Redact));
static RESTORES: LazyLock<Guards> = LazyLock::new(|| guards(Action::Restore));

fn guards(action: Action) -> Guards {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let looks = config::Looks {
        action,
        detectors: DETECTORS.iter().collect(),
        patterns: texts(&[r"[ab]+c", r"x(y|z).*!", r"(?m)^> \w+$"]),
        words: texts(&["the", "Zürich"]),
        case_sensitive: false,
    };
    let guard = config::Guard {
        name: "fuzz".to_owned(),
        when: Condition::default(),
        requests: true,
        answers: true,
        by: config::By::Looks(looks),
    };
    let mut config = Config::default();
    config.guards.list.push(guard);
    Guards::compile(&config).expect("good guards")
}

fn doings(side: Side) -> Doings {
    Doings::new(side, Maker::default())
}

/// The target. The first byte: the client's format. What follows is a body, a stream and a text.
pub fn run(data: &[u8]) {
    let [first, data @ ..] = data else {
        return;
    };
    let format = crate::pick(*first);
    let watch = Watch::new(REDACTS.all(), Restoring::default());
    for side in [Side::Request, Side::Answer] {
        let out = body::body(data, format, side, &watch, &mut doings(side));
        if let Ok(Some(out)) = out
            && crate::check_json(data).is_ok()
        {
            crate::assert_json(&out, "a body past the guards");
        }
        let _ = body::text(data, &watch, &mut doings(side));
    }
    // Of a stream that is ended by a guard, less goes out the more of it comes at a time.
    let (whole, ends_badly) = stream(format, &watch, &[data]);
    for (how, pieces) in crate::cuts(data) {
        let (cut, fails) = stream(format, &watch, &pieces);
        assert_eq!(fails, ends_badly, "{how}");
        assert!(
            cut == whole || (ends_badly && (cut.starts_with(&whole) || whole.starts_with(&cut))),
            "{how} it gives\n{}\nwhole it gives\n{}",
            String::from_utf8_lossy(&cut),
            String::from_utf8_lossy(&whole)
        );
    }
    if let Ok(text) = std::str::from_utf8(data) {
        of_text(text, &watch);
    }
}

fn of_text(text: &str, watch: &Watch) {
    let whole = said(watch, &[text]);
    let mut signs = [0; 4];
    let pieces: Vec<String> = text
        .chars()
        .map(|sign| sign.encode_utf8(&mut signs).to_owned())
        .collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    assert_eq!(said(watch, &pieces), whole, "sign by sign");
    if text.trim_start().starts_with(['{', '[']) {
        // What of it is JSON is written anew.
        return;
    }
    let watch = Watch::new(RESTORES.all(), Restoring::default());
    let asked = json!({"messages": [{"content": text}]}).to_string();
    let (format, mut asks) = (Format::OpenaiChat, doings(Side::Request));
    let sent = body::body(asked.as_bytes(), format, Side::Request, &watch, &mut asks);
    let sent = sent.expect("JSON").unwrap_or_else(|| asked.into());
    let sent: Value = serde_json::from_slice(&sent).expect("JSON");
    let sent = sent["messages"][0]["content"].as_str().expect("a text");
    let mut restoring = Restoring::default();
    restoring.extend(asks.restoring());
    let back = said(&Watch::new(&[], restoring), &[sent]);
    assert_eq!(back, text, "what was taken out comes back");
}

/// What a chat's stream of these pieces says.
fn said(watch: &Watch, pieces: &[&str]) -> String {
    let event = |piece: &&str| {
        let event = json!({"choices": [{"delta": {"content": piece}}]});
        format!("data: {event}\n\n")
    };
    let events: String = pieces.iter().map(event).collect();
    let (out, _) = stream(Format::OpenaiChat, watch, &[events.as_bytes()]);
    let said = |raw: Bytes| {
        let event: Value = serde_json::from_slice(&Frame::parse(&raw).data).expect("JSON");
        event["choices"][0]["delta"]["content"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    frames(&Bytes::from(out)).map(said).collect()
}

/// What clients get of a stream that comes in these pieces, but for signs of life, which wait for nothing.
fn stream(format: Format, watch: &Watch, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut stream = Stream::new(format, false, watch.clone(), doings(Side::Answer));
    let (mut framer, mut out) = (Framer::new(), Output::default());
    let mut run = || {
        for piece in pieces {
            let block = framer.push(Bytes::copy_from_slice(piece)).expect("short");
            stream.block(block, &mut out)?;
        }
        stream.block(framer.finish(), &mut out)?;
        stream.finish(&mut out)
    };
    let fails = run().is_err();
    // With which frame a blank line passes depends on the cut, and means nothing.
    let mut said = Vec::new();
    for piece in std::iter::from_fn(|| out.pop()) {
        let frame = Frame::parse(&piece);
        if !frame.is_empty() {
            said.extend_from_slice(piece.trim_ascii());
            said.extend_from_slice(b"\n\n");
        }
    }
    (said, fails)
}
