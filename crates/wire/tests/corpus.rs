//! Recorded traffic through every cell: every request of every client format for every upstream format, every answer and stream
//! of every upstream format for every client format.
//!
//! `POLYGATE_CELLS=<folder>` has all that comes out written there, a JSON line each, for `tests/cells/validate.py`, which holds it
//! to the official SDKs' types and the providers' own descriptions.

#![expect(clippy::panic, reason = "a helper that cannot go on fails its test")]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/sweep.rs"]
mod sweep;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use bytes::Bytes;
use corpus::{GROUPS, Record, records, report};
use drive::{Told, decode, say};
use polygate_core::Failure;
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, Format, Loss, Quirks, RawObject, ReplyHead, Target, dialect,
    egress, ingress,
};
use serde_json::json;
use sweep::Sweep;

const CLIENTS: [Format; 4] = [
    Format::OpenaiChat,
    Format::OpenaiResponses,
    Format::AnthropicMessages,
    Format::Gemini,
];

/// What came out, where somebody wants to look at it.
struct Out(Option<BufWriter<File>>);

impl Out {
    fn new(name: &str) -> Self {
        let folder = std::env::var_os("POLYGATE_CELLS").map(PathBuf::from);
        let file = folder.map(|folder| {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            File::create(folder.join(format!("{name}.jsonl"))).expect("a file can be made")
        });
        Self(file.map(BufWriter::new))
    }

    fn line(&mut self, kind: &str, cell: (Format, Format), id: &str, body: &[u8]) {
        if let Some(file) = &mut self.0 {
            let (client, upstream) = cell;
            let body = std::str::from_utf8(body).expect("UTF-8");
            let line = json!({"kind": kind, "client": client.name(), "upstream": upstream.name(), "id": id, "body": body});
            writeln!(file, "{line}").expect("a line can be written");
        }
    }
}

#[test]
fn every_request_is_written_for_every_upstream() {
    let mut out = Out::new("requests");
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut lost: BTreeMap<String, usize> = BTreeMap::new();
    let (mut total, mut failed) = (0, 0);
    for (group, client) in GROUPS {
        let Some(records) = records(group) else {
            return;
        };
        let ingress = ingress(client).expect("clients speak it");
        for record in records
            .iter()
            .filter(|record| record.is_chat() && record.status < 300)
        {
            let Some(body) = &record.request else {
                continue;
            };
            let object = RawObject::parse(Bytes::from(body.clone())).expect("an object");
            let request = ingress.decode_request(&object);
            for upstream in Format::ALL {
                total += 1;
                let count = counts
                    .entry(format!("{} -> {}", client.name(), upstream.name()))
                    .or_default();
                match request
                    .clone()
                    .and_then(|request| translate(request, upstream))
                {
                    Ok((body, losses)) => {
                        count[0] += 1;
                        RawObject::parse(body.clone()).expect("an object comes out");
                        out.line("request", (client, upstream), &record.id, &body);
                        for Loss(at) in losses {
                            assert!(
                                object_has(&object, &at),
                                "{}: nothing stands at {at}",
                                record.id
                            );
                            let place: String = at
                                .split('/')
                                .map(|step| {
                                    if step.parse::<usize>().is_ok() {
                                        "*"
                                    } else {
                                        step
                                    }
                                })
                                .collect::<Vec<_>>()
                                .join("/");
                            let cell = format!("{} -> {} {place}", client.name(), upstream.name());
                            *lost.entry(cell).or_default() += 1;
                        }
                    }
                    Err(failure) => {
                        count[1] += 1;
                        failed += 1;
                        let why = format!(
                            "{} -> {}: {}",
                            client.name(),
                            upstream.name(),
                            failure.message
                        );
                        *refused.entry(why).or_default() += 1;
                    }
                }
            }
        }
    }
    for (cell, [written, refused]) in &counts {
        report(&format!("{cell}: {written} written, {refused} refused"));
    }
    report(&format!("refused: {refused:#?}\nlost: {lost:#?}"));
    assert!(failed * 25 < total, "{failed} of {total} refused");
}

/// A pointer into the request leads somewhere.
fn object_has(object: &RawObject, at: &str) -> bool {
    let tree: serde_json::Value = serde_json::from_slice(object.bytes()).expect("JSON");
    tree.pointer(at).is_some()
}

/// As the engine does it, for an upstream without quirks.
fn translate(mut request: ChatRequest, upstream: Format) -> Result<(Bytes, Vec<Loss>), Failure> {
    let model = request.model.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, &model);
    let quirks = Quirks {
        developer: true,
        ..Quirks::default()
    };
    let target = Target {
        model: if model.is_empty() { "m" } else { &model },
        quirks: &quirks,
    };
    let (body, lost) = egress(upstream).encode_request(&request, &target)?;
    losses.extend(lost);
    Ok((body, losses))
}

#[test]
fn every_answer_is_written_for_every_client() {
    let mut out = Out::new("answers");
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (group, upstream) in GROUPS {
        let Some(records) = records(group) else {
            return;
        };
        for record in records
            .iter()
            .filter(|record| record.is_chat() && record.status < 300)
        {
            let count = counts.entry(upstream.name().to_owned()).or_default();
            match record.response_encoding.as_str() {
                "json" => count[0] += usize::from(answer(record, upstream, &mut out)),
                "sse" => count[1] += usize::from(stream(record, upstream, &mut out)),
                _ => {}
            }
        }
    }
    for (format, [answers, streams]) in counts {
        report(&format!(
            "{format}: {answers} answers and {streams} streams, each for every client"
        ));
    }
}

fn answer(record: &Record, upstream: Format, out: &mut Out) -> bool {
    let Ok(response) = egress(upstream).decode_response(record.body()) else {
        return false;
    };
    for client in CLIENTS {
        let ingress = ingress(client).expect("clients speak it");
        let body = ingress.encode_response(&response, &reply());
        RawObject::parse(body.clone()).expect("an object comes out");
        out.line("answer", (client, upstream), &record.id, &body);
        // The same answer told as a stream must come to the same.
        let events = response.clone().events();
        out.line(
            "stream",
            (client, upstream),
            &record.id,
            &written(client, &events),
        );
    }
    true
}

fn stream(record: &Record, upstream: Format, out: &mut Out) -> bool {
    let told = decode(egress(upstream), &[record.body()]);
    let has_failed =
        told.failure.is_some() || matches!(told.events.last(), Some(ChatEvent::Failed(_)));
    if has_failed {
        return false;
    }
    let Told { events, .. } = told;
    for client in CLIENTS {
        out.line(
            "stream",
            (client, upstream),
            &record.id,
            &written(client, &events),
        );
        let response = polygate_wire::ChatResponse::gather(events.clone());
        let response =
            response.unwrap_or_else(|failure| panic!("{}: {}", record.id, say(&failure)));
        let ingress = ingress(client).expect("clients speak it");
        out.line(
            "answer",
            (client, upstream),
            &record.id,
            &ingress.encode_response(&response, &reply()),
        );
    }
    true
}

fn written(client: Format, events: &[ChatEvent]) -> Vec<u8> {
    let mut encoder = ingress(client)
        .expect("clients speak it")
        .stream_encoder(reply());
    let mut bytes = Vec::new();
    events
        .iter()
        .for_each(|event| encoder.encode(event, &mut bytes));
    encoder.finish(&mut bytes);
    bytes
}

fn reply() -> ReplyHead {
    ReplyHead {
        request_id: "req".to_owned(),
        unique: "unique".to_owned(),
        model: "model".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
        ..ReplyHead::default()
    }
}

#[test]
fn every_answer_is_read_by_both_lanes() {
    for (group, format) in GROUPS {
        let Some(records) = records(group) else {
            return;
        };
        let mut sweep = Sweep::default();
        for record in &records {
            sweep.take(record, dialect(format), egress(format));
        }
        let Sweep {
            whole,
            streams,
            errors,
            counted,
            silent,
            refused,
            wrong,
        } = sweep;
        report(&format!(
            "{group}: {} records, {whole} answers, {streams} streams, {errors} errors, {counted} counts read; {} say nothing, {} refused",
            records.len(),
            silent.len(),
            refused.len(),
        ));
        for (id, why) in &refused {
            report(&format!("  refused {id}: {why}"));
        }
        report(&format!("  silent: {silent:?}"));
        assert!(
            wrong.is_empty(),
            "{group}: {} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        assert!(
            refused.len() * 30 < records.len(),
            "{group}: too many refused"
        );
    }
}
