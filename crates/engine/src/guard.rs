//! Guard rails: what may not be in requests and answers is found, and refused, replaced or told, in whatever format and lane.
//!
//! Requests are looked through once, before anybody is asked; answers in the client's format, behind both lanes. [`finder`] finds in
//! text that comes in pieces, [`scan`] says what becomes of one text, [`body`] and [`stream`] know where texts stand.

pub mod body;
mod channel;
pub mod detect;
mod events;
pub mod finder;
mod guarded;
mod json;
pub mod placeholder;
mod scan;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::fmt;
use std::sync::Arc;

use polygate_core::{Failure, Kind, Why};

use crate::call::Call;
use crate::config::{self, Config};
use crate::explain::Watching;
pub use body::Side;
pub use config::Action;
use finder::Finder;
pub use guarded::Guarded;
pub(crate) use guarded::{look, replace};
use placeholder::{Hidden, Maker, Restoring};
use webhook::Webhook;

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
    webhook: Option<Webhook>,
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

impl Guards {
    /// Compiles them; says everything that is wrong.
    pub fn compile(config: &Config) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut list = Vec::new();
        for guard in &config.guards.list {
            match Guard::compile(guard, config) {
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

    /// All of them, whatever calls they are for.
    pub fn all(&self) -> &[Arc<Guard>] {
        &self.list
    }

    /// Those for this call, whichever of the models that it names answers: looked at is what goes to all of them.
    pub fn of(&self, call: &Call) -> Vec<Arc<Guard>> {
        let guards = self.list.iter();
        guards
            .filter(|guard| guard.when.may_hold(call))
            .cloned()
            .collect()
    }

    /// Whether any is for certain models only.
    pub fn ask_for_models(&self) -> bool {
        let mut guards = self.list.iter();
        guards.any(|guard| !guard.when.models.is_empty())
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

    /// What it does to a call, for explanations.
    pub(crate) fn watching(&self, doings: &Doings, is_read: bool) -> Watching {
        let mut acted = doings.acted.iter();
        let found = acted.find(|one| one.guard == self.name);
        let looks = self.requests && self.webhook.is_none() && is_read;
        let sides = [(Side::Request, self.requests), (Side::Answer, self.answers)];
        let sides = sides.into_iter().filter(|(_, looks)| *looks);
        Watching {
            guard: self.name.clone(),
            action: self.webhook.is_none().then(|| self.action.name()),
            on: sides.map(|(side, _)| side.name()).collect(),
            found: looks.then(|| found.map_or(0, |one| one.count)),
        }
    }

    fn compile(guard: &config::Guard, config: &Config) -> Result<Self, String> {
        let (action, finders, webhook) = match &guard.by {
            config::By::Looks(looks) => (looks.action, finders(&guard.name, looks)?, None),
            config::By::Webhook(own) => {
                let webhook = Webhook::new(own, config)?;
                let action = if own.fails_open {
                    Action::Flag
                } else {
                    Action::Block
                };
                (action, Vec::new(), Some(webhook))
            }
        };
        Ok(Self {
            name: guard.name.as_str().into(),
            action,
            when: guard.when.clone(),
            requests: guard.requests,
            // What is to be put back is looked for where it is taken out.
            answers: guard.answers && action != Action::Restore,
            finders,
            webhook,
        })
    }

    /// Finds words in any case, and hides them such that they are put back: for who needs no configuration of guards.
    pub fn of_words(name: &str, label: &str, words: &[String]) -> Result<Self, String> {
        let looks = config::Looks {
            action: Action::Restore,
            detectors: Vec::new(),
            patterns: Vec::new(),
            words: words.to_vec(),
            case_sensitive: false,
        };
        Ok(Self {
            name: name.into(),
            action: Action::Restore,
            when: crate::condition::Condition::default(),
            requests: true,
            answers: false,
            finders: finders(label, &looks)?,
            webhook: None,
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
        Self::of(rules.collect(), restoring)
    }

    /// The same, and this is put back too.
    pub(crate) fn also(&self, restoring: &Restoring) -> Self {
        let mut all = Restoring::default();
        all.extend(&self.restoring);
        all.extend(restoring);
        Self::of(self.rules.clone(), all)
    }

    fn of(rules: Vec<Rule>, restoring: Restoring) -> Self {
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
