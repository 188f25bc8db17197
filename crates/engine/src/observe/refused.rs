//! A request that was refused before it became a call: no record tells of it, but metrics and a line of the log do.

use std::sync::Arc;

use http::Method;
use polygate_core::Failure;

use super::record::NOBODY;
use crate::call::Endpoint;

/// A request that became no call.
#[derive(Clone, Debug)]
pub struct Refused {
    pub(super) request_id: Arc<str>,
    pub(super) method: &'static str,
    pub(super) endpoint: &'static str,
    /// The caller's key, by name, where it was known already.
    pub(super) key: Arc<str>,
    pub(super) reason: &'static str,
    pub(super) status: u16,
}

impl Refused {
    /// One of nobody, to nowhere that there is.
    pub fn new(method: &Method, request_id: &Arc<str>, failure: &Failure) -> Self {
        Self {
            request_id: request_id.clone(),
            method: word(method),
            endpoint: "other",
            key: NOBODY.clone(),
            reason: failure.kind.name(),
            status: failure.status,
        }
    }

    /// The same, to this endpoint.
    #[must_use]
    pub fn at(mut self, endpoint: &Endpoint) -> Self {
        self.endpoint = endpoint.label();
        self
    }

    /// The same, by the key of this name.
    #[must_use]
    pub fn by(mut self, key: Arc<str>) -> Self {
        self.key = key;
        self
    }

    /// Writes the line.
    pub(super) fn write(&self) {
        tracing::info!(
            target: "polygate::call",
            request_id = &*self.request_id,
            method = self.method,
            endpoint = self.endpoint,
            key = &*self.key,
            status = self.status,
            error = self.reason,
            "refused"
        );
    }
}

/// A method by a word that callers cannot choose.
pub(super) fn word(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("other")
}
