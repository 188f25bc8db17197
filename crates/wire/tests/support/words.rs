//! Words that people wrote, anywhere in a JSON tree: what has a blank in it. They are looked for again in what came of the tree.

use serde_json::Value;

/// All words with their pointers; those inside JSON that stands in a text under the text's own.
pub fn words(body: &[u8]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if let Ok(tree) = serde_json::from_slice(body) {
        walk(&tree, String::new(), &mut |at, text| {
            let at = || at.to_owned();
            if text.trim_start().starts_with(['{', '[']) {
                let inner = words(text.as_bytes()).into_iter();
                all.extend(inner.map(|(_, text)| (at(), text)));
            } else if text.trim().contains(' ') {
                all.push((at(), text.to_owned()));
            }
        });
    }
    all
}

/// Whether these words stand in texts, as they are or in base64.
pub fn has(texts: &str, words: &str) -> bool {
    texts.contains(words.trim()) || texts.contains(&base64(words.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).map_or(0, |byte| usize::from(*byte));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for at in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * at)) & 63]);
            text.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

/// All texts of a tree, those inside JSON that stands in a text too.
pub fn texts(body: &[u8]) -> String {
    let mut all = String::new();
    if let Ok(tree) = serde_json::from_slice(body) {
        gather(&tree, &mut all);
    }
    all
}

fn gather(tree: &Value, all: &mut String) {
    walk(tree, String::new(), &mut |_, text| {
        all.push_str(text);
        match serde_json::from_str(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => gather(&inner, all),
            _ => all.push('\n'),
        }
    });
}

fn walk(tree: &Value, at: String, visit: &mut dyn FnMut(&str, &str)) {
    match tree {
        Value::String(text) => visit(&at, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, format!("{at}/{index}"), visit);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                walk(member, format!("{at}/{name}"), visit);
            }
        }
        _ => {}
    }
}
