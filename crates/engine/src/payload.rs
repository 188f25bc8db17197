//! Rules of the operator on what providers are sent: members that are set where there are none, set whatever there was, or taken out.
//!
//! They come last, on the very body that goes out, so that they mean the same in both lanes. What decides who may do what (the model,
//! whether it streams) is no rule's to change: [`Path`]s to that are refused when the configuration is read.

use bytes::Bytes;
use polygate_wire::raw::path::{Change, Path};
use polygate_wire::{Format, RawObject};

use crate::call::Call;
use crate::condition::Condition;
use crate::pattern::Pattern;
use crate::route::{Candidate, Route};

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// When it comes: all of one kind before those of the next.
    pub kind: Kind,
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
    /// Anthropic's, whoever speaks it.
    Claude,
    /// This format, whoever speaks it.
    Speaks(Format),
}

/// Members that tell how many tokens an answer may have.
const OUTPUT: [&str; 4] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "generationConfig.maxOutputTokens",
];

/// What is sent where.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    /// The call.
    pub call: &'a Call,
    /// The row of the provider table.
    pub row: &'a str,
    /// The model's name there.
    pub model: &'a str,
    /// The body's format.
    pub format: Format,
}

impl Kind {
    /// All of them by their words, in the order in which they come.
    pub const NAMES: [(&'static str, Kind); 3] = [
        ("default", Kind::Default),
        ("override", Kind::Override),
        ("filter", Kind::Filter),
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Default => "default",
            Kind::Override => "override",
            Kind::Filter => "filter",
        }
    }
}

impl Protocol {
    /// Whether this is spoken where somebody of this row is sent this format.
    pub fn is(self, row: &str, format: Format) -> bool {
        let is_openais = matches!(format, Format::OpenaiChat | Format::OpenaiResponses);
        let is_openai = polygate_providers::is_openais_own(row);
        match self {
            Protocol::OpenAi => is_openais && is_openai,
            Protocol::OpenAiCompatible => is_openais && !is_openai,
            Protocol::Claude => format == Format::AnthropicMessages,
            Protocol::Speaks(spoken) => format == spoken,
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
    pub fn is_for(&self, row: &str, model: &str, format: Format) -> bool {
        let is = |target: &TargetIs| {
            target.model.matches(model)
                && target
                    .protocol
                    .is_none_or(|protocol| protocol.is(row, format))
        };
        self.targets.is_empty() || self.targets.iter().any(is)
    }
}

impl Sending<'_> {
    /// The body as the rules want it. Where one cannot do what it says, since there is something else on the way to its place, it does
    /// nothing.
    pub(crate) fn ruled(&self, rules: &[Rule], body: Bytes) -> Bytes {
        let is_for = |rule: &&Rule| {
            rule.is_for(self.row, self.model, self.format) && rule.when.holds(self.call)
        };
        let mut rules = rules.iter().filter(is_for).peekable();
        if rules.peek().is_none() {
            return body;
        }
        let Ok(mut object) = RawObject::parse(body.clone()) else {
            return body;
        };
        let params = rules.flat_map(|rule| rule.params.iter().map(move |param| (rule, param)));
        for (rule, (path, json)) in params.filter(|(_, (path, _))| self.is_known(path)) {
            match object.changed(path, rule.change(json)) {
                Ok(Some(changed)) => object = changed,
                Ok(None) => {}
                Err(blocked) => {
                    let request_id = &*self.call.inbound.request_id;
                    tracing::debug!(request_id, %path, ?blocked, "a payload rule cannot do what it says");
                }
            }
        }
        object.bytes().clone()
    }

    /// A count has fewer members than a chat: of others its provider says that it does not know them.
    fn is_known(&self, path: &Path) -> bool {
        let known: &[&str] = match (self.call.inbound.endpoint.counts(), self.format) {
            (false, _) => return true,
            (true, Format::AnthropicMessages) => {
                &["messages", "system", "tools", "tool_choice", "thinking"]
            }
            (true, Format::OpenaiResponses) => &[
                "input",
                "instructions",
                "tools",
                "tool_choice",
                "text",
                "reasoning",
                "truncation",
                "parallel_tool_calls",
            ],
            (true, Format::Gemini) => &["contents", "generateContentRequest"],
            (true, _) => &[],
        };
        let first = path.steps().first();
        first.is_some_and(|first| known.contains(&first.as_str()))
    }
}

/// The most tokens that rules let an answer have, whoever of the route is asked; `None`: they say nothing of that.
pub(crate) fn most_output(rules: &[Rule], call: &Call, route: &Route) -> Option<u64> {
    let says = |rule: &&Rule| rule.kind != Kind::Filter && rule.when.holds(call);
    let most = rules.iter().filter(says).flat_map(|rule| {
        let params = rule.params.iter();
        let said = params.filter(|(path, _)| OUTPUT.contains(&&*path.to_string()));
        let said: Vec<u64> = said.filter_map(|(_, json)| json.parse().ok()).collect();
        let reaches = |one: &Candidate| {
            let formats = one.upstream.provider.formats();
            let row = one.upstream.row;
            formats
                .iter()
                .any(|format| rule.is_for(row, &one.model, *format))
        };
        let is_for_one = !said.is_empty() && route.candidates().any(reaches);
        said.into_iter().filter(move |_| is_for_one)
    });
    most.max()
}

/// Why no rule may touch this place; `None`: one may.
pub fn refusal(path: &Path) -> Option<&'static str> {
    const MODEL: &str =
        "a rule does not change which model is asked: write a model of its own under 'models'";
    let steps: Vec<&str> = path.steps().iter().map(String::as_str).collect();
    match *steps.as_slice() {
        ["model" | "models" | "fallbacks", ..]
        | ["generateContentRequest"]
        | ["generateContentRequest", "model", ..]
        | ["requests"]
        | ["requests", _]
        | ["requests", _, "model", ..] => Some(MODEL),
        ["stream", ..] => Some("a rule does not change whether a call streams"),
        ["stream_options", ..] => Some("the gateway needs the usage that it asks for there"),
        _ => None,
    }
}
