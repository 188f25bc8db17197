//! What an attempt may take of limits of its own: its provider's, and those of a fallback's model.

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, Kind};

use crate::expect::{Expected, Metered};
use crate::quota::{Amounts, Measure, Quota, Reservation, Spent, Tally};
use crate::route::{Candidate, Place, Route};

/// What each attempt of a call is thought to take, and how moments of the clock are moments of the calendar.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taking {
    expected: Expected,
    /// Seconds since 1970 at which the clock began.
    origin: u64,
}

/// Somebody cannot be asked because of a limit.
#[derive(Debug)]
pub enum Barred {
    /// More of it may be leased within a moment: so much is wanted.
    ForNow(Arc<Tally>, u64),
    /// Until its window ends, or its price is known.
    Spent(Failure),
}

impl Taking {
    /// Now, by both clocks.
    pub fn new(expected: Expected, unix_seconds: u64, now: Duration) -> Self {
        Self {
            expected,
            origin: unix_seconds.saturating_sub(now.as_secs()),
        }
    }

    /// Reserves what an attempt at this place may take; nothing where nothing limits it.
    pub fn reserve(
        &self,
        route: &Route,
        place: Place,
        candidate: &Candidate,
        now: Duration,
    ) -> Result<Option<Reservation>, Barred> {
        let mut quotas = route.quotas_at(place).peekable();
        if quotas.peek().is_none() {
            return Ok(None);
        }
        let now = self.origin + now.as_secs();
        let mut reservation = Reservation::default();
        for quota in quotas {
            let amounts = self.amounts(quota, candidate)?;
            let reserved = quota.reserve(amounts, now, &mut reservation);
            reserved.map_err(Barred::by)?;
        }
        Ok(Some(reservation))
    }

    /// Why an attempt at this place could not be made now, as far as limits go. Nothing is taken.
    pub fn look(
        &self,
        route: &Route,
        place: Place,
        candidate: &Candidate,
        now: Duration,
    ) -> Option<Barred> {
        let now = self.origin + now.as_secs();
        route
            .quotas_at(place)
            .find_map(|quota| match self.amounts(quota, candidate) {
                Ok(amounts) => quota.lacks(amounts, now).map(Barred::by),
                Err(barred) => Some(barred),
            })
    }

    /// What an attempt may take of this, at most.
    fn amounts(&self, quota: &Quota, candidate: &Candidate) -> Result<Amounts, Barred> {
        let money = match quota.limits(Measure::Money) {
            true => most(candidate, self.expected).ok_or_else(|| unpriced(candidate))?,
            false => 0,
        };
        Ok(Amounts {
            requests: 1,
            tokens: self.expected.input.saturating_add(self.expected.output),
            money,
        })
    }
}

impl Barred {
    fn by(mut spent: Spent) -> Self {
        match spent.more.take() {
            Some(tally) => Barred::ForNow(tally, spent.wanted),
            None => Barred::Spent(refusal(Kind::AllLimited, &spent)),
        }
    }
}

/// There is not enough left.
pub fn refusal(kind: Kind, spent: &Spent) -> Failure {
    Failure::new(kind, spent.to_string()).retry_after(spent.wait)
}

/// The most that an attempt can cost; `None`: nobody knows. What nobody here reads is a request alone.
fn most(candidate: &Candidate, expected: Expected) -> Option<u64> {
    match expected.metered {
        Metered::Nothing | Metered::Unread => Some(0),
        Metered::Tokens => {
            let tariff = candidate.tariff.as_ref()?;
            Some(tariff.most(expected.input, expected.output))
        }
    }
}

fn unpriced(candidate: &Candidate) -> Barred {
    let message = format!(
        "provider '{}' is limited in money, and nobody knows what its model '{}' costs: give it a price (price_overrides, or price beside its target)",
        candidate.upstream.name, candidate.model
    );
    Barred::Spent(Failure::new(Kind::NoCandidate, message))
}
