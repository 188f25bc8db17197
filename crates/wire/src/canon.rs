//! The hub: one request, one event grammar, one answer that every format is read into and written from.
//!
//! The grammar is that of the strictest protocol: `Start (Open Delta* Close | Usage)* Stop`, blocks addressed by index,
//! so that several may be open at once. A client format that is sequential buffers; one that is flat just drops the brackets.

mod answer;
mod request;

pub use answer::{Block, ChatEvent, ChatResponse, Citation, Said, Stop, TokenLogprob};
pub use request::{
    CachePoint, CallKind, ChatRequest, Effort, Given, Grammar, Issuer, Loss, Losses, Media,
    MediaSource, Message, Namespaced, Opaque, OutputShape, Part, Reasoning, Role, Thinking, Tool,
    ToolCall, ToolChoice, ToolInput, ToolResult,
};
