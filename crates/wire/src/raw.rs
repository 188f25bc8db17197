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

    /// The JSON text of a member.
    pub fn get(&self, name: &str) -> Option<&str> {
        let member = self.members.iter().find(|member| &*member.name == name)?;
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

    /// The object with these members set (a new one goes first) or removed, all other bytes kept.
    pub fn edit(&self, edits: &[Edit<'_>]) -> Bytes {
        let mut cuts: Vec<(Range<usize>, &str)> = Vec::with_capacity(edits.len());
        let mut added = String::new();
        for edit in edits {
            match *edit {
                Edit::Set(name, json) => match self.position(name) {
                    Some(at) => cuts.push((
                        self.members
                            .get(at)
                            .map_or(0..0, |member| member.value.clone()),
                        json,
                    )),
                    None => {
                        added.push_str(&format!("{}:{json},", quote(name)));
                    }
                },
                Edit::Remove(name) => {
                    if let Some(at) = self.position(name) {
                        cuts.push((self.whole_member(at), ""));
                    }
                }
            }
        }
        if cuts.is_empty() && added.is_empty() {
            return self.bytes.clone();
        }
        cuts.sort_by_key(|(range, _)| range.start);
        self.splice(&cuts, &added)
    }

    fn splice(&self, cuts: &[(Range<usize>, &str)], added: &str) -> Bytes {
        let grown: usize = cuts.iter().map(|(_, json)| json.len()).sum();
        let mut out = BytesMut::with_capacity(self.bytes.len() + grown + added.len());
        let open = memchr::memchr(b'{', &self.bytes).map_or(0, |at| at + 1);
        let mut from = 0;
        if !added.is_empty() {
            out.extend_from_slice(self.bytes.get(..open).unwrap_or_default());
            let added = if self.members.is_empty() {
                added.trim_end_matches(',')
            } else {
                added
            };
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

    fn position(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| &*member.name == name)
    }

    fn text(&self, range: &Range<usize>) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()
    }

    /// From the end of the member before (so that its comma goes too) to the end of this one; for the first, up to the next key.
    fn whole_member(&self, at: usize) -> Range<usize> {
        let Some(member) = self.members.get(at) else {
            return 0..0;
        };
        if let Some(before) = at
            .checked_sub(1)
            .and_then(|before| self.members.get(before))
        {
            return before.value.end..member.value.end;
        }
        let start = memchr::memchr(b'{', &self.bytes).map_or(0, |open| open + 1);
        let rest = self.bytes.get(member.value.end..).unwrap_or_default();
        let comma = rest
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .filter(|&gap| rest.get(gap) == Some(&b','));
        start..member.value.end + comma.map_or(0, |gap| gap + 1)
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
