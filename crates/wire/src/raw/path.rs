//! Places inside a JSON object, and what is set or taken out there: every byte elsewhere stays as it came.
//!
//! Of a body only what is on the way to a place is taken apart, level by level and once, however many changes there are; it is put
//! together again once.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde_json::value::RawValue;

use super::{Members, quote};

/// The most names that a path may have, and digits a number.
const DEEPEST: usize = 32;
const LONGEST_NUMBER: usize = 9;

/// A place: names of members and numbers of list items, outermost first. `-1` is a list's last item, `-` the place behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<String>);

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// This JSON text stands there, unless something does: `null` is something.
    Default(&'a str),
    /// This JSON text stands there, whatever did.
    Override(&'a str),
    /// Nothing stands there.
    Remove,
}

/// The way to the place leads through something that has no members or items, or through an item that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked;

/// How the names of members are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As they are.
    Exact,
    /// As Google takes its own: `max_output_tokens` is `maxOutputTokens`. Names of other people inside of them are exact.
    Google,
}

/// Members of Google's inside of which names are other people's.
const FREE: [&str; 6] = [
    "args",
    "labels",
    "parametersJsonSchema",
    "properties",
    "response",
    "responseJsonSchema",
];

fn is_free(step: &str) -> bool {
    FREE.iter().any(|free| is_alike(free, step))
}

impl Path {
    /// Reads `a.b.0.c`; a dot that is part of a name is `\.`, and a backslash `\\`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut steps, mut step) = (Vec::new(), String::new());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '.' => steps.push(std::mem::take(&mut step)),
                '\\' => match letters.next() {
                    Some(escaped @ ('.' | '\\')) => step.push(escaped),
                    _ => return Err(r"'\' stands before '.' or '\' only".to_owned()),
                },
                letter => step.push(letter),
            }
        }
        steps.push(step);
        if steps.iter().any(String::is_empty) {
            return Err("a name between its dots is empty".to_owned());
        }
        if let Some(why) = foreign(&steps) {
            return Err(why.to_owned());
        }
        if steps.len() > DEEPEST {
            return Err(format!("it has more than {DEEPEST} names"));
        }
        Ok(Self(steps))
    }

    /// Whether it leads behind a list's last item, where nothing ever is.
    pub fn is_of_what_is_not_yet(&self) -> bool {
        self.0.iter().any(|step| step == BEHIND)
    }

    /// Its names and numbers, outermost first.
    pub fn steps(&self) -> &[String] {
        &self.0
    }
}

/// Why these are surely meant in another language of paths, and would never lead anywhere.
fn foreign(steps: &[String]) -> Option<&'static str> {
    let is_query = |step: &String| step == "*" || step.starts_with('#');
    let is_bracket = |step: &String| step.contains('[') && step.ends_with(']');
    let is_huge = |step: &String| is_number(step) && step != LAST && step.len() > LONGEST_NUMBER;
    let first = steps.first()?;
    if first == "$" || first.starts_with('/') {
        Some("it begins with a name: neither with '$' nor with '/'")
    } else if is_number(first) || first == BEHIND {
        Some("it begins with a member's name: a body is no list")
    } else if steps.iter().any(is_query) {
        Some("there are no wildcards: an item is a number, '-1' or '-'")
    } else if steps.iter().any(is_bracket) {
        Some("an item has a dot before its number, and no brackets: a.0")
    } else if steps.iter().any(is_huge) {
        Some("no list is so long")
    } else {
        None
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = self
            .0
            .iter()
            .map(|step| step.replace('\\', r"\\").replace('.', r"\."));
        f.write_str(&escaped.collect::<Vec<_>>().join("."))
    }
}

/// A JSON object that is changed in places.
#[derive(Debug)]
pub struct Document<'a> {
    root: Node<'a>,
    spelling: Spelling,
}

/// A value.
#[derive(Debug)]
enum Node<'a> {
    /// As it stands.
    Text(&'a str),
    /// Taken apart.
    Open(Open<'a>),
}

/// An object or a list, its parts with all that stands between them.
#[derive(Debug)]
struct Open<'a> {
    is_list: bool,
    /// Up to and with the bracket.
    begin: &'a str,
    children: Vec<Child<'a>>,
    /// From the closing bracket on; where there are no children, all behind the first.
    end: &'a str,
}

/// A member or an item.
#[derive(Debug)]
struct Child<'a> {
    /// Empty where it is an item.
    name: Cow<'a, str>,
    /// What stands between bracket or comma and the value: blanks, and of a member its name.
    before: Cow<'a, str>,
    node: Node<'a>,
    /// Blanks before the next comma or bracket.
    after: &'a str,
    /// So many items it is: those that nothing is done to stand together, as they came.
    count: usize,
}

/// An item of a list's inside.
struct Item {
    value: Range<usize>,
    /// Behind it and its blanks: at a comma or at the end.
    end: usize,
    /// Where the next begins.
    next: Option<usize>,
}

impl Item {
    /// The one that begins here, behind blanks; `None`: there is none.
    fn at(text: &str, from: usize) -> Option<Self> {
        let rest = text.get(from..)?;
        let start = from + rest.len() - rest.trim_start().len();
        let mut values = serde_json::Deserializer::from_str(text.get(start..)?).into_iter();
        let value: &RawValue = values.next()?.ok()?;
        let value = start..start + value.get().len();
        let behind = text.get(value.end..)?;
        let end = value.end + behind.len() - behind.trim_start().len();
        let next = text.get(end..)?.starts_with(',').then_some(end + 1);
        Some(Self { value, end, next })
    }
}

/// Where a step leads.
enum Found {
    /// To this one.
    At(usize),
    /// To where nothing is yet.
    Nothing,
    /// Nowhere.
    Nowhere,
}

impl<'a> Document<'a> {
    /// Of this text; `None` where it is no JSON object.
    pub fn read(text: &'a str, spelling: Spelling) -> Option<Self> {
        let root = Open::of(text).filter(|open| !open.is_list)?;
        Some(Self {
            root: Node::Open(root),
            spelling,
        })
    }

    /// Changes what stands at a place below these members; whether that makes a difference.
    pub fn change(
        &mut self,
        below: &[&str],
        path: &Path,
        change: Change<'a>,
    ) -> Result<bool, Blocked> {
        let path = path.0.iter().map(String::as_str);
        let steps: Vec<&str> = below.iter().copied().chain(path).collect();
        let is_googles = self.spelling == Spelling::Google;
        self.root.change(&steps, change, is_googles)
    }

    /// The text with all changes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.root.write(&mut out);
        out
    }
}

impl<'a> Node<'a> {
    fn change(
        &mut self,
        steps: &[&str],
        change: Change<'a>,
        is_googles: bool,
    ) -> Result<bool, Blocked> {
        let Some((step, deeper)) = steps.split_first() else {
            return Ok(match change {
                Change::Override(json) if !self.is(json) => {
                    *self = Node::Text(json);
                    true
                }
                _ => false,
            });
        };
        let blocked = || match change {
            Change::Remove => Ok(false),
            _ => Err(Blocked),
        };
        let Some(open) = self.open() else {
            return blocked();
        };
        let before = open.children.len();
        let found = open.find(step, is_googles);
        // Members that were there twice are there once now.
        let is_mended = !open.is_list && open.children.len() < before;
        let changed = match (found, change) {
            (Found::At(at), Change::Remove) if deeper.is_empty() => {
                open.children.remove(at);
                Ok(true)
            }
            (Found::At(at), _) => {
                let child = open.children.get_mut(at).ok_or(Blocked)?;
                child
                    .node
                    .change(deeper, change, is_googles && !is_free(step))
            }
            (Found::Nothing, Change::Default(json) | Change::Override(json)) => {
                open.add(step, Node::nested(step, deeper, json)?);
                Ok(true)
            }
            (Found::Nothing | Found::Nowhere, _) => blocked(),
        };
        changed.map(|changed| changed || is_mended)
    }

    fn is(&self, json: &str) -> bool {
        matches!(self, Node::Text(text) if *text == json)
    }

    /// Takes it apart, where it has parts.
    fn open(&mut self) -> Option<&mut Open<'a>> {
        if let Node::Text(text) = self {
            *self = Node::Open(Open::of(text)?);
        }
        match self {
            Node::Open(open) => Some(open),
            Node::Text(_) => None,
        }
    }

    /// What stands at a place that there is not yet, under this member. `Err`: it is inside of an item, and there are none.
    fn nested(under: &str, steps: &[&str], json: &'a str) -> Result<Self, Blocked> {
        let Some((step, deeper)) = steps.split_first() else {
            return Ok(Node::Text(json));
        };
        if is_number(step) && under != NUMBERED {
            return Err(Blocked);
        }
        let is_list = *step == BEHIND;
        let (begin, end) = if is_list { ("[", "]") } else { ("{", "}") };
        let mut open = Open {
            is_list,
            begin,
            children: Vec::new(),
            end,
        };
        open.add(step, Node::nested(step, deeper, json)?);
        Ok(Node::Open(open))
    }

    fn write(&self, out: &mut String) {
        let open = match self {
            Node::Text(text) => return out.push_str(text),
            Node::Open(open) => open,
        };
        out.push_str(open.begin);
        for (at, child) in open.children.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&child.before);
            child.node.write(out);
            out.push_str(child.after);
        }
        out.push_str(open.end);
    }
}

/// The place behind a list's last item, and that item.
const BEHIND: &str = "-";
const LAST: &str = "-1";

/// Where names are numbers: of tokens.
const NUMBERED: &str = "logit_bias";

/// Whether it says which item of a list.
fn is_number(step: &str) -> bool {
    step == LAST || step.bytes().all(|byte| byte.is_ascii_digit())
}

impl<'a> Open<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let begin = text.find(['{', '['])?;
        match text.get(begin..)?.starts_with('[') {
            true => Self::list(text, begin),
            false => Self::object(text, begin),
        }
    }

    fn object(text: &'a str, begin: usize) -> Option<Self> {
        let members: Members<'a> = serde_json::from_str(text).ok()?;
        let mut children = Vec::with_capacity(members.0.len() + 1);
        let mut from = begin + 1;
        let mut end = text.get(from..)?;
        for (name, value) in members.0 {
            // It borrows from the text: its address tells where it stands.
            let start = (value.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            let behind = text.get(start + value.get().len()..)?;
            let rest = behind.trim_start();
            let blanks = behind.len() - rest.len();
            children.push(Child {
                name,
                before: text.get(from..start)?.into(),
                node: Node::Text(value.get()),
                after: behind.get(..blanks)?,
                count: 1,
            });
            from = text.len() - rest.len() + 1;
            end = rest;
        }
        Some(Self {
            is_list: false,
            begin: text.get(..=begin)?,
            children,
            end,
        })
    }

    /// Items are looked at one by one, and kept together.
    fn list(text: &'a str, begin: usize) -> Option<Self> {
        let inside = text.get(begin + 1..)?;
        let (mut count, mut end, mut next) = (0, 0, Some(0));
        while let Some(item) = next.and_then(|from| Item::at(inside, from)) {
            count += 1;
            (end, next) = (item.end, item.next);
        }
        let run = Child {
            name: Cow::default(),
            before: Cow::default(),
            node: Node::Text(inside.get(..end)?),
            after: "",
            count,
        };
        Some(Self {
            is_list: true,
            begin: text.get(..=begin)?,
            children: if count > 0 { vec![run] } else { Vec::new() },
            end: inside.get(end..)?,
        })
    }

    /// Where the item of this number stands, for itself.
    fn item(&mut self, number: usize) -> Option<usize> {
        let mut before = 0;
        let at = self.children.iter().position(|child| {
            before += child.count;
            before > number
        })?;
        let run = self.children.get(at)?;
        if run.count == 1 {
            return Some(at);
        }
        let skipped = number + run.count - before;
        let Node::Text(text) = run.node else {
            return None;
        };
        let (mut from, mut comma) = (0, 0);
        for _ in 0..skipped {
            let item = Item::at(text, from)?;
            (comma, from) = (item.end, item.next?);
        }
        let item = Item::at(text, from)?;
        let piece = |text: &'a str, count| Child {
            name: Cow::default(),
            before: Cow::default(),
            node: Node::Text(text),
            after: "",
            count,
        };
        let one = Child {
            before: text.get(from..item.value.start)?.into(),
            node: Node::Text(text.get(item.value.clone())?),
            after: text.get(item.value.end..item.end)?,
            ..piece("", 1)
        };
        let first = (skipped > 0).then(|| text.get(..comma)).flatten();
        let first = first.map(|text| piece(text, skipped));
        let rest = item.next.and_then(|next| text.get(next..));
        let rest = rest.map(|rest| piece(rest, run.count - skipped - 1));
        let here = at + usize::from(first.is_some());
        let pieces = first.into_iter().chain([one]).chain(rest);
        self.children.splice(at..=at, pieces);
        Some(here)
    }

    fn find(&mut self, step: &str, is_googles: bool) -> Found {
        if !self.is_list {
            if step == BEHIND {
                return Found::Nowhere;
            }
            let at = self.only(|name| name == step || (is_googles && is_alike(name, step)));
            return at.map_or(Found::Nothing, Found::At);
        }
        let length: usize = self.children.iter().map(|child| child.count).sum();
        let number = match step {
            BEHIND => return Found::Nothing,
            LAST => length.checked_sub(1),
            _ => Some(step)
                .filter(|step| *step == "0" || !step.starts_with(['0', '+']))
                .and_then(|step| step.parse().ok()),
        };
        let item = number.and_then(|number| self.item(number));
        item.map_or(Found::Nowhere, Found::At)
    }

    /// The member of this name. Of several readers believe the last: the others go.
    fn only(&mut self, is: impl Fn(&str) -> bool) -> Option<usize> {
        let last = self.children.iter().rposition(|child| is(&child.name))?;
        let first = self.children.iter().position(|child| is(&child.name))?;
        if first == last {
            return Some(last);
        }
        let mut at = 0;
        self.children.retain(|child| {
            at += 1;
            at > last || !is(&child.name)
        });
        self.children.iter().position(|child| is(&child.name))
    }

    /// A member goes first, an item last.
    fn add(&mut self, step: &str, node: Node<'a>) {
        let mut child = Child {
            name: Cow::default(),
            before: Cow::default(),
            node,
            after: "",
            count: 1,
        };
        if self.is_list {
            self.children.push(child);
        } else {
            child.before = format!("{}:", quote(step)).into();
            child.name = step.to_owned().into();
            self.children.insert(0, child);
        }
        // Where there was nothing, only blanks stood here.
        self.end = self.end.trim_start();
    }
}

/// Whether a member is the same to Google.
fn is_alike(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        let letters = name.bytes().filter(|byte| *byte != b'_');
        letters
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<u8>>()
    };
    one.len().abs_diff(other.len()) < 16 && plain(one) == plain(other)
}

#[cfg(test)]
mod tests;
