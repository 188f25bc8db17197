//! A key of a provider, compiled.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, Request};
use polygate_core::{Failure, Secret};
use polygate_providers::heads::put;
use polygate_providers::{Provider, registry};

use crate::config;
use crate::health::{HealthBook, Rest};
use crate::pattern::Pattern;
use crate::pulse::Pulses;
use crate::secrets::Secrets;
use crate::transport::Transport;

/// A key of a provider, compiled.
#[derive(Debug)]
pub struct Credential {
    /// Shown instead of the key.
    pub name: Arc<str>,
    /// The key.
    pub secret: Secret,
    /// What of its calls nobody else is to see.
    pub secrets: Secrets,
    /// Share among the provider's keys.
    pub weight: u32,
    /// Its tier among them.
    pub priority: i32,
    /// Its rest.
    pub rest: Arc<Rest>,
    /// How its calls do.
    pub pulses: Arc<Pulses>,
    /// A number of its own, the same in every process: it says nothing of the key.
    pub id: u64,
    /// The connections that calls with it use.
    pub(crate) transport: Arc<Transport>,
    headers: HeaderMap,
    models: Vec<Pattern>,
    excluded: Vec<Pattern>,
}

impl Credential {
    /// Compiles a key of the provider at this place.
    pub(super) fn compile(
        credential: &config::Credential,
        provider: &config::Provider,
        place: &str,
        book: &HealthBook,
        transport: Arc<Transport>,
    ) -> Result<Self, String> {
        let hash = digest::digest(&digest::SHA256, credential.api_key.reveal().as_bytes());
        let key = format!("{place}|{hash:?}");
        let id = hash.as_ref().first_chunk().copied().map(u64::from_be_bytes);
        let place = crate::affinity::hash(&[place.as_bytes()]);
        Ok(Self {
            name: credential.name.as_str().into(),
            secret: credential.api_key.clone(),
            secrets: Secrets::new(
                &credential.api_key,
                [&provider.headers, &credential.headers],
            ),
            weight: credential.weight,
            priority: credential.priority,
            pulses: book.pulses.of(&key),
            id: id.unwrap_or_default() ^ place,
            rest: book.rests.of(&key),
            transport,
            headers: registry::header_map(&credential.headers)?,
            models: credential.models.clone(),
            excluded: credential.excluded_models.clone(),
        })
    }

    /// Whether it may use a model: as clients call it behind a prefix, or as the provider does.
    pub(crate) fn serves(&self, bare: &str, there: &str) -> bool {
        let is_it = |pattern: &Pattern| pattern.matches(bare) || pattern.matches(there);
        (self.models.is_empty() || self.models.iter().any(is_it))
            && !self.excluded.iter().any(is_it)
    }

    /// Attaches the key, and the headers that it has of its own.
    pub(crate) async fn authorize(
        &self,
        provider: &dyn Provider,
        request: &mut Request<Bytes>,
    ) -> Result<(), Failure> {
        put(&self.headers, request.headers_mut());
        provider.authorize(request, &self.secret).await
    }
}
