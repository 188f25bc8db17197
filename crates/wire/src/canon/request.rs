//! What is asked: a chat request, whatever format it came in.

use std::ops::Deref;

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::Format;

/// A chat request, whatever format it came in.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The format it came in: what members in `extra` mean.
    pub source: Option<Format>,
    /// The model as the client named it.
    pub model: String,
    /// The client wants a stream.
    pub stream: bool,
    /// The client wants usage in its stream.
    pub include_usage: bool,
    /// The conversation, system and developer messages in their places.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Whether and which.
    pub tool_choice: Option<Given<ToolChoice>>,
    /// Whether several calls may come in one turn.
    pub parallel_tool_calls: Option<Given<bool>>,
    /// The most output tokens, reasoning included where the format says so.
    pub max_tokens: Option<Given<u64>>,
    /// Sampling temperature on OpenAI's scale, 0 to 2.
    pub temperature: Option<Given<f64>>,
    /// Nucleus sampling.
    pub top_p: Option<Given<f64>>,
    /// Top-k sampling.
    pub top_k: Option<Given<u64>>,
    /// Stop sequences.
    pub stop: Option<Given<Vec<String>>>,
    /// Seed for sampling.
    pub seed: Option<Given<i64>>,
    /// Presence penalty.
    pub presence_penalty: Option<Given<f64>>,
    /// Frequency penalty.
    pub frequency_penalty: Option<Given<f64>>,
    /// Whether and how hard to think.
    pub thinking: Option<Given<Thinking>>,
    /// Whether thinking is to be shown, where the client said so.
    pub show_thinking: Option<Given<bool>>,
    /// The shape the answer must have.
    pub output: Option<Given<OutputShape>>,
    /// How many words to make: `low`, `medium`, `high`.
    pub verbosity: Option<Given<String>>,
    /// Log probabilities of the chosen tokens, and of this many others beside each.
    pub logprobs: Option<Given<u64>>,
    /// The end user, as the client names them.
    pub user: Option<Given<String>>,
    /// Tools that stand in a namespace: others know them by one name.
    pub namespaces: Vec<Namespaced>,
    /// The client searches for tools itself when it is asked to: the function that stands for that.
    pub search: Option<String>,
    /// Members that the answer repeats.
    pub echo: Vec<(String, Box<RawValue>)>,
    /// Members nobody modelled, with their pointers: lost unless the target is of the same family.
    pub extra: Vec<Given<Box<RawValue>>>,
}

impl ChatRequest {
    /// The tools that may be called: where the client named some, only those.
    pub fn offered(&self) -> Vec<&Tool> {
        let choice = self.tool_choice.as_ref().map(|given| &given.value);
        let Some(ToolChoice::Allowed { names, .. }) = choice else {
            return self.tools.iter().collect();
        };
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        let tools = self.tools.iter();
        tools
            .filter(|tool| names.contains(tool.name.as_str()))
            .collect()
    }
}

/// A value and where in the client's request it stood, so that a loss can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// JSON pointer into the client's request.
    pub at: String,
}

impl<T> Given<T> {
    /// A value that stood there.
    pub fn new(value: T, at: impl Into<String>) -> Self {
        Self {
            value,
            at: at.into(),
        }
    }
}

impl Deref for Given<String> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

/// Something of the client's request that the target did not get, named by its JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss(pub String);

/// Collects what an encoder could not carry, each once.
#[derive(Debug, Default)]
pub struct Losses {
    list: Vec<Loss>,
    known: HashSet<String>,
    source: Option<Format>,
}

impl Losses {
    /// Losses of this request.
    pub fn of(request: &ChatRequest) -> Self {
        Self {
            source: request.source,
            ..Self::default()
        }
    }

    /// Notes that what stood there did not make it.
    pub fn at(&mut self, pointer: impl Into<String>) {
        let pointer = pointer.into();
        if !self.known.contains(&pointer) {
            self.known.insert(pointer.clone());
            self.list.push(Loss(pointer));
        }
    }

    /// Notes an optional member that the target has no place for.
    pub fn unless_absent<T>(&mut self, given: &Option<Given<T>>) {
        if let Some(given) = given {
            self.at(given.at.clone());
        }
    }

    /// Notes a level of detail, for targets that have none. `auto` says nothing.
    pub fn detail(&mut self, media: &Media) {
        let detail = media.detail.as_ref();
        if let Some(detail) = detail.filter(|detail| detail.value != "auto") {
            self.at(&detail.at);
        }
    }

    /// Notes what Google's models put on a call, for targets that are none of theirs.
    pub fn seal(&mut self, call: &ToolCall, at: &str) {
        if call.opaque.is_some() {
            let member = match self.source {
                Some(Format::OpenaiChat) => "extra_content/google/thought_signature",
                _ => "thoughtSignature",
            };
            self.at(format!("{at}/{member}"));
        }
    }

    /// The list, in the order of discovery.
    pub fn into_vec(self) -> Vec<Loss> {
        self.list
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order, each part with the place where it stood.
    pub parts: Vec<Given<Part>>,
    /// JSON pointer of the message in the client's request.
    pub at: String,
}

/// Who speaks. Tool results are parts of a user's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// Instructions of the application.
    Developer,
    /// The user, or tools answering on their behalf.
    User,
    /// The model.
    Assistant,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Plain text.
    Text(String),
    /// A picture.
    Image(Media),
    /// A document.
    File(Media),
    /// Sound.
    Audio(Media),
    /// The model's thinking.
    Reasoning(Reasoning),
    /// The model declined.
    Refusal(String),
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// A tool answers.
    ToolResult(ToolResult),
    /// The prompt up to here is worth caching.
    CachePoint(CachePoint),
}

/// A mark for the provider's prompt cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePoint {
    /// How long, where the client said so: `5m`, `1h`.
    pub ttl: Option<String>,
}

/// The model's thinking, as far as it is shown, and the state that its maker wants back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// What is shown of it; may be empty.
    pub text: String,
    /// What only its issuer can read.
    pub opaque: Option<Opaque>,
}

/// State that a vendor's model hands out and wants back unchanged: signatures, encrypted reasoning. Nobody else can read it, and
/// nobody makes it up: for a target of another issuer it is a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Who can read it.
    pub issuer: Issuer,
    /// The bytes as they came.
    pub data: String,
    /// The item's own id, where the issuer wants that back too.
    pub id: Option<String>,
    /// The thinking itself is in `data`, hidden: there is no text beside it.
    pub is_redacted: bool,
}

/// Who made opaque state. Bedrock and Vertex hand out what their models' makers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// Claude, wherever it runs.
    Anthropic,
    /// OpenAI's models behind Responses.
    OpenAi,
    /// Gemini, wherever it runs.
    Google,
}

/// Bytes or an address of an image, a document or sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Where the content is.
    pub source: MediaSource,
    /// MIME type, where known.
    pub mime: Option<String>,
    /// File name, where given.
    pub name: Option<Given<String>>,
    /// Level of detail, where given.
    pub detail: Option<Given<String>>,
}

/// Where media content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// Inline, base64.
    Base64(String),
    /// Inline, plain text.
    Text(String),
    /// Elsewhere.
    Url(String),
    /// Stored at a provider, where nobody else finds it.
    FileId {
        /// Under this id, or at this address.
        id: String,
        /// Who keeps it.
        keeper: Issuer,
    },
}

impl Default for MediaSource {
    fn default() -> Self {
        MediaSource::Text(String::new())
    }
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Joins call and result.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text as the model wrote it; for a freeform tool its input, whatever that is.
    pub arguments: String,
    /// Whether `arguments` is JSON.
    pub kind: CallKind,
    /// State that Google's models put on their calls.
    pub opaque: Option<Opaque>,
}

/// What a call's arguments are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallKind {
    /// JSON text.
    #[default]
    Function,
    /// Any text.
    Custom,
}

/// The answer of a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub call_id: String,
    /// The tool's name, looked up from the call where the client did not say it.
    pub name: Option<String>,
    /// What came back.
    pub content: Vec<Given<Part>>,
    /// The tool failed; where the client said so, its pointer.
    pub error: Option<Given<bool>>,
    /// What kind of call it answers.
    pub kind: CallKind,
}

impl ToolResult {
    /// The tool failed.
    pub fn is_error(&self) -> bool {
        self.error.as_ref().is_some_and(|given| given.value)
    }
}

/// A tool the model may call.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// What it takes.
    pub input: ToolInput,
    /// Arguments must follow the schema exactly.
    pub strict: Option<Given<bool>>,
    /// The prompt up to here is worth caching.
    pub cache: Option<Given<CachePoint>>,
    /// JSON pointer of the tool in the client's request.
    pub at: String,
}

/// A tool's name and namespace, and the one name that stands for both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaced {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
    /// The name for those that know no namespaces.
    pub flat: String,
}

/// What a tool takes.
#[derive(Clone, Debug)]
pub enum ToolInput {
    /// JSON of this schema, bytes as the client wrote them.
    Json(Option<Box<RawValue>>),
    /// Text, of this grammar where there is one.
    Freeform(Option<Given<Grammar>>),
}

/// The grammar of a freeform tool's input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grammar {
    /// `lark` or `regex`.
    pub syntax: String,
    /// The grammar.
    pub definition: String,
}

impl Tool {
    /// The schema of its arguments, where it has one.
    pub fn parameters(&self) -> Option<&RawValue> {
        match &self.input {
            ToolInput::Json(schema) => schema.as_deref(),
            ToolInput::Freeform(_) => None,
        }
    }

    /// Whether arguments must follow the schema exactly.
    pub fn is_strict(&self) -> bool {
        self.strict.as_ref().is_some_and(|given| given.value)
    }
}

/// Whether and which tool must be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// This tool.
    Named(String),
    /// One of these, or none of them unless one is required.
    Allowed {
        /// The tools.
        names: Vec<String>,
        /// One must be called.
        required: bool,
    },
}

/// Whether and how hard to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Not at all.
    Off,
    /// As the model sees fit.
    Auto,
    /// This hard.
    Effort(Effort),
    /// With at most this many tokens.
    Budget(u64),
}

/// How hard to think, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// As little as possible.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// Very much.
    XHigh,
    /// All there is.
    Max,
}

impl Effort {
    /// All steps, with their names and the budgets of tokens they stand for where a target counts tokens.
    const STEPS: [(Effort, &'static str, u64); 6] = [
        (Effort::Minimal, "minimal", 512),
        (Effort::Low, "low", 1024),
        (Effort::Medium, "medium", 8192),
        (Effort::High, "high", 24576),
        (Effort::XHigh, "xhigh", 32768),
        (Effort::Max, "max", 32768),
    ];

    /// The step of this name, upper and lower case alike.
    pub fn named(name: &str) -> Option<Self> {
        let row = Self::STEPS
            .iter()
            .find(|(_, known, _)| known.eq_ignore_ascii_case(name));
        row.map(|(effort, ..)| *effort)
    }

    fn row(self) -> (Effort, &'static str, u64) {
        let [minimal, low, medium, high, xhigh, max] = Self::STEPS;
        match self {
            Effort::Minimal => minimal,
            Effort::Low => low,
            Effort::Medium => medium,
            Effort::High => high,
            Effort::XHigh => xhigh,
            Effort::Max => max,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The budget it stands for.
    pub fn budget(self) -> u64 {
        self.row().2
    }

    /// The step that a budget stands for.
    pub fn of_budget(tokens: u64) -> Self {
        let steps = Self::STEPS.iter().take(4);
        let mut fits = steps.filter(|(.., budget)| tokens <= *budget);
        fits.next().map_or(Effort::High, |(effort, ..)| *effort)
    }
}

/// The shape the answer must have.
#[derive(Clone, Debug)]
pub enum OutputShape {
    /// Any JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// The schema's name.
        name: Option<String>,
        /// What it is for.
        description: Option<Given<String>>,
        /// The schema, bytes as the client wrote them.
        schema: Box<RawValue>,
        /// Must be followed exactly.
        strict: Option<bool>,
    },
}
