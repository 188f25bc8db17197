//! Requests inside of a request: Google's counts and batches name the model once more in each.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use polygate_wire::RawObject;
use polygate_wire::raw::{Edit, quote};
use serde_json::value::RawValue;

/// One request, in both spellings, and a list of them.
const ONE: [&str; 2] = ["generateContentRequest", "generate_content_request"];
const MANY: &str = "requests";

/// Refuses what would say twice which model is meant.
pub(crate) fn check(object: &RawObject) -> Result<(), Failure> {
    object.refuse_duplicates(&[MANY])?;
    let spelled = object.iter().filter(|(name, _)| ONE.contains(name));
    let mut inner: Vec<RawObject> = spelled.filter_map(|(_, text)| request(text)).collect();
    if inner.len() > 1 {
        let message = format!("the body has '{}' more than once", ONE[0]);
        return Err(Failure::new(Kind::InvalidRequest, message).param(ONE[0]));
    }
    inner.extend(
        list(object)?
            .into_iter()
            .flatten()
            .filter_map(|one| request(one.get())),
    );
    inner
        .iter()
        .try_for_each(|request| request.refuse_duplicates(&["model"]))
}

/// Their members with the model's name there in each, as the path will have it.
pub(crate) fn renamed(
    object: &RawObject,
    model: &str,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let quoted = quote(&format!("models/{model}"));
    let mut members = Vec::new();
    if let Some(requests) = list(object)? {
        let requests = requests.into_iter().map(|one| rename(one.get(), &quoted));
        let requests: Result<Vec<String>, Failure> = requests.collect();
        members.push((MANY, format!("[{}]", requests?.join(","))));
    }
    for name in ONE {
        if let Some(text) = object.get(name) {
            members.push((name, rename(text, &quoted)?));
        }
    }
    Ok(members)
}

fn list(object: &RawObject) -> Result<Option<Vec<&RawValue>>, Failure> {
    object.read(MANY, "a list")
}

fn request(text: &str) -> Option<RawObject> {
    RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).ok()
}

fn rename(text: &str, quoted: &str) -> Result<String, Failure> {
    let request = RawObject::parse(Bytes::copy_from_slice(text.as_bytes()))?;
    let body = match request.get("model") {
        Some(_) => request.edit(&[Edit::Set("model", quoted)]),
        None => request.bytes().clone(),
    };
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> RawObject {
        RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).expect("an object")
    }

    #[test]
    fn a_model_inside_is_said_once_and_renamed_in_either_spelling() {
        for text in [
            r#"{"requests":[],"requests":[]}"#,
            r#"{"Requests":[]}"#,
            r#"{"requests":[{"model":"a","model":"b"}]}"#,
            r#"{"generateContentRequest":{"model":"a"},"generate_content_request":{"model":"b"}}"#,
            r#"{"generateContentRequest":{"model":"a"},"generateContentRequest":{"model":"b"}}"#,
            r#"{"generate_content_request":{"model":"a","mod\u0065l":"b"}}"#,
        ] {
            assert!(check(&object(text)).is_err(), "{text}");
        }
        let text = r#"{"generate_content_request":{"model":"models/a","x":1},"requests":[{"model":"b"},{}]}"#;
        check(&object(text)).expect("said once");
        let renamed = renamed(&object(text), "m").expect("renamed");
        let expected = [
            ("requests", r#"[{"model":"models/m"},{}]"#.to_owned()),
            (
                "generate_content_request",
                r#"{"model":"models/m","x":1}"#.to_owned(),
            ),
        ];
        assert_eq!(renamed, expected);
    }
}
