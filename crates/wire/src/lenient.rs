//! Members that forgive what real providers send: lone surrogates in text, counts as strings or floats, `null` for nothing.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use polygate_core::ServiceTier;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// A JSON string, borrowed where it has no escapes. Half a surrogate pair becomes the replacement character:
/// providers cut emoji in two between chunks, and serde refuses such strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<Text<'_>> for String {
    fn from(text: Text<'_>) -> Self {
        text.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes: the one way past serde_json's check for surrogates.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Text(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(mended(bytes)),
        }))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(mended(bytes))))
    }
}

/// Text with one replacement character for each half of a pair, which is three bytes here.
fn mended(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let goes_on = |first: &u8| chunk.valid().is_empty() && (0x80..0xc0).contains(first);
        text.push_str(chunk.valid());
        if chunk.invalid().first().is_some_and(|first| !goes_on(first)) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// A token count: a number however written; `null` and what is below zero count as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
        Ok(Count(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(number).unwrap_or(0)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
        // The cast saturates: below zero and NaN are 0.
        Ok(Count(number as u64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
        text.parse()
            .map(Count)
            .map_err(|_| E::custom("not a count"))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(0))
    }
}

/// The tier that a provider says it served by: a word. Anything else says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served(pub Option<ServiceTier>);

impl<'de> Deserialize<'de> for Served {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(ServiceTier::served(raw.get().trim_matches('"'))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_how_it_served() {
        use crate::{Format, Frame, dialect};
        use ServiceTier::{Flex, Priority, Standard};
        for (format, answer, served) in [
            (
                Format::OpenaiChat,
                r#"{"choices":[{"message":{"content":"hi"}}],"service_tier":"default","usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                Some(Standard),
            ),
            (
                Format::OpenaiChat,
                r#"{"choices":[{"message":{"content":"hi"}}],"service_tier":null,"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                None,
            ),
            (
                Format::OpenaiResponses,
                r#"{"object":"response","output":[],"service_tier":"priority","usage":{"input_tokens":1,"output_tokens":2}}"#,
                Some(Priority),
            ),
            (
                Format::AnthropicMessages,
                r#"{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"standard"}}"#,
                Some(Standard),
            ),
            (
                Format::AnthropicMessages,
                r#"{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":1,"output_tokens":2,"service_tier":{"new":1}}}"#,
                None,
            ),
            (
                Format::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]}}],"usageMetadata":{"promptTokenCount":1,"serviceTier":"flex"}}"#,
                Some(Flex),
            ),
            (
                Format::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]}}],"usageMetadata":{"promptTokenCount":1,"trafficType":"ON_DEMAND"}}"#,
                Some(Standard),
            ),
        ] {
            let usage = dialect(format).check_chat(answer.as_bytes());
            let usage = usage.expect("an answer").expect("counts");
            assert_eq!(usage.served, served, "{answer}");
        }
        let chunk = br#"data: {"choices":[],"service_tier":"flex","usage":{"prompt_tokens":1,"completion_tokens":2}}

"#;
        let signal = dialect(Format::OpenaiChat).sniff(&Frame::parse(chunk));
        assert_eq!(signal.usage.and_then(|usage| usage.served), Some(Flex));
        let last = br#"data: {"type":"response.completed","response":{"service_tier":"flex","usage":{"input_tokens":1,"output_tokens":2}}}

"#;
        let signal = dialect(Format::OpenaiResponses).sniff(&Frame::parse(last));
        assert_eq!(signal.usage.and_then(|usage| usage.served), Some(Flex));
    }

    #[test]
    fn text_survives_half_a_pair() {
        let text: Text<'_> = serde_json::from_str(r#""a\ud83d b\u00e9""#).expect("a string");
        assert_eq!(&*text, "a\u{fffd} bé");
        let halves: Text<'_> =
            serde_json::from_str(r#""\ud83d\ud83d\ude00\ude00""#).expect("a string");
        assert_eq!(&*halves, "\u{fffd}😀\u{fffd}");
        let plain: Text<'_> = serde_json::from_str("\"plain\"").expect("a string");
        assert!(matches!(plain.0, Cow::Borrowed("plain")));
        assert!(serde_json::from_str::<Text<'_>>("7").is_err());
        assert_eq!(
            serde_json::from_str::<Option<Text<'_>>>("null").ok(),
            Some(None)
        );
    }

    #[test]
    fn counts_come_in_many_ways() {
        for (json, count) in [("7", 7), ("7.0", 7), ("\"7\"", 7), ("null", 0), ("-1", 0)] {
            assert_eq!(
                serde_json::from_str::<Count>(json).ok(),
                Some(Count(count)),
                "{json}"
            );
        }
    }
}
