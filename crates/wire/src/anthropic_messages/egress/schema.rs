//! JSON schemas as Anthropic's structured output takes them: every object closed, no bounds, nothing that refers to itself.

mod refs;

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Bounds that Anthropic's grammar cannot hold; without them the answer is merely less bound.
const BOUNDS: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "contains",
    "minContains",
    "maxContains",
];

/// What it refuses and no other words say: without them the answer could be what the client forbade.
const REFUSED: [&str; 14] = [
    "not",
    "if",
    "then",
    "else",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
    "$dynamicRef",
    "$recursiveRef",
];

/// The formats that it knows.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
];

/// What its patterns cannot say: looking around, word boundaries, what a group matched.
const ODD_PATTERNS: [&str; 9] = [
    "(?=", "(?!", "(?<", "\\b", "\\B", "\\1", "\\2", "\\3", "\\k",
];

/// A schema that can be sent.
#[derive(Debug)]
pub(crate) struct Fitted<'a> {
    /// Its JSON, the client's own bytes where nothing had to change.
    pub json: Cow<'a, RawValue>,
    /// Bounds were left out.
    pub is_loosened: bool,
}

/// Fits a schema; `None` where it asks for what Anthropic cannot promise: objects with members that nobody named,
/// schemas without end, exceptions.
pub(crate) fn fit(schema: &RawValue) -> Option<Fitted<'_>> {
    let mut tree: Value = serde_json::from_str(schema.get()).ok()?;
    if !refs::all_end(&tree) {
        return None;
    }
    let mut change = Change::default();
    change.node(&mut tree)?;
    let json = if change.tightened || change.loosened {
        let text = serde_json::to_string(&tree).ok()?;
        Cow::Owned(RawValue::from_string(text).ok()?)
    } else {
        Cow::Borrowed(schema)
    };
    Some(Fitted {
        json,
        is_loosened: change.loosened,
    })
}

/// Whether a schema can be sent as it is.
pub(crate) fn is_strict(schema: &RawValue) -> bool {
    fit(schema).is_some_and(|fitted| matches!(fitted.json, Cow::Borrowed(_)))
}

#[derive(Default)]
struct Change {
    tightened: bool,
    loosened: bool,
}

impl Change {
    fn node(&mut self, node: &mut Value) -> Option<()> {
        match node {
            Value::Object(object) => self.object(object),
            Value::Array(nodes) => nodes.iter_mut().try_for_each(|node| self.node(node)),
            // `true` as a schema allows anything.
            Value::Bool(_) => None,
            _ => Some(()),
        }
    }

    fn object(&mut self, object: &mut Map<String, Value>) -> Option<()> {
        if REFUSED.iter().any(|word| object.contains_key(*word)) || has_odd_values(object) {
            return None;
        }
        self.any_of(object)?;
        self.loosen(object);
        if is_object(object) {
            self.close(object)?;
        }
        for name in ["properties", "$defs", "definitions"] {
            if let Some(Value::Object(members)) = object.get_mut(name) {
                members
                    .values_mut()
                    .try_for_each(|member| self.node(member))?;
            }
        }
        for name in ["items", "prefixItems", "anyOf", "allOf"] {
            if let Some(member) = object.get_mut(name) {
                self.node(member)?;
            }
        }
        Some(())
    }

    /// One of several is at least any of them.
    fn any_of(&mut self, object: &mut Map<String, Value>) -> Option<()> {
        let Some(several) = object.shift_remove("oneOf") else {
            return Some(());
        };
        self.loosened = true;
        let before = object.insert("anyOf".to_owned(), several);
        before.is_none().then_some(())
    }

    fn loosen(&mut self, object: &mut Map<String, Value>) {
        for bound in BOUNDS {
            self.loosened |= object.shift_remove(bound).is_some();
        }
        let said = |name: &str| object.get(name).and_then(Value::as_str);
        let is_odd_format = said("format").is_some_and(|name| !FORMATS.contains(&name));
        let is_odd_pattern = said("pattern")
            .is_some_and(|pattern| ODD_PATTERNS.iter().any(|odd| pattern.contains(odd)));
        for (name, is_odd) in [("format", is_odd_format), ("pattern", is_odd_pattern)] {
            if is_odd {
                object.shift_remove(name);
                self.loosened = true;
            }
        }
        if object
            .get("minItems")
            .and_then(Value::as_u64)
            .is_some_and(|least| least > 1)
        {
            object.insert("minItems".to_owned(), Value::from(1));
            self.loosened = true;
        }
    }

    /// An answer that keeps to the closed schema keeps to the open one too, so that closing loses nothing.
    fn close(&mut self, object: &mut Map<String, Value>) -> Option<()> {
        match object.get("additionalProperties") {
            Some(Value::Bool(false)) => Some(()),
            None if object.get("properties").is_some_and(Value::is_object) => {
                object.insert("additionalProperties".to_owned(), Value::Bool(false));
                self.tightened = true;
                Some(())
            }
            _ => None,
        }
    }
}

/// Values that are made of others, and references within `allOf`, are refused too.
fn has_odd_values(object: &Map<String, Value>) -> bool {
    let list = |name: &str| object.get(name).and_then(Value::as_array);
    let mut values = list("enum").into_iter().flatten();
    let mut all_of = list("allOf").into_iter().flatten();
    values.any(|value| value.is_object() || value.is_array())
        || all_of.any(|node| node.get("$ref").is_some())
}

fn is_object(object: &Map<String, Value>) -> bool {
    match object.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => object.contains_key("properties"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(text: &str) -> Option<(String, bool)> {
        let raw = RawValue::from_string(text.to_owned()).expect("JSON");
        fit(&raw).map(|fitted| (fitted.json.get().to_owned(), fitted.is_loosened))
    }

    #[test]
    fn a_strict_schema_keeps_its_bytes() {
        let strict = r#"{ "type":"object", "properties":{"n":{"type":"number"}}, "additionalProperties":false }"#;
        assert_eq!(fitted(strict), Some((strict.to_owned(), false)));
    }

    #[test]
    fn open_objects_are_closed_and_bounds_taken_out() {
        let open = r#"{"type":"object","properties":{"n":{"type":"number","minimum":1}}}"#;
        let closed = r#"{"type":"object","properties":{"n":{"type":"number"}},"additionalProperties":false}"#;
        assert_eq!(fitted(open), Some((closed.to_owned(), true)));
    }

    #[test]
    fn maps_and_anything_cannot_be_promised() {
        for text in [
            r#"{"type":"object"}"#,
            r#"{"type":"object","properties":{},"additionalProperties":{"type":"string"}}"#,
            r#"{"type":"array","items":true}"#,
        ] {
            assert_eq!(fitted(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_grammar_refuses_is_not_promised() {
        let object = |name: &str, rest: &str| {
            format!(
                r#"{{"type":"object","properties":{{"{name}":{rest}}},"additionalProperties":false}}"#
            )
        };
        for part in [
            r#"{"not":{"type":"string"}}"#,
            r#"{"if":{"const":1},"then":{"type":"number"},"else":{"type":"string"}}"#,
            r#"{"type":"string","enum":["a",{"b":1}]}"#,
            r##"{"allOf":[{"$ref":"#/$defs/a"}]}"##,
            r#"{"oneOf":[{"type":"null"}],"anyOf":[{"type":"null"}]}"#,
            r##"{"$ref":"#"}"##,
        ] {
            assert_eq!(fitted(&object("n", part)), None, "{part}");
        }
        assert_eq!(
            fitted(&object(
                "n",
                r#"{"oneOf":[{"type":"null"},{"type":"string","format":"regex","pattern":"a(?=b)"}]}"#
            )),
            Some((
                object("n", r#"{"anyOf":[{"type":"null"},{"type":"string"}]}"#),
                true
            ))
        );
        // Names of members are no keywords.
        let named = object(
            "not",
            r#"{"type":"string","format":"date","pattern":"^a+$"}"#,
        );
        assert_eq!(fitted(&named), Some((named.clone(), false)));
    }

    #[test]
    fn a_property_may_be_called_like_a_keyword() {
        let text = r#"{"type":"object","properties":{"minimum":{"type":"number"},"properties":{"type":"string"}},"additionalProperties":false}"#;
        assert_eq!(fitted(text), Some((text.to_owned(), false)));
    }
}
