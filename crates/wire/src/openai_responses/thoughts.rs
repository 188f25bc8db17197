//! Thoughts of other models in a conversation that OpenAI itself goes on with.
//!
//! Where another model answered a Responses client, the gateway made items of its thoughts. OpenAI takes an item of reasoning by
//! what is sealed in it or by its id, and refuses the request for one that has no seal and an id that it never gave.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::Loss;

/// How ids of reasoning begin.
const BEGINNING: &str = "rs_";

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    encrypted_content: Option<Cow<'a, str>>,
}

/// The input without such thoughts, and what was left out; `None` where there are none.
pub fn without_strange_thoughts(input: &str) -> Option<(String, Vec<Loss>)> {
    if !input.starts_with('[') || !input.contains(BEGINNING) {
        return None;
    }
    let items: Vec<&RawValue> = serde_json::from_str(input).ok()?;
    let mut left = Vec::with_capacity(items.len());
    let mut losses = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        match is_strange(item) {
            true => losses.push(Loss(format!("/input/{at}"))),
            false => left.push(item.get()),
        }
    }
    (!losses.is_empty()).then(|| (format!("[{}]", left.join(",")), losses))
}

fn is_strange(item: &RawValue) -> bool {
    let Ok(item) = serde_json::from_str::<Item<'_>>(item.get()) else {
        return false;
    };
    item.kind.as_deref() == Some("reasoning")
        && item.encrypted_content.is_none()
        && item.id.is_some_and(|id| is_ours(&id))
}

/// An id as `item_id` makes them: 32 hexadecimal digits, and the item's number.
fn is_ours(id: &str) -> bool {
    let parts = id
        .strip_prefix(BEGINNING)
        .and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(unique, number)| {
        unique.len() == 32
            && unique.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_thoughts_of_our_own_making_without_a_seal_are_left_out() {
        let ours = "rs_0123456789abcdef0123456789abcdef_0";
        let thought = |id: &str, seal: &str| {
            format!(r#"{{"type":"reasoning","id":"{id}","summary":[]{seal}}}"#)
        };
        let sealed = thought(ours, r#","encrypted_content":"x""#);
        let theirs = thought("rs_68a1b2c3d4e5f60718293a4b5c6d7e8f68a1b2c3d4e5f607", "");
        let said = format!(r#"{{"role":"user","content":"{ours}"}}"#);
        let input = format!("[{said},{},{sealed},{theirs}]", thought(ours, ""));
        let expected = format!("[{said},{sealed},{theirs}]");
        let losses = vec![Loss("/input/1".to_owned())];
        assert_eq!(without_strange_thoughts(&input), Some((expected, losses)));
        for untouched in [
            format!("[{said},{sealed},{theirs}]"),
            format!("\"{ours}\""),
            "[".to_owned() + ours,
        ] {
            assert_eq!(without_strange_thoughts(&untouched), None);
        }
    }
}
