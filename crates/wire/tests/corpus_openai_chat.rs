//! Recorded traffic of OpenAI Chat and its many speakers: every request is read and written for every other format, every answer
//! checked, every stream understood.

#[path = "support/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use polygate_wire::sse::{Framer, frames};
use polygate_wire::{Format, Frame, Progress, RawObject, dialect, egress, ingress};
use serde::Deserialize;
use serde_json::value::RawValue;

const GROUPS: [&str; 7] = [
    "openai-chat",
    "compatible-chat",
    "deepseek-chat",
    "groq-chat",
    "mistral-chat",
    "openrouter-chat",
    "xai-chat",
];

#[derive(Deserialize)]
struct Asked<'a> {
    id: String,
    #[serde(borrow)]
    request_json: Option<&'a RawValue>,
}

#[test]
fn every_recorded_request_is_written_for_every_upstream() {
    let Some(root) = std::env::var_os("POLYGATE_CORPUS") else {
        corpus::report("POLYGATE_CORPUS is not set: 1 corpus test skipped (chat requests)");
        return;
    };
    let chat = ingress(Format::OpenaiChat).expect("clients speak it");
    let (mut read, mut written) = (0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for group in GROUPS {
        let path = PathBuf::from(&root)
            .join("train")
            .join(format!("{group}.jsonl"));
        let text = std::fs::read_to_string(path).expect("the corpus has the group");
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let asked: Asked<'_> = serde_json::from_str(line).expect("a record");
            let Some(raw) = asked.request_json else {
                continue;
            };
            let object =
                RawObject::parse(Bytes::copy_from_slice(raw.get().as_bytes())).expect("an object");
            let request = match chat.decode_request(&object) {
                Ok(request) => request,
                Err(failure) => {
                    *refused
                        .entry(format!("read: {}", failure.message))
                        .or_default() += 1;
                    continue;
                }
            };
            read += 1;
            for upstream in Format::ALL.into_iter().filter_map(egress) {
                match upstream.encode_request(&request, "m") {
                    Ok((body, losses)) => {
                        written += 1;
                        let known = |at: &str| {
                            object
                                .iter()
                                .any(|(name, _)| at.trim_start_matches('/').starts_with(name))
                        };
                        assert!(
                            losses.iter().all(|loss| known(&loss.0)),
                            "{}: {losses:?}",
                            asked.id
                        );
                        RawObject::parse(body).expect("an object comes out");
                    }
                    Err(failure) => {
                        *refused
                            .entry(format!("write: {}", failure.message))
                            .or_default() += 1
                    }
                }
            }
        }
    }
    corpus::report(&format!(
        "chat: {read} requests read, {written} bodies written; refused: {refused:#?}"
    ));
    let refused: usize = refused.values().sum();
    assert!(read > 1500 && refused * 20 < read, "{refused} refused");
}

#[test]
fn every_recorded_answer_is_understood() {
    let chat = dialect(Format::OpenaiChat);
    let (mut whole, mut streams, mut errors) = (0, 0, 0);
    let mut wrong = Vec::new();
    for group in GROUPS {
        let Some(records) = corpus::records(group, 1) else {
            return;
        };
        for record in &records {
            match (record.status, record.response_encoding.as_str()) {
                (400.., "json") => {
                    errors += 1;
                    if chat.decode_error(record.body()).is_none() {
                        wrong.push(format!("{}: no error is read", record.id));
                    }
                }
                (200..300, "json") => {
                    whole += 1;
                    if let Err(failure) = chat.check_answer(record.body()) {
                        corpus::report(&format!("  refused {}: {}", record.id, failure.message));
                    }
                }
                (200..300, "sse") => {
                    streams += 1;
                    wrong.extend(
                        understood(record.body())
                            .err()
                            .map(|why| format!("{}: {why}", record.id)),
                    );
                }
                _ => {}
            }
        }
    }
    corpus::report(&format!(
        "chat: {whole} answers checked, {streams} streams and {errors} errors understood"
    ));
    assert!(
        wrong.len() * 50 < streams + errors,
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A stream gets to its end, and whatever matters in it has a mark.
fn understood(bytes: &[u8]) -> Result<(), String> {
    let chat = dialect(Format::OpenaiChat);
    let mut framer = Framer::new();
    let mut blocks = vec![
        framer
            .push(Bytes::copy_from_slice(bytes))
            .map_err(|_| "too long")?,
    ];
    blocks.push(framer.finish());
    let mut furthest = Progress::Preamble;
    for raw in blocks.iter().flat_map(frames) {
        let frame = Frame::parse(&raw);
        if frame.is_empty() {
            continue;
        }
        let signal = chat.sniff(&frame);
        if let Some(failure) = signal.failure {
            return if failure.message.contains("not one") {
                Err(failure.message)
            } else {
                Ok(())
            };
        }
        let matters =
            signal.usage.is_some() || matches!(signal.progress, Progress::Finish | Progress::End);
        let marked = chat
            .marks()
            .iter()
            .any(|mark| raw.windows(mark.len()).any(|window| window == *mark));
        if matters && !marked {
            return Err(format!("no mark in {}", String::from_utf8_lossy(&raw)));
        }
        if signal.progress != Progress::Preamble {
            furthest = signal.progress;
        }
    }
    if matches!(furthest, Progress::Finish | Progress::End) {
        Ok(())
    } else {
        Err(format!("it ends at {furthest:?}"))
    }
}
