//! The page: a table a section, a row a fault, a column a client format and lane.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::clients::{CLIENTS, columns};
use super::faults::Row;
use super::{Cell, Hope, Seen, path};

const TOP: &str = "# The fault wall

What clients get when providers fail. Made by the test `every_fault_comes_to_what_the_page_says` (`crates/gateway/tests/e2e/wall.rs`):
the real binary, real sockets, and a provider that does what the row says. Nobody edits this page: the test fails when it is stale,
and `UPDATE_GOLDEN=1 cargo nextest run -p polygate wall` writes it anew.

Every client format asks every upstream format, for a whole answer and for a stream: *native* is the client's own format, *translated*
are all four others (Bedrock Converse among them). Gemini's clients that do not ask for events (`alt=sse`) get their streams as one
JSON array, and have columns of their own: the error is its last element, and the array is closed. A cell is one word where all of these came out alike; otherwise it says which did
not. Nothing in it depends on Polygate: any gateway can be put in the same place and held to it.

- **answered**: the other provider's answer, whole, in the client's format, with no sign of what was before. The text is compared to
  the letter, the end is there once, nothing follows it; the other provider was asked once, the failing one as often as the row says.
- **its own answer**: the same of the odd provider's answer; nobody else was asked.
- **error** and a status: an HTTP error in the client's format that says what happened, without addresses or keys. What may have been
  paid is not sent again; error statuses are tried at most three more times.
- **error event**: the words so far and, as the last event, an error in the client's format, with no mark of a proper end; nobody was
  asked again.
- **continued**: the words so far, the other provider's behind them, and one proper end: one answer, though two providers were asked.

Where a fault only ends with somebody's patience, this is 400 ms: for the first word, a whole answer, and between two events.
";

/// What was seen.
#[derive(Default)]
pub struct Page(BTreeMap<Place, Vec<(Seen, &'static str, bool)>>);

/// A cell of the page.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    section: &'static str,
    fault: String,
    client: &'static str,
    is_native: bool,
}

impl Page {
    /// Adds what a client got.
    pub fn add(&mut self, cell: &Cell<'_>, seen: Seen) {
        let place = Place {
            section: section(cell.hope).0,
            fault: cell.row.fault.clone(),
            client: cell.client.name,
            is_native: cell.client.format == cell.asked.format,
        };
        let one = (seen, cell.asked.format, cell.asked.stream);
        self.0.entry(place).or_default().push(one);
    }

    /// Fails where the file says something else; `UPDATE_GOLDEN=1` writes it.
    pub fn compare(&self, sections: &[(Hope, Vec<Row>)]) {
        let page = self.page(sections);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path(), page).expect("the page can be written");
            return;
        }
        let known = std::fs::read_to_string(path()).unwrap_or_default();
        for (known, now) in known.lines().zip(page.lines()) {
            assert_eq!(
                known, now,
                "docs/fault-wall.md is stale: UPDATE_GOLDEN=1 writes it"
            );
        }
        assert!(
            known == page,
            "docs/fault-wall.md is stale: UPDATE_GOLDEN=1 writes it"
        );
    }

    fn page(&self, sections: &[(Hope, Vec<Row>)]) -> String {
        let mut page = TOP.to_owned();
        for (hope, rows) in sections {
            let (title, about) = section(*hope);
            let _ = write!(page, "\n## {title}\n\n{about}\n\n| fault |");
            for client in columns() {
                let _ = write!(page, " {0}, native | {0}, translated |", client.title);
            }
            let _ = writeln!(page, "\n|{}", " --- |".repeat(1 + 2 * columns().count()));
            for row in rows {
                let _ = write!(page, "| {} |", row.fault);
                for client in columns() {
                    for is_native in [true, false] {
                        let place = Place {
                            section: title,
                            fault: row.fault.clone(),
                            client: client.name,
                            is_native,
                        };
                        let seen = self.0.get(&place).map_or(&[][..], Vec::as_slice);
                        let _ = write!(page, " {} |", cell(seen));
                    }
                }
                page.push('\n');
            }
        }
        page
    }
}

/// One word, or the word of most, and who got others.
fn cell(seen: &[(Seen, &'static str, bool)]) -> String {
    let mut by_word: BTreeMap<&Seen, BTreeMap<&str, Vec<bool>>> = BTreeMap::new();
    for (seen, format, stream) in seen {
        let formats = by_word.entry(seen).or_default();
        formats.entry(title(format)).or_default().push(*stream);
    }
    let count = |formats: &BTreeMap<&str, Vec<bool>>| formats.values().map(Vec::len).sum::<usize>();
    let mut words: Vec<_> = by_word.into_iter().collect();
    words.sort_by_key(|(_, formats)| std::cmp::Reverse(count(formats)));
    let mut words = words.into_iter();
    let Some((most, _)) = words.next() else {
        return "–".to_owned();
    };
    let who = |(format, streams): (&str, Vec<bool>)| match streams[..] {
        [true] => format!("{format}, streamed"),
        [false] => format!("{format}, whole"),
        _ => format.to_owned(),
    };
    words.fold(most.to_string(), |cell, (word, formats)| {
        let formats: Vec<_> = formats.into_iter().map(who).collect();
        format!("{cell}; {word} ({})", formats.join("; "))
    })
}

/// What people call a format.
fn title(format: &str) -> &str {
    let client = CLIENTS.iter().find(|client| client.name == format);
    client.map_or("Bedrock Converse", |client| client.title)
}

/// A section's title, and what it is about.
fn section(hope: Hope) -> (&'static str, &'static str) {
    match hope {
        Hope::Another => (
            "Before the first word, and another provider has the model",
            "Whole answers are at their beginning until they are over.",
        ),
        Hope::Error => (
            "Before the first word, and nobody else has the model",
            "The same faults.",
        ),
        Hope::ErrorEvent => (
            "After the first words of a stream",
            "Another provider has the model, and is not asked.",
        ),
        Hope::Continued => (
            "After the first words of a stream, and the model has `continuation`",
            "Another provider has the model. The answers are text and nothing else; whatever else has begun ends as above.",
        ),
        Hope::Refusal => (
            "The request is at fault",
            "Another provider has the model, and is not asked: it would say the same.",
        ),
        Hope::Own => (
            "Odd, but an answer",
            "Another provider has the model, and is not asked.",
        ),
    }
}
