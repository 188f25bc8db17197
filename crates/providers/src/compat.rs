//! A provider that its row describes completely: address, and path by format.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Uri};
use polygate_core::{Failure, Kind, Secret};
use polygate_wire::{Format, Quirks};

use crate::base::Base;
use crate::classify::classify;
use crate::heads::Heads;
use crate::{Answer, Operation, Outbound, Provider};

/// An upstream that a row describes.
#[derive(Debug)]
pub struct Compat {
    base: Base,
    formats: Vec<Format>,
    pub(crate) heads: Heads,
}

/// Prefix of Google's path for models: its operations are methods of a model.
const MODELS: &str = "/models";

impl Compat {
    /// A provider at this address.
    pub(crate) fn new(base: Base, formats: Vec<Format>, heads: Heads) -> Self {
        Self {
            base,
            formats,
            heads,
        }
    }

    fn uri(&self, outbound: &Outbound<'_>) -> Result<Uri, Failure> {
        let model = outbound.model;
        let uri = match outbound.operation {
            Operation::Chat {
                format: Format::Gemini,
                stream: true,
            } => self.base.join(&format!(
                "{MODELS}/{}:streamGenerateContent?alt=sse",
                escape(model)
            )),
            Operation::Chat {
                format: Format::Gemini,
                stream: false,
            } => self
                .base
                .join(&format!("{MODELS}/{}:generateContent", escape(model))),
            Operation::Count {
                format: Format::Gemini,
            } => self
                .base
                .join(&format!("{MODELS}/{}:countTokens", escape(model))),
            Operation::GeminiMethod { method } => self
                .base
                .join(&format!("{MODELS}/{}:{method}", escape(model))),
            Operation::Proxy { tail, query, .. } => self.base.join(&proxy_tail(tail, query)),
            other => self.base.join(path_of(other)),
        };
        uri.map_err(|_| {
            Failure::new(
                Kind::InvalidRequest,
                "the model's name or the path cannot be part of an address",
            )
        })
    }
}

/// The path of an operation that has a fixed one.
pub(crate) fn path_of(operation: Operation<'_>) -> &'static str {
    match operation {
        Operation::Chat {
            format: Format::OpenaiChat,
            ..
        } => "/chat/completions",
        Operation::Chat {
            format: Format::OpenaiResponses,
            ..
        } => "/responses",
        Operation::Chat {
            format: Format::AnthropicMessages,
            ..
        } => "/messages",
        Operation::Completions => "/completions",
        Operation::Embeddings => "/embeddings",
        Operation::Count {
            format: Format::OpenaiResponses,
        } => "/responses/input_tokens",
        Operation::Count {
            format: Format::AnthropicMessages,
        } => "/messages/count_tokens",
        Operation::Models => MODELS,
        Operation::Chat { .. }
        | Operation::Count { .. }
        | Operation::GeminiMethod { .. }
        | Operation::Proxy { .. } => "",
    }
}

/// Path and query of a proxied call.
pub(crate) fn proxy_tail(tail: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("/{tail}?{query}"),
        None => format!("/{tail}"),
    }
}

/// Percent-encodes what cannot stand in a path segment; `/` stays, since some vendors' model names have it.
pub(crate) fn escape(model: &str) -> String {
    let mut out = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b'@') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[async_trait]
impl Provider for Compat {
    fn formats(&self) -> &[Format] {
        &self.formats
    }

    fn takes_stream_options(&self) -> bool {
        self.heads.takes_stream_options
    }

    fn has_completions(&self) -> bool {
        self.heads.has_completions
    }

    fn counts(&self) -> Option<Format> {
        self.heads.counts
    }

    fn quirks(&self) -> &Quirks {
        &self.heads.quirks
    }

    fn request(&self, outbound: &Outbound<'_>) -> Result<Request<Bytes>, Failure> {
        let uri = self.uri(outbound)?;
        Ok(self.heads.request(outbound, uri))
    }

    async fn authorize(
        &self,
        request: &mut Request<Bytes>,
        secret: &Secret,
    ) -> Result<(), Failure> {
        self.heads.authorize(request, secret)
    }

    fn classify(&self, answer: &Answer) -> Failure {
        classify(answer)
    }
}
