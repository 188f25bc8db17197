//! The fault wall: what every client gets of every fault of a provider, on both lanes; the page is what the assertions saw.

mod bodies;
pub mod clients;
mod faults;
mod page;

use std::fmt::Write as _;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::future::join_all;
use polygate_mock_provider::{Behaviour, Mock, Rule};

use self::clients::{Client, columns};
use self::faults::{Asked, Row, Then};
use self::page::Page;
use crate::support::{Gate, Reply, calls, mock};

/// Upstreams of one format each: the format, and what configuration says to get it.
pub const UPSTREAMS: [(&str, &str); 5] = [
    ("openai-chat", "openai-compatible, wire_api: chat"),
    ("openai-responses", "response_api"),
    ("anthropic-messages", "anthropic"),
    ("gemini", "gemini"),
    ("bedrock-converse", "bedrock"),
];

/// What comes of a fault, as a section of the page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Another provider's answer, as if nothing had been.
    Another,
    /// An error: there is nobody else.
    Error,
    /// What was said so far, then an error event.
    ErrorEvent,
    /// What was said so far, and another provider's words behind it: the model has `continuation`.
    Continued,
    /// The provider's refusal, and nobody else is asked.
    Refusal,
    /// The provider's own answer.
    Own,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The whole answer of the other provider.
    Answered,
    /// The whole answer of the odd one.
    Passed,
    /// An HTTP error of the client's format.
    Error(u16),
    /// Words, and then an error event of the client's format, without a proper end.
    ErrorEvent,
    /// Words, and others of the other provider behind them, as one whole answer.
    Continued,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Answered => f.write_str("answered"),
            Seen::Passed => f.write_str("its own answer"),
            Seen::Error(status) => write!(f, "error {status}"),
            Seen::ErrorEvent => f.write_str("error event"),
            Seen::Continued => f.write_str("continued"),
        }
    }
}

/// One question: a fault, met by a client in front of an upstream.
pub struct Cell<'a> {
    pub hope: Hope,
    pub row: &'a Row,
    pub client: &'static Client,
    pub asked: Asked,
    /// The model's name: of this question alone, so that every account can be told from every other.
    model: String,
}

/// What all providers say to the question.
fn says(name: &str) -> String {
    format!("You said: \"Hello there\". This is {name}, a simulated model.")
}

/// What the other provider says behind words that are there.
const REST: &str = "and so it ends.";

#[tokio::test]
async fn every_fault_comes_to_what_the_page_says() {
    let sections = [
        (Hope::Another, faults::before()),
        (Hope::Error, faults::before()),
        (Hope::ErrorEvent, faults::after()),
        (Hope::Continued, faults::after()),
        (Hope::Refusal, faults::refused()),
        (Hope::Own, faults::odd()),
    ];
    let mut page = Page::default();
    let mut wrong = Vec::new();
    for client in columns() {
        let all = UPSTREAMS.map(|(format, kind)| (kind, cells(&sections, client, format)));
        let met = all.iter().map(|(kind, cells)| meet(cells, kind));
        for (cell, seen) in join_all(met).await.into_iter().flatten() {
            match seen {
                Ok(seen) => page.add(cell, seen),
                Err(what) => wrong.push(what),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{} wrong",
        wrong.join("\n"),
        wrong.len()
    );
    page.compare(&sections);
}

/// All questions of a client to an upstream.
fn cells<'a>(
    sections: &'a [(Hope, Vec<Row>)],
    client: &'static Client,
    format: &'static str,
) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for (hope, rows) in sections {
        for row in rows {
            for stream in [false, true] {
                if (row.is_of_streams || client.is_array) && !stream {
                    continue;
                }
                cells.push(Cell {
                    hope: *hope,
                    row,
                    client,
                    asked: Asked {
                        format,
                        stream,
                        is_array: client.is_array && client.format == format,
                    },
                    model: format!("m{}", cells.len()),
                });
            }
        }
    }
    cells
}

/// Asks all of it of one gateway, side by side.
async fn meet<'a>(cells: &'a [Cell<'a>], kind: &str) -> Vec<(&'a Cell<'a>, Result<Seen, String>)> {
    let (bad, good) = (mock("bad").await, mock("good").await);
    let gate = Gate::start(&config(cells, kind, &bad, &good));
    let (gate, bad, good) = (&gate, &bad, &good);
    // As many at a time as leave a busy machine room for those whose faults are a matter of time.
    let all = futures_util::stream::iter(cells).map(async |cell| {
        let stream = cell.asked.stream;
        let path = (cell.client.path)(&cell.model, stream);
        let reply = gate
            .post(&path, &(cell.client.ask)(&cell.model, stream))
            .await;
        let seen = cell
            .seen(&reply)
            .and_then(|seen| cell.check_accounts(bad, good).map(|()| seen))
            .map_err(|what| cell.tell(&what, &reply));
        (cell, seen)
    });
    let met = all.buffer_unordered(16).collect().await;
    assert!(!gate.log().contains("panicked"), "{}", gate.log());
    met
}

/// Every question has failing providers of its own, so that no rest of one changes what another sees.
fn config(cells: &[Cell<'_>], kind: &str, bad: &Mock, good: &Mock) -> String {
    let mut config = "providers:\n".to_owned();
    let mut provider = |name: &str, url: &str, models: &str, more: &str| {
        let _ = writeln!(
            config,
            "  - {{name: {name}, type: {kind}, api_base: '{url}', api_key: {name}-key-123, model_mapping: [{models}]{more}}}"
        );
    };
    for cell in cells {
        let model = &cell.model;
        let more = if cell.row.takes_patience {
            ", timeouts: {first_event: 400ms, request: 400ms, idle: 400ms}"
        } else {
            ""
        };
        let behaviours = match &cell.row.then {
            Then::Nobody => {
                provider(&format!("bad-{model}"), "http://127.0.0.1:1", model, more);
                continue;
            }
            Then::Does(behaviours) => behaviours(cell.asked),
        };
        let last = behaviours.len() - 1;
        for (at, then) in behaviours.into_iter().enumerate() {
            provider(&format!("bad-{model}-{at}"), &bad.url(), model, more);
            bad.script(Rule {
                model: Some(model.clone()),
                times: (at < last).then_some(1),
                then,
                ..Rule::default()
            });
        }
    }
    let others = cells.iter().filter(|cell| cell.hope != Hope::Error);
    let models: Vec<&str> = others.map(|cell| &*cell.model).collect();
    provider("good", &good.url(), &models.join(", "), "");
    config.push_str("models:\n");
    for cell in cells.iter().filter(|cell| cell.hope == Hope::Continued) {
        let model = &cell.model;
        let _ = writeln!(
            config,
            "  {model}: {{continuation: true, targets: [{{provider: bad-{model}-0, model: {model}}}, {{provider: good, model: {model}}}]}}"
        );
        good.script(Rule {
            model: Some(model.clone()),
            then: Behaviour {
                text: Some(REST.to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
    }
    config.push_str(
        "
routing: {strategy: fill-first}
retry: {initial_backoff: 1ms, max_backoff: 1ms}
timeouts: {hold: 0}
health_check: {enabled: false}
",
    );
    config
}

impl Cell<'_> {
    /// What the client got, if it is what may be hoped for.
    fn seen(&self, reply: &Reply) -> Result<Seen, String> {
        let (client, stream) = (self.client, self.asked.stream);
        let text = reply.text();
        if text.contains("127.0.0.1") || text.contains("-key-123") {
            return Err("what is no business of the client".to_owned());
        }
        match self.hope {
            Hope::Another | Hope::Own => {
                let (name, seen) = match self.hope {
                    Hope::Another => ("good", Seen::Answered),
                    _ => ("bad", Seen::Passed),
                };
                if reply.status != 200 {
                    return Err(format!("status {}", reply.status));
                }
                if !(client.is_complete)(reply, stream) {
                    return Err("not complete".to_owned());
                }
                if stream {
                    client.events(reply)?;
                }
                let said = client.said(reply, stream);
                if said != says(name) {
                    return Err(format!("it says {said:?}"));
                }
                Ok(seen)
            }
            Hope::Error | Hope::Refusal => {
                if reply.status.as_u16() < 400 || !client.is_error(reply) {
                    return Err("no error of its format".to_owned());
                }
                Ok(Seen::Error(reply.status.as_u16()))
            }
            Hope::ErrorEvent => self.broken_off(reply).map(|()| Seen::ErrorEvent),
            Hope::Continued => self.gone_on(reply).map(|()| Seen::Continued),
        }
    }

    /// The first words, the other provider's, one proper end.
    fn gone_on(&self, reply: &Reply) -> Result<(), String> {
        if reply.status != 200 || !(self.client.is_complete)(reply, true) {
            return Err("not complete".to_owned());
        }
        self.client.events(reply)?;
        let said = self.client.said(reply, true);
        match said.strip_suffix(REST) {
            Some(first) if !first.is_empty() && says("bad").starts_with(first) => Ok(()),
            _ => Err(format!("it says {said:?}")),
        }
    }

    /// The first words, an error event, nothing that looks like a proper end.
    fn broken_off(&self, reply: &Reply) -> Result<(), String> {
        const ENDS: [&str; 5] = [
            "[DONE]",
            "message_stop",
            "response.completed",
            "\"finish_reason\":\"stop\"",
            "\"finishReason\"",
        ];
        let text = reply.text();
        if reply.status != 200 {
            return Err(format!("status {}", reply.status));
        }
        if let Some(end) = ENDS.into_iter().find(|end| text.contains(end)) {
            return Err(format!("a proper end that lies, {end}"));
        }
        let events = self.client.events(reply)?;
        if !events.last().is_some_and(|last| last.contains("\"error\"")) {
            return Err("the last event is no error".to_owned());
        }
        let said = self.client.said(reply, true);
        if said.is_empty() || !says("bad").starts_with(&said) {
            return Err(format!("it says {said:?}"));
        }
        let numbers = events.iter().filter_map(|event| {
            let event: serde_json::Value = serde_json::from_str(event).ok()?;
            event["sequence_number"].as_u64()
        });
        let numbers: Vec<u64> = numbers.collect();
        if self.client.name == "openai-responses" && numbers.len() != events.len() {
            return Err("events without a number".to_owned());
        }
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(format!("numbers out of order, {numbers:?}"));
        }
        Ok(())
    }

    /// Nobody is asked more often than may be.
    fn check_accounts(&self, bad: &Mock, good: &Mock) -> Result<(), String> {
        let count = |mock: &Mock| {
            calls(mock)
                .iter()
                .filter(|entry| entry.model == self.model)
                .count()
        };
        let expected = match &self.row.then {
            Then::Nobody => 0..=0,
            Then::Does(_) if self.hope == Hope::Error => 1..=self.row.calls,
            Then::Does(behaviours) => {
                let count = behaviours(self.asked).len();
                count..=count
            }
        };
        let asked = (count(bad), count(good));
        let others = usize::from(matches!(self.hope, Hope::Another | Hope::Continued));
        if !expected.contains(&asked.0) || asked.1 != others {
            return Err(format!(
                "the failing ones were asked {} times, the other {} times",
                asked.0, asked.1
            ));
        }
        Ok(())
    }

    fn tell(&self, what: &str, reply: &Reply) -> String {
        let text = reply.text();
        let text = &text[text.floor_char_boundary(text.len().saturating_sub(700))..];
        format!(
            "{:?} / {} / {} to {} stream={}: {what}: {} by {}: {text}",
            self.hope,
            self.row.fault,
            self.client.name,
            self.asked.format,
            self.asked.stream,
            reply.status,
            reply.header("x-polygate-provider"),
        )
    }
}

/// Where the page is.
fn path() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/fault-wall.md"
    ))
}
