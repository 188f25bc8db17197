//! Typed reading of nodes that never stops at the first problem: all unknown keys and all wrong values are told together.
//!
//! A key that was asked for is a known key. What nobody asked for when a section is finished is unknown.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use polygate_core::Secret;

use super::env::{Environment, Unset};
use super::yaml::{Key, Kind, Node, Place};

/// Keys of features that come later: refused by name, never ignored.
const LATER: [&str; 34] = [
    "tls",
    "payload",
    "cloak",
    "proxy-url",
    "proxy_url",
    "budget",
    "budgets",
    "teams",
    "cache",
    "guards",
    "guardrails",
    "hedge",
    "hedging",
    "strict",
    "affinity",
    "shadow",
    "conditions",
    "passthrough-headers",
    "claude-header-defaults",
    "non-stream-keepalive-secs",
    "bootstrap-retries",
    "langfuse",
    "otlp",
    "observability",
    "logging",
    "database",
    "db_url",
    "redis",
    "redis_url",
    "price_overrides",
    "provider_params",
    "continuation",
    "concurrency",
    "tokens_per_minute",
];

/// Something wrong, or worth saying, in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which value: `providers[0].weight`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.line > 0 {
            write!(f, "{}:{}: ", self.place.line, self.place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// What reading a file finds.
#[derive(Debug, Default)]
pub struct Findings {
    /// The file cannot be used.
    pub errors: Vec<Problem>,
    /// It can, but someone should know.
    pub warnings: Vec<Problem>,
}

/// Shared by all sections of one file.
pub struct Reading<'a> {
    /// Variables.
    pub environment: &'a Environment,
    /// What was found.
    pub findings: RefCell<Findings>,
}

/// A mapping being read.
pub struct Section<'a> {
    reading: &'a Reading<'a>,
    members: &'a [(Key, Node)],
    path: String,
    /// Where it begins.
    pub place: Place,
    asked: RefCell<Vec<&'static str>>,
    /// Where an unset variable only leaves this entry out.
    unset: Option<Rc<RefCell<Option<Unset>>>>,
}

impl<'a> Section<'a> {
    /// The file's top.
    pub fn top(reading: &'a Reading<'a>, node: &'a Node) -> Self {
        let members = match &node.kind {
            Kind::Map(members) => members.as_slice(),
            _ => {
                reading.error(
                    node.place,
                    "",
                    "the file must be a mapping of keys to values",
                );
                &[]
            }
        };
        Self {
            reading,
            members,
            path: String::new(),
            place: node.place,
            asked: RefCell::default(),
            unset: None,
        }
    }

    /// Whether a key is there, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(known, _)| known.text == key)
    }

    /// All keys with their values: a mapping whose keys are names.
    pub fn entries(&self) -> impl Iterator<Item = (&'a Key, &'a Node)> {
        self.members.iter().map(|(key, node)| (key, node))
    }

    /// The value of a key. `null` counts as absent.
    pub fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        let (_, node) = self.members.iter().find(|(known, _)| known.text == key)?;
        (!is_null(node)).then_some(node)
    }

    /// The path of a key of this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Notes an error about a key.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        let place = self
            .members
            .iter()
            .find(|(known, _)| known.text == key)
            .map_or(self.place, |(key, _)| key.place);
        self.reading.error(place, &self.path_of(key), message);
    }

    /// Notes a warning about a key.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        let place = self
            .members
            .iter()
            .find(|(known, _)| known.text == key)
            .map_or(self.place, |(key, _)| key.place);
        self.reading.warn(place, &self.path_of(key), message);
    }

    /// A key that is taken without effect, as the original took it.
    pub fn ignored(&self, key: &'static str, why: &str) {
        if self.node(key).is_some() {
            self.warn(key, format!("has no effect: {why}"));
        }
    }

    /// A text, variables replaced.
    pub fn text(&self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        self.text_of(node, &self.path_of(key))
    }

    /// A node's text, variables replaced.
    pub fn text_of(&self, node: &Node, path: &str) -> Option<String> {
        let Kind::Scalar { text, .. } = &node.kind else {
            self.reading.error(node.place, path, "must be a text");
            return None;
        };
        match self.reading.environment.expand(text) {
            Ok(text) => Some(text),
            Err(unset) => {
                match &self.unset {
                    Some(slot) => {
                        slot.borrow_mut().get_or_insert(unset);
                    }
                    None => self.reading.error(node.place, path, unset_message(&unset)),
                }
                None
            }
        }
    }

    /// A credential: a text that is never empty and never shown.
    pub fn secret(&self, key: &'static str) -> Option<Secret> {
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.error(key, "is empty");
            return None;
        }
        Some(Secret::new(text.trim()))
    }

    /// A value by way of its text.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let value = parse(text.trim());
        if value.is_none() {
            self.error(key, format!("must be {expected}"));
        }
        value
    }

    /// Yes or no.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.parsed(key, "true or false", boolean)
    }

    /// A whole number.
    pub fn number<T: std::str::FromStr>(&self, key: &'static str) -> Option<T> {
        self.parsed(key, "a whole number in range", |text| {
            text.replace('_', "").parse().ok()
        })
    }

    /// A time: seconds, or a number with `ms`, `s`, `m` or `h`.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.parsed(
            key,
            "a number of seconds, or a time such as 500ms, 30s or 5m",
            duration,
        )
    }

    /// An address to bind.
    pub fn address(&self, key: &'static str) -> Option<IpAddr> {
        self.parsed(key, "an IP address or 'localhost'", address)
    }

    /// A size in bytes, or with `KB`, `MB`, `KiB` or `MiB`.
    pub fn bytes(&self, key: &'static str) -> Option<usize> {
        self.parsed(key, "a number of bytes, or a size such as 32MiB", bytes)
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let expected = words
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ");
        self.parsed(key, &format!("one of: {expected}"), |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
        })
    }

    /// A mapping under a key.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        self.section_of(node, self.path_of(key))
    }

    /// A node as a mapping.
    pub fn section_of(&self, node: &'a Node, path: String) -> Option<Section<'a>> {
        let Kind::Map(members) = &node.kind else {
            self.reading
                .error(node.place, &path, "must be a mapping of keys to values");
            return None;
        };
        let (reading, unset) = (self.reading, self.unset.clone());
        Some(Section {
            reading,
            members,
            path,
            place: node.place,
            asked: RefCell::default(),
            unset,
        })
    }

    /// The items of a list under a key, each with its path. Absent = none.
    pub fn list(&self, key: &'static str) -> Vec<(&'a Node, String)> {
        let Some(node) = self.node(key) else {
            return vec![];
        };
        let path = self.path_of(key);
        let Kind::List(items) = &node.kind else {
            self.reading.error(node.place, &path, "must be a list");
            return vec![];
        };
        items
            .iter()
            .enumerate()
            .map(|(at, item)| (item, format!("{path}[{at}]")))
            .collect()
    }

    /// A list of texts.
    pub fn texts(&self, key: &'static str) -> Vec<(String, Place)> {
        self.list(key)
            .into_iter()
            .filter_map(|(node, path)| Some((self.text_of(node, &path)?, node.place)))
            .collect()
    }

    /// From here on an unset variable leaves this entry out instead of failing the file.
    pub fn leave_out_if_unset(&mut self) {
        self.unset = Some(Rc::default());
    }

    /// The variable for want of which this entry is left out; says so.
    pub fn left_out(&self, name: &str) -> bool {
        let Some(unset) = self.unset.as_ref().and_then(|slot| slot.borrow().clone()) else {
            return false;
        };
        self.reading.warn(
            self.place,
            &self.path,
            format!("'{name}' is left out: {}", unset_message(&unset)),
        );
        true
    }

    /// Everything that was known has been asked for: the rest is unknown, or comes later.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self
            .members
            .iter()
            .filter(|(key, _)| !asked.contains(&key.text.as_str()))
        {
            let message = if LATER.contains(&key.text.as_str()) {
                format!("'{}' is not supported yet", key.text)
            } else {
                match nearest(&key.text, asked.iter().copied()) {
                    Some(known) => format!("unknown key; did you mean '{known}'?"),
                    None => "unknown key".to_owned(),
                }
            };
            self.reading
                .error(key.place, &self.path_of(&key.text), message);
        }
    }
}

impl Reading<'_> {
    /// Notes an error.
    pub fn error(&self, place: Place, path: &str, message: impl Into<String>) {
        let problem = Problem {
            place,
            path: path.to_owned(),
            message: message.into(),
        };
        self.findings.borrow_mut().errors.push(problem);
    }

    /// Notes a warning.
    pub fn warn(&self, place: Place, path: &str, message: impl Into<String>) {
        let problem = Problem {
            place,
            path: path.to_owned(),
            message: message.into(),
        };
        self.findings.borrow_mut().warnings.push(problem);
    }
}

fn unset_message(unset: &Unset) -> String {
    match &unset.hint {
        Some(hint) => format!("the variable {} is not set: {hint}", unset.variable),
        None => format!("the variable {} is not set", unset.variable),
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
}

/// The known word that is most like this one, if any is.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count() / 3).max(2)).then_some(candidate)
}

/// `true`, `yes`, `on`, `1`, and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// An address; `localhost` is IPv4's.
pub fn address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        Some(IpAddr::from([127, 0, 0, 1]))
    } else {
        text.parse().ok()
    }
}

/// Seconds, or a number with a unit.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
        .unwrap_or((text, 1.0));
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * scale).ok()
}

/// Bytes, or a number with a unit.
pub fn bytes(text: &str) -> Option<usize> {
    const UNITS: [(&str, usize); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
        .unwrap_or((text, 1));
    number.trim().parse::<usize>().ok()?.checked_mul(scale)
}
