//! A JSON object as it came: members found and checked, replaced in place, every other byte kept.
//!
//! Order, whitespace and the text of numbers survive, since nothing is parsed that nobody asked for. Duplicates of a member
//! that decides something are refused: we would check the first, the upstream obey the last.

pub mod path;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use polygate_core::{Failure, Kind};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A valid JSON object over its original bytes.
#[derive(Clone, Debug)]
pub struct RawObject {
    bytes: Bytes,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    name: Box<str>,
    value: Range<usize>,
}

impl RawObject {
    /// Checks that the bytes are one JSON object and finds its members.
    pub fn parse(bytes: Bytes) -> Result<Self, Failure> {
        let members: Members<'_> =
            serde_json::from_slice(&bytes).map_err(|error| not_an_object(&bytes, &error))?;
        let start = bytes.as_ptr() as usize;
        let members = members
            .0
            .into_iter()
            .map(|(name, value)| {
                let text = value.get();
                // A RawValue borrows from the input: its address tells where it stands.
                let at = (text.as_ptr() as usize).saturating_sub(start);
                Member {
                    name: name.into_owned().into_boxed_str(),
                    value: at..at + text.len(),
                }
            })
            .collect();
        Ok(Self { bytes, members })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The JSON text of a member; where it is there more than once the last, which is what readers believe.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut members = self.members.iter().rev();
        let member = members.find(|member| &*member.name == name)?;
        self.text(&member.value)
    }

    /// All members, in order: name and JSON text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members
            .iter()
            .filter_map(|member| Some((&*member.name, self.text(&member.value)?)))
    }

    /// A member as a string: `None` where absent, an error where it is something else.
    pub fn string(&self, name: &str) -> Result<Option<Cow<'_, str>>, Failure> {
        self.read(name, "a string")
    }

    /// A member as a boolean; `null` counts as absent.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        if self.get(name) == Some("null") {
            return Ok(None);
        }
        self.read(name, "true or false")
    }

    /// A member read into a type.
    pub fn read<'a, T: Deserialize<'a>>(
        &'a self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        serde_json::from_str(text).map(Some).map_err(|_| {
            Failure::new(Kind::InvalidRequest, format!("'{name}' must be {expected}")).param(name)
        })
    }

    /// Refuses duplicates and case variants of the members that decide who may do what.
    pub fn refuse_duplicates(&self, decisive: &[&str]) -> Result<(), Failure> {
        for name in decisive {
            let same = self
                .members
                .iter()
                .filter(|member| member.name.eq_ignore_ascii_case(name));
            let mut count = 0;
            for member in same {
                count += 1;
                if count > 1 || &*member.name != *name {
                    let message =
                        format!("the body has '{name}' more than once, or in another spelling");
                    return Err(Failure::new(Kind::InvalidRequest, message).param(*name));
                }
            }
        }
        Ok(())
    }

    /// The object with these members set (a new one goes first) or removed, however often they are there; all other bytes are kept.
    pub fn edit(&self, edits: &[Edit<'_>]) -> Bytes {
        let mut cuts: Vec<(Range<usize>, &str)> = Vec::with_capacity(edits.len());
        let mut removed: Vec<usize> = Vec::new();
        let mut added = String::new();
        for edit in edits {
            let before = cuts.len();
            match *edit {
                Edit::Set(name, json) => {
                    cuts.extend(self.named(name).map(|(_, one)| (one.value.clone(), json)));
                    if cuts.len() == before {
                        added.push_str(&format!("{}:{json},", quote(name)));
                    }
                }
                Edit::Remove(name) => removed.extend(self.named(name).map(|(at, _)| at)),
            }
        }
        if cuts.is_empty() && removed.is_empty() && added.is_empty() {
            return self.bytes.clone();
        }
        removed.sort_unstable();
        removed.dedup();
        if removed.len() == self.members.len() {
            added.pop();
        }
        cuts.extend(self.removals(&removed).map(|range| (range, "")));
        cuts.sort_by_key(|(range, _)| range.start);
        self.splice(&cuts, &added)
    }

    /// What goes with members that are removed: those that stand first together with the comma behind them, every other one with the
    /// comma before it.
    fn removals<'a>(&'a self, removed: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
        let first = removed.iter().enumerate().take_while(|(at, of)| at == *of);
        let first = first.count();
        let front = first.checked_sub(1).and_then(|last| self.front(last));
        let others = removed.iter().skip(first).filter_map(|at| {
            let before = self.members.get(at.checked_sub(1)?)?;
            Some(before.value.end..self.members.get(*at)?.value.end)
        });
        front.into_iter().chain(others)
    }

    /// From the first member to this one, with the comma behind it, where there is one.
    fn front(&self, last: usize) -> Option<Range<usize>> {
        let start = memchr::memchr(b'{', &self.bytes).map_or(0, |open| open + 1);
        let end = self.members.get(last)?.value.end;
        let rest = self.bytes.get(end..).unwrap_or_default();
        let gap = rest.iter().position(|byte| !byte.is_ascii_whitespace());
        let comma = gap.filter(|&gap| rest.get(gap) == Some(&b','));
        Some(start..end + comma.map_or(0, |gap| gap + 1))
    }

    fn splice(&self, cuts: &[(Range<usize>, &str)], added: &str) -> Bytes {
        let grown: usize = cuts.iter().map(|(_, json)| json.len()).sum();
        let mut out = BytesMut::with_capacity(self.bytes.len() + grown + added.len());
        let open = memchr::memchr(b'{', &self.bytes).map_or(0, |at| at + 1);
        let mut from = 0;
        if !added.is_empty() {
            out.extend_from_slice(self.bytes.get(..open).unwrap_or_default());
            out.extend_from_slice(added.as_bytes());
            from = open;
        }
        for (range, json) in cuts {
            out.extend_from_slice(self.bytes.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(json.as_bytes());
            from = range.end;
        }
        out.extend_from_slice(self.bytes.get(from..).unwrap_or_default());
        out.freeze()
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Member)> + 'a {
        let members = self.members.iter().enumerate();
        members.filter(move |(_, member)| *member.name == *name)
    }

    fn text(&self, range: &Range<usize>) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()
    }
}

/// One change to an object.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// Set the member to this JSON text.
    Set(&'a str, &'a str),
    /// Take the member out.
    Remove(&'a str),
}

impl Edit<'_> {
    /// The member.
    pub fn name(&self) -> &str {
        match self {
            Edit::Set(name, _) | Edit::Remove(name) => name,
        }
    }
}

/// A string as JSON text.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn not_an_object(bytes: &[u8], error: &serde_json::Error) -> Failure {
    let message = if bytes.iter().all(u8::is_ascii_whitespace) {
        "the body is empty; a JSON object is needed".to_owned()
    } else if error.is_data() {
        "the body must be a JSON object".to_owned()
    } else {
        format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        )
    };
    Failure::new(Kind::InvalidRequest, message)
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(12);
        while let Some(Name(name)) = map.next_key()? {
            members.push((name, map.next_value::<&'de RawValue>()?));
        }
        Ok(Members(members))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &str) -> RawObject {
        RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a valid object")
    }

    #[test]
    fn setting_keeps_every_other_byte() {
        let body = object(
            "{ \"b\" : 1e5,\n \"model\": \"x\", \"big\":12345678901234567890123, \"a\" : {\"y\":1, \"a\":2} }",
        );
        let edited = body.edit(&[Edit::Set("model", "\"gpt\"")]);
        assert_eq!(
            edited,
            "{ \"b\" : 1e5,\n \"model\": \"gpt\", \"big\":12345678901234567890123, \"a\" : {\"y\":1, \"a\":2} }"
        );
    }

    #[test]
    fn members_come_and_go() {
        assert_eq!(object("{}").edit(&[Edit::Set("a", "1")]), "{\"a\":1}");
        assert_eq!(
            object("{\"b\":2}").edit(&[Edit::Set("a", "1")]),
            "{\"a\":1,\"b\":2}"
        );
        assert_eq!(
            object("{\"a\":1 , \"b\":2}").edit(&[Edit::Remove("a")]),
            "{ \"b\":2}"
        );
        assert_eq!(
            object("{\"a\":1, \"b\":2}").edit(&[Edit::Remove("b")]),
            "{\"a\":1}"
        );
        assert_eq!(object("{\"a\":1}").edit(&[Edit::Remove("a")]), "{}");
        let both = object("{\"a\":1,\"m\":0,\"z\":[]}").edit(&[
            Edit::Set("m", "9"),
            Edit::Set("n", "{}"),
            Edit::Remove("z"),
        ]);
        assert_eq!(both, "{\"n\":{},\"a\":1,\"m\":9}");
    }

    #[test]
    fn the_first_members_may_go_together() {
        let text = r#"{"models":["m"],"fallbacks":["m"],"model":"m","models":1}"#;
        let both = [Edit::Remove("fallbacks"), Edit::Remove("models")];
        assert_eq!(object(text).edit(&both), r#"{"model":"m"}"#);
        let other = [Edit::Remove("a"), Edit::Set("n", "1")];
        assert_eq!(object(r#"{"a":1}"#).edit(&other), r#"{"n":1}"#);
    }

    proptest! {
        #[test]
        fn edits_are_those_of_a_map(
            members in prop::collection::vec(("[a-e]", 0..9_u8, " {0,2}"), 0..6),
            edits in prop::collection::vec(("[a-f]", prop::option::of(10..20_u8)), 0..6),
        ) {
            let texts: Vec<String> = members
                .iter()
                .map(|(name, value, gap)| format!("{gap}\"{name}\"{gap}:{gap}{value}{gap}"))
                .collect();
            let text = format!("{{{}}}", texts.join(","));
            let mut seen = std::collections::BTreeSet::new();
            let edits: Vec<(String, Option<String>)> = edits
                .into_iter()
                .filter(|(name, _)| seen.insert(name.clone()))
                .map(|(name, value)| (name, value.map(|value| value.to_string())))
                .collect();
            let changes: Vec<Edit<'_>> = edits
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => Edit::Set(name, value),
                    None => Edit::Remove(name),
                })
                .collect();
            let edited = object(&text).edit(&changes);
            let mut expected: std::collections::BTreeMap<String, serde_json::Value> =
                serde_json::from_str(&text).expect("JSON");
            for (name, value) in &edits {
                match value {
                    Some(value) => expected.insert(name.clone(), serde_json::from_str(value).expect("a number")),
                    None => expected.remove(name),
                };
            }
            let after: std::collections::BTreeMap<String, serde_json::Value> =
                serde_json::from_slice(&edited).map_err(|error| TestCaseError::fail(format!("{error}: {text} -> {edited:?}")))?;
            prop_assert_eq!(after, expected);
            let untouched = texts.iter().zip(&members).filter(|(_, (name, ..))| !seen.contains(name));
            let edited = String::from_utf8_lossy(&edited);
            for (text, _) in untouched {
                prop_assert!(edited.contains(text.trim()), "{text:?} in {edited}");
            }
        }
    }

    #[test]
    fn duplicates_and_spellings_of_decisive_members_are_refused() {
        let decisive = ["model", "stream"];
        assert!(
            object("{\"model\":1,\"x\":1,\"x\":2}")
                .refuse_duplicates(&decisive)
                .is_ok()
        );
        for text in [
            "{\"model\":\"a\",\"model\":\"b\"}",
            "{\"Model\":\"a\"}",
            "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}",
        ] {
            let failure = object(text).refuse_duplicates(&decisive).expect_err(text);
            assert_eq!(failure.param.as_deref(), Some("model"));
        }
    }

    #[test]
    fn what_is_no_object_is_said_so() {
        for text in [
            "",
            "  ",
            "[1]",
            "\"x\"",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":\"\u{1}\"}",
            "{a:1}",
            "nul",
        ] {
            let failure =
                RawObject::parse(Bytes::copy_from_slice(text.as_bytes())).expect_err(text);
            assert_eq!(failure.kind, Kind::InvalidRequest);
        }
        assert!(RawObject::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).is_err());
    }

    #[test]
    fn deep_nesting_and_lone_surrogates_pass() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(&deep).get("a").is_some());
        assert_eq!(object("{\"a\":\"\\ud800\"}").get("a"), Some("\"\\ud800\""));
    }
}
