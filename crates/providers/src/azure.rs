//! Azure OpenAI: the model is a deployment in the path, the version a query, the key in `api-key`.
//!
//! An address that ends in `/openai/v1` is Azure's newer interface, which is a plain compatible one; one that ends in `/models` has the
//! models of other makers, with their names in the body.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Uri};
use polygate_core::{Failure, Kind, Secret};
use polygate_wire::{Format, Quirks};

use crate::base::Base;
use crate::classify::classify;
use crate::compat::{escape, path_of, proxy_tail};
use crate::heads::Heads;
use crate::{Answer, Operation, Outbound, Provider};

/// The version that is asked for unless configuration names another: the last generally available one of the dated interface.
const DEFAULT_API_VERSION: &str = "2024-10-21";

/// The same of other makers' models.
const MODELS_API_VERSION: &str = "2024-05-01-preview";

/// An Azure OpenAI resource.
#[derive(Debug)]
pub struct Azure {
    /// Up to and with `/openai` or `/models`.
    base: Base,
    interface: Interface,
    formats: Vec<Format>,
    heads: Heads,
}

#[derive(Debug)]
enum Interface {
    /// `/deployments/{model}/…?api-version=…`.
    Dated { api_version: String },
    /// `/v1/…`.
    V1,
    /// `/…?api-version=…`.
    Models { api_version: String },
}

impl Azure {
    /// A resource at this address: `https://NAME.openai.azure.com`, with or without `/openai` or `/openai/v1`, or with `/models`.
    pub(crate) fn new(
        address: &str,
        api_version: Option<&str>,
        formats: Vec<Format>,
        heads: Heads,
    ) -> Result<Self, String> {
        let trimmed = address.trim().trim_end_matches('/');
        if trimmed.ends_with("/models") {
            let api_version = api_version.unwrap_or(MODELS_API_VERSION).to_owned();
            return Ok(Self {
                base: Base::parse(trimmed, "")?,
                interface: Interface::Models { api_version },
                formats,
                heads,
            });
        }
        let (root, is_v1) = match trimmed.strip_suffix("/v1") {
            Some(root) => (root, true),
            None => (trimmed, false),
        };
        let root = root.strip_suffix("/openai").unwrap_or(root);
        let base = Base::parse(&format!("{root}/openai"), "")?;
        let api_version = api_version.unwrap_or(DEFAULT_API_VERSION).to_owned();
        let interface = if is_v1 {
            Interface::V1
        } else {
            Interface::Dated { api_version }
        };
        Ok(Self {
            base,
            interface,
            formats,
            heads,
        })
    }

    fn tail(&self, outbound: &Outbound<'_>) -> String {
        let path = path_of(outbound.operation);
        match (&self.interface, outbound.operation) {
            (Interface::V1, Operation::Proxy { tail, query, .. }) => {
                format!("/v1{}", proxy_tail(tail, query))
            }
            (
                Interface::Dated { api_version } | Interface::Models { api_version },
                Operation::Proxy { tail, query, .. },
            ) => {
                let query = query.map_or_else(
                    || format!("api-version={api_version}"),
                    |query| format!("{query}&api-version={api_version}"),
                );
                let tail = proxy_tail(tail, Some(&query));
                match self.interface {
                    Interface::Models { .. } => tail,
                    _ => format!("/deployments/{}{tail}", escape(outbound.model)),
                }
            }
            (Interface::Models { api_version }, _) => format!("{path}?api-version={api_version}"),
            // Responses exist on the new interface only.
            (Interface::V1, _)
            | (
                _,
                Operation::Chat {
                    format: Format::OpenaiResponses,
                    ..
                },
            ) => format!("/v1{path}"),
            (Interface::Dated { api_version }, Operation::Models) => {
                format!("{path}?api-version={api_version}")
            }
            (Interface::Dated { api_version }, _) => {
                format!(
                    "/deployments/{}{path}?api-version={api_version}",
                    escape(outbound.model)
                )
            }
        }
    }

    fn uri(&self, outbound: &Outbound<'_>) -> Result<Uri, Failure> {
        let uri = self.base.join(&self.tail(outbound));
        uri.map_err(|_| {
            Failure::new(
                Kind::InvalidRequest,
                "the deployment's name or the path cannot be part of an address",
            )
        })
    }
}

#[async_trait]
impl Provider for Azure {
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
