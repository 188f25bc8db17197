//! YAML text → nodes that know their line and column. Scalars keep their text: types are the reader's business.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::Value;

/// The most nodes that aliases may grow a file to.
const NODE_LIMIT: usize = 200_000;

/// The deepest nesting.
const DEPTH_LIMIT: usize = 100;

/// Where something stands: counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A text; `plain` where it was written without quotes, so that it may mean a number.
    Scalar {
        /// The text.
        text: String,
        /// Without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in order.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub place: Place,
    /// It came by a merge (`<<`): the mapping's own key of this name replaces it.
    merged: bool,
}

impl Node {
    /// A mapping without members: what an empty file is.
    fn nothing() -> Self {
        Self {
            place: Place::default(),
            kind: Kind::Map(vec![]),
        }
    }

    /// A JSON value, which has no place.
    pub fn of_json(value: &Value) -> Self {
        let scalar = |text: String, plain| Kind::Scalar { text, plain };
        let kind = match value {
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Kind::List(items.iter().map(Node::of_json).collect()),
            Value::Object(members) => {
                let key = |text: &String| Key {
                    text: text.clone(),
                    place: Place::default(),
                    merged: false,
                };
                let members = members.iter();
                Kind::Map(
                    members
                        .map(|(name, value)| (key(name), Node::of_json(value)))
                        .collect(),
                )
            }
            other => scalar(other.to_string(), true),
        };
        Self {
            place: Place::default(),
            kind,
        }
    }

    /// Takes the members of another mapping: its lists are added to those of the same name, anything else replaces what there was.
    /// They lose their places, which are in another text.
    pub fn include(&mut self, other: Node) {
        let (Kind::Map(members), Kind::Map(others)) = (&mut self.kind, other.kind) else {
            return;
        };
        for (mut key, mut node) in others {
            key.place = Place::default();
            node.forget_places();
            let known = members.iter_mut().find(|(known, _)| known.text == key.text);
            match (known, node.kind) {
                (None, kind) => members.push((key, Node { kind, ..node })),
                (
                    Some((
                        _,
                        Node {
                            kind: Kind::List(items),
                            ..
                        },
                    )),
                    Kind::List(more),
                ) => {
                    items.extend(more);
                }
                (Some((_, known)), kind) => known.kind = kind,
            }
        }
    }

    /// Nothing stands behind this key any more.
    pub fn clear(&mut self, key: &str) {
        if let Kind::Map(members) = &mut self.kind
            && let Some((_, node)) = members.iter_mut().find(|(known, _)| known.text == key)
        {
            node.kind = Kind::Scalar {
                text: String::new(),
                plain: true,
            };
        }
    }

    fn forget_places(&mut self) {
        self.place = Place::default();
        match &mut self.kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter_mut().for_each(Node::forget_places),
            Kind::Map(members) => {
                for (key, node) in members {
                    key.place = Place::default();
                    node.forget_places();
                }
            }
        }
    }

    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let mut members = self.members().iter();
        members
            .find(|(known, _)| known.text == key)
            .map(|(_, node)| node)
    }

    /// The members, where this is a mapping.
    pub fn members(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    /// The items, where this is a list.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// `null` in any of its spellings, and nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// For people: a list, a mapping, nothing, or a value.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
        }
    }
}

/// What is wrong with the text.
#[derive(Debug)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

impl SyntaxError {
    fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }
}

/// Reads the one document of a file, to its very end. An empty file is an empty mapping.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut loader = Loader {
        events: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut document: Option<Node> = None;
    while let Some((event, span)) = loader.next()? {
        match event {
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            Event::DocumentStart(_) if document.is_none() => {}
            Event::DocumentStart(_) => {
                return Err(SyntaxError::new(
                    place(span),
                    "a second document begins: one is expected",
                ));
            }
            event => document = Some(loader.node(event, span, 0)?),
        }
    }
    let document = document.filter(|node| !node.is_null());
    Ok(document.unwrap_or_else(Node::nothing))
}

struct Loader<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    events: I,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Loader<'a, I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        self.events.next().transpose().map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            SyntaxError::new(Place { line, column }, error.info())
        })
    }

    /// The next event that is part of the document.
    fn inner(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        loop {
            match self.next()? {
                Some((Event::Nothing, _)) => {}
                Some(event) => return Ok(event),
                None => {
                    return Err(SyntaxError::new(
                        Place::default(),
                        "the file ends too early",
                    ));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let place = place(span);
        self.count(1, place)?;
        if depth > DEPTH_LIMIT {
            return Err(SyntaxError::new(place, "nested too deeply"));
        }
        let (kind, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                known_tag(tag, place)?;
                let plain = style == ScalarStyle::Plain;
                let text = text.into_owned();
                (Kind::Scalar { text, plain }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag, place)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag, place)?;
                (self.map(depth)?, anchor)
            }
            _ => return Err(SyntaxError::new(place, "a value is expected")),
        };
        let node = Node { place, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            // An alias within its own anchor.
            return Err(SyntaxError::new(place, "an alias of nothing"));
        };
        let (size, node) = (size(node), node.clone());
        self.count(size, place)?;
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.inner()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, SyntaxError> {
        let mut members = Members::default();
        loop {
            let (event, span) = self.inner()?;
            if event == Event::MappingEnd {
                return Ok(Kind::Map(members.list));
            }
            let place = place(span);
            let Kind::Scalar { text, plain } = self.node(event, span, depth + 1)?.kind else {
                return Err(SyntaxError::new(place, "a key must be a text"));
            };
            let (event, span) = self.inner()?;
            let value = self.node(event, span, depth + 1)?;
            if plain && text == "<<" {
                members.merge(value)?;
            } else {
                let merged = false;
                members.insert(
                    Key {
                        text,
                        place,
                        merged,
                    },
                    value,
                )?;
            }
        }
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODE_LIMIT {
            return Err(SyntaxError::new(place, "too many values: aliases multiply"));
        }
        Ok(())
    }
}

/// Tags of programs that read YAML their own way (`!env`, `!include`) would otherwise be passed over in silence.
fn known_tag(tag: Option<Cow<'_, Tag>>, place: Place) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(SyntaxError::new(place, "tags are not supported"))
        }
        _ => Ok(()),
    }
}

/// A mapping's members while it is read.
#[derive(Default)]
struct Members {
    list: Vec<(Key, Node)>,
    at: HashMap<String, usize>,
}

impl Members {
    fn insert(&mut self, key: Key, value: Node) -> Result<(), SyntaxError> {
        let Some(known) = self.at.get(&key.text).and_then(|at| self.list.get_mut(*at)) else {
            self.at.insert(key.text.clone(), self.list.len());
            self.list.push((key, value));
            return Ok(());
        };
        if known.0.merged {
            *known = (key, value);
            return Ok(());
        }
        let message = format!("the key '{}' is there twice", shown(&key.text));
        Err(SyntaxError::new(key.place, message))
    }

    /// `<<`: members of one mapping or of several, unless they are given here or before.
    fn merge(&mut self, value: Node) -> Result<(), SyntaxError> {
        let wrong = |place| SyntaxError::new(place, "'<<' takes a mapping, or a list of mappings");
        let sources = match value.kind {
            Kind::List(list) => list,
            _ => vec![value],
        };
        for source in sources {
            let Kind::Map(members) = source.kind else {
                return Err(wrong(source.place));
            };
            for (mut key, node) in members {
                key.merged = true;
                if !self.at.contains_key(&key.text) {
                    self.insert(key, node)?;
                }
            }
        }
        Ok(())
    }
}

/// A key as it may be shown: one that is no plain word may be a value, even a secret, that lost its space (`api_key:sk-…`).
pub fn shown(key: &str) -> String {
    const LONGEST: usize = 40;
    let word: String = key
        .chars()
        .take(LONGEST)
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        .collect();
    if word.len() == key.len() {
        word
    } else {
        format!("{word}…")
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(members) => 1 + members.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

fn place(span: Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}
