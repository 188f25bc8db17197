//! Where requests go, how they are signed, and what an upstream's failure means. Knows nothing of routing or clients.
//!
//! A provider is a [`Row`] of `data/providers.toml`; [`registry`] turns a row and an operator's [`Settings`] into a [`Provider`].

pub mod azure;
pub mod base;
pub mod bedrock;
pub mod catalogue;
pub mod classify;
pub mod compat;
pub mod family;
pub mod forward;
pub mod heads;
pub mod price;
pub mod price_map;
pub mod registry;
mod sigv4;
pub mod table;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use polygate_core::{Failure, Secret};
use polygate_wire::{Format, Quirks};
use std::time::SystemTime;

pub use catalogue::{Catalogue, Listing};
pub use forward::Forward;
pub use price::{Price, PriceLine};
pub use registry::{Settings, build};
pub use table::{Row, row_at, row_named, table};

/// An upstream as the engine sees it.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Wire formats this upstream speaks, best first.
    fn formats(&self) -> &[Format];

    /// Whether its chat takes `stream_options`.
    fn takes_stream_options(&self) -> bool;

    /// Whether it has OpenAI's legacy completions beside its chat.
    fn has_completions(&self) -> bool;

    /// The format in which it counts a request's tokens, where it does.
    fn counts(&self) -> Option<Format>;

    /// How its dialect of OpenAI's formats differs.
    fn quirks(&self) -> &Quirks;

    /// The request, complete but for credentials.
    fn request(&self, outbound: &Outbound<'_>) -> Result<Request<Bytes>, Failure>;

    /// Attaches the credential; may sign the body or refresh a token.
    async fn authorize(&self, request: &mut Request<Bytes>, secret: &Secret)
    -> Result<(), Failure>;

    /// What an answer that is not a success means.
    fn classify(&self, answer: &Answer) -> Failure;
}

/// What is wanted of an upstream.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// The operation.
    pub operation: Operation<'a>,
    /// The model's name at the upstream.
    pub model: &'a str,
    /// The client's headers; only those that the row forwards are read.
    pub client_headers: &'a HeaderMap,
    /// The body to send.
    pub body: Bytes,
}

/// The operations that upstreams have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A chat turn in this format.
    Chat {
        /// The wire format of the body.
        format: Format,
        /// The answer is a stream.
        stream: bool,
    },
    /// OpenAI's legacy completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// How many tokens a request in this format is.
    Count {
        /// The wire format of the question.
        format: Format,
    },
    /// Another method of a Gemini model: `embedContent`, ….
    GeminiMethod {
        /// The word after the colon.
        method: &'a str,
    },
    /// The list of models: the probe that costs no tokens.
    Models,
    /// Any path below the base, any method: the generic proxy.
    Proxy {
        /// The client's method.
        method: &'a Method,
        /// The path below the base, without a leading slash.
        tail: &'a str,
        /// The client's query.
        query: Option<&'a str>,
    },
}

/// An upstream's answer that is not a success.
#[derive(Debug)]
pub struct Answer {
    /// The format that was asked in.
    pub format: Format,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, capped.
    pub body: Bytes,
    /// When it came.
    pub now: SystemTime,
}
