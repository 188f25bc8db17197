//! What rests and until when: credentials, models on a provider, and providers behind a breaker. Shared atomics, no lock.
//!
//! States outlive configuration reloads: [`HealthBook`] hands the same ones to the same thing again.

mod breaker;
mod budget;
mod rest;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cache::Answers;
use crate::cloak::Pseudonyms;
use crate::config::Retry;
use crate::pulse::Pulses;
use crate::quota::Book;
use crate::seats::Seats;
use crate::signals::Signals;
use polygate_core::{Failure, Kind, Scope};

pub use breaker::{Breaker, Position, Trial, Turn};
pub use budget::RetryBudget;
pub use rest::{Rest, seconds};

/// The shortest rest after a limit: sub-second waits made retry storms elsewhere.
const LIMIT_FLOOR: Duration = Duration::from_secs(1);

/// Why something rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The upstream said: too many requests.
    Limit = 1,
    /// The account has no quota or money.
    Quota = 2,
    /// The credential was refused.
    Auth = 3,
    /// The upstream does not have the model.
    Model = 4,
    /// Too many failures in a row.
    Breaker = 5,
    /// It cannot be reached: a health check that gets through ends this at once.
    Unreachable = 6,
}

impl Reason {
    /// The word in admin answers, logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Limit => "limit",
            Reason::Quota => "quota",
            Reason::Auth => "auth",
            Reason::Model => "model",
            Reason::Breaker => "breaker",
            Reason::Unreachable => "unreachable",
        }
    }

    /// The reason that has this word.
    pub fn named(name: &str) -> Option<Self> {
        (1..=6)
            .filter_map(Self::from_code)
            .find(|reason| reason.name() == name)
    }

    /// Whether it is about the provider as it looks from here.
    pub fn is_of_breaker(self) -> bool {
        matches!(self, Reason::Breaker | Reason::Unreachable)
    }

    fn from_code(code: u8) -> Option<Self> {
        [
            Reason::Limit,
            Reason::Quota,
            Reason::Auth,
            Reason::Model,
            Reason::Breaker,
            Reason::Unreachable,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == code)
    }

    /// Whether it is a limit that passes by itself: such answers are 429, others 503.
    pub fn is_limit(self) -> bool {
        matches!(self, Reason::Limit | Reason::Quota)
    }
}

/// What a failure makes rest.
#[derive(Debug)]
pub struct Resters<'a> {
    /// The credential that was used.
    pub credential: &'a Rest,
    /// The model on this provider.
    pub model: &'a Rest,
    /// The provider.
    pub provider: &'a Breaker,
}

impl Resters<'_> {
    /// Lets rest what the failure says must.
    pub fn note(&self, failure: &Failure, retry: &Retry, now: Duration) {
        let asked = failure
            .retry_after
            .map(|wait| wait.clamp(LIMIT_FLOOR, retry.max_cooldown));
        if is_answer(failure.kind) {
            self.provider.answered(now);
        }
        match failure.kind {
            Kind::UpstreamRateLimited => {
                self.credential.rest(
                    Reason::Limit,
                    now,
                    Some(asked.unwrap_or(retry.cooldown_rate_limit).max(LIMIT_FLOOR)),
                );
            }
            Kind::UpstreamQuota => self.credential.rest(
                Reason::Quota,
                now,
                Some(asked.unwrap_or(retry.cooldown_quota)),
            ),
            Kind::UpstreamAuth => self.credential.rest(Reason::Auth, now, None),
            Kind::UpstreamModel if failure.scope == Scope::Model => {
                self.model
                    .rest(Reason::Model, now, Some(retry.cooldown_error))
            }
            Kind::UpstreamError | Kind::UpstreamJunk | Kind::Timeout => {
                self.count(Reason::Breaker, retry.cooldown_error, asked, retry, now);
            }
            Kind::Connect => self.lost(Reason::Unreachable, retry, now),
            // It was reached, and cut the call: that it lists its models proves nothing against that.
            Kind::Broken => self.lost(Reason::Breaker, retry, now),
            _ => {}
        }
    }

    fn lost(&self, reason: Reason, retry: &Retry, now: Duration) {
        self.count(reason, retry.cooldown_network, None, retry, now);
    }

    fn count(
        &self,
        reason: Reason,
        cooldown: Duration,
        asked: Option<Duration>,
        retry: &Retry,
        now: Duration,
    ) {
        match asked {
            Some(wait) => self.provider.rest(reason, now, wait),
            None => self.provider.failed(reason, cooldown, retry, now),
        }
    }

    /// An attempt worked.
    pub fn succeeded(&self, now: Duration) {
        self.provider.succeeded(now);
        self.credential.unlearn();
        self.model.unlearn();
    }
}

/// Whether the provider itself refused the call: it is there, and its breaker may close.
fn is_answer(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::UpstreamRateLimited | Kind::UpstreamQuota | Kind::UpstreamAuth | Kind::UpstreamModel
    )
}

/// What is known of a provider over reloads.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether it may be asked.
    pub breaker: Arc<Breaker>,
    /// How many retries may fail there.
    pub budget: RetryBudget,
    /// Its calls under way, where these are counted.
    pub seats: Arc<Seats>,
}

/// Keeps states over configuration reloads: the same key, the same state.
#[derive(Debug)]
pub struct Shelf<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Shelf<T> {
    /// The state of this thing; a new one knows nothing.
    pub fn of(&self, key: &str) -> Arc<T> {
        self.lock().entry(key.to_owned()).or_default().clone()
    }

    /// Forgets what nothing uses any more.
    pub fn renew(&self) {
        self.lock().retain(|_, state| Arc::strong_count(state) > 1);
    }

    /// All states.
    pub fn each(&self, act: impl Fn(&T)) {
        self.lock().values().for_each(|state| act(state));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that outlives a reload.
#[derive(Debug, Default)]
pub struct HealthBook {
    /// How targets do.
    pub pulses: Shelf<Pulses>,
    /// What of credentials rests.
    pub rests: Shelf<Rest>,
    /// How providers are.
    pub providers: Shelf<Health>,
    /// Calls of models under way.
    pub models: Shelf<Seats>,
    /// Their shadow calls under way.
    pub shadows: Shelf<Seats>,
    /// What is taken of limits.
    pub quotas: Arc<Book>,
    /// What replicas tell one another.
    pub signals: Arc<Signals>,
    /// Answers that are kept for calls that ask the same.
    pub answers: Arc<Answers>,
    /// What providers call end users.
    pub pseudonyms: Pseudonyms,
}

impl HealthBook {
    /// The configuration changed: refused credentials get another chance, and what nothing uses any more is forgotten.
    pub fn renew(&self) {
        self.pulses.renew();
        self.rests.renew();
        self.providers.renew();
        self.models.renew();
        self.shadows.renew();
        self.rests.each(|rest| {
            rest.wake(&[Reason::Auth]);
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn note(failure: &Failure, times: u32) -> (Rest, Rest, Breaker) {
        let cells = (Rest::default(), Rest::default(), Breaker::default());
        for _ in 0..times {
            let resters = Resters {
                credential: &cells.0,
                model: &cells.1,
                provider: &cells.2,
            };
            resters.note(failure, &Retry::default(), S);
        }
        cells
    }

    #[test]
    fn scopes_rest_and_nothing_else() {
        let (credential, model, provider) = note(
            &Failure::new(Kind::UpstreamRateLimited, "x").retry_after(Some(S / 10)),
            1,
        );
        assert_eq!(
            credential.resting(S),
            Some((Reason::Limit, S)),
            "never less than a second"
        );
        assert!(model.resting(S).is_none() && provider.resting(S).is_none());
        let (credential, model, _) = note(&Failure::new(Kind::UpstreamModel, "x"), 1);
        assert!(credential.resting(S).is_none());
        assert_eq!(
            model.resting(S).map(|(reason, _)| reason),
            Some(Reason::Model)
        );
        let (credential, model, provider) = note(&Failure::new(Kind::InvalidRequest, "x"), 9);
        assert!(credential.resting(S).is_none() && model.resting(S).is_none());
        assert!(provider.resting(S).is_none());
    }

    #[test]
    fn a_provider_rests_as_long_as_it_asks() {
        let busy = Failure::new(Kind::UpstreamError, "x").retry_after(Some(7 * S));
        let (_, _, provider) = note(&busy, 1);
        assert_eq!(provider.resting(S), Some((Reason::Breaker, 7 * S)));
    }

    #[test]
    fn only_who_could_not_be_reached_is_woken_by_being_reached() {
        for (kind, reason, is_woken) in [
            (Kind::Connect, Reason::Unreachable, true),
            (Kind::Broken, Reason::Breaker, false),
            (Kind::Timeout, Reason::Breaker, false),
        ] {
            let (_, _, provider) = note(&Failure::new(kind, "x"), 5);
            assert_eq!(provider.resting(S).map(|(reason, _)| reason), Some(reason));
            provider.wake(&[Reason::Unreachable]);
            assert_eq!(provider.resting(S).is_none(), is_woken, "{kind:?}");
        }
    }

    #[test]
    fn a_refused_credential_rests_until_woken() {
        let (credential, _, _) = note(&Failure::new(Kind::UpstreamAuth, "x"), 1);
        assert!(credential.resting(S * 1_000_000).is_some());
        credential.wake(&[Reason::Auth]);
        assert!(credential.resting(S).is_none());
    }

    #[test]
    fn a_later_failure_never_shortens_a_rest() {
        let rest = Rest::default();
        rest.rest(Reason::Limit, S, Some(S * 60));
        rest.rest(Reason::Breaker, S, Some(S));
        assert_eq!(rest.resting(S), Some((Reason::Limit, S * 60)));
    }
}
