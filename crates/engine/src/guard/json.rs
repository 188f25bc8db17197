//! Strings of JSON: what they say, where in their text each sign of it stands, and how text is written into them.

use std::borrow::Cow;
use std::ops::Range;

/// Where the signs of a decoded text stand in the text that it was decoded from.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where runs begin that were copied as they are: in the decoded text, and in the other.
    runs: Vec<(usize, usize)>,
}

impl Places {
    /// From here on both go on alike.
    pub fn run(&mut self, decoded: usize, raw: usize) {
        self.runs.push((decoded, raw));
    }

    /// Where a place of the decoded text stands.
    pub fn raw(&self, decoded: usize) -> usize {
        let at = self.runs.partition_point(|(begins, _)| *begins <= decoded);
        let run = at.checked_sub(1).and_then(|at| self.runs.get(at));
        run.map_or(decoded, |(begins, raw)| raw + (decoded - begins))
    }

    /// Where a stretch of it stands.
    pub fn stretch(&self, decoded: &Range<usize>) -> Range<usize> {
        self.raw(decoded.start)..self.raw(decoded.end)
    }

    /// Forgets what stands before this place.
    pub fn forget(&mut self, decoded: usize) {
        let at = self.runs.partition_point(|(begins, _)| *begins <= decoded);
        self.runs.drain(..at.saturating_sub(1));
    }
}

/// The length of what is written for half a character.
pub const HALF: usize = '\u{fffd}'.len_utf8();

/// Escapes of a string, read sign by sign.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unescaper {
    state: Escape,
    /// The first half of a pair that makes one character.
    high: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    /// Behind a backslash.
    Begun,
    /// So many digits of a code, and what they are so far.
    Code(u8, u16),
}

impl Unescaper {
    /// Whether it stands within an escape, or between two that make one character.
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, Escape::None) || self.high.is_some()
    }

    /// Whether the next sign is part of an escape, whatever it is.
    pub fn wants(&self) -> bool {
        !matches!(self.state, Escape::None)
    }

    /// An escape begins.
    pub fn begin(&mut self) {
        self.state = Escape::Begun;
    }

    /// Reads a sign of an escape; whether the escape before turned out to be half a character, which was written for that.
    pub fn take(&mut self, sign: char, out: &mut String) -> bool {
        let had_half = self.high.is_some();
        let before = out.len();
        self.read(sign, out);
        had_half
            && out
                .get(before..)
                .is_some_and(|new| new.starts_with('\u{fffd}'))
    }

    fn read(&mut self, sign: char, out: &mut String) {
        match self.state {
            Escape::None => {}
            Escape::Begun if sign == 'u' => self.state = Escape::Code(0, 0),
            Escape::Begun => {
                self.end_pair(out);
                self.state = Escape::None;
                out.push(match sign {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    other => other,
                });
            }
            Escape::Code(count, code) => {
                let digit = sign.to_digit(16).unwrap_or_default() as u16;
                let code = code << 4 | digit;
                self.state = Escape::Code(count + 1, code);
                if count == 3 {
                    self.state = Escape::None;
                    self.code(code, out);
                }
            }
        }
    }

    fn code(&mut self, code: u16, out: &mut String) {
        match (self.high.take(), code) {
            (Some(high), 0xdc00..=0xdfff) => {
                let pair = char::decode_utf16([high, code]).next();
                out.push(pair.and_then(Result::ok).unwrap_or('\u{fffd}'));
            }
            (high, 0xd800..=0xdbff) => {
                out.extend(high.map(|_| '\u{fffd}'));
                self.high = Some(code);
            }
            (high, code) => {
                out.extend(high.map(|_| '\u{fffd}'));
                out.push(char::from_u32(code.into()).unwrap_or('\u{fffd}'));
            }
        }
    }

    /// No second half follows.
    pub fn end_pair(&mut self, out: &mut String) {
        out.extend(self.high.take().map(|_| '\u{fffd}'));
    }
}

/// What the inside of a string says, and where. Without places both are the same.
pub fn unescaped(raw: &str) -> (Cow<'_, str>, Option<Places>) {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return (Cow::Borrowed(raw), None);
    }
    let (mut out, mut places) = (String::with_capacity(raw.len()), Places::default());
    let (mut escape, mut escape_at) = (Unescaper::default(), 0);
    places.run(0, 0);
    for (at, sign) in raw.char_indices() {
        if escape.wants() {
            let before = out.len();
            if escape.take(sign, &mut out) {
                places.run(before + HALF, escape_at);
            }
            if !escape.is_inside() {
                places.run(out.len(), at + sign.len_utf8());
            }
        } else if sign == '\\' {
            escape_at = at;
            escape.begin();
        } else {
            if escape.is_inside() {
                escape.end_pair(&mut out);
                places.run(out.len(), at);
            }
            out.push(sign);
        }
    }
    escape.end_pair(&mut out);
    places.run(out.len(), raw.len());
    (Cow::Owned(out), Some(places))
}

/// Text as the inside of a string.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let quoted = serde_json::Value::from(text).to_string();
    let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    Cow::Owned(inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_is_found_where_it_stands() {
        let raw = r#"a\n\u00e9\ud83d\ude00é\ud83d!\"\\z\udc00\ud83d\tb\ud83d\u0063\ud83d"#;
        let (text, places) = unescaped(raw);
        assert_eq!(
            text,
            "a\né😀é\u{fffd}!\"\\z\u{fffd}\u{fffd}\tb\u{fffd}c\u{fffd}"
        );
        let places = places.expect("there are escapes");
        let stands = |sign: char| {
            let at = text.find(sign).expect("it is there");
            &raw[places.stretch(&(at..at + sign.len_utf8()))]
        };
        for (sign, expected) in [
            ('a', "a"),
            ('\n', "\\n"),
            ('😀', "\\ud83d\\ude00"),
            ('\u{fffd}', "\\ud83d"),
            ('!', "!"),
            ('"', "\\\""),
            ('\\', "\\\\"),
            ('z', "z"),
            ('\t', "\\t"),
            ('b', "b"),
            ('c', "\\u0063"),
        ] {
            assert_eq!(stands(sign), expected);
        }
        assert_eq!(unescaped(&escaped(&text)).0, text);
    }
}
