//! One folder a feature: `tests/cells/<feature>/` says the same thing in every format that can say it, and beside it stands what
//! every other format makes of it.
//!
//! | in | out |
//! | --- | --- |
//! | `about.md`: what it is; `models.json`: who is asked, where it matters | |
//! | `<client>.request.json` | `<client>.request.out`: the body for every upstream, and what was dropped |
//! | `<upstream>.response.json` | `<upstream>.response.out`: the answer for every client, and what of it did not survive |
//! | `<upstream>.stream.sse` | `<upstream>.stream.out`: the stream for every client, likewise |
//! | `<upstream>.error.json`, `status` | `<upstream>.error.out`: the error for every client |
//!
//! Streams run whole, one byte at a time, and cut everywhere: all must come out the same, and tell what the whole answer tells.
//! Bedrock's binary frames stand here as the server-sent events that `event_stream` makes of them. `UPDATE_GOLDEN=1` writes the
//! outs, and `docs/conformance.md`, which sums them up.

#[path = "support/case.rs"]
mod case;
#[path = "support/cell.rs"]
mod cell;
#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/cuts.rs"]
mod cuts;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/layout.rs"]
mod layout;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/outs.rs"]
mod outs;
#[path = "support/survival.rs"]
mod survival;
#[path = "support/translate.rs"]
mod translate;
#[path = "support/words.rs"]
mod words;

use std::path::Path;

use case::Case;
use cell::{Outcome, gathered};
use cuts::cuts;
use drive::{check_grammar, decode};
use lines::{Lines, Name};
use polygate_wire::{Format, egress};
use survival::lost;
use translate::CLIENTS;

#[test]
fn every_cell_comes_out_as_written() {
    let cases = case::all();
    let mut lines = Lines::new("cells");
    let each = cases.iter().map(|case| run(case, &mut lines));
    let wrong: Vec<String> = each.flatten().collect();
    assert!(
        wrong.is_empty(),
        "{} cases, {} things wrong:\n\n{}",
        cases.len(),
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// The page says what the cases show.
#[test]
fn conformance() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let wrong = outs::compare(&page, &conformance::page(&case::all()));
    assert_eq!(
        wrong.map(|_| "docs/conformance.md is stale: UPDATE_GOLDEN=1 writes it"),
        None
    );
}

fn run(case: &Case, lines: &mut Lines) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |from: Format, kind: &str, outcomes: Vec<(Format, Outcome)>| {
        let path = case.dir.join(format!("{}.{kind}.out", from.name()));
        if outcomes.is_empty() {
            if path.exists() {
                wrong.push(format!("{} has no in", path.display()));
            }
            return;
        }
        let texts = outcomes.iter();
        let texts =
            texts.map(|(to, outcome)| format!("== {}\n{}\n", to.name(), outcome.text.trim_end()));
        wrong.extend(outs::compare(&path, &texts.collect::<Vec<_>>().join("\n")));
        for (to, outcome) in outcomes {
            let body = outcome.body.iter();
            body.for_each(|body| write(lines, case, kind, (from, to), body));
            wrong.extend(outcome.wrong);
        }
    };
    for client in CLIENTS {
        let upstreams = Format::ALL.into_iter();
        let outcomes = upstreams.filter_map(|to| Some((to, cell::request(case, client, to)?)));
        check(client, "request", outcomes.collect());
    }
    for upstream in Format::ALL {
        type Answers = fn(&Case, Format, Format) -> Option<Outcome>;
        let kinds: [(&str, Answers); 3] = [
            ("response", cell::response),
            ("stream", cell::streamed),
            ("error", cell::error),
        ];
        for (kind, answers) in kinds {
            let clients = CLIENTS.into_iter();
            let outcomes = clients.filter_map(|to| Some((to, answers(case, upstream, to)?)));
            check(upstream, kind, outcomes.collect());
        }
    }
    let streams = Format::ALL.into_iter();
    wrong.extend(streams.flat_map(|upstream| stream(case, upstream)));
    wrong
        .into_iter()
        .map(|what| format!("{}: {what}", case.name))
        .collect()
}

/// A line for the validator.
fn write(lines: &mut Lines, case: &Case, kind: &str, (from, to): (Format, Format), body: &[u8]) {
    let is_request = kind == "request";
    let (client, upstream) = if is_request { (from, to) } else { (to, from) };
    let name = Name {
        client: client.name(),
        upstream: upstream.name(),
        id: &case.name,
    };
    match kind {
        "request" => lines.request(name, body, &[]),
        "response" => lines.answer(name, body),
        _ => lines.stream(name, body),
    }
}

/// A stream keeps to the hub's grammar, tells the same however it is cut, and what the whole answer tells.
fn stream(case: &Case, upstream: Format) -> Vec<String> {
    let Some(bytes) = case.file(upstream, "stream.sse") else {
        return vec![];
    };
    let name = upstream.name();
    let whole = decode(egress(upstream), &[&bytes]);
    let mut wrong: Vec<String> = check_grammar(&whole).err().into_iter().collect();
    let events = format!("{whole:?}");
    for pieces in cuts(&bytes) {
        let cut = decode(egress(upstream), &pieces);
        if format!("{cut:?}") != events {
            let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).take(8).collect();
            wrong.push(format!(
                "the {name} stream cut into {lengths:?}… gives {cut:?}"
            ));
            break;
        }
    }
    let answer = case.file(upstream, "response.json");
    let answer = answer.and_then(|body| egress(upstream).decode_response(&body).ok());
    if let (Some(answer), Ok(streamed)) = (answer, gathered(&whole)) {
        let both = lost(&answer, &streamed);
        if !both.is_empty() {
            wrong.push(format!("streamed, the {name} answer differs: {both:?}"));
        }
    }
    wrong
}
