//! JSON laid out to be read: what fits on a line stands on one.

use bytes::Bytes;
use serde_json::Value;

const WIDTH: usize = 120;

/// JSON text, laid out.
pub fn laid_out(body: &Bytes) -> String {
    let value: Value = serde_json::from_slice(body).expect("we write JSON");
    let mut out = String::new();
    write(&value, 0, 0, &mut out);
    out + "\n"
}

fn write(value: &Value, depth: usize, before: usize, out: &mut String) {
    let line = value.to_string();
    if 2 * depth + before + line.len() <= WIDTH {
        return out.push_str(&line);
    }
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| (String::new(), item));
            each(items.collect(), ('[', ']'), depth, out);
        }
        Value::Object(members) => {
            let name = |name: &String| format!("{}: ", Value::from(name.as_str()));
            let members = members.iter().map(|(own, member)| (name(own), member));
            each(members.collect(), ('{', '}'), depth, out);
        }
        _ => out.push_str(&line),
    }
}

fn each(inner: Vec<(String, &Value)>, brackets: (char, char), depth: usize, out: &mut String) {
    out.push(brackets.0);
    for (index, (name, value)) in inner.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        out.push_str(&format!("{comma}\n{}{name}", "  ".repeat(depth + 1)));
        write(value, depth + 1, name.len(), out);
    }
    out.push_str(&format!("\n{}{}", "  ".repeat(depth), brackets.1));
}
