//! Amazon Bedrock: the model is part of the path, and the key is a Bedrock key or a pair of AWS keys, with which requests are signed.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Uri};
use polygate_core::{Failure, Kind, Secret};
use polygate_wire::{Format, Quirks};

use crate::base::Base;
use crate::classify::classify;
use crate::compat::proxy_tail;
use crate::heads::Heads;
use crate::sigv4::{self, AwsKeys};
use crate::{Answer, Operation, Outbound, Provider};

/// What signatures call the runtime.
const SERVICE: &str = "bedrock";

/// Bedrock's runtime in one region.
#[derive(Debug)]
pub struct Bedrock {
    base: Base,
    region: String,
    formats: Vec<Format>,
    heads: Heads,
}

impl Bedrock {
    /// The runtime at this address. A region that the address names is the one it is in, whatever else was said.
    pub(crate) fn new(
        address: &str,
        region: &str,
        formats: Vec<Format>,
        heads: Heads,
    ) -> Result<Self, String> {
        let base = Base::parse(address, "")?;
        let region = region_of(base.host()).unwrap_or(region).to_owned();
        Ok(Self {
            base,
            region,
            formats,
            heads,
        })
    }

    fn uri(&self, outbound: &Outbound<'_>) -> Result<Uri, Failure> {
        let method = match outbound.operation {
            Operation::Chat { stream: true, .. } => "converse-stream",
            Operation::Chat { stream: false, .. } => "converse",
            Operation::Count { .. } => "count-tokens",
            Operation::Proxy { tail, query, .. } => return self.join(&proxy_tail(tail, query)),
            // The runtime has no list: that it says so tells that it is there.
            Operation::Models => return self.join("/"),
            Operation::Completions | Operation::Embeddings | Operation::GeminiMethod { .. } => {
                let message = "Bedrock's Converse has nothing of the kind";
                return Err(Failure::new(Kind::Untranslatable, message));
            }
        };
        let mut model = String::with_capacity(outbound.model.len() + 8);
        sigv4::encode(outbound.model.bytes(), &mut model);
        self.join(&format!("/model/{model}/{method}"))
    }

    fn join(&self, tail: &str) -> Result<Uri, Failure> {
        self.base.join(tail).map_err(|_| {
            Failure::new(
                Kind::InvalidRequest,
                "the model's name or the path cannot be part of an address",
            )
        })
    }
}

/// `bedrock-runtime.eu-west-1.amazonaws.com` → `eu-west-1`.
fn region_of(host: &str) -> Option<&str> {
    let (front, _) = host.split_once(".amazonaws.com")?;
    let (service, region) = front.split_once('.')?;
    service.starts_with("bedrock-runtime").then_some(region)
}

#[async_trait]
impl Provider for Bedrock {
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
        match AwsKeys::parse(secret) {
            Some(keys) => sigv4::sign(request, &keys, &self.region, SERVICE, SystemTime::now()),
            None => self.heads.authorize(request, secret),
        }
    }

    fn classify(&self, answer: &Answer) -> Failure {
        classify(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_region() {
        for (host, region) in [
            ("bedrock-runtime.us-east-1.amazonaws.com", Some("us-east-1")),
            (
                "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                "bedrock-runtime.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("vpce-1.bedrock-runtime.example", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
