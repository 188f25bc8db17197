//! The headers of a request to a provider: what its row, the operator and the client say, the later over the earlier.
//!
//! Row's defaults < defaults for Claude < a client's forwarded headers < the operator's.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use polygate_core::{Failure, Kind, Secret};
use polygate_wire::{Format, Quirks};

use crate::forward::{Forward, copy};
use crate::registry::{Settings, header_map};
use crate::table::{Auth, Row};
use crate::{Operation, Outbound};

/// What a row and an operator say about request headers and keys.
#[derive(Debug)]
pub(crate) struct Heads {
    auth: Auth,
    forward: Forward,
    defaults: HeaderMap,
    operator: HeaderMap,
    pub(crate) takes_stream_options: bool,
    pub(crate) has_completions: bool,
    pub(crate) counts: Option<Format>,
    pub(crate) quirks: Quirks,
}

impl Heads {
    pub(crate) fn new(row: &Row, formats: &[Format], settings: &Settings) -> Result<Self, String> {
        let mut defaults = header_map(&row.defaults)?;
        let is_claude = formats.first() == Some(&Format::AnthropicMessages);
        if is_claude {
            put(&header_map(&settings.claude_defaults)?, &mut defaults);
        }
        Ok(Self {
            auth: row.auth,
            forward: settings.forward.as_ref().unwrap_or(&row.forward).clone(),
            defaults,
            operator: header_map(&settings.headers)?,
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
                copy(&CONTENT_TYPE, outbound.client_headers, headers);
                copy(&ACCEPT, outbound.client_headers, headers);
            }
            Operation::Models => {}
            _ => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        put(&self.defaults, headers);
        self.forward.copy(outbound.client_headers, headers);
        put(&self.operator, headers);
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
        // One that is there already the operator set by hand: no client's is ever forwarded.
        request.headers_mut().entry(name).or_insert(value);
        Ok(())
    }
}

/// Puts headers in place of those that stand there: extending a map would leave both.
pub fn put(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        to.insert(name.clone(), value.clone());
    }
}
