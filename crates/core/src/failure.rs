//! What went wrong with a call, said once by the one who understands it; everyone else reads the decision.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::Usage;

/// A failed call or attempt: kind, who caused it, what must rest, and what may be told to the client.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened, in the gateway's own terms.
    pub kind: Kind,
    /// Who caused it.
    pub origin: Origin,
    /// What must rest because of it.
    pub scope: Scope,
    /// The status for the client: the upstream's own where it had one.
    pub status: u16,
    /// How long to stay away, as the upstream or a limit said.
    pub retry_after: Option<Duration>,
    /// For the client: never an address, a key or a stack.
    pub message: String,
    /// The upstream's own error code or type, where it gave one.
    pub code: Option<String>,
    /// The request member at fault, where known.
    pub param: Option<String>,
    /// The upstream's error body, capped; passed on where the client speaks the same format.
    pub body: Option<Bytes>,
    /// The request may already have cost money: it had been sent when the connection broke or timed out.
    pub ambiguous: bool,
    /// Why a request was refused, where a model of another kind might take it.
    pub why: Option<Why>,
    /// Token counts, where the upstream reported any: what failed was paid.
    pub usage: Option<Box<Usage>>,
}

/// Why a provider refused a request that another model might take: fallbacks may be meant for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The conversation is too long for the model.
    ContextLength,
    /// The provider refuses to talk about it.
    ContentPolicy,
}

impl Failure {
    /// A failure of this kind with the kind's own status, origin and scope.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let row = kind.row();
        Self {
            kind,
            origin: row.origin,
            scope: row.scope,
            status: row.status,
            retry_after: None,
            message: message.into(),
            code: None,
            param: None,
            body: None,
            ambiguous: false,
            why: None,
            usage: None,
        }
    }

    /// The request was on its way when this happened.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.ambiguous = true;
        self
    }

    /// The upstream reported these token counts of it: it is paid, unless they are nothing.
    #[must_use]
    pub fn counted(mut self, usage: Option<Usage>) -> Self {
        self.usage = usage.filter(|usage| usage.total() > 0).map(Box::new);
        self.ambiguous |= self.usage.is_some();
        self
    }

    /// The request member at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// How long the client should stay away.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// For logs: without a provider's own words, which may repeat what it was asked.
    pub fn logged(&self) -> String {
        let is_ours = self.origin != Origin::Upstream
            || matches!(self.kind, Kind::Connect | Kind::Broken | Kind::Timeout);
        if is_ours {
            return self.to_string();
        }
        format!("{} with status {}", self.kind.name(), self.status)
    }

    /// Whether another candidate may be asked.
    pub fn try_next(&self) -> bool {
        self.kind.row().try_next
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}, from the {})",
            self.message,
            self.kind.name(),
            self.origin.name()
        )
    }
}

impl std::error::Error for Failure {}

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller's request or credentials.
    Client,
    /// Polygate itself: its limits, its configuration, its state.
    Gateway,
    /// A provider.
    Upstream,
}

impl Origin {
    /// The word that clients see in errors: `gateway` or `provider`.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Client | Origin::Gateway => "gateway",
            Origin::Upstream => "provider",
        }
    }
}

/// What must rest after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: the request itself was at fault.
    Request,
    /// The credential that was used.
    Credential,
    /// This model on this provider.
    Model,
    /// Counts against the provider's breaker.
    Provider,
}

/// Each way in which a call can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed or refused by the provider as such.
    InvalidRequest,
    /// No key, or one nobody knows.
    Unauthenticated,
    /// A known key that may not do this.
    Forbidden,
    /// No such model here.
    UnknownModel,
    /// No such route here.
    UnknownRoute,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The client was too slow to send its request.
    ClientTimeout,
    /// The request body is over the limit.
    TooLarge,
    /// The body is not of a type this route takes.
    UnsupportedMedia,
    /// A limit of the gateway.
    RateLimited,
    /// The gateway's own fault.
    Internal,
    /// Translation cannot carry the request to this provider.
    Untranslatable,
    /// Every candidate rests, or there is none.
    NoCandidate,
    /// Every candidate rests on a limit.
    AllLimited,
    /// The gateway is stopping or shedding.
    Unavailable,
    /// The provider answered 429.
    UpstreamRateLimited,
    /// The provider wants money, or a quota is spent.
    UpstreamQuota,
    /// The provider refused our credential.
    UpstreamAuth,
    /// The provider does not know the model.
    UpstreamModel,
    /// The provider failed: 408, 5xx, an error inside 200.
    UpstreamError,
    /// The provider's answer is not one: HTML, truncated, empty, endless.
    UpstreamJunk,
    /// The connection could not be made.
    Connect,
    /// The provider has as many connections as it may have, and none came free in time.
    Full,
    /// The connection broke.
    Broken,
    /// The provider was silent for too long.
    Timeout,
    /// The call goes round in a circle of gateways.
    Loop,
    /// A guard does not let the request or its answer through.
    Blocked,
}

struct Row {
    kind: Kind,
    name: &'static str,
    status: u16,
    origin: Origin,
    scope: Scope,
    try_next: bool,
}

const fn row(
    kind: Kind,
    name: &'static str,
    status: u16,
    origin: Origin,
    scope: Scope,
    try_next: bool,
) -> Row {
    Row {
        kind,
        name,
        status,
        origin,
        scope,
        try_next,
    }
}

/// The one table: kind → code, status, origin, what rests, whether another candidate is asked.
#[rustfmt::skip]
const TABLE: [Row; 27] = [
    row(Kind::InvalidRequest,      "invalid_request",       400, Origin::Client,   Scope::Request,    false),
    row(Kind::Unauthenticated,     "invalid_api_key",       401, Origin::Client,   Scope::Request,    false),
    row(Kind::Forbidden,           "model_not_allowed",     403, Origin::Client,   Scope::Request,    false),
    row(Kind::UnknownModel,        "model_not_found",       404, Origin::Client,   Scope::Request,    false),
    row(Kind::UnknownRoute,        "route_not_found",       404, Origin::Client,   Scope::Request,    false),
    row(Kind::MethodNotAllowed,    "method_not_allowed",    405, Origin::Client,   Scope::Request,    false),
    row(Kind::ClientTimeout,       "request_timeout",       408, Origin::Client,   Scope::Request,    false),
    row(Kind::TooLarge,            "request_too_large",     413, Origin::Client,   Scope::Request,    false),
    row(Kind::UnsupportedMedia,    "unsupported_media_type",415, Origin::Client,   Scope::Request,    false),
    row(Kind::RateLimited,         "rate_limit_exceeded",   429, Origin::Gateway,  Scope::Request,    false),
    row(Kind::Internal,            "internal_error",        500, Origin::Gateway,  Scope::Request,    false),
    row(Kind::Untranslatable,      "untranslatable",        400, Origin::Gateway,  Scope::Request,    true),
    row(Kind::NoCandidate,         "no_candidate",          503, Origin::Gateway,  Scope::Request,    false),
    row(Kind::AllLimited,          "all_candidates_limited",429, Origin::Gateway,  Scope::Request,    false),
    row(Kind::Unavailable,         "unavailable",           503, Origin::Gateway,  Scope::Request,    false),
    row(Kind::UpstreamRateLimited, "upstream_rate_limited", 429, Origin::Upstream, Scope::Credential, true),
    row(Kind::UpstreamQuota,       "upstream_quota",        402, Origin::Upstream, Scope::Credential, true),
    row(Kind::UpstreamAuth,        "upstream_auth",         401, Origin::Upstream, Scope::Credential, true),
    row(Kind::UpstreamModel,       "upstream_model",        404, Origin::Upstream, Scope::Model,      true),
    row(Kind::UpstreamError,       "upstream_error",        502, Origin::Upstream, Scope::Provider,   true),
    row(Kind::UpstreamJunk,        "upstream_invalid",      502, Origin::Upstream, Scope::Provider,   true),
    row(Kind::Connect,             "upstream_unreachable",  502, Origin::Upstream, Scope::Provider,   true),
    row(Kind::Full,                "upstream_full",         503, Origin::Gateway,  Scope::Request,    true),
    row(Kind::Broken,              "upstream_disconnected", 502, Origin::Upstream, Scope::Provider,   true),
    row(Kind::Timeout,             "upstream_timeout",      504, Origin::Upstream, Scope::Provider,   true),
    row(Kind::Loop,                "loop_detected",         508, Origin::Gateway,  Scope::Request,    false),
    row(Kind::Blocked,             "content_blocked",       400, Origin::Gateway,  Scope::Request,    false),
];

impl Kind {
    fn row(self) -> &'static Row {
        // The table lists every kind; a test holds it to that, so the fallback is never the answer.
        TABLE
            .iter()
            .find(|row| row.kind == self)
            .unwrap_or(&TABLE[10])
    }

    /// The stable code: in error bodies, logs and metrics.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The status where no upstream gave one.
    pub fn status(self) -> u16 {
        self.row().status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_row_and_name() {
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        for row in &TABLE {
            assert_eq!(row.kind.row().name, row.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn a_bad_request_rests_nothing_and_is_not_tried_elsewhere() {
        let failure = Failure::new(Kind::InvalidRequest, "no");
        assert_eq!(failure.scope, Scope::Request);
        assert!(!failure.try_next());
    }
}
