//! A change at any place of any object leaves JSON, and what was set stands there.

use polygate_wire::RawObject;
use polygate_wire::raw::path::{Change, Document, Path, Spelling};
use serde_json::Value;

/// The target: a byte that says what is done, a path, a value and an object, each on a line.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let (Some(path), Some(value), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let Some((how, path)) = path.split_at_checked(1) else {
        return;
    };
    let (Ok(path), Ok(value)) = (Path::parse(path), serde_json::from_str::<Value>(value)) else {
        return;
    };
    if RawObject::parse(body.to_owned().into()).is_err() {
        return;
    }
    let value = value.to_string();
    let how = how.as_bytes()[0];
    let change = match how % 3 {
        0 => Change::Default(&value),
        1 => Change::Override(&value),
        _ => Change::Remove,
    };
    let spelling = match how & 4 {
        0 => Spelling::Exact,
        _ => Spelling::Google,
    };
    let mut document = Document::read(body, spelling).expect("an object");
    let changed = document.change(&[], &path, change);
    let once = document.text();
    crate::assert_json(once.as_bytes(), "a changed object");
    let is_of_names = path
        .steps()
        .iter()
        .all(|step| step != "-" && step.parse::<i64>().is_err());
    if !is_of_names {
        return;
    }
    // What is there is there.
    let again = document.change(&[], &path, change);
    assert_eq!(document.text(), once, "done once is done");
    if changed.is_ok() {
        assert_eq!(again, Ok(false), "nothing is left to do");
    }
}
