//! The generic proxy: any path below a provider's base, any method, streamed both ways. Nothing is read, so nothing is translated.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use polygate_core::{Failure, Kind};
use polygate_providers::{Answer, Outbound};
use polygate_wire::raw::path::Path;
use tokio::time::Instant;

use crate::attempt::{Attempt, Read, Reply, read_capped};
use crate::body::{Passing, ReplyBody};
use crate::cloak::Cloak;
use crate::observe::Transformed;
use crate::passthrough::passed;
use crate::payload::Rule;
use crate::transport::{AnswerBody, UpstreamBody};

/// So much of a refusal is read before it passes.
const REFUSAL: usize = 256 * 1024;

impl Attempt<'_> {
    /// Asks with this body; an upstream's refusal passes as it is when nobody else is left to ask.
    pub async fn proxy(&self, body: UpstreamBody, is_last: bool) -> Result<Reply, Failure> {
        let provider = &self.candidate.upstream.provider;
        let cloak = self.shape().cloak;
        let outbound = Outbound {
            operation: self
                .call
                .inbound
                .endpoint
                .native_operation(false, &self.call.inbound.method),
            model: &self.candidate.model,
            client_headers: &Cloak::pass(cloak, &self.call.inbound.headers),
            body: Bytes::new(),
        };
        let mut request = provider.request(&outbound)?;
        if let Some(cloak) = cloak {
            cloak.head(request.headers_mut());
        }
        let key = &self.candidate.credential;
        key.authorize(provider.as_ref(), &mut request).await?;
        let answer = self.exchange(request.map(|_| body), Instant::now()).await?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(Failure::new(
                Kind::UpstreamJunk,
                "the provider answered with a redirect, which is never followed",
            ));
        }
        let (head, body) = answer.into_parts();
        if is_providers_fault(status) && !is_last {
            let body = crate::attempt::read_error(body).await;
            return Err(self.proxied_failure(status, head.headers, body));
        }
        let secrets = &self.candidate.credential.secrets;
        let passing = match status.is_success() {
            true => Passing::new(VecDeque::new(), body, self.idle()),
            false => self.refusal(body).await?,
        };
        let headers = passed(&head.headers, secrets);
        let failure = is_providers_fault(status).then(|| {
            let body = passing.held().unwrap_or_default();
            Box::new(self.proxied_failure(status, head.headers, body))
        });
        Ok(Reply {
            status,
            headers,
            body: ReplyBody::Passing(Box::new(passing)),
            guarded: self.call.guarded.clone(),
            failure,
        })
    }

    /// A body that came whole, as it is sent.
    pub fn unread(&self, body: Bytes) -> Bytes {
        let mut rules = Vec::new();
        let mut tell = |rule: &Rule, path: &Path, done| self.tell(rule, path, done, &mut rules);
        let body = self.shape().unread(body, &mut tell);
        let _ = self.transformed.set(Transformed {
            rules,
            ..Transformed::default()
        });
        body
    }

    /// What an upstream says of why it refuses, without our key: some echo it.
    async fn refusal(&self, body: AnswerBody) -> Result<Passing, Failure> {
        let until = Instant::now() + self.idle();
        Ok(
            match read_capped(body, REFUSAL, self.idle(), until).await? {
                Read::Whole(said) => {
                    let masked = self.candidate.credential.secrets.masked(&said);
                    Passing::whole(masked.unwrap_or(said), self.idle())
                }
                Read::Over { head, rest } => Passing::new(head, rest, self.idle()),
            },
        )
    }

    fn proxied_failure(&self, status: StatusCode, headers: HeaderMap, body: Bytes) -> Failure {
        let format = self.call.inbound.endpoint.format();
        let answer = Answer {
            format,
            status,
            headers,
            body,
            now: std::time::SystemTime::now(),
        };
        let mut failure = self.candidate.upstream.provider.classify(&answer);
        self.candidate.credential.secrets.redact(&mut failure);
        failure
    }
}

/// Statuses that another provider or key might not give. What else a path answers is the caller's business.
fn is_providers_fault(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 402 | 403 | 408 | 429 | 500..=599)
}
