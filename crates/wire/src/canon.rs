//! The hub: one request, one event grammar, one answer that every format is read into and written from.
//!
//! The grammar is that of the strictest protocol: `Start (Open Delta* Close | Usage)* Stop`, blocks addressed by index,
//! so that several may be open at once. A client format that is sequential buffers; one that is flat just drops the brackets.

use polygate_core::{Failure, Usage};
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
    /// How hard to think.
    pub reasoning_effort: Option<Given<String>>,
    /// The shape the answer must have.
    pub output: Option<Given<OutputShape>>,
    /// The end user, as the client names them.
    pub user: Option<Given<String>>,
    /// Members nobody modelled, with their pointers: lost unless the target is of the same family.
    pub extra: Vec<Given<Box<RawValue>>>,
}

/// A value and where in the client's request it stood, so that a loss can be named.
#[derive(Clone, Debug, PartialEq)]
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

/// Something of the client's request that the target did not get, named by its JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss(pub String);

/// Collects what an encoder could not carry.
#[derive(Debug, Default)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// Notes that what stood there did not make it.
    pub fn at(&mut self, pointer: impl Into<String>) {
        let loss = Loss(pointer.into());
        if !self.0.contains(&loss) {
            self.0.push(loss);
        }
    }

    /// Notes an optional member that the target has no place for.
    pub fn unless_absent<T>(&mut self, given: &Option<Given<T>>) {
        if let Some(given) = given {
            self.at(given.at.clone());
        }
    }

    /// The list, in the order of discovery.
    pub fn into_vec(self) -> Vec<Loss> {
        self.0
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
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
    /// The model's thinking. Opaque state (signatures) joins it with issue "Translation".
    Reasoning(String),
    /// The model declined.
    Refusal(String),
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// A tool answers.
    ToolResult(ToolResult),
}

/// Bytes or an address of an image, a document or sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Where the content is.
    pub source: MediaSource,
    /// MIME type, where known.
    pub mime: Option<String>,
    /// File name, where given.
    pub name: Option<String>,
    /// Level of detail, where given.
    pub detail: Option<String>,
}

/// Where media content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// Inline, base64.
    Base64(String),
    /// Elsewhere.
    Url(String),
    /// Stored at the provider under this id.
    FileId(String),
}

/// A call of a tool. `arguments` is the JSON text as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Joins call and result.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text, as written.
    pub arguments: String,
}

/// The answer of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub call_id: String,
    /// The tool's name, looked up from the call where the client did not say it.
    pub name: Option<String>,
    /// What came back.
    pub content: Vec<Part>,
    /// The tool failed.
    pub is_error: bool,
}

/// A function the model may call.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments, bytes as the client wrote them.
    pub parameters: Option<Box<RawValue>>,
    /// Arguments must follow the schema exactly.
    pub strict: Option<bool>,
    /// JSON pointer of the tool in the client's request.
    pub at: String,
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
        description: Option<String>,
        /// The schema, bytes as the client wrote them.
        schema: Box<RawValue>,
        /// Must be followed exactly.
        strict: Option<bool>,
    },
}

/// One event of an answer that streams.
#[derive(Clone, Debug)]
pub enum ChatEvent {
    /// The answer begins. Preamble: nothing a client would miss.
    Start {
        /// The upstream's id of the answer.
        id: Option<String>,
        /// The upstream's name of the model.
        model: Option<String>,
    },
    /// A block begins.
    Open {
        /// Its address; blocks number from 0 in the order of their opening.
        index: usize,
        /// What it will hold.
        block: Block,
    },
    /// More of an open block: text, or JSON text of arguments.
    Delta {
        /// The block's address.
        index: usize,
        /// The piece.
        text: String,
    },
    /// A block is complete.
    Close {
        /// The block's address.
        index: usize,
    },
    /// Token counts so far; later ones complete earlier ones.
    Usage(Usage),
    /// Why the model stopped. Comes once, after the last `Close`; usage may follow.
    Stop(Stop),
    /// The upstream reported an error inside its stream. Nothing follows.
    Failed(Box<Failure>),
}

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Text.
    Text,
    /// Thinking.
    Reasoning,
    /// A refusal's text.
    Refusal,
    /// A tool call; its deltas are JSON text of the arguments.
    ToolCall {
        /// Joins call and result.
        id: String,
        /// The tool's name.
        name: String,
    },
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// Out of output tokens.
    Length,
    /// It wants tools called.
    ToolUse,
    /// It wrote a stop sequence.
    StopSequence(Option<String>),
    /// A filter stopped it.
    ContentFilter,
    /// It declined.
    Refusal,
    /// The provider paused a long turn.
    Pause,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatResponse {
    /// The upstream's id of the answer.
    pub id: Option<String>,
    /// The upstream's name of the model.
    pub model: Option<String>,
    /// What the model said, in order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub stop: Stop,
    /// Token counts, where reported.
    pub usage: Option<Usage>,
}
