//! Rules of the operator on what providers are sent: members that are set where there are none, set whatever there was, or taken out.
//!
//! They work on the very body that goes out, so that they mean the same in both lanes. What decides who may do what (the model, whether
//! it streams) is no rule's to change: places of that are refused when the configuration is read.

use std::fmt;

use bytes::Bytes;
use polygate_providers::Row;
use polygate_wire::Format;
use polygate_wire::raw::path::{Change, Document, Path, Spelling};
use serde_json::Value;

use crate::call::Call;
use crate::condition::Condition;
use crate::expect;
use crate::pattern::Pattern;
use crate::route::{Candidate, Route};
use crate::shape::{Sent, Told};

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// When it comes: all of one kind before those of the next.
    pub kind: Kind,
    /// Its number among those of its kind, from 0.
    pub number: usize,
    /// For which of those who are asked: one of these; none is all.
    pub targets: Vec<TargetIs>,
    /// For which calls.
    pub when: Condition,
    /// The places, and the JSON that it puts there.
    pub params: Vec<(Path, Box<str>)>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sets what is not there.
    Default,
    /// Sets whatever is there.
    Override,
    /// Takes out what is there.
    Filter,
}

/// A model at whom is asked.
#[derive(Clone, Debug)]
pub struct TargetIs {
    /// Its name there.
    pub model: Pattern,
    /// What is spoken there.
    pub protocol: Option<Protocol>,
}

/// What is spoken there, in the words of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OpenAI and Azure, in either of their formats.
    OpenAi,
    /// Whoever else speaks one of OpenAI's.
    OpenAiCompatible,
    /// This format, whoever speaks it.
    Speaks(Format),
}

/// What a rule did at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It changed it.
    Changed,
    /// It stands there as the rule says.
    Same,
    /// There is something else on the way, or an item that it leads through is not there.
    Blocked,
}

/// What rules may make of a call's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Those that they add to its prompt, at most.
    pub input: u64,
    /// Those that they let its answer have, at most.
    pub output: u64,
}

/// Where a body tells how many tokens its answer may have.
const OUTPUT: [&[&str]; 5] = [
    &["max_tokens"],
    &["max_completion_tokens"],
    &["max_output_tokens"],
    &["generationConfig", "maxOutputTokens"],
    &["inferenceConfig", "maxTokens"],
];

impl Kind {
    /// All of them by their words, in the order in which they come.
    pub const NAMES: [(&'static str, Kind); 3] = [
        ("default", Kind::Default),
        ("override", Kind::Override),
        ("filter", Kind::Filter),
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Default => "default",
            Kind::Override => "override",
            Kind::Filter => "filter",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.kind.name(), self.number)
    }
}

impl Protocol {
    /// Whether this is spoken where somebody of this row is sent this format.
    pub fn is(self, row: &Row, format: Format) -> bool {
        let is_openais = matches!(format, Format::OpenaiChat | Format::OpenaiResponses);
        match self {
            Protocol::OpenAi => is_openais && row.openai,
            Protocol::OpenAiCompatible => is_openais && !row.openai,
            Protocol::Speaks(spoken) => format == spoken,
        }
    }
}

impl Done {
    /// What explanations say of it; `None`: nothing.
    pub(crate) fn words(self) -> Option<&'static str> {
        match self {
            Done::Changed => Some(""),
            Done::Same => None,
            Done::Blocked => Some(": there is something else on the way to it, or no such item"),
        }
    }
}

impl Rule {
    fn change<'a>(&self, json: &'a str) -> Change<'a> {
        match self.kind {
            Kind::Default => Change::Default(json),
            Kind::Override => Change::Override(json),
            Kind::Filter => Change::Remove,
        }
    }

    /// Whether it is for this one.
    pub fn is_for(&self, row: &Row, model: &str, format: Format) -> bool {
        let is = |target: &TargetIs| {
            target.model.matches(model)
                && target
                    .protocol
                    .is_none_or(|protocol| protocol.is(row, format))
        };
        self.targets.is_empty() || self.targets.iter().any(is)
    }

    /// Whether it may be for what this one is sent.
    fn may_be_for(&self, one: &Candidate) -> bool {
        let formats = one.upstream.provider.formats().iter();
        let mut formats = formats.map(|format| self.is_for(one.upstream.said, &one.model, *format));
        formats.any(|is| is)
    }

    /// What it may make of a call's tokens.
    fn expected(&self) -> Expected {
        let sets = self.kind != Kind::Filter;
        let lengths = self.params.iter().map(|(_, json)| json.len());
        let limits = self
            .params
            .iter()
            .filter_map(|(path, json)| output(path, sets.then_some(json)));
        Expected {
            input: expect::tokens(lengths.filter(|_| sets).sum()),
            output: limits.max().unwrap_or(0),
        }
    }
}

/// How many tokens an answer may have where this stands at a place, or nothing does; `None`: it says nothing of that.
fn output(path: &Path, json: Option<&str>) -> Option<u64> {
    let steps: Vec<String> = path.steps().iter().map(|step| plain(step)).collect();
    let limit = OUTPUT.map(|limit| limit.iter().map(|name| plain(name)).collect::<Vec<_>>());
    let limit = limit
        .into_iter()
        .find(|limit| limit.starts_with(&steps) || steps.starts_with(limit))?;
    let value: Option<Value> = json.and_then(|json| serde_json::from_str(json).ok());
    let mut value = value.as_ref();
    for name in limit.iter().skip(steps.len()) {
        value = value.and_then(|value| {
            let mut members = value.as_object()?.iter();
            members.find_map(|(known, inner)| (plain(known) == *name).then_some(inner))
        });
    }
    // Without a limit of its own, as without a rule.
    let said = value.filter(|value| value.is_number());
    Some(
        said.and_then(|said| expect::amount(&said.to_string()))
            .unwrap_or(expect::OUTPUT),
    )
}

/// A name in neither of Google's spellings.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "")
}

/// The body as rules want it that are for it.
pub(crate) fn ruled<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    mut sent: Sent<'_>,
    body: Bytes,
    told: Told<'_>,
) -> Bytes {
    let spelling = match sent.format {
        Format::Gemini => Spelling::Google,
        _ => Spelling::Exact,
    };
    let text = std::str::from_utf8(&body).ok();
    let Some(mut document) = text.and_then(|text| Document::read(text, spelling)) else {
        return body;
    };
    let mut is_changed = false;
    let params = rules.flat_map(|rule| rule.params.iter().map(move |param| (rule, param)));
    for (rule, (path, json)) in params {
        let first = path.steps().first();
        if !first.is_some_and(|first| sent.knows(first)) {
            continue;
        }
        let change = match rule.change(json) {
            // What nobody said is not there, until a rule says it.
            Change::Default(json) if sent.has_made_limit && path.steps() == ["max_tokens"] => {
                sent.has_made_limit = false;
                Change::Override(json)
            }
            change => change,
        };
        let done = match document.change(sent.below(), path, change) {
            Ok(true) => Done::Changed,
            Ok(false) => Done::Same,
            Err(_) => Done::Blocked,
        };
        is_changed |= done == Done::Changed;
        told(rule, path, done);
    }
    if is_changed {
        document.text().into()
    } else {
        body
    }
}

/// What rules may make of a call's tokens, whoever of its route is asked.
pub(crate) fn expected(rules: &[Rule], call: &Call, route: &Route) -> Expected {
    let mut most = Expected::default();
    let is_for = |rule: &&Rule| rule.when.holds_for(call.named(), call);
    let rules: Vec<&Rule> = rules.iter().filter(is_for).collect();
    if rules.is_empty() {
        return most;
    }
    for (asked_as, candidate) in route.named_candidates() {
        let rules = rules
            .iter()
            .filter(|rule| rule.when.means(asked_as) && rule.may_be_for(candidate));
        let all = rules
            .map(|rule| rule.expected())
            .reduce(|one, other| Expected {
                input: one.input.saturating_add(other.input),
                output: one.output.max(other.output),
            });
        let all = all.unwrap_or_default();
        most.input = most.input.max(all.input);
        most.output = most.output.max(all.output);
    }
    most
}

/// Why no rule may touch this place; `None`: one may.
pub fn refusal(path: &Path) -> Option<&'static str> {
    const MODEL: &str = "a rule does not change which model is asked: write a model of its own under 'models', or an alias of the provider";
    let steps: Vec<String> = path
        .steps()
        .iter()
        .map(|step| step.to_ascii_lowercase().replace('_', ""))
        .collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    match *steps.as_slice() {
        ["model" | "models" | "fallbacks", ..]
        | ["generatecontentrequest"]
        | ["generatecontentrequest", "model", ..]
        | ["requests"]
        | ["requests", _]
        | ["requests", _, "model", ..] => Some(MODEL),
        ["stream", ..] => Some("a rule does not change whether a call streams"),
        ["streamoptions", ..] => Some("the gateway needs the usage that it asks for there"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    #[test]
    fn places_that_decide_who_may_do_what_are_refused() {
        for text in [
            "model",
            "model.x",
            "Model",
            "models.0",
            "fallbacks",
            "stream",
            "generateContentRequest.model",
            "generate_content_request.model",
            "generateContentRequest",
            "requests",
            "requests.-1",
            "requests.0.model",
            "stream_options.include_usage",
        ] {
            assert!(refusal(&path(text)).is_some(), "{text}");
        }
        for text in [
            "metadata.model",
            "requests.0.content",
            "generateContentRequest.tools",
            "streaming",
        ] {
            assert!(refusal(&path(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn what_a_rule_may_let_an_answer_have_is_known() {
        for (text, json, most) in [
            ("max_tokens", Some("9"), Some(9)),
            ("max_tokens", Some("50000.0"), Some(50000)),
            ("max_tokens", Some("6e4"), Some(60000)),
            ("generation_config.max_output_tokens", Some("7"), Some(7)),
            ("max_tokens", Some("null"), Some(expect::OUTPUT)),
            ("max_tokens", Some("\"9\""), Some(expect::OUTPUT)),
            ("max_tokens", None, Some(expect::OUTPUT)),
            ("generationConfig.maxOutputTokens", Some("9"), Some(9)),
            (
                "generationConfig",
                Some(r#"{"maxOutputTokens":9}"#),
                Some(9),
            ),
            ("inferenceConfig", Some("{}"), Some(expect::OUTPUT)),
            ("generationConfig.temperature", Some("9"), None),
            ("temperature", Some("9"), None),
        ] {
            assert_eq!(output(&path(text), json), most, "{text} {json:?}");
        }
    }
}
