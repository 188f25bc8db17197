//! Typed reading of nodes that never stops at the first problem: all unknown keys and all wrong values are told together.
//!
//! A key that was asked for is a known key. What nobody asked for when a section is finished is unknown, or comes later.

mod item;

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use super::env::Environment;
use super::later;
use super::names::Names;
use super::problem::{Findings, Problem};
use super::values::{self, nearest};
use super::yaml::{Key, Kind, Node, Place, shown};
use item::{Wanting, is_left_out};

pub use item::Item;

/// Shared by all sections of one file.
pub struct Reading<'a> {
    /// Variables.
    pub environment: &'a Environment,
    /// References to variables stay as they are.
    pub is_literal: bool,
    /// Keys and what else they may be called.
    pub aliases: &'static [(&'static str, &'static str)],
    /// What was found.
    pub findings: RefCell<Findings>,
    /// What is named, and who names it.
    pub names: RefCell<Names>,
}

impl<'a> Reading<'a> {
    /// Of a file whose references these variables answer.
    pub fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            is_literal: false,
            aliases: &[],
            findings: RefCell::default(),
            names: RefCell::default(),
        }
    }

    fn problem(&self, spot: &Spot, message: String, hint: Option<String>) -> Problem {
        Problem {
            place: spot.place,
            path: spot.path.clone(),
            message,
            hint,
        }
    }

    fn error(&self, spot: &Spot, message: impl Into<String>, hint: Option<String>) {
        let problem = self.problem(spot, message.into(), hint);
        self.findings.borrow_mut().errors.push(problem);
    }

    fn warn(&self, spot: &Spot, message: impl Into<String>) {
        let problem = self.problem(spot, message.into(), None);
        self.findings.borrow_mut().warnings.push(problem);
    }
}

/// A place in a file with its name.
#[derive(Clone, Debug, Default)]
pub struct Spot {
    /// Line and column.
    pub place: Place,
    /// `providers[0].weight`.
    pub path: String,
    /// The path without numbers and names: `providers[].weight`.
    shape: String,
}

impl Spot {
    fn below(&self, place: Place, key: &str, shape: &str) -> Self {
        let join = |path: &str, key: &str| match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Self {
            place,
            path: join(&self.path, key),
            shape: join(&self.shape, shape),
        }
    }

    fn item(&self, place: Place, at: usize) -> Self {
        Self {
            place,
            path: format!("{}[{at}]", self.path),
            shape: format!("{}[]", self.shape),
        }
    }
}

/// A mapping being read.
pub struct Section<'a> {
    /// What all sections share.
    pub reading: &'a Reading<'a>,
    members: &'a [(Key, Node)],
    /// Its place.
    pub spot: Spot,
    asked: RefCell<Vec<&'a str>>,
    wanting: Option<Wanting>,
}

impl<'a> Section<'a> {
    /// The file's top.
    pub fn top(reading: &'a Reading<'a>, node: &'a Node) -> Self {
        let spot = Spot {
            place: node.place,
            ..Spot::default()
        };
        let members = match &node.kind {
            Kind::Map(members) => members.as_slice(),
            _ => {
                let message = format!(
                    "the file must be a mapping of keys to values, not {}",
                    node.noun()
                );
                reading.error(&spot, message, None);
                &[]
            }
        };
        Self {
            reading,
            members,
            spot,
            asked: RefCell::default(),
            wanting: None,
        }
    }

    fn member(&self, key: &str) -> Option<&'a (Key, Node)> {
        self.members.iter().find(|(known, _)| known.text == key)
    }

    /// The value of a key, however it is called; `null` counts as absent.
    pub fn item(&self, key: &'static str) -> Option<Item<'a>> {
        let aliases = self.reading.aliases.iter();
        let names = aliases
            .filter(|(name, _)| *name == key)
            .map(|(_, alias)| *alias);
        let names: Vec<&'static str> = std::iter::once(key).chain(names).collect();
        self.note_known(&names);
        let mut present = names
            .iter()
            .filter_map(|name| self.member(name))
            .filter(|(_, node)| !node.is_null());
        let (found, node) = present.next()?;
        for (other, _) in present {
            let message = format!("is the same setting as '{}': keep one", found.text);
            self.error(&other.text, message);
        }
        Some(self.item_of(found, node, &found.text))
    }

    fn note_known(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
        let known = &mut self.reading.findings.borrow_mut().known;
        let place = Place::default();
        known.extend(
            names
                .iter()
                .map(|name| self.spot.below(place, "", name).shape),
        );
    }

    fn item_of(&self, key: &Key, node: &'a Node, shape: &str) -> Item<'a> {
        Item {
            reading: self.reading,
            node,
            spot: self.spot.below(key.place, &key.text, shape),
            wanting: self.wanting.clone(),
        }
    }

    /// All keys with their values, of a mapping whose keys are names.
    pub fn entries(&self) -> Vec<(&'a str, Item<'a>)> {
        let entry =
            |(key, node): &'a (Key, Node)| (key.text.as_str(), self.item_of(key, node, "*"));
        self.members.iter().map(entry).collect()
    }

    fn spot_of(&self, key: &str) -> Spot {
        let place = self
            .member(key)
            .map_or(self.spot.place, |(key, _)| key.place);
        self.spot.below(place, key, key)
    }

    /// Notes an error about a key.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        self.reading.error(&self.spot_of(key), message, None);
    }

    /// Notes a warning about a key.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        self.reading.warn(&self.spot_of(key), message);
    }

    /// A key that is taken without effect, as the original took it.
    pub fn ignored(&self, key: &'static str, why: &str) {
        if self.item(key).is_some() {
            self.warn(key, format!("has no effect: {why}"));
        }
    }

    /// The value of a key that has to be there.
    pub fn required(&self, key: &'static str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.error(key, "is missing");
        }
        item
    }

    /// A text that has to be there, and not empty.
    pub fn required_text(&self, key: &'static str) -> Option<String> {
        let item = self.required(key)?;
        let text = item.text()?.trim().to_owned();
        if text.is_empty() {
            item.error("is empty");
            return None;
        }
        Some(text)
    }

    /// A text; one of nothing but spaces is none.
    pub fn text(&self, key: &'static str) -> Option<String> {
        let text = self.item(key)?.text()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Yes or no.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.item(key)?.parsed("true or false", values::boolean)
    }

    /// A whole number that fits.
    pub fn number<T: std::str::FromStr>(&self, key: &'static str) -> Option<T> {
        self.item(key)?
            .parsed("a whole number in range", |text| text.parse().ok())
    }

    /// A time: seconds, or a number with a unit.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.item(key)?.duration()
    }

    /// A time that is not zero: zero would end everything at once.
    pub fn patience(&self, key: &'static str) -> Option<Duration> {
        let item = self.item(key)?;
        let duration = item.duration()?;
        if duration.is_zero() {
            item.error("must be more than zero");
        }
        Some(duration)
    }

    /// An address to bind.
    pub fn address(&self, key: &'static str) -> Option<IpAddr> {
        self.item(key)?
            .parsed("an IP address or 'localhost'", values::address)
    }

    /// A size in bytes that is not zero.
    pub fn bytes(&self, key: &'static str) -> Option<usize> {
        self.item(key)?
            .parsed("a number of bytes, or a size such as 32MiB", |text| {
                values::bytes(text).filter(|bytes| *bytes > 0)
            })
    }

    /// One of these words; underscores and hyphens are alike.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.item(key)?.word(words)
    }

    /// A mapping under a key.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.item(key)?.section()
    }

    /// The items of a list under a key. Absent = none.
    pub fn items(&self, key: &'static str) -> Vec<Item<'a>> {
        self.item(key).map(|item| item.list()).unwrap_or_default()
    }

    /// Keys of this kind are known too; whether there are any.
    pub fn pass_over(&self, is: impl Fn(&str) -> bool) -> bool {
        let keys = self.members.iter().map(|(key, _)| key.text.as_str());
        let passed: Vec<&str> = keys.filter(|key| is(key)).collect();
        self.asked.borrow_mut().extend(&passed);
        !passed.is_empty()
    }

    /// Whether this entry is left out for want of a variable; says so.
    pub fn is_left_out(&self, name: &str) -> bool {
        is_left_out(self.reading, &self.spot, self.wanting.as_ref(), name)
    }

    /// Everything that is known has been asked for: the rest is unknown, or comes later.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        let is_asked = |key: &Key| asked.iter().any(|asked| *asked == key.text);
        for (key, node) in self.members.iter().filter(|(key, _)| !is_asked(key)) {
            let name = shown(&key.text);
            let spot = self.spot.below(key.place, &name, &name);
            match later::named(&key.text) {
                Some(later) if later.is_off(node) => {}
                Some(later) => self.reading.error(&spot, later.message(&name), None),
                None => {
                    let known = nearest(&key.text, asked.iter().copied());
                    let hint = known.map(|known| format!("did you mean '{known}'?"));
                    self.reading.error(&spot, "unknown key", hint);
                }
            }
        }
    }
}
