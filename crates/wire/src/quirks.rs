//! How an upstream's dialect of OpenAI's formats differs from OpenAI's: what compatible providers add, rename, lack and refuse.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The differences, as a row of the provider table has them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// The limit of output is called `max_completion_tokens`; `max_tokens` everywhere else.
    pub max_completion_tokens: bool,
    /// It knows the role `developer`.
    pub developer: bool,
    /// It takes `cache_control` on parts.
    pub cache_control: bool,
    /// It takes `top_k`.
    pub top_k: bool,
    /// Where it reads the model's earlier thinking in messages of the assistant.
    pub reasoning_history: Option<ReasoningHistory>,
    /// It refuses messages of the assistant that come without their thinking: a blank stands for what is gone.
    pub reasoning_required: bool,
    /// How it is told to think, where that is not by `reasoning_effort`.
    pub thinking: Option<Switch>,
    /// It thinks, or it calls a tool that it has to call: never both.
    pub thinks_or_forces: bool,
    /// Instructions are one message, the first.
    pub system_first: bool,
    /// How a last message of the assistant is marked as one to go on with.
    pub continues: Option<Continues>,
    /// Ids of calls are exactly this many letters and digits.
    pub id_length: Option<usize>,
    /// The most stop sequences that it takes.
    pub most_stops: Option<usize>,
    /// Documents are parts `document_url`.
    pub document_url: bool,
    /// Sound is base64 text and nothing beside it.
    pub bare_audio: bool,
    /// What it has no word for at all.
    pub lacks: Vec<Feature>,
    /// Members of requests that it calls by another name: OpenAI's name, and its own.
    pub renames: BTreeMap<String, String>,
    /// Members of requests that it refuses.
    pub refuses: Vec<String>,
}

impl Quirks {
    /// Whether it has no word for this.
    pub fn lacks(&self, feature: Feature) -> bool {
        self.lacks.contains(&feature)
    }
}

/// Where earlier thinking stands in a message of the assistant.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningHistory {
    /// The member `reasoning_content`.
    ReasoningContent,
    /// The member `reasoning`.
    Reasoning,
    /// The member `reasoning_details` with its seals, and `reasoning` without any.
    ReasoningDetails,
    /// A part `thinking` of the content.
    Thinking,
    /// The content, in front, between `<think>` and `</think>`.
    Tags,
}

/// The mark of a message to go on with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Continues {
    /// `prefix: true`.
    Prefix,
    /// `partial: true`.
    Partial,
}

/// What a provider may have no word for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Pictures.
    Images,
    /// Pictures that it would have to fetch.
    ImageUrls,
    /// Documents.
    Files,
    /// Sound.
    Audio,
    /// An answer that follows a schema; any JSON object it can do.
    JsonSchema,
    /// Tools whose arguments follow their schema exactly.
    StrictTools,
    /// A choice of tools other than the model's own.
    ToolChoice,
}

/// Members by which a provider is told whether and how hard to think, as they stand in the request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Switch {
    /// Members that make it think.
    pub on: Map<String, Value>,
    /// Members that keep it from thinking.
    pub off: Map<String, Value>,
    /// Members that keep it from showing what it thinks.
    pub hidden: Map<String, Value>,
    /// The member for an effort, a JSON pointer.
    pub effort: Option<String>,
    /// The efforts that it knows, from least to most; empty for all of OpenAI's.
    pub efforts: Vec<String>,
    /// The member for a budget of tokens, a JSON pointer.
    pub budget: Option<String>,
}
