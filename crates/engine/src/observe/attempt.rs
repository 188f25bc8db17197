//! The record of one attempt of a call.

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, Usage};

use super::charge::Charge;
use crate::route::Candidate;
use crate::tariff::Tariff;

/// One try of one candidate: in the record from when it is asked, so that none is missing, however the call ends.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The provider.
    pub provider: Arc<str>,
    /// The row of the provider table that it is of.
    pub row: &'static str,
    /// Its key, by name.
    pub credential: Arc<str>,
    /// The model there.
    pub model: Arc<str>,
    /// What it costs there; `None`: nobody knows.
    pub tariff: Option<Arc<Tariff>>,
    /// `ok`, `continued` where it went on with another's answer, the failure's code, or why nobody waited for it.
    pub outcome: &'static str,
    /// The upstream's status, where it gave one.
    pub status: u16,
    /// When it was asked, on the clock.
    pub started: Duration,
    /// How long until it was decided.
    pub duration: Duration,
    /// How long the gateway itself was at work in it.
    pub own: Duration,
    /// It may have cost money although it failed.
    pub ambiguous: bool,
    /// It was good: its answer went to the client.
    pub answered: bool,
    /// It was asked beside a slow one.
    pub is_hedge: bool,
    /// That answer came to its end.
    pub complete: bool,
    /// Token counts of it alone, where reported.
    pub usage: Option<Usage>,
    /// Tokens of its answer, by our count.
    pub came: u64,
    /// Tokens of its prompt, by the tokenizer; `None`: nobody counted.
    pub sent: Option<u64>,
    /// What it is charged, once the call is over.
    pub charge: Charge,
}

/// The call ended first.
const GIVEN_UP: &str = "given_up";
/// Another attempt beside it was good first.
const HEDGE_LOST: &str = "hedge_lost";
/// It was good, and went on with another's answer.
const CONTINUED: &str = "continued";

impl AttemptRecord {
    /// Nobody knows yet: what it writes may have to be paid.
    pub(super) fn asked(candidate: &Candidate, now: Duration) -> Self {
        Self {
            provider: candidate.upstream.name.clone(),
            row: candidate.upstream.row,
            credential: candidate.credential.name.clone(),
            model: candidate.model.clone(),
            tariff: candidate.tariff.clone(),
            outcome: GIVEN_UP,
            status: 0,
            started: now,
            duration: Duration::ZERO,
            own: Duration::ZERO,
            ambiguous: true,
            answered: false,
            is_hedge: false,
            complete: false,
            usage: None,
            came: 0,
            sent: None,
            charge: Charge::NOTHING,
        }
    }

    pub(super) fn came_out(&mut self, failure: Option<&Failure>, now: Duration) {
        self.outcome = failure.map_or("ok", |failure| failure.kind.name());
        self.status = failure.map_or(200, |failure| failure.status);
        self.ambiguous = failure.is_some_and(|failure| failure.ambiguous);
        self.answered = failure.is_none();
        self.usage = failure.and_then(|failure| failure.usage.as_deref().copied());
        self.end(now);
    }

    /// Its answer broke off after it had begun.
    pub(crate) fn broke(&mut self, failure: &Failure) {
        self.outcome = failure.kind.name();
        self.ambiguous = failure.ambiguous;
    }

    /// The call is over. What nobody waited for was given up, though its answer may have begun.
    pub(super) fn call_ended(&mut self, now: Duration) {
        if self.outcome == GIVEN_UP {
            self.end(now);
        } else if self.was_good() && !self.complete {
            self.outcome = GIVEN_UP;
        }
    }

    /// Its answer began, and nothing is known against it.
    fn was_good(&self) -> bool {
        matches!(self.outcome, "ok" | CONTINUED)
    }

    /// Its answer came to its end.
    pub fn is_good(&self) -> bool {
        self.was_good() && self.complete
    }

    /// It was asked, and did not do what it should.
    pub(super) fn has_failed(&self) -> bool {
        !self.was_good() && !matches!(self.outcome, GIVEN_UP | HEDGE_LOST)
    }

    /// What became of one that was asked beside another.
    pub(super) fn hedge_outcome(&self) -> &'static str {
        match self.outcome {
            HEDGE_LOST => "lost",
            _ if self.answered => "won",
            _ => "failed",
        }
    }

    /// It goes on with an answer that broke off.
    pub(super) fn continues(&mut self) {
        self.outcome = CONTINUED;
    }

    pub(super) fn lost(&mut self, now: Duration) {
        self.outcome = HEDGE_LOST;
        self.end(now);
    }

    fn end(&mut self, now: Duration) {
        self.duration = now.saturating_sub(self.started);
    }
}
