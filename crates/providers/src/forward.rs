//! Which headers of a client reach a provider, and which never do whoever asks for it.

use std::collections::BTreeMap;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// Headers of clients that reach a provider.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Written")]
pub struct Forward(Vec<Rule>);

/// A header that reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: HeaderName,
    /// Patterns of those of its values, with commas between, that do; `None`: all of it as it is.
    pub only: Option<Vec<String>>,
}

/// How the table writes it: names, or names with patterns of values.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Names(Vec<String>),
    Values(BTreeMap<String, Vec<String>>),
}

/// Why a header is never passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// It is about one connection, or about how a body travels on it.
    Framing,
    /// The gateway writes it itself: another value would not fit the body or the address.
    OfBody,
    /// It may show a key.
    Credential,
    /// It says where a request has come from, or keeps a browser's state.
    Client,
    /// The gateway's own.
    Own,
}

/// Names that are never forwarded; a `*` at the end stands for any rest.
const NEVER: [(Never, &[&str]); 5] = [
    (
        Never::Framing,
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "accept-encoding",
            "expect",
            "http2-settings",
        ],
    ),
    (Never::OfBody, &["host", "content-type", "content-encoding"]),
    (
        Never::Credential,
        &[
            "authorization",
            "x-api-key",
            "x-goog-api-key",
            "api-key",
            "proxy-*",
            "x-amz-*",
            "x-litellm-api-key",
            "x-bf-vk",
            "x-portkey-api-key",
        ],
    ),
    (
        Never::Client,
        &[
            "cookie",
            "cookie2",
            "set-cookie",
            "forwarded",
            "via",
            "x-forwarded-*",
            "x-real-ip",
        ],
    ),
    (Never::Own, &["x-polygate-*"]),
];

impl Never {
    /// Why this header is never forwarded; `None` where it may be.
    pub fn of(name: &str) -> Option<Self> {
        let is_among = |names: &[&str]| names.iter().any(|pattern| is_like(pattern, name));
        let found = NEVER.iter().find(|(_, names)| is_among(names));
        found.map(|(why, _)| *why)
    }

    /// For people.
    pub fn why(self) -> &'static str {
        match self {
            Never::Framing => "it is about one connection only",
            Never::OfBody => "the gateway writes it itself",
            Never::Credential => "it may show a key",
            Never::Client => "it says who and where the client is",
            Never::Own => "it is the gateway's own",
        }
    }
}

impl Forward {
    /// These; an error says which may not be.
    pub fn new(rules: Vec<Rule>) -> Result<Self, String> {
        let refused = rules
            .iter()
            .find_map(|rule| Some((rule, Never::of(rule.name.as_str())?)));
        match refused {
            Some((rule, never)) => Err(format!(
                "'{}' is never passed on to a provider: {}",
                rule.name,
                never.why()
            )),
            None => Ok(Self(rules)),
        }
    }

    /// All of them.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// The same with another word on one header.
    #[must_use]
    pub fn with(&self, rule: Rule) -> Self {
        let others = self.0.iter().filter(|known| known.name != rule.name);
        Self(others.cloned().chain([rule.clone()]).collect())
    }

    /// Copies what is forwarded, in place of what stands there.
    pub(crate) fn copy(&self, from: &HeaderMap, to: &mut HeaderMap) {
        for rule in &self.0 {
            if is_of_connection(from, &rule.name) {
                continue;
            }
            match &rule.only {
                None => copy(&rule.name, from, to),
                Some(only) => {
                    if let Some(value) = filtered(&rule.name, only, from) {
                        to.insert(rule.name.clone(), value);
                    }
                }
            }
        }
    }
}

impl TryFrom<Written> for Forward {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let rules: Result<Vec<Rule>, String> = match written {
            Written::Names(names) => names.iter().map(|name| Rule::new(name, None)).collect(),
            Written::Values(values) => values
                .into_iter()
                .map(|(name, only)| Rule::new(&name, Some(only)))
                .collect(),
        };
        Self::new(rules?)
    }
}

impl Rule {
    /// A header by its name. A pattern that fits every value is none.
    pub fn new(name: &str, only: Option<Vec<String>>) -> Result<Self, String> {
        if name.contains('*') {
            return Err(format!("'{name}' must be the whole name of a header"));
        }
        let parsed = name.trim().parse();
        Ok(Self {
            name: parsed.map_err(|_| format!("'{name}' is no header name"))?,
            only: only.filter(|only| only.iter().all(|pattern| pattern != "*")),
        })
    }
}

/// Whether a message says itself that a header is about its connection alone.
pub fn is_of_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    let mut names = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    names.any(|one| one.trim().eq_ignore_ascii_case(name.as_str()))
}

/// Copies a header as it is, however often it is there.
pub(crate) fn copy(name: &HeaderName, from: &HeaderMap, to: &mut HeaderMap) {
    for (count, value) in from.get_all(name).iter().enumerate() {
        if count == 0 {
            to.insert(name.clone(), value.clone());
        } else {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Those of a header's values that fit a pattern, in one line; `None` where none does.
fn filtered(name: &HeaderName, only: &[String], from: &HeaderMap) -> Option<HeaderValue> {
    let lines = from.get_all(name).iter();
    let values = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty() && only.iter().any(|pattern| is_like(pattern, value)));
    let values: Vec<&str> = values.collect();
    let line = (!values.is_empty()).then(|| values.join(", "))?;
    HeaderValue::try_from(line).ok()
}

/// Whether a text fits a pattern: `*` stands for any run, everything else for itself.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((front, pattern)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(front) else {
        return false;
    };
    let (middle, end) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    for piece in middle.split('*') {
        let Some((_, behind)) = rest.split_once(piece) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(forward: &Forward, lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut from = HeaderMap::new();
        for (name, value) in lines {
            from.append(*name, HeaderValue::from_static(value));
        }
        let mut to = HeaderMap::new();
        to.insert("anthropic-beta", HeaderValue::from_static("ours"));
        forward.copy(&from, &mut to);
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("text"))
        };
        to.iter().map(shown).collect()
    }

    fn betas(only: Option<&[&str]>) -> Forward {
        let only = only.map(|only| only.iter().map(|one| (*one).to_owned()).collect());
        let rule = Rule::new("Anthropic-Beta", only).expect("a name");
        Forward::new(vec![rule]).expect("allowed")
    }

    #[test]
    fn what_a_client_says_is_of_its_connection_stays() {
        let forward = Forward::new(vec![Rule::new("openai-beta", None).expect("a name")]);
        let lines = [("connection", "close, OpenAI-Beta"), ("openai-beta", "x")];
        let sent = sent(&forward.expect("allowed"), &lines);
        assert_eq!(sent, ["anthropic-beta: ours"]);
        assert!(Rule::new("x-*", None).is_err(), "names are whole");
    }

    #[test]
    fn values_are_let_through_one_by_one() {
        const LINES: [(&str, &str); 3] = [
            ("anthropic-beta", "files-api-1,prompt-caching-2 , junk"),
            ("anthropic-beta", ", files-api-3"),
            ("openai-beta", "x"),
        ];
        for (only, expected) in [
            (
                Some(&["files-*", "junk"][..]),
                &["anthropic-beta: files-api-1, junk, files-api-3"][..],
            ),
            (Some(&["*-2"]), &["anthropic-beta: prompt-caching-2"]),
            (Some(&["none"]), &["anthropic-beta: ours"]),
            (Some(&[]), &["anthropic-beta: ours"]),
            (
                Some(&["files-*", "*"]),
                &[
                    "anthropic-beta: files-api-1,prompt-caching-2 , junk",
                    "anthropic-beta: , files-api-3",
                ],
            ),
            (
                None,
                &[
                    "anthropic-beta: files-api-1,prompt-caching-2 , junk",
                    "anthropic-beta: , files-api-3",
                ],
            ),
        ] {
            assert_eq!(sent(&betas(only), &LINES), expected, "{only:?}");
        }
        assert_eq!(sent(&betas(None), &[]), ["anthropic-beta: ours"]);
    }

    #[test]
    fn what_is_never_forwarded_is_told_why() {
        for (name, never) in [
            ("authorization", Some(Never::Credential)),
            ("x-api-key", Some(Never::Credential)),
            ("x-amz-security-token", Some(Never::Credential)),
            ("proxy-authorization", Some(Never::Credential)),
            ("cookie", Some(Never::Client)),
            ("x-forwarded-for", Some(Never::Client)),
            ("transfer-encoding", Some(Never::Framing)),
            ("host", Some(Never::OfBody)),
            ("x-polygate-hops", Some(Never::Own)),
            ("anthropic-beta", None),
            ("user-agent", None),
            ("x-forwarded", None),
        ] {
            assert_eq!(Never::of(name), never, "{name}");
            let rule = Rule::new(name, None).expect("a name");
            assert_eq!(Forward::new(vec![rule]).is_err(), never.is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_it_was_made_of(pieces in prop::collection::vec("[ab]{0,3}", 1..5), runs in prop::collection::vec("[ab*]{0,3}", 4)) {
            let pattern = pieces.join("*");
            let mut text = String::new();
            for (at, piece) in pieces.iter().enumerate() {
                if at > 0 {
                    text.push_str(&runs[at - 1]);
                }
                text.push_str(piece);
            }
            prop_assert!(is_like(&pattern, &text), "{} {}", pattern, text);
        }

        #[test]
        fn a_pattern_fits_nothing_else(pattern in "[ab*]{0,6}", text in "[ab]{0,6}") {
            // By trying everything.
            fn fits(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, rest) => rest.is_none(),
                    (Some((b'*', pattern)), _) => (0..=text.len()).any(|at| fits(pattern, &text[at..])),
                    (Some((one, pattern)), Some((other, text))) => one == other && fits(pattern, text),
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(is_like(&pattern, &text), fits(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
