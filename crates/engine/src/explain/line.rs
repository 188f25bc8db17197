//! An explanation on one line, for a header: ASCII, without what says nothing, and no longer than it may be.

use polygate_core::Kind;
use serde_json::{Value, json};

use super::Told;

/// What a caller is told, in so many bytes at most; of too many candidates the last are left out, and counted.
pub fn line(told: &Told, most: usize) -> Option<String> {
    let mut value = match told {
        Told::Explained(explanation) => serde_json::to_value(explanation).ok()?,
        Told::Refused(refusal) => json!({"refusal": refusal}),
        Told::Forbidden(key) => forbidden(key),
    };
    thin(&mut value);
    if value.get("candidates_left_out") == Some(&json!(0))
        && let Some(members) = value.as_object_mut()
    {
        members.remove("candidates_left_out");
    }
    let mut left_out = value
        .get("candidates_left_out")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    loop {
        let text = ascii(&value.to_string());
        if text.len() <= most {
            return Some(text);
        }
        let candidates = value.get_mut("candidates").and_then(Value::as_array_mut);
        if candidates.and_then(Vec::pop).is_none() {
            // Then it is the routes that are too many.
            value.as_object_mut()?.remove("routes")?;
            continue;
        }
        left_out += 1;
        value["candidates_left_out"] = json!(left_out);
    }
}

fn forbidden(key: &str) -> Value {
    let message =
        format!("{key} may not see explanations: 'explain: true' lets a key, and so does a role");
    json!({"refusal": {"code": Kind::Forbidden.name(), "message": message}})
}

/// Takes out what is empty, and what is false.
fn thin(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(thin);
            members.retain(|_, value| !says_nothing(value));
        }
        Value::Array(items) => items.iter_mut().for_each(thin),
        _ => {}
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The same JSON in what headers may have.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for character in json.chars() {
        match character {
            // Of these only strings can have any, and there they may be written so.
            '\u{7f}'.. => {
                for unit in character.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => text.push(character),
        }
    }
    text
}
