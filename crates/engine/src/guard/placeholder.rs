//! What stands in the place of text that a provider is not to see: the same for the same text in every turn, so that its caches of
//! prompts and its signatures stay good; and the way back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::hmac;
use memchr::memmem;

/// The most bytes that a placeholder has.
const LONGEST: usize = 64;

/// How many hexadecimal digits it has; more where two texts would have the same.
const DIGITS: [usize; 3] = [8, 16, 32];

/// Makes placeholders.
#[derive(Clone)]
pub struct Maker(hmac::Key);

/// What was hidden in one call.
pub struct Hidden {
    maker: Maker,
    /// Texts by their placeholders.
    texts: HashMap<String, String>,
    restoring: Restoring,
}

/// What is put back into an answer: only what was hidden in its own request, whatever else looks like a placeholder.
#[derive(Clone, Default)]
pub struct Restoring {
    texts: HashMap<String, String>,
}

/// What begins at a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Restores<'a> {
    /// No placeholder of the call.
    Nothing,
    /// That depends on what follows.
    Perhaps,
    /// One that ends here, and stands for this.
    Text(usize, &'a str),
}

impl Maker {
    /// By this key: who does not have it cannot check what he guesses.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn digits(&self, text: &str) -> String {
        let tag = hmac::sign(&self.0, text.as_bytes());
        tag.as_ref()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Default for Maker {
    /// By a key that everybody knows.
    fn default() -> Self {
        Self::new(b"polygate guards")
    }
}

impl Hidden {
    /// Nothing yet.
    pub fn new(maker: Maker) -> Self {
        Self {
            maker,
            texts: HashMap::new(),
            restoring: Restoring::default(),
        }
    }

    /// The placeholder of a text.
    pub fn hide(&mut self, label: &str, text: &str, is_restored: bool) -> String {
        let digits = self.maker.digits(text);
        let name = |count: &usize| {
            let digits = digits.get(..*count).unwrap_or(&digits);
            format!("[{label}_{digits}]")
        };
        let is_free = |name: &String| self.texts.get(name).is_none_or(|known| known == text);
        let free = DIGITS.iter().map(name).find(is_free);
        let name = free.unwrap_or_else(|| name(&DIGITS[2]));
        if is_restored {
            let texts = &mut self.restoring.texts;
            texts.insert(name.clone(), text.to_owned());
        }
        self.texts.insert(name.clone(), text.to_owned());
        name
    }

    /// Who makes placeholders.
    pub fn maker(&self) -> &Maker {
        &self.maker
    }

    /// The way back.
    pub fn restoring(&self) -> &Restoring {
        &self.restoring
    }
}

impl Restoring {
    /// Whether there is nothing to put back.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What the other puts back as well.
    pub fn extend(&mut self, other: &Self) {
        let texts = other.texts.iter();
        self.texts
            .extend(texts.map(|(name, text)| (name.clone(), text.clone())));
    }

    /// Each placeholder for itself: what has to stay as it is.
    pub fn staying(&self) -> Self {
        let names = self.texts.keys();
        Self {
            texts: names.map(|name| (name.clone(), name.clone())).collect(),
        }
    }

    /// What begins at this place of a text.
    pub fn at(&self, text: &str, at: usize, is_end: bool) -> Restores<'_> {
        let Some(rest) = text.as_bytes().get(at..) else {
            return Restores::Nothing;
        };
        if rest.first() != Some(&b'[') || self.is_empty() {
            return Restores::Nothing;
        }
        let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let inside = rest
            .iter()
            .skip(1)
            .take(LONGEST)
            .take_while(|&b| is_inside(b));
        let end = at + 1 + inside.count();
        match text.as_bytes().get(end) {
            Some(b']') => {
                let text = text.get(at..=end).and_then(|name| self.texts.get(name));
                text.map_or(Restores::Nothing, |text| Restores::Text(end + 1, text))
            }
            None if !is_end => Restores::Perhaps,
            _ => Restores::Nothing,
        }
    }

    /// Takes what was put back out again, for those who are told of calls.
    pub fn concealing(&self) -> Concealing {
        let mut needles = Vec::new();
        for (name, text) in &self.texts {
            let mut text = text.clone();
            // As it is, in a string, and in a string of JSON in a string.
            for _ in 0..3 {
                let inner = super::json::escaped(&text).into_owned();
                let is_plain = inner == text;
                needles.push((text.into_bytes(), name.clone()));
                if is_plain {
                    break;
                }
                text = inner;
            }
        }
        // What is part of something longer comes after that.
        needles.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Concealing(needles)
    }
}

/// Puts placeholders for what was hidden, however deep in JSON it stands.
#[derive(Clone, Default)]
pub struct Concealing(Vec<(Vec<u8>, String)>);

impl Concealing {
    /// What the other takes out as well.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0
            .sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        self.0.dedup();
    }

    /// These bytes without what was hidden.
    pub fn conceal<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut out = Cow::Borrowed(bytes);
        for (text, name) in &self.0 {
            if memmem::find(&out, text).is_some() {
                out = Cow::Owned(replaced(&out, text, name.as_bytes()));
            }
        }
        out
    }
}

/// Bytes with another piece in the place of one, wherever that stands.
pub(crate) fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memmem::find_iter(bytes, what) {
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        out.extend_from_slice(with);
        from = at + what.len();
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out
}

/// It is what nobody is to see.
impl fmt::Debug for Restoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Restoring({} texts)", self.texts.len())
    }
}

impl fmt::Debug for Concealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Concealing({} texts)", self.0.len())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({} texts)", self.texts.len())
    }
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Maker")
    }
}

/// A name as a placeholder has it.
pub fn label(name: &str) -> String {
    let sign = |sign: char| match sign.to_ascii_uppercase() {
        sign if sign.is_ascii_alphanumeric() => sign,
        _ => '_',
    };
    name.chars().take(24).map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_the_same_placeholder_and_only_what_was_hidden_comes_back() {
        let mut hidden = Hidden::new(Maker::new(b"key"));
        let name = hidden.hide("EMAIL", "ann@x.com", true);
        assert_eq!(hidden.hide("EMAIL", "ann@x.com", true), name);
        let again = Hidden::new(Maker::new(b"key")).hide("EMAIL", "ann@x.com", true);
        assert_eq!(again, name);
        let other = Hidden::new(Maker::new(b"other")).hide("EMAIL", "ann@x.com", true);
        assert_ne!(other, name);
        let gone = hidden.hide("EMAIL", "bob@x.com", false);
        let restoring = hidden.restoring();
        let text = format!("to {name}");
        let whole = Restores::Text(text.len(), "ann@x.com");
        assert_eq!(restoring.at(&text, 3, false), whole);
        for end in 4..text.len() {
            let cut = &text[..end];
            assert_eq!(restoring.at(cut, 3, false), Restores::Perhaps, "{cut}");
            assert_eq!(restoring.at(cut, 3, true), Restores::Nothing, "{cut}");
        }
        for text in [&*gone, "[EMAIL_00000000]", "[a b", "[x]", "x"] {
            assert_eq!(restoring.at(text, 0, true), Restores::Nothing, "{text}");
        }
    }

    #[test]
    fn what_was_put_back_is_concealed_however_deep_it_stands() {
        let mut hidden = Hidden::new(Maker::new(b"key"));
        let name = hidden.hide("W", "a\"b", true);
        let told = hidden.restoring().concealing();
        let told = told.conceal(br#"{"x":"a\"b","y":"{\"z\":\"a\\\"b\"}"}"#);
        let expected = format!(r#"{{"x":"{name}","y":"{{\"z\":\"{name}\"}}"}}"#);
        assert_eq!(String::from_utf8_lossy(&told), expected);
    }
}
