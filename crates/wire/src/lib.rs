//! Bytes ⇄ canonical chat, one folder per format. Pure: no I/O, no runtime, no clock.
//!
//! Three seams, each a small trait, found by [`registry`]:
//! - [`Dialect`]: every format. How it says errors, and what single frames and answers of it mean (the native lane needs no more).
//! - [`Ingress`]: formats that clients may speak to an upstream of another format.
//! - [`Egress`]: formats that upstreams may speak to a client of another format.

pub mod anthropic_messages;
pub mod array;
pub mod bedrock_converse;
pub mod bridge;
pub mod canon;
mod continuation;
pub mod counting;
pub mod event_stream;
pub mod gemini;
mod lenient;
mod media;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod quirks;
pub mod raw;
pub mod registry;
mod request;
pub mod sse;
mod turns;
pub mod upstream_error;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use polygate_core::{Failure, Usage};
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

pub use bridge::{Bridge, Return};
pub use canon::{ChatEvent, ChatRequest, ChatResponse, Loss};
pub use quirks::Quirks;
pub use raw::RawObject;
pub use registry::{dialect, egress, ingress};
pub use sse::{Frame, Framer};

/// A chat wire format, independent of who speaks it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// OpenAI Chat Completions, and everyone who copies it.
    OpenaiChat,
    /// OpenAI Responses.
    OpenaiResponses,
    /// Anthropic Messages.
    AnthropicMessages,
    /// Gemini `generateContent`.
    Gemini,
    /// Bedrock's Converse: upstreams only.
    BedrockConverse,
}

impl Format {
    /// All formats, in a fixed order.
    pub const ALL: [Format; 5] = [
        Format::OpenaiChat,
        Format::OpenaiResponses,
        Format::AnthropicMessages,
        Format::Gemini,
        Format::BedrockConverse,
    ];

    /// The name in configuration, logs and docs.
    pub fn name(self) -> &'static str {
        match self {
            Format::OpenaiChat => "openai-chat",
            Format::OpenaiResponses => "openai-responses",
            Format::AnthropicMessages => "anthropic-messages",
            Format::Gemini => "gemini",
            Format::BedrockConverse => "bedrock-converse",
        }
    }
}

/// What every format can say about itself without translating: errors in and out, and the meaning of an answer.
pub trait Dialect: Send + Sync {
    /// An error body as clients of this format expect it.
    fn encode_error(&self, failure: &Failure, request_id: &str) -> Bytes;

    /// An error as a last, whole event of a stream: after it nothing that looks like a proper end.
    fn encode_stream_error(&self, failure: &Failure, request_id: &str) -> Bytes;

    /// The same behind these events, for formats that number theirs.
    fn encode_stream_error_after(
        &self,
        _events: &[u8],
        failure: &Failure,
        request_id: &str,
    ) -> Bytes {
        self.encode_stream_error(failure, request_id)
    }

    /// What an upstream's error body says, where it is one of this format.
    fn decode_error(&self, body: &[u8]) -> Option<UpstreamError>;

    /// Checks a whole answer without building a tree: a JSON object, no error inside; returns the usage it reports.
    fn check_answer(&self, body: &[u8]) -> Result<Option<Usage>, Failure>;

    /// The same for a turn of a chat, which has to have something in it: a choice, a candidate, content, be it nothing said.
    fn check_chat(&self, body: &[u8]) -> Result<Option<Usage>, Failure>;

    /// What one stream frame means to the gateway.
    fn sniff(&self, frame: &Frame<'_>) -> Signal;

    /// Byte strings of which at least one is in every frame whose [`Signal`] is more than plain progress after the commit point:
    /// usage, errors, ends. Frames without any pass unread.
    fn marks(&self) -> &'static [&'static [u8]];
}

/// An upstream's own words about an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The human sentence.
    pub message: String,
    /// Its code or type, the more specific of the two.
    pub code: Option<String>,
    /// The request member at fault.
    pub param: Option<String>,
}

/// What one frame of a stream means to the gateway.
#[derive(Debug, Default)]
pub struct Signal {
    /// How far the stream is.
    pub progress: Progress,
    /// Token counts that the frame reports.
    pub usage: Option<Usage>,
    /// The frame carries usage and nothing else that a client could miss.
    pub is_only_usage: bool,
    /// It says that the provider did not let the prompt through, and nothing else.
    pub is_blocked: bool,
    /// The error that the frame is.
    pub failure: Option<Box<Failure>>,
}

impl Signal {
    /// A frame that says what failed.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            failure: Some(Box::new(failure)),
            ..Self::default()
        }
    }

    /// A frame that is not as the format says: JSON with members of unknown shape passes as content, anything else is no stream.
    pub(crate) fn unreadable(frame: &Frame<'_>) -> Self {
        match serde_json::from_slice::<serde::de::IgnoredAny>(&frame.data) {
            Ok(_) => Self {
                progress: Progress::Content,
                ..Self::default()
            },
            Err(_) => Self::failed(upstream_error::junk(
                "the provider's stream has an event that is not one",
            )),
        }
    }
}

/// How far a stream is, as one frame shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Role chunks, starts, pings, comments: nothing a client would miss.
    #[default]
    Preamble,
    /// Text, reasoning, a tool call, a refusal: something was produced.
    Content,
    /// The finish reason has come; usage and the end mark may follow.
    Finish,
    /// The mark after which nothing follows (`[DONE]`, `message_stop`, `response.completed`, …).
    End,
}

/// The stream closed without its end.
pub fn ended_early() -> Failure {
    Failure::new(
        polygate_core::Kind::Broken,
        "the provider's stream ended before its end",
    )
    .ambiguous()
}

/// A format in which clients ask, for upstreams of another format.
pub trait Ingress: Send + Sync {
    /// Reads a client's request.
    fn decode_request(&self, body: &RawObject) -> Result<ChatRequest, Failure>;

    /// Writes a whole answer.
    fn encode_response(&self, response: &ChatResponse, reply: &ReplyHead) -> Bytes;

    /// Starts writing a stream.
    fn stream_encoder(&self, reply: ReplyHead) -> Box<dyn StreamEncoder>;
}

/// What an answer says of itself beside the content.
#[derive(Clone, Debug, Default)]
pub struct ReplyHead {
    /// The call's own id, of which answers' ids are made where the upstream gives none.
    pub request_id: String,
    /// The model's name as the client asked for it.
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The client asked for usage in its stream.
    pub include_usage: bool,
    /// The client wants its stream as one JSON array: Google's way without `alt=sse`.
    pub is_array: bool,
    /// Members of the request that the answer repeats.
    pub echo: Vec<(String, Box<RawValue>)>,
    /// Tools that the client knows by a namespace and a name.
    pub namespaces: Vec<canon::Namespaced>,
    /// The function that stands for the client's own search for tools.
    pub search: Option<String>,
    /// What no other answer's id is made of.
    pub unique: String,
    /// Who keeps the answer for later calls.
    pub keep: Keep,
}

/// Whoever keeps answers for later calls, if anybody.
#[derive(Clone, Default)]
pub struct Keep(Option<Arc<Keeper>>);

type Keeper = dyn Fn(Keepsake<'_>) + Send + Sync;

/// An answer to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Keepsake<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its items, a JSON list.
    pub output: &'a str,
    /// All of it, JSON.
    pub answer: &'a str,
}

impl Keep {
    /// Somebody keeps answers.
    pub fn with(keeper: impl Fn(Keepsake<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(keeper)))
    }

    /// Hands over an answer, its items and its whole, where somebody keeps it.
    pub(crate) fn answer(&self, id: &str, output: &impl Serialize, answer: &impl Serialize) {
        let Some(keeper) = &self.0 else { return };
        let written = (serde_json::to_string(output), serde_json::to_string(answer));
        if let (Ok(output), Ok(answer)) = written {
            keeper(Keepsake {
                id,
                output: &output,
                answer: &answer,
            });
        }
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Keep"
        } else {
            "Keep(nobody)"
        })
    }
}

/// Canonical events → bytes of a client's stream.
pub trait StreamEncoder: Send {
    /// Appends whatever this event means to the stream.
    fn encode(&mut self, event: &ChatEvent, out: &mut Vec<u8>);

    /// Appends the proper end, after `Stop` has been encoded. Never called for a stream that failed.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// Appends a failure in place of the end, as a last, whole event.
    fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>);
}

/// Whom a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The model's name there.
    pub model: &'a str,
    /// How the upstream's dialect differs from its format.
    pub quirks: &'a Quirks,
}

/// A format in which upstreams answer, for clients of another format.
pub trait Egress: Send + Sync {
    /// Writes the upstream's request; names what it cannot carry.
    fn encode_request(
        &self,
        request: &ChatRequest,
        target: &Target<'_>,
    ) -> Result<(Bytes, Vec<Loss>), Failure>;

    /// Whether the model goes on with a last message of its own where this request ends with one. Who does not is asked to in words.
    fn continues_last_message(&self, _request: &ChatRequest, _target: &Target<'_>) -> bool {
        false
    }

    /// Reads a whole answer.
    fn decode_response(&self, body: &[u8]) -> Result<ChatResponse, Failure>;

    /// Starts reading a stream.
    fn stream_decoder(&self) -> Box<dyn StreamDecoder>;
}

/// Frames of an upstream's stream → canonical events. A push machine: no I/O, any way of cutting gives the same events.
pub trait StreamDecoder: Send {
    /// Reads one frame. `Err` for a frame that is no frame of this format; errors that the upstream reports come as [`ChatEvent::Failed`].
    fn decode(&mut self, frame: &Frame<'_>, out: &mut Vec<ChatEvent>) -> Result<(), Failure>;

    /// Why the answer stopped has been said, though more may come: silence from here on is a proper end. For formats without an
    /// end mark, whose `Stop` therefore waits for [`finish`](Self::finish).
    fn may_end(&self) -> bool {
        false
    }

    /// The upstream's bytes ended. Appends what a proper end still owes; `Err` where the end came too early.
    fn finish(&mut self, out: &mut Vec<ChatEvent>) -> Result<(), Failure>;
}
