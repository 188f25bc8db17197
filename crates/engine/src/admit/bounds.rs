//! What one key, or all keys of a team, may do: which models, how often, how many at a time, how much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use polygate_core::{Failure, Kind};

use crate::config::{self, RateLimit};
use crate::pattern::Pattern;
use crate::quota::{Book, Quota, Subject};
use crate::seats::{COME_AGAIN, Limit, Seat};

/// Bounds with their state.
#[derive(Debug)]
pub struct Bounds {
    /// Whose.
    subject: Subject,
    allowed_models: Vec<Pattern>,
    limiter: Option<Limiter>,
    seats: Option<Limit>,
    quota: Option<Arc<Quota>>,
}

impl Bounds {
    /// Bounds as they are configured; limits that stay the same keep their state.
    pub fn new(
        subject: Subject,
        bounds: &config::Bounds,
        old: Option<&Bounds>,
        book: &Book,
    ) -> Self {
        let limiter = bounds
            .rate_limit
            .map(|limit| Limiter::new(limit, old.and_then(|old| old.limiter.as_ref())));
        let seats = old.and_then(|old| old.seats.as_ref());
        let seats = seats.map(|limit| limit.seats.clone()).unwrap_or_default();
        let quota = Quota::new(&subject, &bounds.limits, book);
        Self {
            subject,
            allowed_models: bounds.allowed_models.clone(),
            limiter,
            seats: bounds.max_concurrent.map(|most| Limit { seats, most }),
            quota,
        }
    }

    /// Whether this model may be used.
    pub fn allow(&self, model: &str) -> bool {
        !self.has_model_list() || self.allowed_models.iter().any(|one| one.matches(model))
    }

    /// Whether they are for certain models only.
    pub fn has_model_list(&self) -> bool {
        !self.allowed_models.is_empty()
    }

    /// What limits amounts, where anything does.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// This model may not be used.
    pub fn forbid(&self, model: &str) -> Failure {
        let message = format!("{} may not use model '{model}'", self.subject);
        Failure::new(Kind::Forbidden, message).param("model")
    }

    /// One of the calls that there may be at a time, where these are counted.
    pub fn seat(&self) -> Result<Option<Seat>, Failure> {
        let Some(limit) = &self.seats else {
            return Ok(None);
        };
        let seat = limit.take().ok_or_else(|| self.full(limit.most));
        seat.map(Some)
    }

    /// Counts one request by its rate.
    pub fn request(&self, now: Duration) -> Result<(), Failure> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let taken = limiter.take(now);
        taken.map_err(|wait| self.too_fast(limiter.limit, wait))
    }

    /// Why a call that comes now would not be let in. Nothing is counted.
    pub fn look(&self, now: Duration) -> Result<(), Failure> {
        if let Some(limit) = self.seats.as_ref().filter(|limit| !limit.has_room()) {
            return Err(self.full(limit.most));
        }
        match &self.limiter {
            Some(limiter) => {
                let due = limiter.due.load(Ordering::Relaxed);
                let next = limiter.next(due, now);
                next.map(drop)
                    .map_err(|wait| self.too_fast(limiter.limit, wait))
            }
            None => Ok(()),
        }
    }

    fn full(&self, most: usize) -> Failure {
        let message = format!(
            "{} has {most} calls under way, as many as it may have at a time",
            self.subject
        );
        Failure::new(Kind::RateLimited, message).retry_after(Some(COME_AGAIN))
    }

    fn too_fast(&self, limit: RateLimit, wait: Option<Duration>) -> Failure {
        let RateLimit {
            requests_per_second,
            burst_size,
        } = limit;
        let message = format!(
            "{} is limited to {requests_per_second} requests per second (burst {burst_size})",
            self.subject
        );
        Failure::new(Kind::RateLimited, message).retry_after(wait)
    }

    /// The request that was counted is none.
    pub fn forget_request(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.give_back();
        }
    }
}

/// A rate with a burst as one number: the moment at which all that was let in would have been due (GCRA).
#[derive(Debug)]
struct Limiter {
    limit: RateLimit,
    /// Nanoseconds of the clock.
    due: AtomicU64,
}

impl Limiter {
    fn new(limit: RateLimit, before: Option<&Limiter>) -> Self {
        let due = before
            .filter(|before| before.limit == limit)
            .map_or(0, |before| before.due.load(Ordering::Relaxed));
        Self {
            limit,
            due: AtomicU64::new(due),
        }
    }

    fn interval(&self) -> Option<u64> {
        1_000_000_000_u64.checked_div(u64::from(self.limit.requests_per_second))
    }

    /// One request; or how long to wait, `None` where no wait helps. Exact however many ask at once.
    fn take(&self, now: Duration) -> Result<(), Option<Duration>> {
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let next = self.next(due, now)?;
            match self
                .due
                .compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(seen) => due = seen,
            }
        }
    }

    /// When all would be due with one more; or how long to wait for it.
    fn next(&self, due: u64, now: Duration) -> Result<u64, Option<Duration>> {
        let interval = self.interval().ok_or(None)?;
        let tolerance = interval * u64::from(self.limit.burst_size.max(1));
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let next = due.max(now).saturating_add(interval);
        match (next - now).checked_sub(tolerance) {
            None | Some(0) => Ok(next),
            Some(over) => Err(Some(Duration::from_nanos(over))),
        }
    }

    fn give_back(&self) {
        let interval = self.interval().unwrap_or_default();
        let back = |due: u64| Some(due.saturating_sub(interval));
        let _ = self
            .due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }
}
