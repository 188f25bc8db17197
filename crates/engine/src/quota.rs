//! Limited amounts of requests, tokens and money: reserved before a call, settled by what it took. Exact however many ask at once,
//! without a lock.

mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use window::{Period, Window};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Calls.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// Millionths of a dollar.
    Money,
}

/// So much of something in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// What is counted.
    pub measure: Measure,
    /// In which windows.
    pub period: Period,
    /// How much in each; 0 blocks.
    pub most: u64,
}

/// What a call takes: its estimate before, its true figures after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Calls.
    pub requests: u64,
    /// Input and output tokens together.
    pub tokens: u64,
    /// Millionths of a dollar.
    pub money: u64,
}

/// One allowance with what is taken of it.
#[derive(Debug)]
struct Meter {
    allowance: Allowance,
    /// The window's number, its lowest 24 bits, above what is taken in it.
    state: AtomicU64,
}

/// The allowances of one subject: a key, a team, a model, a provider.
#[derive(Debug)]
pub struct Quota {
    meters: Vec<Meter>,
}

/// What a call has reserved. Dropped unsettled it gives everything back: a call that never was.
#[derive(Debug, Default)]
pub struct Reservation {
    held: Vec<Held>,
}

/// What is reserved of one meter.
#[derive(Debug)]
struct Held {
    quota: Arc<Quota>,
    meter: usize,
    /// The window it was taken in: in another it says nothing.
    window: u64,
    amount: u64,
}

/// There is not enough left of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Of which.
    pub allowance: Allowance,
    /// How much is left.
    pub left: u64,
    /// When there is more; `None`: never.
    pub wait: Option<Duration>,
}

/// How an allowance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub allowance: Allowance,
    /// How much is taken in the window of now.
    pub taken: u64,
    /// When the next window begins; `None`: never.
    pub resets: Option<Duration>,
}

/// The bits of the amount: a million millions, which is a million dollars.
const AMOUNT_BITS: u32 = 40;
const MOST: u64 = (1 << AMOUNT_BITS) - 1;
const WINDOWS: u64 = (1 << (64 - AMOUNT_BITS)) - 1;

impl Measure {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Money => "money",
        }
    }
}

impl Amounts {
    /// So much of this.
    pub fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Requests => self.requests,
            Measure::Tokens => self.tokens,
            Measure::Money => self.money,
        }
    }
}

impl Meter {
    fn new(allowance: Allowance, before: Option<&Meter>) -> Self {
        let state = before.map_or(0, |before| before.state.load(Ordering::Relaxed));
        Self {
            allowance,
            state: AtomicU64::new(state),
        }
    }

    /// What is taken in a window.
    fn taken(&self, window: u64) -> u64 {
        amount_in(self.state.load(Ordering::Relaxed), window)
    }

    /// Takes an amount, if so much is left: `Err` has what is.
    fn take(&self, window: u64, amount: u64) -> Result<(), u64> {
        let most = self.allowance.most.min(MOST);
        let take = |state| {
            let taken = amount_in(state, window);
            let sum = taken.checked_add(amount).filter(|sum| *sum <= most)?;
            // What blocks, blocks what takes nothing as well.
            (most > 0).then(|| packed(window, sum))
        };
        self.state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(drop)
            .map_err(|state| most.saturating_sub(amount_in(state, window)))
    }

    /// Makes of an amount that was taken in a window another one: more than was allowed, if it was.
    fn settle(&self, window: u64, held: u64, used: u64) {
        let settle = |state| {
            // Another window has begun: what was taken in the old one is forgotten with it.
            if window_of(state) != window & WINDOWS {
                return None;
            }
            let taken = amount_in(state, window).saturating_sub(held);
            Some(packed(window, taken.saturating_add(used).min(MOST)))
        };
        let _ = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, settle);
    }
}

impl Standing {
    /// How much is left in the window of now.
    pub fn left(&self) -> u64 {
        self.allowance.most.saturating_sub(self.taken)
    }
}

impl Quota {
    /// These allowances. Those that were there before, be they of more or of less, keep what is taken of them.
    pub fn new(allowances: &[Allowance], before: Option<&Quota>) -> Self {
        let meter = |allowance: &Allowance| {
            let is_same = |meter: &&Meter| {
                let other = meter.allowance;
                (other.measure, other.period) == (allowance.measure, allowance.period)
            };
            let old = before.and_then(|before| before.meters.iter().find(is_same));
            Meter::new(*allowance, old)
        };
        Self {
            meters: allowances.iter().map(meter).collect(),
        }
    }

    /// Reserves what a call may take, of all allowances or of none. The moment is in seconds since 1970.
    pub fn reserve(
        self: &Arc<Self>,
        amounts: Amounts,
        now: u64,
        reservation: &mut Reservation,
    ) -> Result<(), Spent> {
        let before = reservation.held.len();
        for (index, meter) in self.meters.iter().enumerate() {
            let allowance = meter.allowance;
            let window = allowance.period.window(now);
            let amount = amounts.of(allowance.measure);
            if let Err(left) = meter.take(window.number, amount) {
                reservation.give_back_from(before);
                let is_ever_enough = amount <= allowance.most && allowance.most > 0;
                return Err(Spent {
                    allowance,
                    left,
                    wait: window.left(now).filter(|_| is_ever_enough),
                });
            }
            reservation.held.push(Held {
                quota: self.clone(),
                meter: index,
                window: window.number,
                amount,
            });
        }
        Ok(())
    }

    /// How all allowances stand.
    pub fn standings(&self, now: u64) -> impl Iterator<Item = Standing> {
        self.meters.iter().map(move |meter| {
            let window = meter.allowance.period.window(now);
            Standing {
                allowance: meter.allowance,
                taken: meter.taken(window.number),
                resets: window.left(now),
            }
        })
    }
}

impl Reservation {
    /// The call took so much.
    pub fn settle(mut self, used: Amounts) {
        for held in self.held.drain(..) {
            if let Some(meter) = held.quota.meters.get(held.meter) {
                let used = used.of(meter.allowance.measure);
                meter.settle(held.window, held.amount, used);
            }
        }
    }

    fn give_back_from(&mut self, first: usize) {
        for held in self.held.drain(first..) {
            if let Some(meter) = held.quota.meters.get(held.meter) {
                meter.settle(held.window, held.amount, 0);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back_from(0);
    }
}

fn packed(window: u64, amount: u64) -> u64 {
    (window & WINDOWS) << AMOUNT_BITS | amount.min(MOST)
}

fn window_of(state: u64) -> u64 {
    state >> AMOUNT_BITS
}

fn amount_in(state: u64, window: u64) -> u64 {
    if window_of(state) == window & WINDOWS {
        state & MOST
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowance(measure: Measure, period: Period, most: u64) -> Allowance {
        Allowance {
            measure,
            period,
            most,
        }
    }

    fn quota(allowances: &[Allowance]) -> Arc<Quota> {
        Arc::new(Quota::new(allowances, None))
    }

    fn amounts(tokens: u64) -> Amounts {
        Amounts {
            requests: 1,
            tokens,
            money: 0,
        }
    }

    fn taken(quota: &Quota, now: u64) -> Vec<u64> {
        quota
            .standings(now)
            .map(|standing| standing.taken)
            .collect()
    }

    fn reserve(quota: &Arc<Quota>, tokens: u64, now: u64) -> Result<Reservation, Spent> {
        let mut reservation = Reservation::default();
        quota.reserve(amounts(tokens), now, &mut reservation)?;
        Ok(reservation)
    }

    #[test]
    fn what_is_reserved_is_settled_by_what_was_used() {
        let quota = quota(&[
            allowance(Measure::Requests, Period::Minute, 2),
            allowance(Measure::Tokens, Period::Day, 100),
        ]);
        let first = reserve(&quota, 60, 0).expect("enough");
        assert_eq!(taken(&quota, 0), [1, 60]);
        let spent = reserve(&quota, 41, 1).expect_err("too much");
        assert_eq!((spent.allowance.measure, spent.left), (Measure::Tokens, 40));
        assert_eq!(spent.wait, Some(Duration::from_secs(86_399)));
        assert_eq!(taken(&quota, 1), [1, 60], "a refusal takes nothing");
        first.settle(amounts(25));
        assert_eq!(taken(&quota, 1), [1, 25]);
        drop(reserve(&quota, 75, 1).expect("enough"));
        assert_eq!(taken(&quota, 1), [1, 25], "a call that never was");
        reserve(&quota, 75, 1).expect("enough").settle(amounts(90));
        assert_eq!(taken(&quota, 1), [2, 115], "what was used was used");
        let spent = reserve(&quota, 0, 30).expect_err("no call is left");
        assert_eq!(spent.allowance.measure, Measure::Requests);
        assert_eq!(spent.wait, Some(Duration::from_secs(30)));
        assert_eq!(taken(&quota, 60), [0, 115], "the next minute");
    }

    #[test]
    fn what_was_taken_in_an_old_window_is_not_given_back_to_a_new_one() {
        let quota = quota(&[allowance(Measure::Tokens, Period::Minute, 100)]);
        let old = reserve(&quota, 80, 59).expect("enough");
        reserve(&quota, 70, 60).expect("enough").settle(amounts(70));
        drop(old);
        assert_eq!(taken(&quota, 60), [70]);
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_and_what_is_never_enough_is_said_to_be_so() {
        let none = quota(&[allowance(Measure::Requests, Period::Total, 0)]);
        let spent = reserve(&none, 0, 0).expect_err("blocked");
        assert_eq!((spent.left, spent.wait), (0, None));
        let blocked = quota(&[allowance(Measure::Money, Period::Day, 0)]);
        assert!(reserve(&blocked, 0, 0).is_err(), "even what costs nothing");
        let few = quota(&[allowance(Measure::Tokens, Period::Minute, 10)]);
        assert_eq!(reserve(&few, 11, 0).expect_err("too much").wait, None);
        assert!(reserve(&few, u64::MAX, 0).is_err());
    }

    #[test]
    fn other_allowances_keep_what_is_taken() {
        let one = quota(&[allowance(Measure::Tokens, Period::Day, 100)]);
        reserve(&one, 60, 0).expect("enough").settle(amounts(60));
        let less = Quota::new(
            &[
                allowance(Measure::Tokens, Period::Minute, 9),
                allowance(Measure::Tokens, Period::Day, 50),
            ],
            Some(&one),
        );
        assert_eq!(taken(&less, 1), [0, 60]);
        assert_eq!(reserve(&Arc::new(less), 1, 1).expect_err("spent").left, 0);
    }

    #[test]
    fn no_more_is_given_than_there_is_however_many_ask() {
        let quota = quota(&[
            allowance(Measure::Requests, Period::Day, 500),
            allowance(Measure::Tokens, Period::Month, 1000),
        ]);
        let given: usize = std::thread::scope(|scope| {
            let ask = || {
                let calls = (0..200).filter(|_| {
                    let reserved = reserve(&quota, 3, 100);
                    reserved.map(|held| held.settle(amounts(3))).is_ok()
                });
                calls.count()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let counts = threads.into_iter().map(|thread| thread.join());
            counts.map(|count| count.expect("a count")).sum()
        });
        assert_eq!(given, 333);
        assert_eq!(taken(&quota, 100), [333, 999], "refusals gave all back");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_settled_and_is_held(
            steps in prop::collection::vec((0_u64..200, 0_u64..200, any::<bool>(), 0_u64..30), 1..60)
        ) {
            let most = 1000;
            let quota = quota(&[allowance(Measure::Tokens, Period::Minute, most)]);
            let (mut now, mut minute, mut used) = (0, 0, 0);
            for (wanted, took, settles, later) in steps {
                now += later;
                if now / 60 != minute {
                    (minute, used) = (now / 60, 0);
                }
                match reserve(&quota, wanted, now) {
                    Ok(held) => {
                        prop_assert!(used + wanted <= most);
                        prop_assert_eq!(taken(&quota, now), vec![used + wanted]);
                        if settles {
                            held.settle(amounts(took));
                            used += took;
                        }
                    }
                    Err(spent) => {
                        prop_assert!(used + wanted > most);
                        prop_assert_eq!(spent.left, most.saturating_sub(used));
                    }
                }
                prop_assert_eq!(taken(&quota, now), vec![used]);
            }
        }
    }
}
