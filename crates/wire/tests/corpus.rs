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
#[path = "support/kept.rs"]
mod kept;
#[path = "support/sweep.rs"]
mod sweep;
#[path = "support/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use bytes::Bytes;
use corpus::{GROUPS, Record, records, report};
use drive::{Told, decode, say};
use kept::silently_dropped;
use polygate_core::Failure;
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, Format, Loss, Quirks, RawObject, ReplyHead, Target, dialect,
    egress, ingress,
};
use serde_json::{Value, json};
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

    fn answer(&mut self, kind: &str, cell: (Format, Format), id: &str, body: &[u8]) {
        self.line(kind, cell, id, body, &[]);
    }

    fn request(&mut self, cell: (Format, Format), id: &str, body: &[u8], losses: &[Loss]) {
        self.line("request", cell, id, body, losses);
    }

    fn line(
        &mut self,
        kind: &str,
        (client, upstream): (Format, Format),
        id: &str,
        body: &[u8],
        losses: &[Loss],
    ) {
        let Some(file) = &mut self.0 else {
            return;
        };
        let body = std::str::from_utf8(body).expect("UTF-8");
        let losses: Vec<&str> = losses.iter().map(|loss| loss.0.as_str()).collect();
        let line = json!({
            "kind": kind,
            "client": client.name(),
            "upstream": upstream.name(),
            "id": id,
            "body": body,
            "losses": losses,
        });
        writeln!(file, "{line}").expect("a line can be written");
    }
}

#[test]
fn every_request_is_written_for_every_upstream() {
    let mut out = Out::new("requests");
    let mut tally = Tally::default();
    for group in &GROUPS {
        let Some(ingress) = ingress(group.format) else {
            continue;
        };
        let Some(records) = records(group) else {
            return;
        };
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
                let cell = (group.format, upstream);
                let request = request.clone();
                match request.and_then(|request| translate(request, upstream)) {
                    Ok((sent, losses)) => {
                        out.request(cell, &record.id, &sent, &losses);
                        tally.written(cell, &record.id, &object, &sent, &losses);
                    }
                    Err(failure) => tally.refused(cell, &failure),
                }
            }
        }
    }
    tally.report();
}

/// What became of requests.
#[derive(Default)]
struct Tally {
    /// How many were written and how many refused, by cell.
    counts: BTreeMap<String, [usize; 2]>,
    /// Why, by cell.
    refused: BTreeMap<String, usize>,
    /// What was named as lost, by cell.
    lost: BTreeMap<String, usize>,
    /// What must not be.
    wrong: Vec<String>,
}

impl Tally {
    fn written(
        &mut self,
        cell: (Format, Format),
        id: &str,
        asked: &RawObject,
        sent: &Bytes,
        losses: &[Loss],
    ) {
        let name = name(cell);
        self.counts.entry(name.clone()).or_default()[0] += 1;
        RawObject::parse(sent.clone()).expect("an object comes out");
        let tree: Value = serde_json::from_slice(asked.bytes()).expect("JSON");
        for Loss(at) in losses {
            if tree.pointer(at).is_none() {
                let what = format!("{id} {name}: nothing stands at {at}, which was lost");
                self.wrong.push(what);
            }
            let lost = format!("{name} {}", anywhere(at));
            *self.lost.entry(lost).or_default() += 1;
        }
        for at in silently_dropped(asked.bytes(), sent, losses, cell.1) {
            let what = format!("{id} {name}: {at} is dropped in silence");
            self.wrong.push(what);
        }
    }

    fn refused(&mut self, cell: (Format, Format), failure: &Failure) {
        let name = name(cell);
        self.counts.entry(name.clone()).or_default()[1] += 1;
        let why = format!("{name}: {}", failure.message);
        *self.refused.entry(why).or_default() += 1;
    }

    fn report(self) {
        let Self {
            counts,
            refused,
            lost,
            wrong,
        } = self;
        for (cell, [written, refused]) in &counts {
            report(&format!("{cell}: {written} written, {refused} refused"));
        }
        report(&format!("refused: {refused:#?}\nlost: {lost:#?}"));
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

fn name((client, upstream): (Format, Format)) -> String {
    format!("{} -> {}", client.name(), upstream.name())
}

/// A pointer with a star for each number.
fn anywhere(at: &str) -> String {
    let steps = at.split('/');
    let steps = steps.map(|step| step.parse::<usize>().map_or(step, |_| "*"));
    steps.collect::<Vec<_>>().join("/")
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
    for group in &GROUPS {
        let upstream = group.format;
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
        out.answer("answer", (client, upstream), &record.id, &body);
        // The same answer told as a stream must come to the same.
        let events = response.clone().events();
        out.answer(
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
        out.answer(
            "stream",
            (client, upstream),
            &record.id,
            &written(client, &events),
        );
        let response = polygate_wire::ChatResponse::gather(events.clone());
        let response =
            response.unwrap_or_else(|failure| panic!("{}: {}", record.id, say(&failure)));
        let ingress = ingress(client).expect("clients speak it");
        out.answer(
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
