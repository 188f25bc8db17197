//! The client half: reading requests, writing answers and streams.
//!
//! Google's JSON is proto JSON: a member's name may be in camelCase or in snake_case, a number may be a string, and a list of one
//! may be that one. Places are named as the client wrote them.

mod calls;
mod contents;
mod request;
mod response;
mod stream;

use std::borrow::Cow;
use std::collections::BTreeMap;

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use request::decode;
pub(crate) use response::encode;
pub(crate) use stream::Encoder;

use crate::canon::Given;
use crate::request::{Extra, bad, escape, says_nothing, value};

/// A member of some object of the request.
struct Member<'a> {
    /// Its name in camelCase.
    name: Cow<'a, str>,
    /// Its name as the client wrote it.
    written: Cow<'a, str>,
    /// Its JSON text.
    text: &'a str,
    /// Pointer of the object.
    of: &'a str,
}

/// An object's members that are not `null`.
fn members<'a>(text: &'a str, of: &'a str) -> Result<Vec<Member<'a>>, Failure> {
    let members: BTreeMap<Cow<'a, str>, &'a RawValue> = value(&place(of), text)?;
    let members = members
        .into_iter()
        .filter(|(_, raw)| raw.get() != "null")
        .map(|(written, raw)| Member {
            name: Cow::Owned(camel(&written).into_owned()),
            written,
            text: raw.get(),
            of,
        });
    Ok(members.collect())
}

/// A list's items with their pointers, or the one thing that stands instead of the list.
fn items<'a>(text: &'a str, at: &str) -> Result<Vec<(&'a str, String)>, Failure> {
    if !text.starts_with('[') {
        return Ok(vec![(text, at.to_owned())]);
    }
    let items: Vec<&'a RawValue> = value(&place(at), text)?;
    let items = items.into_iter().enumerate();
    Ok(items
        .map(|(index, raw)| (raw.get(), format!("{at}/{index}")))
        .collect())
}

impl<'a> Member<'a> {
    /// A member of the request itself.
    fn new(written: &'a str, text: &'a str) -> Self {
        Self {
            name: camel(written),
            written: Cow::Borrowed(written),
            text,
            of: "",
        }
    }

    /// Its pointer.
    fn at(&self) -> String {
        format!("{}/{}", self.of, escape(&self.written))
    }

    /// Its value as a type.
    fn value<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        // The place is put into words only where somebody reads it.
        serde_json::from_str(self.text).or_else(|_| value(&place(&self.at()), self.text))
    }

    /// Its value as read by this function, with its place.
    fn given<T>(&self, read: fn(&Self) -> Result<T, Failure>) -> Result<Option<Given<T>>, Failure> {
        Ok(Some(Given::new(read(self)?, self.at())))
    }

    /// A number, written as one or as a string.
    fn number(&self) -> Result<f64, Failure> {
        let number = self.digits()?.parse().ok();
        number
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| self.bad("is not a number"))
    }

    /// A whole number, written as one, as a string or as a float.
    fn whole(&self) -> Result<i64, Failure> {
        match self.digits()?.parse() {
            Ok(number) => Ok(number),
            // The cast saturates.
            Err(_) => self.number().map(|number| number.round() as i64),
        }
    }

    /// A whole number that is not below zero.
    fn count(&self) -> Result<u64, Failure> {
        u64::try_from(self.whole()?).map_err(|_| self.bad("is below zero"))
    }

    fn digits(&self) -> Result<Cow<'a, str>, Failure> {
        if self.text.starts_with('"') {
            self.value().map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.text))
        }
    }

    /// Keeps it as one that nobody modelled.
    fn keep(&self, extra: &mut Extra) {
        if let Ok(raw) = RawValue::from_string(self.text.to_owned()) {
            extra.push(Given::new(raw, self.at()));
        }
    }

    /// Keeps it where it says something.
    fn keep_if_said(&self, extra: &mut Extra) {
        if !says_nothing(self.text) {
            self.keep(extra);
        }
    }

    /// What is wrong with it.
    fn bad(&self, what: &str) -> Failure {
        bad(&place(&self.at()), what)
    }
}

/// `max_output_tokens` → `maxOutputTokens`; a leading underscore stays.
fn camel(name: &str) -> Cow<'_, str> {
    let Some((head, tail)) = name.split_at_checked(1) else {
        return Cow::Borrowed(name);
    };
    if !tail.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    out.push_str(head);
    let mut words = tail.split('_');
    out.push_str(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    Cow::Owned(out)
}

/// A pointer as Google's own errors name places: `/contents/0/parts` → `contents[0].parts`.
fn place(at: &str) -> String {
    let mut out = String::with_capacity(at.len());
    for step in at.split('/').skip(1) {
        if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            out.extend(["[", step, "]"]);
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(step);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places() {
        for (written, name) in [
            ("topP", "topP"),
            ("top_p", "topP"),
            ("max_output_tokens", "maxOutputTokens"),
            ("_responseJsonSchema", "_responseJsonSchema"),
            ("é_x", "é_x"),
            ("a_", "a"),
            ("", ""),
        ] {
            assert_eq!(camel(written), name);
        }
        assert_eq!(
            place("/contents/0/parts/12/text"),
            "contents[0].parts[12].text"
        );
        assert_eq!(place(""), "");
    }

    #[test]
    fn numbers_come_in_many_ways() {
        let number = |text| Member::new("n", text).number().ok();
        let count = |text| Member::new("n", text).count().ok();
        assert_eq!(number("0.5"), Some(0.5));
        assert_eq!(number("\"0.5\""), Some(0.5));
        assert_eq!(
            [number("\"NaN\""), number("true"), number("\"\"")],
            [None; 3]
        );
        for text in ["40", "40.0", "\"40\"", "4e1"] {
            assert_eq!(count(text), Some(40), "{text}");
        }
        assert_eq!(count("-1"), None);
        assert_eq!(Member::new("n", "-1.0").whole().ok(), Some(-1));
        let failure = Member::new("n", "[]").count().expect_err("no number");
        assert_eq!(failure.param.as_deref(), Some("n"));
    }
}
