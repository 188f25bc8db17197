//! Arguments of a call that come piece by piece, each with its path: put together to the object they make.

use serde_json::{Map, Value};

use super::super::types::PartialArg;

/// Deeper paths are nobody's arguments.
const MOST_STEPS: usize = 64;

/// The object so far.
#[derive(Debug)]
pub(crate) struct Pieces(Value);

impl Pieces {
    /// Starts with what came whole.
    pub(crate) fn new(whole: Option<&str>) -> Self {
        let whole = whole.and_then(|text| serde_json::from_str(text).ok());
        let object = whole.filter(Value::is_object);
        Self(object.unwrap_or_else(|| Value::Object(Map::new())))
    }

    /// Adds a piece; text continues text that stands there.
    pub(crate) fn add(&mut self, piece: &PartialArg<'_>) {
        let steps: Vec<Step<'_>> = steps(piece.json_path.as_deref().unwrap_or_default()).collect();
        if steps.is_empty() || steps.len() > MOST_STEPS {
            return;
        }
        let place = steps.into_iter().fold(&mut self.0, walk);
        match (&piece.string_value, &piece.number_value, piece.bool_value) {
            (Some(text), ..) => match place {
                Value::String(known) => known.push_str(text),
                _ => *place = Value::from(&**text),
            },
            (None, Some(number), _) => *place = Value::Number(number.clone()),
            (None, None, Some(truth)) => *place = Value::Bool(truth),
            (None, None, None) => {}
        }
    }

    /// The object as JSON text.
    pub(crate) fn finish(self) -> String {
        self.0.to_string()
    }
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

/// `$.a.b[0]['c']` → a, b, 0, c.
fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    std::iter::from_fn(move || {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            rest = after;
            let name = step.trim_matches(['\'', '"']);
            return Some(step.parse().map_or(Step::Member(name), Step::Item));
        }
        let inner = rest.strip_prefix('.').unwrap_or(rest);
        let end = inner.find(['.', '[']).unwrap_or(inner.len());
        let (name, after) = inner.split_at_checked(end)?;
        rest = after;
        (!name.is_empty()).then_some(Step::Member(name))
    })
}

/// One step down; what is not there yet is made. A list grows by one item at most, whatever index is asked for.
fn walk<'a>(place: &'a mut Value, step: Step<'_>) -> &'a mut Value {
    match step {
        Step::Member(name) => {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            &mut place[name]
        }
        Step::Item(index) => {
            if !place.is_array() {
                *place = Value::Array(vec![]);
            }
            grown(place, index)
        }
    }
}

fn grown(place: &mut Value, index: usize) -> &mut Value {
    let length = place.as_array().map_or(0, Vec::len);
    let index = index.min(length);
    if let Value::Array(items) = place
        && index == length
    {
        items.push(Value::Null);
    }
    // In bounds: the list has been grown to hold it.
    &mut place[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_an_object() {
        let mut pieces = Pieces::new(None);
        for piece in [
            r#"{"jsonPath":"$.r.list[0].name","stringValue":"16","willContinue":true}"#,
            r#"{"jsonPath":"$.r.list[0].name","stringValue":" oz"}"#,
            r#"{"jsonPath":"$.r.list[1]['n.n']","numberValue":0.5}"#,
            r#"{"jsonPath":"$.ok","boolValue":true}"#,
            r#"{"jsonPath":"$.none","nullValue":"NULL_VALUE"}"#,
            r#"{"jsonPath":"$","stringValue":"x"}"#,
            r#"{"jsonPath":"$.far[99999999]","numberValue":1}"#,
        ] {
            pieces.add(&serde_json::from_str(piece).expect("a piece"));
        }
        let expected =
            r#"{"r":{"list":[{"name":"16 oz"},{"n.n":0.5}]},"ok":true,"none":null,"far":[1]}"#;
        assert_eq!(pieces.finish(), expected);
    }
}
