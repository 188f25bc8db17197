//! A value with its place, read as what it should be.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use polygate_core::Secret;

use super::{Reading, Section, Spot};
use crate::config::env::Unset;
use crate::config::names::Names;
use crate::config::values;
use crate::config::yaml::{Kind, Node};

/// Where an entry that unset variables leave out notes the first of them.
pub(super) type Wanting = Rc<RefCell<Option<Unset>>>;

/// A value with its place.
pub struct Item<'a> {
    pub(super) reading: &'a Reading<'a>,
    /// The value.
    pub node: &'a Node,
    /// Its place: that of its key, where it has one.
    pub spot: Spot,
    pub(super) wanting: Option<Wanting>,
}

impl<'a> Item<'a> {
    /// Something that stands in no file.
    pub fn document(reading: &'a Reading<'a>, node: &'a Node, path: String) -> Self {
        let spot = Spot {
            path,
            ..Spot::default()
        };
        Self {
            reading,
            node,
            spot,
            wanting: None,
        }
    }

    /// Notes an error.
    pub fn error(&self, message: impl Into<String>) {
        self.reading.error(&self.spot, message, None);
    }

    /// Notes a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.reading.warn(&self.spot, message);
    }

    /// What the file names.
    pub fn names(&self) -> &'a RefCell<Names> {
        &self.reading.names
    }

    /// From here on an unset variable leaves this entry out instead of failing the file.
    pub fn left_out_if_unset(mut self) -> Self {
        self.wanting = Some(Rc::default());
        self
    }

    /// Whether this entry is left out for want of a variable; says so.
    pub fn is_left_out(&self, name: &str) -> bool {
        is_left_out(self.reading, &self.spot, self.wanting.as_ref(), name)
    }

    /// As a mapping.
    pub fn section(&self) -> Option<Section<'a>> {
        let Kind::Map(members) = &self.node.kind else {
            self.wrong("a mapping of keys to values");
            return None;
        };
        Some(Section {
            reading: self.reading,
            members,
            spot: self.spot.clone(),
            asked: RefCell::default(),
            wanting: self.wanting.clone(),
        })
    }

    /// As a list.
    pub fn list(&self) -> Vec<Item<'a>> {
        let Kind::List(items) = &self.node.kind else {
            self.wrong("a list");
            return vec![];
        };
        let item = |(at, node): (usize, &'a Node)| Item {
            reading: self.reading,
            node,
            spot: self.spot.item(node.place, at),
            wanting: self.wanting.clone(),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// As a text, variables replaced.
    pub fn text(&self) -> Option<String> {
        let Kind::Scalar { text, .. } = &self.node.kind else {
            self.wrong("a text");
            return None;
        };
        if self.reading.is_literal {
            return Some(text.clone());
        }
        match (self.reading.environment.expand(text), &self.wanting) {
            (Ok(text), _) => Some(text),
            (Err(unset), Some(wanting)) => {
                wanting.borrow_mut().get_or_insert(unset);
                None
            }
            (Err(unset), None) => {
                self.error(unset.to_string());
                None
            }
        }
    }

    /// As a credential: a text that is never empty and never shown.
    pub fn secret(&self) -> Option<Secret> {
        let text = self.text()?;
        let text = text.trim();
        if text.is_empty() {
            self.error("is empty");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.error("has a line break or another control character in it");
            return None;
        }
        Some(Secret::new(text))
    }

    /// As one of these words; underscores and hyphens are alike.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of: {}", names.join(", "));
        self.parsed(&expected, |text| {
            let text = text.replace('_', "-");
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value)
        })
    }

    /// As a value by way of its text.
    pub fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text()?;
        let value = parse(text.trim());
        if value.is_none() {
            self.wrong(expected);
        }
        value
    }

    /// As a time: seconds, or a number with a unit; bare numbers are milliseconds where the key says so.
    pub(super) fn duration(&self) -> Option<Duration> {
        let is_in_ms = self.spot.path.ends_with("_ms");
        let parse = if is_in_ms {
            values::duration_ms
        } else {
            values::duration
        };
        self.parsed(
            "a number of seconds, or a time such as 500ms, 30s or 5m",
            parse,
        )
    }

    fn wrong(&self, expected: &str) {
        self.error(format!("must be {expected}, not {}", found(self.node)));
    }
}

/// What stands there, as far as it may be shown: the file's own text, where it is short and no variable.
fn found(node: &Node) -> String {
    const LONGEST: usize = 24;
    match &node.kind {
        Kind::Scalar { text, .. } if text.contains("${") => "what a variable says".to_owned(),
        Kind::Scalar { text, .. }
            if !node.is_null() && text.len() <= LONGEST && !text.starts_with("sk-") =>
        {
            format!("'{}'", text.escape_debug())
        }
        _ => node.noun().to_owned(),
    }
}

/// Whether an entry is left out for want of a variable; says so.
pub(super) fn is_left_out(
    reading: &Reading<'_>,
    spot: &Spot,
    slot: Option<&Wanting>,
    name: &str,
) -> bool {
    let Some(unset) = slot.and_then(|slot| slot.borrow().clone()) else {
        return false;
    };
    reading.warn(spot, format!("'{name}' is left out: {unset}"));
    true
}
