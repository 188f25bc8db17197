//! What a call may take of limits, reserved before anybody is asked: of its key, its team and its model all, or nothing.

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, Kind};
use tokio::time::{Instant, timeout_at};

use super::{Begun, Engine};
use crate::call::Call;
use crate::expect::{Expected, Metered};
use crate::explain::limits;
use crate::observe::Recorder;
use crate::plan::taking::{Taking, refusal};
use crate::quota::{Amounts, Measure, Quota, Reservation, Spent, Tally};
use crate::route::Route;

/// How long a call waits in all for parts of limits that are leased.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a call still waits for leases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    until: Option<Instant>,
    is_over: bool,
}

impl Patience {
    /// Waits until more may be leased of this; whether it is worth to look again.
    pub(super) async fn wait(&mut self, tally: &Arc<Tally>, amount: u64) -> bool {
        if self.is_over {
            return false;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
        let mut news = std::pin::pin!(tally.news());
        // From here on nothing is missed.
        news.as_mut().enable();
        let _wanting = tally.want(amount);
        self.is_over = timeout_at(until, news).await.is_err();
        if self.is_over {
            tally.is_late();
        }
        // A store that went away in the meantime has left a share.
        true
    }
}

impl Engine {
    /// Reserves the most that the call is thought to take, and its place in the ledger.
    pub(super) async fn reserve(
        &self,
        begun: &mut Begun,
        recorder: &mut Recorder,
    ) -> Result<(), Failure> {
        let reserved = self.take(begun, recorder).await;
        let limiting = Limiting {
            call: &begun.call,
            route: &begun.route,
        };
        let now = self.clock.unix_seconds();
        recorder.update(|record| record.limits = limits(limiting.quotas(), now));
        reserved
    }

    async fn take(&self, begun: &mut Begun, recorder: &mut Recorder) -> Result<(), Failure> {
        let expected = recorder.record().map(|record| record.expected);
        let expected = expected.unwrap_or_default();
        begun.taking = Taking::new(expected, self.clock.unix_seconds(), self.clock.now());
        loop {
            let limiting = Limiting {
                call: &begun.call,
                route: &begun.route,
            };
            let spent = match limiting.reserve(expected, self.clock.unix_seconds())? {
                Ok(reservation) => {
                    recorder.reserve(reservation);
                    return recorder.open();
                }
                Err(spent) => spent,
            };
            let Some(more) = &spent.more else {
                return Err(refusal(Kind::RateLimited, &spent));
            };
            // In a box: hardly any call waits.
            let wait = Box::pin(begun.patience.wait(more, spent.wanted));
            if !wait.await {
                return Err(refusal(Kind::RateLimited, &spent));
            }
        }
    }
}

/// What limits a call before anybody is asked: its key's, its team's, its model's limits.
#[derive(Clone, Copy)]
pub(crate) struct Limiting<'a> {
    pub call: &'a Call,
    pub route: &'a Route,
}

impl<'a> Limiting<'a> {
    fn quotas(self) -> impl Iterator<Item = &'a Arc<Quota>> {
        let caller = self.call.inbound.caller.quotas();
        caller.chain(&self.route.quotas)
    }

    /// What the call may take of them, at most. `Err`: that cannot be said, so that it may not be made.
    fn amounts(self, expected: Expected) -> Result<Amounts, Failure> {
        if expected.metered == Metered::Unread {
            self.quotas().try_for_each(|quota| countable(quota))?;
        }
        let money = match self.quotas().find(|quota| quota.limits(Measure::Money)) {
            Some(quota) => {
                dearest(self.route, expected).ok_or_else(|| unpriced(&self.call.model, quota))?
            }
            None => 0,
        };
        Ok(Amounts {
            requests: 1,
            tokens: expected.input.saturating_add(expected.output),
            money,
        })
    }

    fn reserve(self, expected: Expected, now: u64) -> Result<Result<Reservation, Spent>, Failure> {
        let mut reservation = Reservation::default();
        if self.quotas().next().is_none() {
            return Ok(Ok(reservation));
        }
        let amounts = self.amounts(expected)?;
        for quota in self.quotas() {
            if let Err(spent) = quota.reserve(amounts, now, &mut reservation) {
                return Ok(Err(spent));
            }
        }
        Ok(Ok(reservation))
    }

    /// Whether so much could be reserved now. Nothing is taken.
    pub(crate) fn look(self, expected: Expected, now: u64) -> Result<(), Failure> {
        if self.quotas().next().is_none() {
            return Ok(());
        }
        let amounts = self.amounts(expected)?;
        let mut spent = self.quotas().filter_map(|quota| quota.lacks(amounts, now));
        // More of what is leased may come in time: nobody can tell.
        let spent = spent.find(|spent| spent.more.is_none());
        spent.map_or(Ok(()), |spent| Err(refusal(Kind::RateLimited, &spent)))
    }
}

/// The most that a call can cost; `None`: nobody knows.
fn dearest(route: &Route, expected: Expected) -> Option<u64> {
    match expected.metered {
        Metered::Nothing | Metered::Unread => Some(0),
        Metered::Tokens => route.dearest(expected.input, expected.output),
    }
}

/// What passes unread is one request, and nobody here knows how many tokens: a way around limits in these that must not be.
fn countable(quota: &Quota) -> Result<(), Failure> {
    if !quota.limits(Measure::Tokens) && !quota.limits(Measure::Money) {
        return Ok(());
    }
    let message = format!(
        "{} is limited in tokens or money, and calls of this route pass unread: nobody could count them. Use the route of the model's own endpoint",
        quota.subject()
    );
    Err(Failure::new(Kind::Forbidden, message))
}

/// Nobody knows what is to be counted.
fn unpriced(model: &str, quota: &Quota) -> Failure {
    let shown: String = model.chars().take(100).collect();
    let message = format!(
        "{} is limited in money, and nobody knows what model '{shown}' costs: give it a price (price_overrides, or price beside its target)",
        quota.subject()
    );
    Failure::new(Kind::Forbidden, message).param("model")
}
