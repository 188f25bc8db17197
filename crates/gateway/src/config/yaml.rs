//! YAML text → nodes that know their line and column. Scalars keep their text: types are the reader's business.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

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
}

/// What is wrong with the text.
#[derive(Debug)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

/// Reads one document. An empty file is an empty mapping.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut loader = Loader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loop {
        match loader.next()? {
            Some((Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _)) => {}
            Some((Event::StreamEnd, _)) | None => {
                return Ok(Node {
                    place: Place::default(),
                    kind: Kind::Map(vec![]),
                });
            }
            Some((event, span)) => return loader.node(event, span, 0),
        }
    }
}

struct Loader<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    events: I,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Loader<'a, I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        self.events.next().transpose().map_err(|error| SyntaxError {
            place: Place {
                line: error.marker().line(),
                column: error.marker().col() + 1,
            },
            message: error.info().to_owned(),
        })
    }

    /// The next event that is part of the document.
    fn inner(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        loop {
            match self.next()? {
                Some((Event::Nothing, _)) => {}
                Some(event) => return Ok(event),
                None => {
                    return Err(SyntaxError {
                        place: Place::default(),
                        message: "the file ends too early".to_owned(),
                    });
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let place = place(span);
        self.count(1, place)?;
        if depth > DEPTH_LIMIT {
            return Err(SyntaxError {
                place,
                message: "nested too deeply".to_owned(),
            });
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (
                Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                },
                anchor,
            ),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| SyntaxError {
                    place,
                    message: "an alias of nothing".to_owned(),
                })?;
                self.count(size(&node), place)?;
                return Ok(node);
            }
            _ => {
                return Err(SyntaxError {
                    place,
                    message: "one document is expected".to_owned(),
                });
            }
        };
        let node = Node { place, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
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
        let mut members: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.inner()?;
            if event == Event::MappingEnd {
                return Ok(Kind::Map(members));
            }
            let place = place(span);
            let Kind::Scalar { text, .. } = self.node(event, span, depth + 1)?.kind else {
                return Err(SyntaxError {
                    place,
                    message: "a key must be a text".to_owned(),
                });
            };
            let (event, span) = self.inner()?;
            let value = self.node(event, span, depth + 1)?;
            if text == "<<" {
                merge(&mut members, value);
                continue;
            }
            if members
                .iter()
                .any(|(key, _)| key.text == text && key.place != Place::default())
            {
                return Err(SyntaxError {
                    place,
                    message: format!("the key '{text}' is there twice"),
                });
            }
            members.retain(|(key, _)| key.text != text);
            members.push((Key { text, place }, value));
        }
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), SyntaxError> {
        self.nodes += more;
        if self.nodes > NODE_LIMIT {
            return Err(SyntaxError {
                place,
                message: "too many values: aliases multiply".to_owned(),
            });
        }
        Ok(())
    }
}

/// `<<`: members of another mapping, unless they are given here. Their place is none, which marks them as replaceable.
fn merge(members: &mut Vec<(Key, Node)>, value: Node) {
    let sources = match value.kind {
        Kind::Map(source) => vec![source],
        Kind::List(list) => list
            .into_iter()
            .filter_map(|node| {
                if let Kind::Map(source) = node.kind {
                    Some(source)
                } else {
                    None
                }
            })
            .collect(),
        Kind::Scalar { .. } => vec![],
    };
    for (key, node) in sources.into_iter().flatten() {
        if !members.iter().any(|(known, _)| known.text == key.text) {
            members.push((
                Key {
                    text: key.text,
                    place: Place::default(),
                },
                node,
            ));
        }
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
