//! One sweep over a format's recorded traffic: every answer is read, whole and streamed, by both lanes.

use polygate_wire::canon::{Block, CallKind, Stop};
use polygate_wire::{ChatEvent, Dialect, Egress, Progress};

use serde_json::Value;

use crate::corpus::Record;
use crate::drive::{Told, check_grammar, decode, each_frame, say};

/// Recordings in which the model itself wrote no JSON: DeepSeek's own marks stand among the arguments.
const BROKEN: [&str; 3] = ["a74a2f77f62550cc", "b90ffe10e964c2f6", "c208ddcf93455162"];

/// Counts of a sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Whole answers read.
    pub whole: usize,
    /// Streams read to their proper end.
    pub streams: usize,
    /// Error bodies read.
    pub errors: usize,
    /// Errors that are no JSON: the pages of proxies.
    pub pages: usize,
    /// Answers to other questions, which only the native lane has: counted tokens, what was deleted.
    pub others: usize,
    /// Answers that say nothing a chat client could show.
    pub silent: Vec<String>,
    /// Records that were refused, and why.
    pub refused: Vec<(String, String)>,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Sweep {
    /// Takes one record.
    pub fn take(&mut self, record: &Record, dialect: &dyn Dialect, egress: &dyn Egress) {
        if record.status >= 400 {
            return self.error(record, dialect);
        }
        match record.response_encoding.as_str() {
            "json" => self.whole(record, dialect, egress),
            "sse" => self.stream(record, dialect, egress),
            _ => {}
        }
    }

    fn error(&mut self, record: &Record, dialect: &dyn Dialect) {
        let read = dialect.decode_error(record.body());
        match (&read, has_code(record.body())) {
            (None, None) => self.pages += 1,
            (Some(error), Some(has_code))
                if !error.message.is_empty() && error.code.is_some() == has_code =>
            {
                self.errors += 1;
            }
            _ => self
                .wrong
                .push(format!("{}: the error is read as {read:?}", record.id)),
        }
        if dialect.check_answer(record.body()).is_ok() {
            self.wrong
                .push(format!("{}: an error passes as an answer", record.id));
        }
    }

    fn whole(&mut self, record: &Record, dialect: &dyn Dialect, egress: &dyn Egress) {
        let checked = dialect.check_answer(record.body());
        if !record.is_chat() {
            self.others += usize::from(checked.is_ok());
            return;
        }
        match egress.decode_response(record.body()) {
            Err(failure) => self.refused.push((record.id.clone(), say(&failure))),
            Ok(response) => {
                self.whole += 1;
                if response.said.is_empty() {
                    self.silent.push(record.id.clone());
                }
                let arguments = response.said.iter().filter_map(|said| match said.block {
                    Block::ToolCall {
                        kind: CallKind::Function,
                        ..
                    } => Some(&*said.text),
                    _ => None,
                });
                if response.stop != Stop::Length {
                    self.objects(record, arguments);
                }
                if checked.as_ref().ok() != Some(&response.usage)
                    && response.usage != Some(Default::default())
                {
                    self.wrong.push(format!(
                        "{}: {checked:?} but {:?}",
                        record.id, response.usage
                    ));
                }
            }
        }
        if let Err(failure) = checked
            && egress.decode_response(record.body()).is_ok()
        {
            self.wrong
                .push(format!("{}: checked as {}", record.id, say(&failure)));
        }
    }

    fn stream(&mut self, record: &Record, dialect: &dyn Dialect, egress: &dyn Egress) {
        let told = decode(egress, &[record.body()]);
        let single: Vec<&[u8]> = record.body().chunks(1).collect();
        if format!("{told:?}") != format!("{:?}", decode(egress, &single)) {
            self.wrong.push(format!(
                "{}: byte by byte it tells another story",
                record.id
            ));
        }
        if let Err(what) = check_grammar(&told) {
            self.wrong.push(format!("{}: {what}", record.id));
        }
        match (&told.failure, told.events.last()) {
            (Some(failure), _) => self.refused.push((record.id.clone(), say(failure))),
            (None, Some(ChatEvent::Failed(failure))) => {
                self.refused.push((record.id.clone(), say(failure)))
            }
            (None, _) => {
                self.streams += 1;
                let is_cut = told
                    .events
                    .iter()
                    .any(|event| matches!(event, ChatEvent::Stop(Stop::Length)));
                if !is_cut {
                    self.objects(record, arguments(&told).iter().map(String::as_str));
                }
                self.native(record, dialect, &told);
            }
        }
        if !told
            .events
            .iter()
            .any(|event| matches!(event, ChatEvent::Delta { .. }))
        {
            self.silent.push(record.id.clone());
        }
    }

    fn objects<'a>(&mut self, record: &Record, arguments: impl Iterator<Item = &'a str>) {
        let is_object =
            |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
        let broken: Vec<&str> = arguments.filter(|text| !is_object(text)).collect();
        if broken.is_empty() == BROKEN.contains(&&*record.id) {
            self.wrong
                .push(format!("{}: broken arguments are {broken:?}", record.id));
        }
    }

    /// The native lane reads the same usage and the same end, and misses nothing in frames without a mark.
    fn native(&mut self, record: &Record, dialect: &dyn Dialect, told: &Told) {
        let (mut usage, mut finished, mut unmarked) = (None, false, 0);
        each_frame(&[record.body()], |raw, frame| {
            let signal = dialect.sniff(frame);
            let says = signal.usage.is_some()
                || matches!(signal.progress, Progress::Finish | Progress::End);
            let has_mark = dialect
                .marks()
                .iter()
                .any(|mark| raw.windows(mark.len()).any(|window| window == *mark));
            unmarked += usize::from(says && !has_mark);
            finished |= matches!(signal.progress, Progress::Finish | Progress::End);
            if let Some(counts) = signal.usage {
                polygate_core::Usage::merge(usage.get_or_insert_default(), counts);
            }
            signal.progress != Progress::End
        });
        let translated = told.events.iter().rev().find_map(|event| match event {
            ChatEvent::Usage(usage) => Some(*usage),
            _ => None,
        });
        if usage.unwrap_or_default() != translated.unwrap_or_default() {
            self.wrong.push(format!(
                "{}: usage is {usage:?} natively, {translated:?} translated",
                record.id
            ));
        }
        let stopped = told
            .events
            .iter()
            .any(|event| matches!(event, ChatEvent::Stop(_)));
        if stopped && !finished || unmarked > 0 {
            self.wrong.push(format!(
                "{}: the native lane misses its end or {unmarked} marks",
                record.id
            ));
        }
    }
}

/// Whether an error's body says a code; `None` for what is no JSON.
fn has_code(body: &[u8]) -> Option<bool> {
    let tree: Value = serde_json::from_slice(body).ok()?;
    let outer = tree.get(0).unwrap_or(&tree);
    let error = outer.get("error").filter(|error| error.is_object());
    let said = |name: &&str| match error.unwrap_or(outer).get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Number(_)) => true,
        _ => false,
    };
    Some(["code", "status", "type", "__type"].iter().any(said))
}

/// The arguments of each call, put together.
fn arguments(told: &Told) -> Vec<String> {
    let mut calls: Vec<(usize, String)> = Vec::new();
    for event in &told.events {
        match event {
            ChatEvent::Open {
                index,
                block:
                    Block::ToolCall {
                        kind: CallKind::Function,
                        ..
                    },
            } => calls.push((*index, String::new())),
            ChatEvent::Delta { index, text } => {
                let call = calls.iter_mut().find(|(known, _)| known == index);
                call.into_iter().for_each(|(_, known)| known.push_str(text));
            }
            _ => {}
        }
    }
    calls.into_iter().map(|(_, text)| text).collect()
}
