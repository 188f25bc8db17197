//! Whom to ask next, and when to stop asking: retries, backoff, rests, and the rule against paying twice.

pub mod taking;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, Kind};

use crate::chance;
use crate::config::Retry;
use crate::health::{Reason, Trial, Turn};
use crate::quota::{Reservation, Tally};
use crate::route::{Candidate, Open, PassedOver, Place, Route};
use crate::seats::{COME_AGAIN, Seat};
use taking::{Barred, Taking};

/// Further attempts where the configuration names no number: at least this many, and each candidate once.
const LEAST_RETRIES: usize = 3;

/// The state of one call's attempts.
#[derive(Debug)]
pub struct Plan<'a> {
    route: &'a Route,
    retry: &'a Retry,
    /// Attempts that are still allowed.
    left: usize,
    /// Attempts so far.
    tries: u32,
    /// Asked in this round.
    asked: Vec<Place>,
    /// Not to be asked again: it may have been paid.
    burnt: Vec<Place>,
    /// How often a whole round has failed.
    rounds: u32,
    waited: bool,
    ambiguous: bool,
    failure: Option<Failure>,
    /// Which groups may be asked.
    open: Open,
    /// A provider has as many calls as it may have.
    is_full: bool,
    /// Whom the call prefers.
    affinity: Option<u64>,
    /// What each attempt may take of limits.
    taking: Taking,
    /// Whom a limit keeps from being asked, until more of it is leased.
    short: Vec<(Place, Arc<Tally>, u64)>,
    /// Places that limits keep from being asked. The same candidate may stand elsewhere for another model.
    barred: Vec<Place>,
    /// No more is leased for this call.
    waits_no_more: bool,
    /// Whose turn it was and who could not be asked, with the word for why.
    left_out: Vec<(Place, &'static str)>,
    /// What is said where limits alone kept everybody from being asked: the one that ends first.
    spent: Option<Failure>,
}

/// What a plan has left when one of its attempts was good: if the answer breaks off, it goes on with this.
#[derive(Debug)]
pub struct Rest {
    left: usize,
    tries: u32,
    asked: Vec<Place>,
    burnt: Vec<Place>,
    ambiguous: bool,
    open: Open,
}

/// What to do now.
#[derive(Debug)]
pub enum Next<'a> {
    /// Ask this candidate.
    Ask(Pass<'a>),
    /// Wait, then ask again what to do.
    Wait(Duration),
    /// Wait until so much of this is leased, then ask again what to do.
    Lease(Arc<Tally>, u64),
    /// Nobody is left.
    GiveUp(Failure),
}

/// Whom to ask, with what its provider gives to the attempt. Held until it is known how that came out.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Whom.
    pub candidate: &'a Candidate,
    place: Place,
    /// Something failed before: if it fails as well, the budget pays.
    is_retry: bool,
    /// It comes back from a rest: the one turn to find out whether it is well.
    pub trial: Option<Trial>,
    /// One of the calls that it takes at a time, where these are counted.
    pub seat: Option<Seat>,
    /// What it may take of limits, where there are any.
    pub reserved: Option<Reservation>,
}

impl Pass<'_> {
    /// Where the candidate stands in its route.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl<'a> Plan<'a> {
    /// A plan over a route.
    pub fn new(route: &'a Route, retry: &'a Retry) -> Self {
        let retries = retry
            .max_retries
            .map_or_else(|| LEAST_RETRIES.max(route.len() - 1), |max| max as usize);
        Self {
            route,
            retry,
            left: retries + 1,
            tries: 0,
            asked: vec![],
            burnt: vec![],
            rounds: 0,
            waited: false,
            ambiguous: false,
            failure: None,
            open: Open::default(),
            is_full: false,
            affinity: None,
            taking: Taking::default(),
            short: vec![],
            barred: vec![],
            waits_no_more: false,
            left_out: vec![],
            spent: None,
        }
    }

    /// Whose turn it was and who could not be asked.
    pub fn left_out(&self) -> impl Iterator<Item = PassedOver> {
        self.left_out.iter().filter_map(|(place, verdict)| {
            let candidate = self.route.candidate(*place)?;
            Some(PassedOver::of(candidate, verdict, None))
        })
    }

    /// The same for a call that takes so much.
    #[must_use]
    pub fn taking(mut self, taking: Taking) -> Self {
        self.taking = taking;
        self
    }

    /// The same for a call that needs room for so many tokens: models with less are asked last.
    #[must_use]
    pub fn needing(mut self, tokens: u64) -> Self {
        self.open = Open::needing(tokens);
        self
    }

    /// The same for a call that has nothing to ask at these places.
    #[must_use]
    pub fn barring(mut self, places: Vec<Place>) -> Self {
        self.barred = places;
        self
    }

    /// More is not leased in time: limits are as they are.
    pub fn wait_no_more(&mut self) {
        self.waits_no_more = true;
    }

    /// The same for a body that cannot be sent twice: one attempt.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.left = 1;
        self
    }

    /// The same for a stream.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        if let Some(most) = self.retry.stream_retries {
            self.left = self.left.min(most as usize + 1);
        }
        self
    }

    /// The same for a call with this key of affinity.
    #[must_use]
    pub fn prefer(mut self, affinity: Option<u64>) -> Self {
        self.affinity = affinity;
        self
    }

    /// What is left of it.
    pub fn rest(self) -> Rest {
        Rest {
            left: self.left,
            tries: self.tries,
            asked: self.asked,
            burnt: self.burnt,
            ambiguous: self.ambiguous,
            open: self.open,
        }
    }

    /// The same with no more than another had left.
    #[must_use]
    pub fn resume(mut self, rest: Rest) -> Self {
        self.left = rest.left;
        self.tries = rest.tries;
        self.asked = rest.asked;
        self.burnt = rest.burnt;
        self.ambiguous = rest.ambiguous;
        self.open = rest.open;
        self
    }

    /// Whom to ask next.
    pub fn next(&mut self, now: Duration) -> Next<'a> {
        if self.left == 0 {
            return Next::GiveUp(self.last_failure(now));
        }
        if let Some(pass) = self.ask(now) {
            return Next::Ask(pass);
        }
        let mut short = std::mem::take(&mut self.short);
        self.barred
            .retain(|place| short.iter().all(|(of, ..)| of != place));
        if let Some((_, tally, wanted)) = short.pop() {
            return Next::Lease(tally, wanted);
        }
        let has_failed = self.failure.is_some();
        if let Some(wait) = self
            .shortest_rest(now)
            .filter(|wait| !self.waited && *wait <= self.retry.max_wait)
        {
            self.waited = true;
            self.asked = self.burnt.clone();
            return Next::Wait(wait);
        }
        if has_failed && self.asked.len() > self.burnt.len() && self.someone_is_awake(now) {
            self.asked = self.burnt.clone();
            self.rounds += 1;
            return Next::Wait(self.backoff());
        }
        Next::GiveUp(self.last_failure(now))
    }

    /// Whom to ask beside the one that is being asked; `None` where nobody else is left, or an attempt of before may have been
    /// paid: then the one being asked is all that may still be.
    pub fn beside(&mut self, now: Duration) -> Option<Pass<'a>> {
        if self.left == 0 || self.ambiguous {
            return None;
        }
        self.ask(now)
    }

    /// The next that may be asked.
    fn ask(&mut self, now: Duration) -> Option<Pass<'a>> {
        while let Some(place) =
            self.route
                .pick(now, &self.asked, &self.barred, &self.open, self.affinity)
        {
            self.asked.push(place);
            if let Some(pass) = self.pass(place, now) {
                self.left -= 1;
                self.tries += 1;
                return Some(pass);
            }
        }
        None
    }

    /// Whether this one may be asked now, as far as its provider goes.
    fn pass(&mut self, place: Place, now: Duration) -> Option<Pass<'a>> {
        let candidate = self.route.candidate(place)?;
        let upstream = &candidate.upstream;
        let health = &upstream.health;
        let is_retry = self.failure.is_some();
        if is_retry && !health.budget.allows(now) {
            self.burnt.push(place);
            return self.leave_out(place, "retry_budget");
        }
        let reserved = match self.taking.reserve(self.route, place, candidate, now) {
            Ok(reserved) => reserved,
            Err(barred) => {
                self.bar(place, barred);
                return None;
            }
        };
        let seat = upstream.max_concurrent.map(|most| health.seats.take(most));
        if matches!(seat, Some(None)) {
            self.is_full = true;
            return self.leave_out(place, "full");
        }
        let trial = match health.breaker.turn(now) {
            Turn::Free => None,
            Turn::Trial(trial) => Some(trial),
            Turn::Taken => return self.leave_out(place, "trial"),
        };
        if is_retry {
            health.budget.retries();
        }
        if self.tries == 0 {
            health.budget.deposit(now);
        }
        Some(Pass {
            candidate,
            place,
            is_retry,
            trial,
            seat: seat.flatten(),
            reserved,
        })
    }

    /// Notes why this one is not asked.
    fn leave_out(&mut self, place: Place, verdict: &'static str) -> Option<Pass<'a>> {
        self.left_out.push((place, verdict));
        None
    }

    /// Notes that a limit keeps this one from being asked.
    fn bar(&mut self, place: Place, barred: Barred) {
        self.asked.pop();
        self.barred.push(place);
        let failure = match barred {
            Barred::ForNow(tally, wanted) if !self.waits_no_more => {
                self.short.push((place, tally, wanted));
                return;
            }
            Barred::ForNow(..) => Failure::new(
                Kind::AllLimited,
                "a limit of the provider is nearly used up",
            )
            .retry_after(Some(COME_AGAIN)),
            Barred::Spent(failure) => failure,
        };
        self.left_out.push((place, "limited"));
        if failure.kind == Kind::AllLimited {
            self.route.note_spent(place, &mut self.open);
        }
        let longest = |failure: &Failure| failure.retry_after.unwrap_or(Duration::MAX);
        let is_sooner = |known: &Failure| longest(&failure) < longest(known);
        if self.spent.as_ref().is_none_or(is_sooner) {
            self.spent = Some(failure);
        }
    }

    /// Whether the attempt just handed out is the last.
    pub fn is_last(&self) -> bool {
        self.left == 0
    }

    /// An attempt failed. `Err`: no other may be asked.
    pub fn failed(
        &mut self,
        pass: Pass<'_>,
        failure: Failure,
        now: Duration,
    ) -> Result<(), Failure> {
        if pass.is_retry {
            pass.candidate.upstream.health.budget.charge(now);
        }
        self.broke(pass.place, failure)
    }

    /// An attempt failed that was good before. `Err`: no other may be asked.
    pub fn broke(&mut self, place: Place, failure: Failure) -> Result<(), Failure> {
        if !failure.try_next() {
            // Final, unless other models are named for this very failure.
            let way = failure.why.and_then(|why| self.route.redirect(place, why));
            let Some(open) = way else {
                return Err(failure);
            };
            self.open = open.knowing(&mut self.open);
            self.failure = Some(failure);
            return Ok(());
        }
        if failure.ambiguous {
            if std::mem::replace(&mut self.ambiguous, true) {
                return Err(failure);
            }
            self.burnt.push(place);
        }
        // Asking the same one again cannot help where it refused the call as such, or where the call has waited there.
        if matches!(
            failure.kind,
            Kind::Untranslatable
                | Kind::UpstreamModel
                | Kind::UpstreamAuth
                | Kind::UpstreamQuota
                | Kind::Full
        ) {
            self.burnt.push(place);
        }
        let says_less = matches!(
            failure.kind,
            Kind::Untranslatable | Kind::UpstreamModel | Kind::Full
        );
        if self.failure.is_none() || !says_less {
            self.failure = Some(failure);
        }
        Ok(())
    }

    /// Full jitter up to `initial · 2ⁿ`, capped.
    fn backoff(&self) -> Duration {
        let ceiling = self
            .retry
            .initial_backoff
            .saturating_mul(1 << (self.rounds - 1).min(16))
            .min(self.retry.max_backoff);
        ceiling.mul_f64(chance::part())
    }

    fn someone_is_awake(&self, now: Duration) -> bool {
        self.asked
            .iter()
            .filter(|place| !self.burnt.contains(place))
            .any(|place| {
                self.route.is_open_at(*place, &self.open)
                    && self
                        .route
                        .candidate(*place)
                        .is_some_and(|candidate| candidate.resting(now).is_none())
            })
    }

    fn shortest_rest(&self, now: Duration) -> Option<Duration> {
        self.route
            .open_candidates(&self.open, now)
            .filter_map(|candidate| candidate.resting(now))
            .map(|(_, wait)| wait)
            .min()
    }

    /// What the client is told: the last failure, or, where nobody could be asked at all, why.
    fn last_failure(&mut self, now: Duration) -> Failure {
        let failed = self.failure.take().or_else(|| self.spent.take());
        failed.unwrap_or_else(|| match self.is_full {
            true => everyone_is_full(),
            false => everyone_rests(self.route, &self.open, now),
        })
    }
}

fn everyone_is_full() -> Failure {
    let message = "the providers of this model have as many calls as they may have at a time";
    Failure::new(Kind::Unavailable, message).retry_after(Some(COME_AGAIN))
}

fn everyone_rests(route: &Route, open: &Open, now: Duration) -> Failure {
    let rests: Vec<(Reason, Duration)> = route
        .open_candidates(open, now)
        .filter_map(|candidate| candidate.resting(now))
        .collect();
    let by_limit = !rests.is_empty() && rests.iter().all(|(reason, _)| reason.is_limit());
    let wait = rests
        .iter()
        .map(|(_, wait)| *wait)
        .min()
        .filter(|wait| *wait < Duration::from_secs(86_400));
    let mut reasons: Vec<&str> = rests.iter().map(|(reason, _)| reason.name()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let lacks_model = !rests.is_empty() && rests.iter().all(|(reason, _)| *reason == Reason::Model);
    let kind = match (by_limit, lacks_model) {
        (true, _) => Kind::AllLimited,
        // They said so a moment ago: asking again would say the same.
        (_, true) => Kind::UnknownModel,
        _ => Kind::NoCandidate,
    };
    let message = format!(
        "every provider of this model rests ({})",
        reasons.join(", ")
    );
    Failure::new(kind, message).retry_after(wait)
}
