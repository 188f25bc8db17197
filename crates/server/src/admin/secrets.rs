//! Secrets in the bodies of documents: sealed before they are kept, and never shown but for a few signs.

use polygate_store::config::Kind;
use polygate_store::{Sealer, StoreError};
use serde_json::{Map, Value};

use super::problem::{Field, Problem};

/// What nobody may see.
const MASK: &str = "***";

/// Signs that are shown at either end, and how long a secret must be for that.
const SHOWN: usize = 3;
const LONG: usize = 16;

/// A few signs of a secret, to know it by.
pub fn preview(secret: &str) -> String {
    let signs: Vec<char> = secret.chars().collect();
    if signs.len() < LONG {
        return MASK.to_owned();
    }
    let first: String = signs.iter().take(SHOWN).collect();
    let last: String = signs.iter().skip(signs.len() - SHOWN).collect();
    format!("{first}{MASK}{last}")
}

/// Where secrets of a kind are sealed for: elsewhere they do not open.
pub fn place(kind: Kind, name: &str) -> String {
    format!("{kind}/{name}")
}

/// Seals every secret of a body. One that is sent as it was shown is the one that was there.
pub fn seal(
    kind: Kind,
    name: &str,
    body: &mut Map<String, Value>,
    before: Option<&Map<String, Value>>,
    sealer: &Sealer,
) -> Result<(), Problem> {
    let place = place(kind, name);
    let mut known: Vec<(String, String, String)> = Vec::new();
    let mut before = before.cloned().unwrap_or_default();
    each(kind, &mut before, &mut |path, value| {
        if let Some(sealed) = value.as_str().filter(|text| Sealer::is_sealed(text))
            && let Ok(secret) = sealer.open(&place, sealed)
        {
            known.push((path.to_owned(), preview(secret.reveal()), sealed.to_owned()));
        }
    });
    let mut problems = Vec::new();
    let mut trouble: Option<StoreError> = None;
    each(kind, body, &mut |path, value| {
        let Value::String(text) = value else {
            problems.push(Field::new(path, "must be a text"));
            return;
        };
        // What was kept is as it was, wherever in the body it stands.
        if known.iter().any(|(_, _, sealed)| sealed == text) {
            return;
        }
        if Sealer::is_sealed(text) {
            problems.push(Field::new(
                path,
                "is a sealed secret: send the secret itself",
            ));
            return;
        }
        let shown = |(_, shown, _): &&(String, String, String)| shown == text;
        let same = known.iter().find(|one| one.0 == path && shown(one));
        let mut alike = known.iter().filter(shown);
        match same.or_else(|| alike.next().filter(|_| alike.next().is_none())) {
            Some((_, _, sealed)) => sealed.clone_into(text),
            None if text.contains(MASK) => {
                problems.push(Field::new(
                    path,
                    "is a mask of which there is no secret: send the secret itself",
                ));
            }
            None => match sealer.seal(&place, text) {
                Ok(sealed) => *text = sealed,
                Err(error) => trouble = Some(error),
            },
        }
    });
    match (trouble, problems.is_empty()) {
        (Some(error), _) => Err(error.into()),
        (None, false) => Err(Problem::fields(problems)),
        (None, true) => Ok(()),
    }
}

/// Shows no more of every secret than a few signs.
pub fn mask(kind: Kind, name: &str, body: &mut Map<String, Value>, sealer: &Sealer) {
    let place = place(kind, name);
    each(kind, body, &mut |_, value| {
        let opened = value.as_str().map(|text| match Sealer::is_sealed(text) {
            true => sealer.open(&place, text).ok(),
            // Written by hand, and not sealed.
            false => Some(polygate_core::Secret::new(text)),
        });
        let shown = opened.flatten().map(|secret| preview(secret.reveal()));
        *value = shown.unwrap_or_else(|| MASK.to_owned()).into();
    });
    // Whatever is sealed at a place that is not known: nobody needs to see it.
    body.values_mut().for_each(hide);
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) if Sealer::is_sealed(text) => MASK.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        _ => {}
    }
}

/// Goes through the secrets of a body, with their places in it.
fn each(kind: Kind, body: &mut Map<String, Value>, of: &mut dyn FnMut(&str, &mut Value)) {
    if kind != Kind::Provider {
        return;
    }
    for name in ["api_key", "proxy_url"] {
        if let Some(value) = body.get_mut(name).filter(|value| is_secret(value)) {
            of(name, value);
        }
    }
    headers(body, "", of);
    let Some(Value::Array(keys)) = body.get_mut("api_keys") else {
        return;
    };
    for (at, key) in keys.iter_mut().enumerate() {
        match key {
            Value::Object(members) => {
                for name in ["key", "proxy_url"] {
                    if let Some(value) = members.get_mut(name).filter(|value| is_secret(value)) {
                        of(&format!("api_keys[{at}].{name}"), value);
                    }
                }
                headers(members, &format!("api_keys[{at}]."), of);
            }
            value => of(&format!("api_keys[{at}]"), value),
        }
    }
}

fn headers(members: &mut Map<String, Value>, place: &str, of: &mut dyn FnMut(&str, &mut Value)) {
    if let Some(Value::Object(headers)) = members.get_mut("headers") {
        for (name, value) in headers {
            of(&format!("{place}headers.{name}"), value);
        }
    }
}

/// Nothing, and no proxy, is no secret.
fn is_secret(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

#[cfg(test)]
mod tests {
    use polygate_core::Secret;
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn body() -> Map<String, Value> {
        members(json!({
            "type": "mock", "api_key": "sk-0123456789abc", "proxy_url": "http://u:p@h:1",
            "headers": {"authorization": "short"},
            "api_keys": ["sk-first-0123456", {"key": "sk-second-012345", "weight": 2, "proxy_url": "", "headers": {"x-org": "org-0123456789abc"}}],
        }))
    }

    #[test]
    fn nothing_secret_is_kept_or_shown_as_it_is() {
        let sealer = Sealer::new(&Secret::new("a secret of some length")).expect("a sealer");
        let mut kept = body();
        seal(Kind::Provider, "p", &mut kept, None, &sealer).expect("sealed");
        let text = Value::Object(kept.clone()).to_string();
        for secret in ["sk-", "u:p@", "short"] {
            assert!(!text.contains(secret), "{text}");
        }
        let mut shown = kept.clone();
        mask(Kind::Provider, "p", &mut shown, &sealer);
        let expected = members(json!({
            "type": "mock", "api_key": "sk-***abc", "proxy_url": "***",
            "headers": {"authorization": "***"},
            "api_keys": ["sk-***456", {"key": "sk-***345", "weight": 2, "proxy_url": "", "headers": {"x-org": "org***abc"}}],
        }));
        assert_eq!(shown, expected);

        // Sent back as they were shown, they stay as they were; in another order too.
        let mut back = shown.clone();
        let Some(Value::Array(keys)) = back.get_mut("api_keys") else {
            panic!()
        };
        keys.reverse();
        seal(Kind::Provider, "p", &mut back, Some(&kept), &sealer).expect("sealed");
        assert_eq!(back["api_key"], kept["api_key"]);
        assert_eq!(back["api_keys"][1], kept["api_keys"][0]);
        assert_eq!(back["headers"], kept["headers"]);
        // Another's are not.
        let sealed = seal(Kind::Provider, "p", &mut shown, None, &sealer);
        assert!(format!("{sealed:?}").contains("api_keys[1].key"));
    }

    #[test]
    fn a_sealed_secret_cannot_be_brought_and_a_number_is_none() {
        let sealer = Sealer::new(&Secret::new("a secret of some length")).expect("a sealer");
        for secret in [
            json!("sealed:1:00"),
            json!(5),
            json!({"a": 1}),
            json!("a***b"),
        ] {
            let mut body = members(json!({"api_key": secret}));
            assert!(
                seal(Kind::Provider, "p", &mut body, None, &sealer).is_err(),
                "{secret}"
            );
        }
    }
}
