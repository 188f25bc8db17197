//! What is sent: what a lane makes of a call, then the operator's rules ([`crate::payload`]), then the cloak ([`crate::cloak`]).
//!
//! Both work on the very body that goes out, so that they mean the same in both lanes.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use polygate_core::Failure;
use polygate_providers::Row;
use polygate_wire::raw::path::Path;
use polygate_wire::raw::{Edit, quote};
use polygate_wire::{Format, RawObject, counting};

use crate::call::{Call, Endpoint};
use crate::cloak::{self, Cloak};
use crate::expect;
use crate::lane::{self, Lane, Making, Prepared};
use crate::payload::{self, Done, Rule};
use crate::route::{Candidate, Route};
use crate::snapshot::Snapshot;

/// What shapes the bodies of a call to one candidate.
pub(crate) struct Shape<'a> {
    call: &'a Call,
    candidate: &'a Candidate,
    /// The model that leads there, as the request says it.
    asked_as: &'a str,
    rules: &'a [Rule],
    /// The cloak that it is sent under.
    pub cloak: Option<&'a Cloak>,
}

/// A body, as far as rules and cloaks ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub asks: Asks,
    pub format: Format,
    /// The row of the provider table.
    pub row: &'a Row,
    /// The model's name there.
    pub model: &'a str,
    /// Members that the provider refuses.
    pub refused: &'a [String],
    /// It has a `max_tokens` that nobody said: its format needs one.
    pub has_made_limit: bool,
}

/// What a body asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A turn of a conversation.
    Turn,
    /// How many tokens one is.
    Count,
    /// Something else.
    Other,
}

/// Who is told what becomes of rules.
pub(crate) type Told<'a> = &'a mut dyn FnMut(&Rule, &Path, Done);

impl<'a> Shape<'a> {
    /// For this call to this candidate, as one of the models that it names.
    pub fn of(
        snapshot: &'a Snapshot,
        call: &'a Call,
        (candidate, asked_as): (&'a Candidate, &'a str),
    ) -> Self {
        Self {
            call,
            candidate,
            asked_as,
            rules: &snapshot.config.payload,
            cloak: Cloak::over(candidate.upstream.cloak.as_ref(), call),
        }
    }

    /// What [`lane::prepare`] makes, in shape.
    pub fn prepare(&self, making: &Making<'_>, told: Told<'_>) -> Result<Prepared, Failure> {
        let mut prepared = lane::prepare(making)?;
        let asks = Asks::of(&prepared.lane, self.call);
        let mut sent = self.sent(asks, prepared.lane.upstream_format());
        sent.has_made_limit = sent.format == Format::AnthropicMessages
            && matches!(prepared.lane, Lane::Translated(_))
            && self
                .call
                .object
                .as_ref()
                .is_some_and(|said| expect::asked(said).is_none());
        prepared.body = self.body(sent, prepared.body, told);
        Ok(prepared)
    }

    /// A body that no lane reads, in shape: where its path ends as a format's own does, it is of that format.
    pub fn unread(&self, body: Bytes, told: Told<'_>) -> Bytes {
        let Endpoint::Proxy(tail) = &self.call.inbound.endpoint else {
            return body;
        };
        let formats = self.candidate.upstream.provider.formats();
        let other = formats.first().map(|format| (*format, Asks::Other));
        match format_of(&tail.path).or(other) {
            Some((format, asks)) => self.body(self.sent(asks, format), body, told),
            None => body,
        }
    }

    fn sent(&self, asks: Asks, format: Format) -> Sent<'a> {
        let upstream = &self.candidate.upstream;
        Sent {
            asks,
            format,
            row: upstream.said,
            model: &self.candidate.model,
            refused: &upstream.provider.quirks().refuses,
            has_made_limit: false,
        }
    }

    fn body(&self, sent: Sent<'_>, body: Bytes, told: Told<'_>) -> Bytes {
        let is_for = |rule: &&Rule| {
            rule.is_for(sent.row, sent.model, sent.format)
                && rule.when.holds_for([self.asked_as], self.call)
        };
        let mut rules = self.rules.iter().filter(is_for).peekable();
        if rules.peek().is_none() && self.cloak.is_none() {
            return body;
        }
        let body = sent.in_full(body);
        let body = payload::ruled(rules, sent, body, told);
        match self.cloak {
            Some(cloak) => cloak.body(self.call, sent, body),
            None => body,
        }
    }
}

/// Puts into a call what may become of its tokens, whoever of its route is asked.
pub(crate) fn expect(snapshot: &Snapshot, call: &mut Call, route: &Route) {
    let said = payload::expected(&snapshot.config.payload, call, route);
    call.added_input = cloak::added(call, route).saturating_add(said.input);
    call.most_output = said.output;
}

/// The format of a path of the generic proxy, by its end.
fn format_of(path: &str) -> Option<(Format, Asks)> {
    const ENDS: [(&str, Format, Asks); 10] = [
        ("chat/completions", Format::OpenaiChat, Asks::Turn),
        ("completions", Format::OpenaiChat, Asks::Other),
        ("embeddings", Format::OpenaiChat, Asks::Other),
        ("responses", Format::OpenaiResponses, Asks::Turn),
        ("input_tokens", Format::OpenaiResponses, Asks::Count),
        ("messages", Format::AnthropicMessages, Asks::Turn),
        ("count_tokens", Format::AnthropicMessages, Asks::Count),
        (":generateContent", Format::Gemini, Asks::Turn),
        (":streamGenerateContent", Format::Gemini, Asks::Turn),
        (":countTokens", Format::Gemini, Asks::Count),
    ];
    let path = percent_decode_str(path.trim_end_matches('/')).decode_utf8_lossy();
    let path = path.trim_end_matches('/');
    let known = ENDS.iter().find(|(end, ..)| path.ends_with(end));
    known.map(|(_, format, asks)| (*format, *asks))
}

/// Google's word for the request inside of a count, in both of its spellings.
pub(crate) const REQUEST: [&str; 2] = ["generateContentRequest", "generate_content_request"];

impl Sent<'_> {
    /// Where the request itself stands in the body: a count has it inside.
    pub fn below(self) -> &'static [&'static str] {
        match (self.asks, self.format) {
            (Asks::Count, Format::Gemini) => &["generateContentRequest"],
            (Asks::Count, Format::BedrockConverse) => &["input", "converse"],
            _ => &[],
        }
    }

    /// Whether the endpoint has a member of this name: providers refuse counts with others than theirs.
    pub fn knows(self, name: &str) -> bool {
        self.asks != Asks::Count || counting::knows(self.format, name)
    }

    /// A count of Google's that is of contents alone, as one of a whole request: nothing else can stand beside them.
    fn in_full(self, body: Bytes) -> Bytes {
        if (self.asks, self.format) != (Asks::Count, Format::Gemini) {
            return body;
        }
        let Ok(object) = RawObject::parse(body.clone()) else {
            return body;
        };
        if REQUEST.iter().any(|name| object.get(name).is_some()) {
            return body;
        }
        let model = quote(&format!("models/{}", self.model));
        let request = object.edit(&[Edit::Set("model", &model)]);
        Bytes::from([br#"{"generateContentRequest":"#, &*request, b"}"].concat())
    }
}

impl Asks {
    fn of(lane: &Lane, call: &Call) -> Self {
        let endpoint = &call.inbound.endpoint;
        match lane {
            Lane::Counting(_) => Asks::Count,
            Lane::Translated(_) => Asks::Turn,
            Lane::Native(_) if endpoint.counts() => Asks::Count,
            Lane::Native(_) if endpoint.is_of_messages() => Asks::Turn,
            Lane::Native(_) => Asks::Other,
        }
    }
}
