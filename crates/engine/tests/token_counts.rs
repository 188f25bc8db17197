//! How far estimates are from what providers say, in recorded traffic. `POLYGATE_CORPUS` names its directory, with `train/*.jsonl`;
//! `POLYGATE_TOKENS=<file>` has what requests are made of written there, a line each, for whoever fits the families' factors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use polygate_core::Usage;
use polygate_engine::count::{self, Family, Heard};
use polygate_engine::expect::tokens;
use polygate_wire::canon::{Block, Said};
use polygate_wire::openai_completions::OpenaiCompletions;
use polygate_wire::{
    ChatRequest, ChatResponse, Format, Frame, Ingress, RawObject, dialect, egress, ingress, sse,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One recorded exchange, as far as it is read here.
#[derive(Deserialize)]
struct Record {
    id: String,
    vendor: String,
    dialect: String,
    model: Option<String>,
    #[serde(default)]
    path: Option<String>,
    request_json: Option<Box<RawValue>>,
    status: u16,
    response_encoding: String,
    response_body: serde_json::Value,
    #[serde(default)]
    tags: Vec<String>,
}

/// What of a prompt is not in the request, or was changed by the recorder: nobody could count it.
const UNCOUNTABLE: [&str; 13] = [
    "image",
    "pdf",
    "document",
    "audio_in",
    "video_in",
    "server_tool",
    "server_tool_in",
    "web_search",
    "code_execution",
    "builtin_tool",
    "file_search",
    "mcp",
    "previous_response_id",
];

/// What was said to be the answer beside the text that is there.
const UNSEEN: [&str; 5] = [
    "thinking",
    "thinking_any",
    "image_out",
    "audio_out",
    "redacted_thinking",
];

/// One exchange, measured.
struct Measured {
    record: Record,
    family: &'static Family,
    request: ChatRequest,
    length: u64,
    usage: Usage,
    answer: Option<ChatResponse>,
}

fn corpus() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("POLYGATE_CORPUS")?;
    let folder = std::fs::read_dir(Path::new(&root).join("train")).expect("a folder");
    let mut files: Vec<PathBuf> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    Some(files)
}

impl Record {
    fn format(&self) -> Option<Format> {
        Some(match &*self.dialect {
            "openai-chat" | "openai-completions" => Format::OpenaiChat,
            "openai-responses" => Format::OpenaiResponses,
            "anthropic" => Format::AnthropicMessages,
            "gemini" => Format::Gemini,
            _ => return None,
        })
    }

    fn client(&self) -> Option<&'static dyn Ingress> {
        if self.dialect == "openai-completions" {
            return Some(&OpenaiCompletions);
        }
        ingress(self.format()?)
    }

    fn answer(&self) -> Option<ChatResponse> {
        let format = self.format()?;
        if self.response_encoding == "json" {
            let body = Bytes::from(self.response_body.to_string());
            return egress(format).decode_response(&body).ok();
        }
        let body = Bytes::from(self.response_body.as_str()?.to_owned());
        let mut decoder = egress(format).stream_decoder();
        let mut events = Vec::new();
        for raw in sse::frames(&body) {
            decoder.decode(&Frame::parse(&raw), &mut events).ok()?;
        }
        decoder.finish(&mut events).ok()?;
        ChatResponse::gather(events).ok()
    }

    fn usage(&self) -> Option<Usage> {
        let dialect = dialect(self.format()?);
        if self.response_encoding == "json" {
            let body = self.response_body.to_string();
            return dialect.check_chat(body.as_bytes()).ok()?;
        }
        let body = Bytes::from(self.response_body.as_str()?.to_owned());
        let mut usage: Option<Usage> = None;
        for raw in sse::frames(&body) {
            if let Some(said) = dialect.sniff(&Frame::parse(&raw)).usage {
                usage.get_or_insert_default().merge(said);
            }
        }
        usage
    }

    fn measured(self) -> Option<Measured> {
        let body = Bytes::from(self.request_json.as_ref()?.get().to_owned());
        let length = tokens(body.len());
        let object = RawObject::parse(body).ok()?;
        let request = self.client()?.decode_request(&object).ok()?;
        let usage = self.usage().filter(|usage| usage.input > 0)?;
        let family = count::family(self.model.as_deref()?);
        let answer = self.answer();
        Some(Measured {
            family,
            request,
            length,
            usage,
            answer,
            record: self,
        })
    }

    fn has(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|tag| tags.contains(&&**tag))
    }
}

fn measured(files: &[PathBuf]) -> Vec<Measured> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file");
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Record>(line).ok());
        all.extend(
            records
                .filter(|one| one.status == 200)
                .filter_map(Record::measured),
        );
    }
    all
}

/// How far off estimates are, in thousandths.
#[derive(Default)]
struct Errors(Vec<u64>);

impl Errors {
    fn add(&mut self, estimate: u64, said: u64) {
        self.0.push(estimate.abs_diff(said) * 1000 / said);
    }

    /// Below this are so many of ten.
    fn of_ten(&self, many: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = sorted.len() * many / 10;
        sorted.get(at).map_or(0.0, |error| *error as f64 / 10.0)
    }

    fn shown(&self) -> String {
        if self.0.len() < FEW {
            return String::new();
        }
        format!("{:.0} % ({:.0} %)", self.of_ten(5), self.of_ten(9))
    }
}

/// Of fewer exchanges nothing is told.
const FEW: usize = 10;

/// Estimates of a family's prompts and answers: by length, and by the tokenizer.
#[derive(Default)]
struct Row {
    prompts: [Errors; 2],
    answers: [Errors; 2],
}

impl Row {
    fn add(&mut self, one: &Measured) {
        let model = one.record.model.as_deref().unwrap_or_default();
        let (record, usage) = (&one.record, &one.usage);
        if !record.has(&UNCOUNTABLE) {
            let counted = count::request(&one.request, model);
            self.prompts[0].add(one.length, usage.input);
            self.prompts[1].add(counted, usage.input);
        }
        let Some(answer) = one.answer.as_ref().filter(|_| usage.output > 0) else {
            return;
        };
        if usage.reasoning > 0 || record.has(&UNSEEN) {
            return;
        }
        let is_stream = record.response_encoding != "json";
        let mut heard = Heard::default();
        for said in &answer.said {
            heard.text(&said.text);
        }
        let [by_length, counted] = if is_stream {
            [heard.by_length(), heard.count(model)]
        } else {
            let length = record.response_body.to_string().len();
            [tokens(length), count::answer(answer, model)]
        };
        self.answers[0].add(by_length, usage.output);
        self.answers[1].add(counted, usage.output);
    }

    fn shown(&self, (family, dialect): (&str, &str)) -> String {
        let [by_length, counted] = &self.prompts;
        let [heard, said] = &self.answers;
        let many = by_length.0.len();
        format!(
            "| {family} | {dialect} | {many} | {} | {} | {} | {} |\n",
            by_length.shown(),
            counted.shown(),
            heard.shown(),
            said.shown()
        )
    }
}

/// What stands around the table in `docs/accounting.md`.
const BEGIN: &str = "| models | asked as | prompts | by length | by tokenizer | answers by length | by tokenizer |\n| --- | --- | --- | --- | --- | --- | --- |\n";

/// `docs/accounting.md` has the table, which this test writes with `UPDATE_GOLDEN=1`.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn estimates_are_near_what_providers_say() {
    let Some(files) = corpus() else {
        eprintln!("POLYGATE_CORPUS IS NOT SET: estimates were NOT compared");
        return;
    };
    let all = measured(&files);
    if let Some(path) = std::env::var_os("POLYGATE_TOKENS") {
        let lines: String = all.iter().map(features).collect();
        std::fs::write(path, lines).expect("it is written");
    }
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    let mut sum = Row::default();
    for one in &all {
        let place = (one.family.name(), &*one.record.dialect);
        rows.entry(place).or_default().add(one);
        sum.add(one);
    }
    rows.retain(|_, row| row.prompts[0].0.len() >= FEW);
    let mut table = BEGIN.to_owned();
    for (place, row) in &rows {
        table.push_str(&row.shown(*place));
    }
    table.push_str(&sum.shown(("all", "")));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/accounting.md");
    let known = std::fs::read_to_string(&path).expect("the document");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let (before, rest) = known.split_once(BEGIN).expect("the table");
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        let text = format!("{before}{table}{}", &rest[end..]);
        std::fs::write(&path, text).expect("it is written");
        return;
    }
    assert!(
        known.contains(&table),
        "UPDATE_GOLDEN=1 writes it:\n{table}"
    );
    for (place, row) in rows {
        let [by_length, counted] = &row.prompts;
        assert!(counted.of_ten(5) < by_length.of_ten(5), "{place:?}");
    }
}

/// A line for whoever fits factors.
fn features(one: &Measured) -> String {
    let (record, usage) = (&one.record, &one.usage);
    let model = record.model.as_deref().unwrap_or_default();
    let made = count::made(&one.request, one.family);
    let said = one
        .answer
        .as_ref()
        .map_or(0, |answer| count::answer(answer, model));
    let numbers = [
        one.length,
        made.text,
        made.tools,
        made.messages,
        made.tool_count,
        made.media,
        usage.input,
        said,
        usage.output,
        usage.reasoning,
    ];
    let mut line = format!(
        "{}\t{}\t{}\t{model}\t{}",
        record.id,
        record.vendor,
        record.dialect,
        record.path.as_deref().unwrap_or_default()
    );
    for number in numbers {
        let _ = write!(line, "\t{number}");
    }
    let calls = one.answer.as_ref().map_or(0, |answer| {
        let is_call = |said: &&Said| matches!(said.block, Block::ToolCall { .. });
        answer.said.iter().filter(is_call).count()
    });
    let _ = writeln!(
        line,
        "\t{calls}\t{}\t{}",
        record.has(&UNCOUNTABLE),
        record.has(&UNSEEN)
    );
    line
}
