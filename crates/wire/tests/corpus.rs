//! Recorded traffic through every cell: every request of every client format for every upstream format, every answer and stream
//! of every upstream format for every client format.
//!
//! `POLYGATE_CELLS=<folder>` has all that comes out written there, a JSON line each, for `tests/cells/validate.py`, which holds it
//! to the official SDKs' types and the providers' own descriptions.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/kept.rs"]
mod kept;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/sweep.rs"]
mod sweep;
#[path = "support/words.rs"]
mod words;

use std::collections::BTreeMap;

use bytes::Bytes;
use corpus::{COMPLETIONS, GROUPS, Group, Record, records, report};
use drive::{Told, decode, each_frame};
use kept::silently_dropped;
use lines::{Lines, Name};
use polygate_core::Failure;
use polygate_wire::canon::{Block, Said, Stop};
use polygate_wire::openai_completions::OpenaiCompletions;
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, ChatResponse, Format, Ingress, Loss, Quirks, RawObject,
    ReplyHead, Target, dialect, egress, ingress,
};
use serde_json::Value;
use sweep::Sweep;

/// Who asks, by name: the formats that clients speak, and the one that only asks for completions.
fn clients() -> impl Iterator<Item = (&'static str, &'static dyn Ingress)> {
    let formats = Format::ALL.into_iter();
    let formats = formats.filter_map(|format| Some((format.name(), ingress(format)?)));
    formats.chain([("openai-completions", &OpenaiCompletions as &dyn Ingress)])
}

#[test]
fn every_request_is_written_for_every_upstream() {
    let mut lines = Lines::new("requests");
    let mut tally = Tally::default();
    for group in GROUPS.iter().chain([&COMPLETIONS]) {
        let client = if group.file == COMPLETIONS.file {
            "openai-completions"
        } else {
            group.format.name()
        };
        let Some((_, ingress)) = clients().find(|(name, _)| *name == client) else {
            continue;
        };
        let Some(records) = good(group) else {
            return;
        };
        for record in records {
            let Some(body) = record.request else {
                continue;
            };
            let object = RawObject::parse(Bytes::from(body)).expect("an object");
            let request = ingress.decode_request(&object);
            for upstream in Format::ALL {
                let request = request.clone();
                let cell = format!("{client} -> {}", upstream.name());
                match request.and_then(|request| translate(request, upstream)) {
                    Ok((sent, losses)) => {
                        let name = Name {
                            client,
                            upstream: upstream.name(),
                            id: &record.id,
                        };
                        lines.request(name, &sent, &losses);
                        let wrong = wrong(&object, &sent, &losses, upstream);
                        tally.written(&cell, &record.id, wrong);
                    }
                    Err(failure) => tally.refused(&cell, &failure),
                }
            }
        }
    }
    tally.report();
}

/// Turns of chats that went well.
fn good(group: &Group) -> Option<Vec<Record>> {
    let mut records = records(group)?;
    records.retain(|record| record.is_chat() && record.status < 300);
    Some(records)
}

/// What must not be in a request for an upstream.
fn wrong(asked: &RawObject, sent: &Bytes, losses: &[Loss], upstream: Format) -> Vec<String> {
    RawObject::parse(sent.clone()).expect("an object comes out");
    let tree: Value = serde_json::from_slice(asked.bytes()).expect("JSON");
    let unknown = losses
        .iter()
        .filter(|Loss(at)| tree.pointer(at).is_none())
        .map(|Loss(at)| format!("nothing stands at {at}, which is named as lost"));
    let dropped = silently_dropped(asked.bytes(), sent, losses, upstream);
    let dropped = dropped.into_iter();
    let dropped = dropped.map(|at| format!("{at} is dropped in silence"));
    unknown.chain(dropped).collect()
}

/// What became of requests.
#[derive(Default)]
struct Tally {
    /// How many were written and how many refused, by cell.
    counts: BTreeMap<String, [usize; 2]>,
    /// Why, by cell.
    refused: BTreeMap<String, usize>,
    /// What must not be.
    wrong: Vec<String>,
}

impl Tally {
    fn written(&mut self, cell: &str, id: &str, wrong: Vec<String>) {
        self.counts.entry(cell.to_owned()).or_default()[0] += 1;
        let wrong = wrong.into_iter();
        self.wrong
            .extend(wrong.map(|what| format!("{id} {cell}: {what}")));
    }

    fn refused(&mut self, cell: &str, failure: &Failure) {
        self.counts.entry(cell.to_owned()).or_default()[1] += 1;
        let why = format!("{cell}: {}", failure.message);
        *self.refused.entry(why).or_default() += 1;
    }

    fn report(self) {
        let Self {
            counts,
            refused,
            wrong,
        } = self;
        for (cell, [written, refused]) in &counts {
            report(&format!("{cell}: {written} written, {refused} refused"));
        }
        report(&format!("refused: {refused:#?}"));
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        let sum = |which: usize| counts.values().map(|counts| counts[which]).sum::<usize>();
        assert!(sum(1) * 25 < sum(0), "{} refused", sum(1));
    }
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
    let mut lines = Lines::new("answers");
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for group in &GROUPS {
        let Some(records) = good(group) else {
            return;
        };
        for record in records {
            let count = counts.entry(group.format.name()).or_default();
            let egress = egress(group.format);
            if record.response_encoding == "json" {
                let Ok(response) = egress.decode_response(record.body()) else {
                    continue;
                };
                // The same answer told as a stream must come to the same.
                write(
                    &record,
                    group.format,
                    &response,
                    &response.clone().events(),
                    &mut lines,
                );
                count[0] += 1;
            } else if record.response_encoding == "sse" {
                let Told { events, failure } = decode(egress, &[record.body()]);
                let Ok(response) = ChatResponse::gather(events.clone()) else {
                    continue;
                };
                if failure.is_none() {
                    write(&record, group.format, &response, &events, &mut lines);
                    count[1] += 1;
                }
            }
        }
    }
    for (format, [answers, streams]) in counts {
        report(&format!(
            "{format}: {answers} answers and {streams} streams, each for every client"
        ));
    }
}

/// An answer for every client, whole and as a stream.
fn write(
    record: &Record,
    upstream: Format,
    response: &ChatResponse,
    events: &[ChatEvent],
    lines: &mut Lines,
) {
    for (client, ingress) in clients() {
        let name = Name {
            client,
            upstream: upstream.name(),
            id: &record.id,
        };
        let body = ingress.encode_response(response, &reply());
        RawObject::parse(body.clone()).expect("an object comes out");
        lines.answer(name, &body);
        let stream = streamed(ingress, events, reply());
        if client == Format::Gemini.name() {
            let array = ReplyHead {
                is_array: true,
                ..reply()
            };
            let array = streamed(ingress, events, array);
            assert_eq!(chunks(&stream), in_list(&array), "{}", record.id);
        }
        lines.stream(name, &stream);
    }
}

/// The data of events.
fn chunks(stream: &[u8]) -> Vec<Value> {
    let mut chunks = Vec::new();
    each_frame(&[stream], |_, frame| {
        if !frame.is_empty() {
            chunks.push(serde_json::from_slice(&frame.data).expect("JSON"));
        }
        true
    });
    chunks
}

/// The chunks of a stream that is one list.
fn in_list(stream: &[u8]) -> Vec<Value> {
    serde_json::from_slice(stream).expect("a list")
}

fn streamed(ingress: &dyn Ingress, events: &[ChatEvent], reply: ReplyHead) -> Vec<u8> {
    let mut encoder = ingress.stream_encoder(reply);
    let mut bytes = Vec::new();
    events
        .iter()
        .for_each(|event| encoder.encode(event, &mut bytes));
    encoder.finish(&mut bytes);
    bytes
}

/// What answers of Responses repeat of their requests is as the SDK knows it.
#[test]
fn every_echo_is_written() {
    let mut lines = Lines::new("echoes");
    let ingress = ingress(Format::OpenaiResponses).expect("clients speak it");
    let response = ChatResponse {
        id: None,
        model: None,
        said: vec![Said::new(Block::Text, "Hello")],
        stop: Stop::End,
        usage: None,
    };
    let asks = |group: &&Group| group.format == Format::OpenaiResponses;
    let mut count = 0;
    for group in GROUPS.iter().filter(asks) {
        let Some(records) = good(group) else {
            return;
        };
        for record in records {
            let Some(body) = record.request else {
                continue;
            };
            let object = RawObject::parse(Bytes::from(body)).expect("an object");
            let Ok(request) = ingress.decode_request(&object) else {
                continue;
            };
            let head = ReplyHead {
                echo: request.echo,
                namespaces: request.namespaces,
                ..reply()
            };
            let name = Name {
                client: group.format.name(),
                upstream: "echo",
                id: &record.id,
            };
            lines.answer(name, &ingress.encode_response(&response, &head));
            lines.stream(name, &streamed(ingress, &response.clone().events(), head));
            count += 1;
        }
    }
    report(&format!("{count} requests repeated in answers"));
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
    let mut all = Vec::new();
    for group in &GROUPS {
        let Some(records) = records(group) else {
            return;
        };
        let name = format!("{} as {}", group.file, group.format.name());
        let mut sweep = Sweep::default();
        for record in &records {
            sweep.take(record, dialect(group.format), egress(group.format));
        }
        let Sweep {
            whole,
            streams,
            errors,
            pages,
            others,
            silent,
            refused,
            wrong,
        } = sweep;
        report(&format!(
            "{name}: {} records, {whole} answers, {streams} streams, {errors} errors, {pages} pages, {others} others read; {} say nothing, {} refused",
            records.len(),
            silent.len(),
            refused.len(),
        ));
        for (id, why) in &refused {
            report(&format!("  refused {id}: {why}"));
        }
        report(&format!("  silent: {silent:?}"));
        assert!(
            refused.len() * 30 < records.len(),
            "{name}: too many refused"
        );
        all.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(all.is_empty(), "{} wrong:\n{}", all.len(), all.join("\n"));
}
