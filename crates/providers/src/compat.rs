//! A provider that its row describes completely: address, path by format, key header.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use polygate_core::{Failure, Kind, Secret};
use polygate_wire::{Format, Quirks};

use crate::base::Base;
use crate::classify::classify;
use crate::registry::header_map;
use crate::table::{Auth, Row};
use crate::{Answer, Operation, Outbound, Provider};

/// An upstream that a row describes.
#[derive(Debug)]
pub struct Compat {
    base: Base,
    formats: Vec<Format>,
    pub(crate) heads: Heads,
}

/// What a row and an operator say about request headers and keys.
#[derive(Debug)]
pub(crate) struct Heads {
    auth: Auth,
    forward: Vec<HeaderName>,
    defaults: HeaderMap,
    operator: HeaderMap,
    pub(crate) takes_stream_options: bool,
    pub(crate) has_completions: bool,
    pub(crate) counts: Option<Format>,
    pub(crate) quirks: Quirks,
}

/// Prefix of Google's path for models: its operations are methods of a model.
const MODELS: &str = "/models";

impl Compat {
    /// A provider at this address.
    pub fn new(
        row: &Row,
        base: Base,
        formats: Vec<Format>,
        operator: HeaderMap,
    ) -> Result<Self, String> {
        Ok(Self {
            base,
            heads: Heads::new(row, &formats, operator)?,
            formats,
        })
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

impl Heads {
    pub(crate) fn new(row: &Row, formats: &[Format], operator: HeaderMap) -> Result<Self, String> {
        let forward = row.forward.iter().map(|name| {
            name.parse()
                .map_err(|_| format!("'{name}' is no header name"))
        });
        let defaults: Vec<_> = row
            .defaults
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Self {
            auth: row.auth,
            forward: forward.collect::<Result<_, _>>()?,
            defaults: header_map(&defaults)?,
            operator,
            takes_stream_options: row.stream_options,
            has_completions: row.completions,
            counts: row.counts.filter(|format| formats.contains(format)),
            quirks: row.quirks.clone(),
        })
    }

    /// Method, headers and body around an address.
    pub(crate) fn request(&self, outbound: &Outbound<'_>, uri: Uri) -> Request<Bytes> {
        let method = match outbound.operation {
            Operation::Models => Method::GET,
            Operation::Proxy { method, .. } => method.clone(),
            _ => Method::POST,
        };
        let mut request = Request::new(outbound.body.clone());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("polygate/", env!("CARGO_PKG_VERSION"))),
        );
        match outbound.operation {
            Operation::Proxy { .. } => {
                copy(&[CONTENT_TYPE, ACCEPT], outbound.client_headers, headers)
            }
            Operation::Models => {}
            _ => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        headers.extend(
            self.defaults
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        copy(&self.forward, outbound.client_headers, headers);
        for (name, value) in &self.operator {
            headers.insert(name.clone(), value.clone());
        }
        request
    }

    pub(crate) fn authorize(
        &self,
        request: &mut Request<Bytes>,
        secret: &Secret,
    ) -> Result<(), Failure> {
        if secret.is_empty() {
            return Ok(());
        }
        let (name, value) = match self.auth {
            Auth::Bearer => (
                AUTHORIZATION,
                HeaderValue::from_str(&format!("Bearer {}", secret.reveal())),
            ),
            Auth::XApiKey => (
                HeaderName::from_static("x-api-key"),
                HeaderValue::from_str(secret.reveal()),
            ),
            Auth::XGoogApiKey => (
                HeaderName::from_static("x-goog-api-key"),
                HeaderValue::from_str(secret.reveal()),
            ),
            Auth::ApiKey => (
                HeaderName::from_static("api-key"),
                HeaderValue::from_str(secret.reveal()),
            ),
        };
        let mut value = value.map_err(|_| {
            Failure::new(
                Kind::Internal,
                "the provider's key has characters no header can carry",
            )
        })?;
        value.set_sensitive(true);
        // What the operator set by hand under `headers` is theirs.
        if !self.operator.contains_key(&name) {
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for (count, value) in from.get_all(name).iter().enumerate() {
            if count == 0 {
                to.insert(name.clone(), value.clone());
            } else {
                to.append(name.clone(), value.clone());
            }
        }
    }
}
