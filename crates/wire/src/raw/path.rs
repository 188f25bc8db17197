//! Places inside a JSON object, and what is set or taken out there: every byte elsewhere stays as it came.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Edit, RawObject, quote};

/// The most names that a path may have.
const DEEPEST: usize = 32;

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

/// The new text; `None`: it stays.
type Changed = Result<Option<String>, Blocked>;

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
        if steps.len() > DEEPEST {
            return Err(format!("it has more than {DEEPEST} names"));
        }
        Ok(Self(steps))
    }

    /// Its names and numbers, outermost first.
    pub fn steps(&self) -> &[String] {
        &self.0
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

impl RawObject {
    /// The object with this change; `None`: it says so already.
    pub fn changed(&self, path: &Path, change: Change<'_>) -> Result<Option<Self>, Blocked> {
        let Some(text) = self.with(&path.0, change)? else {
            return Ok(None);
        };
        Self::parse(text).map(Some).map_err(|_| Blocked)
    }

    fn with(&self, steps: &[String], change: Change<'_>) -> Result<Option<Bytes>, Blocked> {
        let Some((name, deeper)) = steps.split_first() else {
            return Ok(None);
        };
        // Of members that are there more than once, readers believe the last.
        if self
            .members
            .iter()
            .filter(|member| *member.name == **name)
            .count()
            > 1
        {
            return self.without_all_but_last(name).with(steps, change);
        }
        let value = match (self.get(name), change) {
            (None, Change::Remove) | (Some(_), Change::Default(_)) if deeper.is_empty() => None,
            (_, Change::Remove) if deeper.is_empty() => {
                return Ok(Some(self.edit(&[Edit::Remove(name)])));
            }
            (None, change) => nested(deeper, change)?,
            (Some(text), change) => changed(text, deeper, change)?,
        };
        Ok(value.map(|value| self.edit(&[Edit::Set(name, &value)])))
    }

    fn without_all_but_last(&self, name: &str) -> Self {
        let mut members = self.members.clone();
        let last = members.iter().rposition(|member| *member.name == *name);
        let mut at = 0;
        members.retain(|member| {
            at += 1;
            *member.name != *name || Some(at - 1) == last
        });
        let written = members.iter().filter_map(|member| {
            Some(format!(
                "{}:{}",
                quote(&member.name),
                self.text(&member.value)?
            ))
        });
        let text = format!("{{{}}}", written.collect::<Vec<_>>().join(","));
        Self::parse(text.into()).unwrap_or_else(|_| self.clone())
    }
}

/// What stands at a place that there is not yet.
fn nested(steps: &[String], change: Change<'_>) -> Changed {
    let (Change::Default(json) | Change::Override(json)) = change else {
        return Ok(None);
    };
    let inward = steps.iter().rev();
    Ok(Some(inward.fold(json.to_owned(), |inside, name| {
        format!("{{{}:{inside}}}", quote(name))
    })))
}

/// A JSON text with a change inside of it, or in its stead.
fn changed(text: &str, steps: &[String], change: Change<'_>) -> Changed {
    let Some((step, deeper)) = steps.split_first() else {
        return Ok(match change {
            Change::Override(json) if json != text => Some(json.to_owned()),
            _ => None,
        });
    };
    if text.starts_with('{') {
        let object =
            RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).map_err(|_| Blocked)?;
        let text = object.with(steps, change)?;
        return Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()));
    }
    if !text.starts_with('[') {
        return match change {
            Change::Remove => Ok(None),
            _ => Err(Blocked),
        };
    }
    let items = Items::of(text).ok_or(Blocked)?;
    match items.at(step) {
        Some(Place::Item(at)) if deeper.is_empty() => Ok(items.changed(at, change)),
        Some(Place::Item(at)) => {
            let inside = changed(items.get(at), deeper, change)?;
            Ok(inside.map(|inside| items.replaced(at, &inside)))
        }
        Some(Place::Behind) => Ok(nested(deeper, change)?.map(|json| items.longer(&json))),
        None if change == Change::Remove => Ok(None),
        None => Err(Blocked),
    }
}

/// A list as text, with where its items stand.
struct Items<'a> {
    text: &'a str,
    ranges: Vec<Range<usize>>,
}

enum Place {
    Item(usize),
    Behind,
}

impl<'a> Items<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let start = text.as_ptr() as usize;
        let range = |item: &RawValue| {
            // It borrows from the text: its address tells where it stands.
            let at = (item.get().as_ptr() as usize).saturating_sub(start);
            at..at + item.get().len()
        };
        let ranges = items.into_iter().map(range).collect();
        Some(Self { text, ranges })
    }

    fn at(&self, step: &str) -> Option<Place> {
        let length = self.ranges.len();
        match step {
            "-" => Some(Place::Behind),
            "-1" => length.checked_sub(1).map(Place::Item),
            _ => match step.parse::<usize>().ok()? {
                at if at < length => Some(Place::Item(at)),
                at if at == length => Some(Place::Behind),
                _ => None,
            },
        }
    }

    fn get(&self, at: usize) -> &'a str {
        let range = self.ranges.get(at).cloned().unwrap_or_default();
        self.text.get(range).unwrap_or_default()
    }

    fn changed(&self, at: usize, change: Change<'_>) -> Option<String> {
        match change {
            Change::Default(_) => None,
            Change::Override(json) => (json != self.get(at)).then(|| self.replaced(at, json)),
            Change::Remove => Some(self.shorter(at)),
        }
    }

    fn replaced(&self, at: usize, json: &str) -> String {
        self.spliced(self.ranges.get(at).cloned().unwrap_or_default(), json)
    }

    fn longer(&self, json: &str) -> String {
        match self.ranges.last() {
            Some(last) => self.spliced(last.end..last.end, &format!(",{json}")),
            None => format!("[{json}]"),
        }
    }

    /// From the end of the item before, so that its comma goes too; of the first, up to the next.
    fn shorter(&self, at: usize) -> String {
        let end = |at: usize| self.ranges.get(at).map_or(0, |range| range.end);
        let next = self.ranges.get(at + 1).map(|range| range.start);
        let cut = match (at.checked_sub(1), next) {
            (Some(before), _) => end(before)..end(at),
            (None, Some(next)) => self.ranges.first().map_or(0, |range| range.start)..next,
            (None, None) => return "[]".to_owned(),
        };
        self.spliced(cut, "")
    }

    fn spliced(&self, cut: Range<usize>, json: &str) -> String {
        let part = |range: Range<usize>| self.text.get(range).map_or(Cow::default(), Cow::Borrowed);
        [&*part(0..cut.start), json, &*part(cut.end..self.text.len())].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn object(text: &str) -> RawObject {
        RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).expect("an object")
    }

    /// The text after a change; as it was where nothing is done.
    fn after(text: &str, path: &str, change: Change<'_>) -> Result<String, Blocked> {
        let path = Path::parse(path).expect("a path");
        let before = object(text);
        let after = before.changed(&path, change)?.unwrap_or(before);
        Ok(String::from_utf8(after.bytes().to_vec()).expect("text"))
    }

    #[test]
    fn only_what_stands_at_the_place_changes() {
        use Change::{Default, Override, Remove};
        const TEXT: &str = r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#;
        for (path, change, expected) in [
            (
                "a.x",
                Override("2"),
                r#"{ "a" : {"x": 2, "y":[1, {"z": true} ,3]},  "b":null }"#,
            ),
            ("a.x", Default("2"), TEXT),
            ("b", Default("2"), TEXT),
            (
                "c",
                Default(r#"[1]"#),
                r#"{"c":[1], "a" : {"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#,
            ),
            (
                "a.w.v",
                Default("{}"),
                r#"{ "a" : {"w":{"v":{}},"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#,
            ),
            (
                "a.y.1.z",
                Override("false"),
                r#"{ "a" : {"x": 1e5, "y":[1, {"z": false} ,3]},  "b":null }"#,
            ),
            (
                "a.y.-1",
                Override("4"),
                r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,4]},  "b":null }"#,
            ),
            (
                "a.y.-",
                Override("4"),
                r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,3,4]},  "b":null }"#,
            ),
            (
                "a.y.3",
                Default("4"),
                r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,3,4]},  "b":null }"#,
            ),
            (
                "a.y.0",
                Remove,
                r#"{ "a" : {"x": 1e5, "y":[{"z": true} ,3]},  "b":null }"#,
            ),
            (
                "a.y.-1",
                Remove,
                r#"{ "a" : {"x": 1e5, "y":[1, {"z": true}]},  "b":null }"#,
            ),
            ("a.y", Remove, r#"{ "a" : {"x": 1e5},  "b":null }"#),
            ("a.q.r", Remove, TEXT),
            ("b.q", Remove, TEXT),
            ("a.y.9", Remove, TEXT),
        ] {
            assert_eq!(
                after(TEXT, path, change).as_deref(),
                Ok(expected),
                "{path} {change:?}"
            );
        }
        for (path, change) in [
            ("b.c", Override("1")),
            ("a.x.c", Default("1")),
            ("a.y.9", Override("1")),
            ("a.y.q", Override("1")),
        ] {
            assert_eq!(after(TEXT, path, change), Err(Blocked), "{path}");
        }
    }

    #[test]
    fn names_may_have_dots_and_quotes() {
        let text = after("{}", r#"a\.b.c"d"#, Change::Override("1"));
        assert_eq!(text.as_deref(), Ok(r#"{"a.b":{"c\"d":1}}"#));
        for path in ["", ".", "a..b", "a.", r"a\b", r"a\"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
        let path = Path::parse(r"a\.b.\\.0").expect("a path");
        assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }

    #[test]
    fn a_member_that_is_there_twice_hides_nothing() {
        let text = after(r#"{"a":1,"b":2,"a":3}"#, "a", Change::Override("9"));
        assert_eq!(text.as_deref(), Ok(r#"{"b":2,"a":9}"#));
        let text = after(r#"{"a":{"x":1},"a":{"x":2}}"#, "a.x", Change::Remove);
        assert_eq!(text.as_deref(), Ok(r#"{"a":{}}"#));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c]", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// The same, done to a tree.
    fn model(value: &mut Value, steps: &[String], change: Change<'_>) -> Result<(), Blocked> {
        let json = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
        let Some((step, deeper)) = steps.split_first() else {
            if let Change::Override(text) = change {
                *value = json(text);
            }
            return Ok(());
        };
        let (Change::Default(text) | Change::Override(text)) = change else {
            match value {
                Value::Object(members) if deeper.is_empty() => {
                    members.shift_remove(step);
                }
                Value::Array(items) if deeper.is_empty() => {
                    let at = if step == "-1" {
                        items.len().checked_sub(1)
                    } else {
                        step.parse().ok()
                    };
                    if let Some(at) = at.filter(|at| *at < items.len()) {
                        items.remove(at);
                    }
                }
                Value::Object(members) => {
                    if let Some(inside) = members.get_mut(step) {
                        model(inside, deeper, change)?;
                    }
                }
                Value::Array(items) => {
                    let at = if step == "-1" {
                        items.len().checked_sub(1)
                    } else {
                        step.parse().ok()
                    };
                    if let Some(inside) = at.and_then(|at| items.get_mut(at)) {
                        model(inside, deeper, change)?;
                    }
                }
                _ => {}
            }
            return Ok(());
        };
        let fresh = || {
            deeper
                .iter()
                .rev()
                .fold(json(text), |inside, name| json!({ name: inside }))
        };
        match value {
            Value::Object(members) => match members.get_mut(step) {
                Some(_) if deeper.is_empty() && matches!(change, Change::Default(_)) => Ok(()),
                Some(inside) => model(inside, deeper, change),
                None => {
                    members.insert(step.clone(), fresh());
                    Ok(())
                }
            },
            Value::Array(items) => {
                let length = items.len();
                let at = match step.as_str() {
                    "-" => Some(length),
                    "-1" => length.checked_sub(1),
                    text => text.parse().ok(),
                };
                match at {
                    Some(at) if at < length => match items.get_mut(at) {
                        Some(_) if deeper.is_empty() && matches!(change, Change::Default(_)) => {
                            Ok(())
                        }
                        Some(inside) => model(inside, deeper, change),
                        None => Err(Blocked),
                    },
                    Some(at) if at == length => {
                        items.push(fresh());
                        Ok(())
                    }
                    _ => Err(Blocked),
                }
            }
            _ => Err(Blocked),
        }
    }

    proptest! {
        #[test]
        fn texts_change_as_trees_do(
            members in prop::collection::vec(("[a-c]", any_json()), 0..4),
            steps in prop::collection::vec("[a-c]|[0-3]|-|-1", 1..5),
            value in any_json(),
            kind in 0..3,
            spaced in any::<bool>(),
        ) {
            let tree = Value::Object(members.into_iter().collect());
            let text = if spaced { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) };
            let value = value.to_string();
            let change = match kind {
                0 => Change::Default(&value),
                1 => Change::Override(&value),
                _ => Change::Remove,
            };
            let mut expected = tree.clone();
            let result = model(&mut expected, &steps, change);
            let path = Path(steps);
            let changed = object(&text.expect("text")).changed(&path, change);
            match (changed, result) {
                (Ok(Some(object)), Ok(())) => {
                    let after: Value = serde_json::from_slice(object.bytes()).expect("JSON");
                    prop_assert_eq!(&after, &expected);
                    let again = object.changed(&path, change);
                    if kind == 0 || (kind == 1 && !path.0.iter().any(|step| step == "-")) {
                        let again = again.expect("as before").map_or(after.clone(), |again| {
                            serde_json::from_slice(again.bytes()).expect("JSON")
                        });
                        let is_longer = path.0.iter().any(|step| step.parse::<usize>().is_ok() || step == "-");
                        prop_assert!(is_longer || again == after);
                    }
                }
                (Ok(None), Ok(())) => prop_assert_eq!(tree, expected),
                (Err(Blocked), Err(Blocked)) => {}
                (changed, result) => prop_assert!(false, "{changed:?} {result:?}"),
            }
        }
    }
}
