//! What a mock was told to do otherwise: rules that fit requests, and how requests that fit are treated.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Which requests, how many of them, and what happens to them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The model, or its beginning and `*`.
    pub model: Option<String>,
    /// Part of the path.
    pub path: Option<String>,
    /// How many requests; all unless given.
    pub times: Option<u64>,
    /// What happens.
    pub then: Behaviour,
}

/// How a request is treated.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Before the head of the answer.
    pub latency_ms: u64,
    /// Between events of a stream.
    pub token_ms: u64,
    /// How many words the answer has.
    pub tokens: Option<u32>,
    /// The answer's text.
    pub text: Option<String>,
    /// What the model thinks before it answers.
    pub thought: Option<String>,
    /// An error with this status.
    pub status: Option<u16>,
    /// The error's sentence.
    pub error: Option<String>,
    /// Headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// The answer's body, instead of any that would be made.
    pub body: Option<String>,
    /// That body's type.
    pub content_type: Option<String>,
    /// Something goes wrong.
    pub fault: Option<Fault>,
}

/// What can go wrong. Counts are of stream events; 0 = right after the head.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The connection closes without an answer.
    Refuse,
    /// The connection is reset without an answer.
    Reset,
    /// No answer, ever.
    Stall,
    /// A reset after so many events.
    ResetAfter(u32),
    /// The connection closes after so many events, in the middle of the body.
    CutAfter(u32),
    /// A proper end of the body after so many events, without the stream's own end.
    EndAfter(u32),
    /// Nothing more after so many events.
    StallAfter(u32),
    /// An error event after so many events, inside 200.
    ErrorAfter(u32),
    /// 200 with bytes of no meaning.
    Junk,
    /// 200 with a web page.
    Html,
    /// 200 with nothing.
    Empty,
    /// 200 without an end: one line that only grows.
    Endless,
    /// A redirect to there.
    Redirect(String),
    /// Signs of life for ever, and no word.
    Pings,
    /// Bytes of no meaning after so many events, then the proper end of the body.
    JunkAfter(u32),
    /// A proper end of the body in the middle of the event after so many.
    HalfAfter(u32),
    /// The first event, or a whole answer, in pieces of so few bytes, a moment apart.
    Pieces(u32),
    /// A length of so many bytes, whatever the body has.
    Length(u32),
    /// An interim head (103) before the answer.
    EarlyHints,
    /// An answer as of HTTP/1.0, that ends where the connection does.
    CloseDelimited,
    /// These bytes instead of an answer, `token_ms` between any two; then the connection closes.
    Raw(String),
}

/// The rules of one mock.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<Vec<Rule>>);

impl Script {
    pub(crate) fn add(&self, rule: Rule) {
        self.lock().push(rule);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// How this request is treated; uses up one of the rule's times.
    pub(crate) fn take(&self, model: &str, path: &str) -> Option<Behaviour> {
        let mut rules = self.lock();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.times != Some(0) && rule.fits(model, path))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.then.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    fn fits(&self, model: &str, path: &str) -> bool {
        let model_fits =
            self.model
                .as_deref()
                .is_none_or(|wanted| match wanted.strip_suffix('*') {
                    Some(start) => model.starts_with(start),
                    None => model == wanted,
                });
        model_fits && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}
