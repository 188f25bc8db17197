//! Guard rails: what may not be in requests and answers is found, and refused, replaced or told, in whatever format and lane.
//!
//! Requests are looked through once, before anybody is asked; answers in the client's format, behind both lanes. [`finder`] finds in
//! text that comes in pieces, [`scan`] says what becomes of one text, [`body`] and [`stream`] know where texts stand.

pub mod body;
mod channel;
pub mod detect;
mod events;
pub mod finder;
mod json;
pub mod placeholder;
mod scan;
pub mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use polygate_core::{Failure, Kind, Why};
use polygate_wire::{Format, RawObject};

use crate::call::Call;
use crate::config::{self, Config};
pub use body::Side;
pub use config::Action;
use finder::Finder;
use placeholder::{Concealing, Hidden, Maker, Restoring};

/// A pattern's matches are no longer than this; words as long as they are.
pub const WINDOW: usize = 256;

/// The guards of a configuration, compiled.
#[derive(Debug, Default)]
pub struct Guards {
    list: Vec<Arc<Guard>>,
    maker: Maker,
}

/// A guard, compiled.
#[derive(Debug)]
pub struct Guard {
    /// Its name.
    pub name: Arc<str>,
    action: Action,
    when: crate::condition::Condition,
    requests: bool,
    answers: bool,
    finders: Vec<(Finder, String)>,
}

/// What is looked for in a text.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    rules: Vec<Rule>,
    restoring: Arc<Restoring>,
    first: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Rule {
    guard: Arc<Guard>,
    /// Which of its finders.
    at: usize,
}

/// What guards did to one side of a call.
#[derive(Debug)]
pub struct Doings {
    side: Side,
    hidden: Hidden,
    acted: Vec<Acted>,
    blocked: Option<Arc<str>>,
}

/// A guard that did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// Its name.
    pub guard: Arc<str>,
    /// What.
    pub action: Action,
    /// To what.
    pub side: Side,
    /// How often.
    pub count: u64,
}

/// A call that guards are for.
#[derive(Clone, Debug)]
pub struct Guarded {
    maker: Maker,
    format: Format,
    answers: Watch,
    /// The request as the client means it, where another one is sent.
    pub unguarded: Option<RawObject>,
}

impl Guards {
    /// Compiles them; says everything that is wrong.
    pub fn compile(config: &Config) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut list = Vec::new();
        for guard in &config.guards.list {
            match Guard::compile(guard) {
                Ok(compiled) => list.push(Arc::new(compiled)),
                Err(problem) => problems.push(format!("guard '{}': {problem}", guard.name)),
            }
        }
        let key = config.guards.key.as_ref();
        let maker = key.map(|key| Maker::new(key.reveal().as_bytes()));
        let maker = maker.unwrap_or_default();
        if problems.is_empty() {
            Ok(Self { list, maker })
        } else {
            Err(problems)
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those for this call.
    pub fn of(&self, call: &Call) -> Vec<Arc<Guard>> {
        let guards = self.list.iter();
        guards
            .filter(|guard| guard.when.holds(call))
            .cloned()
            .collect()
    }

    /// Who makes placeholders.
    pub fn maker(&self) -> &Maker {
        &self.maker
    }
}

impl Guard {
    /// Whether it looks at what is asked.
    pub fn is_of_requests(&self) -> bool {
        self.requests
    }

    fn compile(guard: &config::Guard) -> Result<Self, String> {
        let config::By::Looks(looks) = &guard.by else {
            return Err("webhooks are not built".to_owned());
        };
        Ok(Self {
            name: guard.name.as_str().into(),
            action: looks.action,
            when: guard.when.clone(),
            requests: guard.requests,
            // What is to be put back is looked for where it is taken out.
            answers: guard.answers && looks.action != Action::Restore,
            finders: finders(&guard.name, looks)?,
        })
    }

    /// Finds words, and hides them such that they are put back: for who needs no configuration of guards.
    pub fn of_words(name: &str, words: &[String], case_sensitive: bool) -> Result<Self, String> {
        let looks = config::Looks {
            action: Action::Restore,
            detectors: Vec::new(),
            patterns: Vec::new(),
            words: words.to_vec(),
            case_sensitive,
        };
        Ok(Self {
            name: name.into(),
            action: Action::Restore,
            when: crate::condition::Condition::default(),
            requests: true,
            answers: false,
            finders: finders(name, &looks)?,
        })
    }
}

fn finders(name: &str, looks: &config::Looks) -> Result<Vec<(Finder, String)>, String> {
    let mut finders = Vec::new();
    for detector in &looks.detectors {
        finders.push((detector.finder()?, detector.label.to_owned()));
    }
    let label = placeholder::label(name);
    if !looks.patterns.is_empty() {
        let finder = Finder::new(&looks.patterns, WINDOW, None)?;
        finders.push((finder, label.clone()));
    }
    if !looks.words.is_empty() {
        let mut words = looks.words.clone();
        // A word that another one begins with comes after that.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let longest = words.first().map_or(0, String::len);
        let flags = if looks.case_sensitive { "" } else { "(?i)" };
        let literal = |word: &String| format!("{flags}{}", regex::escape(word));
        let words: Vec<String> = words.iter().map(literal).collect();
        // In another case a character may be longer.
        finders.push((Finder::new(&words, WINDOW.max(3 * longest), None)?, label));
    }
    Ok(finders)
}

impl Watch {
    /// For these guards; what was hidden is put back.
    pub fn new(guards: &[Arc<Guard>], restoring: Restoring) -> Self {
        let rules = guards.iter().flat_map(|guard| {
            let finders = 0..guard.finders.len();
            finders.map(|at| Rule {
                guard: guard.clone(),
                at,
            })
        });
        let rules: Vec<Rule> = rules.collect();
        let begins = |byte: u8| {
            let is_restored = byte == b'[' && !restoring.is_empty();
            is_restored || rules.iter().any(|rule| rule.finder().may_begin_with(byte))
        };
        let first = (0..=u8::MAX).map(begins).collect();
        Self {
            rules,
            restoring: Arc::new(restoring),
            first,
        }
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.restoring.is_empty()
    }

    fn may_begin_with(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

impl Rule {
    fn finder(&self) -> &Finder {
        &self.guard.finders[self.at].0
    }

    fn label(&self) -> &str {
        &self.guard.finders[self.at].1
    }

    fn action(&self) -> Action {
        self.guard.action
    }

    fn guard(&self) -> &Arc<str> {
        &self.guard.name
    }
}

impl fmt::Display for Acted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (guard, action, side) = (&self.guard, self.action.name(), self.side.name());
        write!(f, "{guard}:{action}:{side}:{}", self.count)
    }
}

impl Doings {
    /// Nothing yet.
    pub fn new(side: Side, maker: Maker) -> Self {
        Self {
            side,
            hidden: Hidden::new(maker),
            acted: Vec::new(),
            blocked: None,
        }
    }

    /// What guards did, guard by guard.
    pub fn acted(&self) -> &[Acted] {
        &self.acted
    }

    /// The way back.
    pub fn restoring(&self) -> &Restoring {
        self.hidden.restoring()
    }

    /// The guard that does not let it through, as a failure.
    pub fn refusal(&self) -> Option<Failure> {
        let guard = self.blocked.as_ref()?;
        Some(blocked(guard, self.side))
    }

    /// Of the same side, for what is not to count.
    fn again(&self) -> Self {
        Self::new(self.side, self.hidden.maker().clone())
    }

    fn note(&mut self, guard: &Arc<str>, action: Action) {
        if action == Action::Block && self.blocked.is_none() {
            self.blocked = Some(guard.clone());
        }
        let known = self.acted.iter_mut().find(|one| one.guard == *guard);
        match known {
            Some(known) => known.count += 1,
            None => self.acted.push(Acted {
                guard: guard.clone(),
                action,
                side: self.side,
                count: 1,
            }),
        }
    }
}

impl Guarded {
    /// Looks through what a call asks for, and puts what is let through in its place. Its body, where it has no object, comes and goes.
    pub fn request(
        guards: &[Arc<Guard>],
        maker: &Maker,
        call: &mut Call,
        body: &mut Bytes,
    ) -> (Doings, Result<(), Failure>) {
        let mut doings = Doings::new(Side::Request, maker.clone());
        let asked: Vec<Arc<Guard>> = guards.iter().filter(|one| one.requests).cloned().collect();
        let watch = Watch::new(&asked, Restoring::default());
        let looked = look(&watch, call, body, &mut doings);
        let result = looked.and_then(|replaced| {
            doings.refusal().map_or(Ok(()), Err)?;
            let mut unguarded = None;
            match (replaced, call.object.take()) {
                (Some(bytes), Some(meant)) => {
                    unguarded = Some(meant);
                    call.object = Some(RawObject::parse(bytes)?);
                }
                (Some(bytes), None) => *body = bytes,
                (None, object) => call.object = object,
            }
            let answered: Vec<Arc<Guard>> =
                guards.iter().filter(|one| one.answers).cloned().collect();
            let mut restoring = Restoring::default();
            restoring.extend(doings.restoring());
            let answers = Watch::new(&answered, restoring);
            call.guarded = Some(Arc::new(Self {
                maker: maker.clone(),
                format: call.inbound.endpoint.format(),
                answers,
                unguarded,
            }));
            Ok(())
        });
        (doings, result)
    }

    /// Whether nothing is looked for in answers.
    pub fn is_over(&self) -> bool {
        self.answers.is_empty()
    }

    /// A guard that has to see what is answered, by its name: what nobody can look through is not let through.
    pub fn insists(&self) -> Option<&Arc<str>> {
        insists(self.answers.rules.iter().map(|rule| &rule.guard))
    }

    /// A stream to the call's client.
    pub fn stream(&self, is_array: bool) -> stream::Stream {
        stream::Stream::new(self.format, is_array, self.answers.clone(), self.doings())
    }

    /// A whole answer to the call's client; `None`: it stays as it is.
    pub fn answer(&self, bytes: &[u8]) -> (Doings, Result<Option<Bytes>, Failure>) {
        let mut doings = self.doings();
        let looked = body::body(bytes, self.format, Side::Answer, &self.answers, &mut doings);
        let result = looked.and_then(|replaced| doings.refusal().map_or(Ok(replaced), Err));
        (doings, result)
    }

    /// JSON of an answer that is kept for later calls, as its client gets it; `None`: it is not to be kept.
    pub fn kept<'a>(&self, json: &'a str) -> Option<Cow<'a, str>> {
        match self.answer(json.as_bytes()).1 {
            Ok(None) => Some(Cow::Borrowed(json)),
            Ok(Some(bytes)) => String::from_utf8(bytes.into()).ok().map(Cow::Owned),
            Err(_) => None,
        }
    }

    /// Takes what was put back out again, for those who are told of calls.
    pub fn concealing(&self) -> Concealing {
        self.answers.restoring.concealing()
    }

    fn doings(&self) -> Doings {
        Doings::new(Side::Answer, self.maker.clone())
    }
}

/// One of these guards that what passes unread must not get around, by its name.
pub fn insists<'a>(guards: impl IntoIterator<Item = &'a Arc<Guard>>) -> Option<&'a Arc<str>> {
    let mut guards = guards.into_iter();
    let strict = guards.find(|guard| guard.action != Action::Flag);
    strict.map(|guard| &guard.name)
}

/// What would pass unread.
pub fn unseen(guard: &str, what: &str) -> Failure {
    let message = format!(
        "guard '{guard}' is in force for this call, and {what} is none that it can look through"
    );
    Failure::new(Kind::Blocked, message)
}

fn look(
    watch: &Watch,
    call: &Call,
    body: &Bytes,
    doings: &mut Doings,
) -> Result<Option<Bytes>, Failure> {
    if watch.is_empty() {
        return Ok(None);
    }
    let format = call.inbound.endpoint.format();
    match &call.object {
        Some(object) => body::body(object.bytes(), format, Side::Request, watch, doings),
        None if is_json(body) => body::body(body, format, Side::Request, watch, doings),
        None => body::text(body, watch, doings),
    }
}

fn is_json(body: &[u8]) -> bool {
    let is_one =
        body.trim_ascii_start().starts_with(b"{") || body.trim_ascii_start().starts_with(b"[");
    is_one && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// The guard is named, and never what it found.
fn blocked(guard: &str, side: Side) -> Failure {
    let message = match side {
        Side::Request => format!("guard '{guard}' does not let this request through"),
        Side::Answer => format!("guard '{guard}' does not let this answer through"),
    };
    let mut failure = Failure::new(Kind::Blocked, message);
    failure.why = Some(Why::ContentPolicy);
    failure
}
