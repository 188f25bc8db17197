//! JSON → YAML for people: block style, short lists of words in one line, quotes where a reader could take a text for something else.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The longest list that stands in one line.
const LINE: usize = 100;

/// A mapping as YAML.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => map(&mut out, members, 0, false),
        other => {
            out.push_str(&inline(other, false));
            out.push('\n');
        }
    }
    out
}

/// The members of a mapping, a line each; the first one goes on in the line that is begun where it stands in a list.
fn map(out: &mut String, members: &Map<String, Value>, depth: usize, is_begun: bool) {
    for (at, (name, value)) in members.iter().enumerate() {
        if depth == 0 && at > 0 && is_long(value) {
            out.push('\n');
        }
        if at > 0 || !is_begun {
            indent(out, depth);
        }
        let _ = write!(out, "{}:", word(name, false));
        below(out, value, depth);
    }
}

/// A value behind a key.
fn below(out: &mut String, value: &Value, depth: usize) {
    if !is_long(value) {
        let _ = writeln!(out, " {}", inline(value, false));
        return;
    }
    out.push('\n');
    match value {
        Value::Object(members) => map(out, members, depth + 1, false),
        Value::Array(items) => list(out, items, depth + 1),
        _ => {}
    }
}

fn list(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(members) if !members.is_empty() => map(out, members, depth + 1, true),
            Value::Array(nested) if is_long(item) => {
                out.push('\n');
                list(out, nested, depth + 1);
            }
            other => {
                let _ = writeln!(out, "{}", inline(other, false));
            }
        }
    }
}

/// Whether a value takes lines of its own.
fn is_long(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => {
            items.iter().any(|item| item.is_object() || item.is_array())
                || inline(value, true).len() > LINE
        }
        _ => false,
    }
}

fn inline(value: &Value, is_in_list: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => word(text, is_in_list),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| inline(item, true)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}: {}", word(name, true), inline(value, true)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text, without quotes where everyone reads it as that text.
fn word(text: &str, is_in_list: bool) -> String {
    let begins =
        text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$' | '/'));
    let is_fine = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '-' | '.' | '/' | '$' | '+' | '@')
            || (!is_in_list && matches!(c, '{' | '}'))
    };
    let mut rest = text.chars().peekable();
    let mut is_plain = begins && !is_other_thing(text);
    while let Some(c) = rest.next() {
        // A colon ends a key only before a space.
        let is_inner = c == ':' && !is_in_list && rest.peek().is_some_and(|next| *next != ' ');
        is_plain &= is_fine(c) || is_inner;
    }
    if is_plain {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Whether some reader of YAML takes this for no text.
fn is_other_thing(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::yaml::{Kind, parse};
    use crate::import::value;

    #[test]
    fn it_is_written_for_people() {
        let document = json!({
            "server": {"port": 8080},
            "providers": [
                {"name": "a", "api_key": "${A:-b}", "api_base": "http://h:1/v1", "model_mapping": ["x", "gpt-*", "no"], "headers": {}},
                {"name": "1", "list": [{"a": [1, 2]}, []]},
            ],
            "verify_ssl": true,
        });
        assert_eq!(
            yaml(&document),
            "server:\n  port: 8080\n\nproviders:\n  - name: a\n    api_key: ${A:-b}\n    api_base: http://h:1/v1\n    \
             model_mapping: [x, \"gpt-*\", \"no\"]\n    headers: {}\n  - name: \"1\"\n    list:\n      - a: [1, 2]\n      - []\n\
             verify_ssl: true\n"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\\n\\t\u{85}\u{2028}éü]{0,12}".prop_map(Value::from),
            prop::sample::select(
                &[
                    "~", "- a", "# x", "a: b", "a #b", "${A}", "<<", "*a", "&a", "|", "0x1", "1e3",
                    ".inf", "---"
                ][..]
            )
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~ü]{0,8}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(members in prop::collection::btree_map("[a-z<]{1,5}", any_value(), 1..4)) {
            let document = Value::Object(members.into_iter().collect());
            let text = yaml(&document);
            let node = parse(&text);
            prop_assert!(node.is_ok(), "{text}");
            let node = node.unwrap_or_else(|_| unreachable!());
            prop_assert!(matches!(node.kind, Kind::Map(_)));
            prop_assert_eq!(value(&node), document, "{}", text);
        }
    }
}
