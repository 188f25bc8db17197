//! The page that sums the cases up: what becomes of every feature between every client and every upstream.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use polygate_wire::Format;

use crate::case::Case;
use crate::cell::{Fate, request, response, streamed};
use crate::translate::CLIENTS;

/// Groups of features, in the order of the page.
const GROUPS: [&str; 9] = [
    "Conversation",
    "Media",
    "Tools",
    "Vendors' tools",
    "Thinking",
    "Structured output",
    "Sampling and limits",
    "Caching, accounts and tiers",
    "Answers",
];

const TOP: &str = "# Conformance

Made by the tests of `crates/wire` from the cases in `crates/wire/tests/cells`: each case says one thing in every format that can say
it, and this page shows what became of it. Nobody edits it: the test `conformance` fails when it is stale, and `UPDATE_GOLDEN=1 cargo
nextest run -p polygate-wire` writes it anew.

Each cell says what becomes of the client's request and of the upstream's answer (whole and streamed), in this order; one word where
both are alike:

- **native**: client and upstream speak the same format, and the bytes pass.
- **translated**: said in the other format's words; nothing is lost.
- **lossy**: all but what the note names. Members of requests are named to the client too (`x-polygate-dropped`); `strict` refuses
  instead. Whether an answer survives is computed: it is written for the client, read again, and compared.
- **unsupported**: refused with an error that says why (in answers: the provider's own error, passed on).
- **–**: the format has no words for it, so that there is nothing to carry.

Upstreams are asked for the models that take most (`gpt-4.1`, `claude-sonnet-4-5`, `gemini-2.5-flash`, Claude on Bedrock) unless the
case names another in its `models.json`.
";

/// The page.
pub fn page(cases: &[Case]) -> String {
    for case in cases {
        let is_known = GROUPS.contains(&case.about.group.as_str()) || case.about.thread.is_some();
        assert!(is_known, "{} is in no group of the page", case.name);
    }
    let mut notes = Notes::default();
    let mut tables = String::new();
    let mut sums = vec![Sum::default(); CLIENTS.len() * Format::ALL.len()];
    for (row, client) in CLIENTS.into_iter().enumerate() {
        let _ = writeln!(tables, "\n## Clients that speak {}\n", name(client));
        head(&mut tables);
        let mut unsaid = Vec::new();
        for group in GROUPS {
            let _ = writeln!(tables, "| **{group}** | | | | | |");
            for case in features(cases, group) {
                let all = Format::ALL.map(|upstream| fates(case, client, upstream));
                if all.iter().flatten().all(Option::is_none) {
                    unsaid.push(case.about.title.as_str());
                    continue;
                }
                let _ = write!(tables, "| {} |", case.about.title);
                for (column, fates) in all.iter().enumerate() {
                    let sum = &mut sums[row * Format::ALL.len() + column];
                    fates.iter().flatten().for_each(|fate| sum.add(fate));
                    let _ = write!(tables, " {} |", cell(fates, &mut notes));
                }
                tables.push('\n');
            }
        }
        if !unsaid.is_empty() {
            let _ = writeln!(
                tables,
                "\nNot asked and not answered in this format: {}.",
                unsaid.join("; ")
            );
        }
    }
    format!(
        "{TOP}{}{tables}{}{}",
        summary(&sums),
        reported(cases),
        notes.page()
    )
}

fn features<'a>(cases: &'a [Case], group: &str) -> impl Iterator<Item = &'a Case> {
    let mut own: Vec<&Case> = cases
        .iter()
        .filter(|case| case.about.group == group)
        .collect();
    own.sort_by_key(|case| &case.about.title);
    own.into_iter()
}

fn name(format: Format) -> &'static str {
    match format {
        Format::OpenaiChat => "OpenAI Chat",
        Format::OpenaiResponses => "OpenAI Responses",
        Format::AnthropicMessages => "Anthropic Messages",
        Format::Gemini => "Gemini",
        Format::BedrockConverse => "Bedrock Converse",
    }
}

fn head(out: &mut String) {
    let names: Vec<&str> = Format::ALL.into_iter().map(name).collect();
    let _ = writeln!(out, "| | {} |", names.join(" | "));
    let _ = writeln!(out, "| --- |{}", " --- |".repeat(names.len()));
}

/// What becomes of the request, and of the answer.
fn fates(case: &Case, client: Format, upstream: Format) -> [Option<Fate>; 2] {
    let asked = request(case, client, upstream).map(|outcome| outcome.fate);
    let whole = response(case, upstream, client).map(|outcome| outcome.fate);
    let streamed = streamed(case, upstream, client).map(|outcome| outcome.fate);
    let answered = match (whole, streamed) {
        (Some(whole), Some(streamed)) => Some(together(whole, streamed)),
        (whole, streamed) => whole.or(streamed),
    };
    [asked, answered]
}

/// The worse of the two; what only one of them loses is said to be its.
fn together(whole: Fate, streamed: Fate) -> Fate {
    let lost = |fate: &Fate| match fate {
        Fate::Lossy(lost) => lost.clone(),
        _ => BTreeSet::new(),
    };
    match (&whole, &streamed) {
        (Fate::Native, _) | (Fate::Unsupported(_), _) => whole,
        (_, Fate::Unsupported(_)) => streamed,
        _ => {
            let (whole, streamed) = (lost(&whole), lost(&streamed));
            // Pointers into the answer are found in whole answers only.
            let is_place = |lost: &String| lost.starts_with("`/");
            let mut all: BTreeSet<String> = whole.intersection(&streamed).cloned().collect();
            all.extend(whole.iter().filter(|lost| is_place(lost)).cloned());
            let only_whole = whole.difference(&streamed).filter(|lost| !is_place(lost));
            all.extend(only_whole.map(|lost| format!("{lost} (whole)")));
            all.extend(
                streamed
                    .difference(&whole)
                    .map(|lost| format!("{lost} (streamed)")),
            );
            if all.is_empty() {
                Fate::Translated
            } else {
                Fate::Lossy(all)
            }
        }
    }
}

/// Notes by their numbers; what is said twice has one.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, text: String) -> usize {
        let known = self.0.iter().position(|known| *known == text);
        known.unwrap_or_else(|| {
            self.0.push(text);
            self.0.len() - 1
        }) + 1
    }

    fn page(&self) -> String {
        let mut out = "\n## Notes\n\n".to_owned();
        for (index, text) in self.0.iter().enumerate() {
            let _ = writeln!(out, "[^{}]: {text}", index + 1);
        }
        out
    }
}

fn cell(fates: &[Option<Fate>; 2], notes: &mut Notes) -> String {
    let [asked, answered] = fates.each_ref().map(|fate| match fate {
        None => "–".to_owned(),
        Some(Fate::Native) => "native".to_owned(),
        Some(Fate::Translated) => "translated".to_owned(),
        Some(Fate::Lossy(lost)) => {
            let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
            format!("lossy[^{}]", notes.number(lost.join(", ")))
        }
        Some(Fate::Unsupported(why)) => {
            format!("unsupported[^{}]", notes.number(why.replace('\n', " ")))
        }
    });
    if asked == answered {
        asked
    } else {
        format!("{asked} / {answered}")
    }
}

#[derive(Clone, Default)]
struct Sum {
    native: usize,
    translated: usize,
    lossy: usize,
    unsupported: usize,
}

impl Sum {
    fn add(&mut self, fate: &Fate) {
        *match fate {
            Fate::Native => &mut self.native,
            Fate::Translated => &mut self.translated,
            Fate::Lossy(_) => &mut self.lossy,
            Fate::Unsupported(_) => &mut self.unsupported,
        } += 1;
    }
}

/// How many requests and answers of each cell came through.
fn summary(sums: &[Sum]) -> String {
    let mut out = "\n## In short\n\nRequests and answers that were translated in full, lossily, or refused:\n\n".to_owned();
    head(&mut out);
    for (client, sums) in CLIENTS.into_iter().zip(sums.chunks(Format::ALL.len())) {
        let _ = write!(out, "| **{}** |", name(client));
        for sum in sums {
            let _ = match sum.native {
                0 => write!(
                    out,
                    " {} · {} · {} |",
                    sum.translated, sum.lossy, sum.unsupported
                ),
                native => write!(out, " native ({native}) |"),
            };
        }
        out.push('\n');
    }
    out
}

/// Cases that stand for reports about other gateways.
fn reported(cases: &[Case]) -> String {
    let mut out = "\n## Reported against other gateways\n\nEach of these is a case here, and holds.\n\n| Report | What holds here | Case |\n| --- | --- | --- |\n".to_owned();
    for case in cases {
        if let Some(thread) = &case.about.thread {
            let (title, name) = (&case.about.title, &case.name);
            let _ = writeln!(
                out,
                "| {thread} | {title} | [{name}](../crates/wire/tests/cells/{name}) |"
            );
        }
    }
    out
}
