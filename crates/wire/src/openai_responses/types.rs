//! The members of Responses that the gateway reads, borrowed from the bytes.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::ingress::flat_name;
use crate::canon::Citation;
use crate::lenient::{Count, Text};

/// A stream event; which members are there depends on `type`.
#[derive(Debug, Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(default)]
    pub output_index: usize,
    #[serde(default)]
    pub content_index: usize,
    #[serde(default)]
    pub summary_index: usize,
    #[serde(borrow, default)]
    pub delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub annotation: Option<Annotation<'a>>,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub item: Option<Item<'a>>,
    #[serde(borrow, default)]
    pub response: Option<Answer<'a>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub message: Option<Cow<'a, str>>,
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub incomplete_details: Option<Incomplete<'a>>,
    #[serde(borrow, default)]
    pub output: Option<Vec<Item<'a>>>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub service_tier: Option<&'a RawValue>,
}

/// A whole answer as far as it is checked without translating.
#[derive(Debug, Deserialize)]
pub(crate) struct AnswerPeek<'a> {
    #[serde(borrow, default)]
    pub status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub service_tier: Option<&'a RawValue>,
    #[serde(default)]
    pub output: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Incomplete<'a> {
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
}

/// An item of the output.
#[derive(Debug, Deserialize)]
pub(crate) struct Item<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// The input of a freeform call.
    #[serde(borrow, default)]
    pub input: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub encrypted_content: Option<Text<'a>>,
    /// The picture that a picture's call made.
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub output_format: Option<Cow<'a, str>>,
    /// A text in function calls, an object in others.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub content: Option<Vec<ContentPart<'a>>>,
    #[serde(borrow, default)]
    pub summary: Option<Vec<ContentPart<'a>>>,
}

impl Item<'_> {
    /// The name of a call's tool, its namespace before it.
    pub(crate) fn name(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        match self.namespace.as_deref().filter(|space| !space.is_empty()) {
            Some(namespace) => flat_name(namespace, name),
            None => name.to_owned(),
        }
    }

    /// The arguments of a function call.
    pub(crate) fn arguments(&self) -> String {
        let Some(raw) = self.arguments else {
            return String::new();
        };
        serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
    }
}

/// A piece of a message or of a reasoning's summary.
#[derive(Debug, Deserialize)]
pub(crate) struct ContentPart<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub annotations: Option<Vec<Annotation<'a>>>,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
}

/// Where a text comes from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotation<'a> {
    #[serde(borrow)]
    url: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    filename: Option<Text<'a>>,
    start_index: Option<Count>,
    end_index: Option<Count>,
}

impl Annotation<'_> {
    /// In the hub's terms.
    pub(crate) fn citation(&self) -> Citation {
        let text = |text: &Option<Text<'_>>| text.as_deref().map(str::to_owned);
        let start = self.start_index.unwrap_or_default().0;
        let end = self.end_index.unwrap_or_default().0;
        Citation {
            url: text(&self.url)
                .or_else(|| text(&self.filename))
                .unwrap_or_default(),
            title: text(&self.title),
            cited: None,
            span: (end > start).then_some((start, end)),
        }
    }
}
