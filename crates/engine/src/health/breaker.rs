//! A provider's breaker: opens after failures in a row or when half of its calls fail, lets one call through to see whether it may
//! close, and closes gently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Reason, Rest, millis};
use crate::config::Retry;

/// Outcomes are counted over so long: the breaker opens where so many failures as would in a row are half of them.
const WINDOW: Duration = Duration::from_secs(10);

/// Each failed trial doubles the time until the next, so many times at most.
const DOUBLINGS: u32 = 3;

/// How long after closing it gets less than its share.
const SLOW_START: Duration = Duration::from_secs(10);

/// The least share in that time.
const LEAST_SHARE: f64 = 0.1;

/// When others look again while a trial is under way.
const TRIAL: Duration = Duration::from_secs(1);

/// Whether a provider may be asked. Atomics, no lock.
#[derive(Debug, Default)]
pub struct Breaker {
    rest: Rest,
    /// Failures in a row.
    failures: AtomicU32,
    /// Outcomes of the window.
    window: Window,
    /// How often it opened since it was last closed; 0 = it is closed.
    trips: AtomicU32,
    /// One call is under way to see whether it may close.
    trial: AtomicBool,
    /// Milliseconds of the clock when it closed; 0 = it never opened.
    closed: AtomicU64,
    /// How often it opened in all.
    opened: AtomicU64,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Calls go through.
    Closed,
    /// No call goes through, for this reason and so long still.
    Open(Reason, Duration),
    /// One call may find out whether it closes.
    HalfOpen,
}

impl Position {
    /// All of their names, as metrics and admin answers have them.
    pub const NAMES: [&'static str; 3] = ["closed", "open", "half_open"];

    /// Its name.
    pub fn name(self) -> &'static str {
        let [closed, open, half_open] = Self::NAMES;
        match self {
            Position::Closed => closed,
            Position::Open(..) => open,
            Position::HalfOpen => half_open,
        }
    }
}

/// What the breaker says to a call.
#[derive(Debug)]
pub enum Turn {
    /// Go.
    Free,
    /// Go, and find out whether the breaker may close.
    Trial(Trial),
    /// Somebody else is finding out.
    Taken,
}

/// The one call that finds out. Dropped without a word from the provider, it leaves the turn to the next.
#[derive(Debug)]
pub struct Trial(Arc<Breaker>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.trial.store(false, Ordering::Release);
    }
}

impl Breaker {
    /// Why it must not be asked now, and for how long still.
    pub fn resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        self.rest.resting(now).or_else(|| self.on_trial())
    }

    fn on_trial(&self) -> Option<(Reason, Duration)> {
        let is_taken = self.is_tripped() && self.trial.load(Ordering::Acquire);
        is_taken.then_some((Reason::Breaker, TRIAL))
    }

    /// The same, but for what another replica may have been wrong about.
    pub fn surely_resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        self.rest.surely(now).or_else(|| self.on_trial())
    }

    /// Its rest, which other replicas are told of, and tell of.
    pub fn rest_cell(&self) -> &Rest {
        &self.rest
    }

    /// How it stands.
    pub fn position(&self, now: Duration) -> Position {
        match self.rest.resting(now) {
            Some((reason, wait)) => Position::Open(reason, wait),
            None if self.is_tripped() => Position::HalfOpen,
            None => Position::Closed,
        }
    }

    /// How often it opened since it was last closed.
    pub fn trips(&self) -> u32 {
        self.trips.load(Ordering::Acquire)
    }

    /// How often it opened in all.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// A call wants to ask.
    pub fn turn(self: &Arc<Self>, now: Duration) -> Turn {
        if !self.is_tripped() {
            return Turn::Free;
        }
        if self.rest.own(now).is_some() || self.trial.swap(true, Ordering::AcqRel) {
            return Turn::Taken;
        }
        Turn::Trial(Trial(self.clone()))
    }

    /// Its share of the calls that it would get, while others can have the rest: less than 1 for a while after it closed.
    pub fn share(&self, now: Duration) -> f64 {
        let closed = self.closed.load(Ordering::Relaxed);
        if closed == 0 {
            return 1.0;
        }
        let since = millis(now).saturating_sub(closed) as f64;
        (since / SLOW_START.as_millis() as f64).clamp(LEAST_SHARE, 1.0)
    }

    /// A call worked.
    pub fn succeeded(&self, now: Duration) {
        self.rest.unlearn();
        if self.is_tripped() {
            return self.answered(now);
        }
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.window.count(now, false, 0);
    }

    /// It answered, if only to refuse: good enough to close by, but no success. What was asked before it opened says nothing.
    pub fn answered(&self, now: Duration) {
        if self.is_tripped() && self.rest.own(now).is_none() {
            self.close();
            self.closed.store(millis(now).max(1), Ordering::Relaxed);
        }
    }

    /// A call failed by the provider's fault.
    pub fn failed(&self, reason: Reason, cooldown: Duration, retry: &Retry, now: Duration) {
        let trips = self.trips();
        if trips > 0 {
            // Of calls that were under way when it opened: they are counted.
            if self.rest.own(now).is_none() {
                self.open(reason, cooldown, trips, now);
            }
            return;
        }
        let in_a_row = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let is_bad = self.window.count(now, true, retry.breaker_threshold);
        if in_a_row >= retry.breaker_threshold || is_bad {
            self.open(reason, cooldown, 0, now);
        }
    }

    /// Rests at least so long, as the provider itself asked or a health check saw.
    pub fn rest(&self, reason: Reason, now: Duration, wait: Duration) {
        self.rest.rest(reason, now, Some(wait));
    }

    /// Ends a rest that has one of these reasons.
    pub fn wake(&self, reasons: &[Reason]) {
        if self.rest.wake(reasons) {
            self.close();
        }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.rest.reset();
        self.close();
        self.closed.store(0, Ordering::Relaxed);
    }

    fn is_tripped(&self) -> bool {
        self.trips() > 0
    }

    fn open(&self, reason: Reason, cooldown: Duration, trips: u32, now: Duration) {
        let wait = cooldown.saturating_mul(1 << trips.min(DOUBLINGS));
        self.rest.rest(reason, now, Some(wait));
        self.trips.store(trips + 1, Ordering::Release);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.window.clear();
        self.trips.store(0, Ordering::Release);
    }
}

/// Outcomes of one window after the other: the second it began in, how many, how many of them bad.
#[derive(Debug, Default)]
struct Window(AtomicU64);

impl Window {
    /// Counts an outcome; true where so many are bad and no more are good.
    fn count(&self, now: Duration, is_bad: bool, threshold: u32) -> bool {
        let second = now.as_secs() as u32;
        let counted = |packed: u64| {
            let (began, all, bad) = unpacked(packed);
            let is_over = u64::from(second.wrapping_sub(began)) >= WINDOW.as_secs();
            let (began, all, bad) = if is_over || all == u16::MAX {
                (second, 0, 0)
            } else {
                (began, all, bad)
            };
            (began, all + 1, bad + u16::from(is_bad))
        };
        let mut last = (0, 0, 0);
        let update = |packed| {
            last = counted(packed);
            let (began, all, bad) = last;
            Some(u64::from(began) << 32 | u64::from(all) << 16 | u64::from(bad))
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let (_, all, bad) = last;
        u32::from(bad) >= threshold && u32::from(bad) * 2 >= u32::from(all)
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

fn unpacked(packed: u64) -> (u32, u16, u16) {
    ((packed >> 32) as u32, (packed >> 16) as u16, packed as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn fail(breaker: &Breaker, times: u32, now: Duration) {
        let retry = Retry::default();
        for _ in 0..times {
            breaker.failed(Reason::Breaker, 10 * S, &retry, now);
        }
    }

    fn trial(breaker: &Arc<Breaker>, now: Duration) -> Trial {
        match breaker.turn(now) {
            Turn::Trial(trial) => trial,
            other => panic!("a trial was expected: {other:?}"),
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_through() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 4, S);
        assert!(matches!(breaker.turn(S), Turn::Free));
        fail(&breaker, 1, S);
        assert_eq!(breaker.resting(S), Some((Reason::Breaker, 10 * S)));
        assert!(matches!(breaker.turn(S), Turn::Taken));
        let first = trial(&breaker, 12 * S);
        assert!(matches!(breaker.turn(12 * S), Turn::Taken));
        assert!(breaker.resting(12 * S).is_some(), "others look elsewhere");
        drop(first);
        let second = trial(&breaker, 12 * S);
        breaker.succeeded(12 * S);
        drop(second);
        assert!(matches!(breaker.turn(12 * S), Turn::Free));
    }

    #[test]
    fn each_failed_trial_doubles_the_rest() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 5, S);
        let mut now = S;
        for seconds in [10, 20, 40, 80, 80] {
            assert_eq!(
                breaker.resting(now).map(|(_, wait)| wait),
                Some(S * seconds)
            );
            fail(&breaker, 3, now + S);
            now += S * seconds;
            let trial = trial(&breaker, now);
            fail(&breaker, 1, now);
            drop(trial);
        }
    }

    #[test]
    fn it_opens_where_half_of_the_calls_fail() {
        let breaker = Arc::new(Breaker::default());
        for _ in 0..6 {
            breaker.succeeded(S);
            fail(&breaker, 1, S);
        }
        assert!(breaker.resting(S).is_some());
        let other = Arc::new(Breaker::default());
        for _ in 0..20 {
            other.succeeded(S);
            other.succeeded(S);
            fail(&other, 1, S);
        }
        assert!(other.resting(S).is_none(), "a third is less than a half");
    }

    #[test]
    fn what_was_asked_before_it_opened_closes_nothing() {
        let breaker = Arc::new(Breaker::default());
        fail(&breaker, 5, S);
        breaker.succeeded(2 * S);
        assert!(breaker.resting(2 * S).is_some());
        breaker.answered(12 * S);
        assert!(matches!(breaker.turn(12 * S), Turn::Free));
    }

    #[test]
    fn its_position_is_seen_and_a_reset_forgets_all_but_the_count() {
        let breaker = Arc::new(Breaker::default());
        assert_eq!(breaker.position(S), Position::Closed);
        fail(&breaker, 5, S);
        let open = Position::Open(Reason::Breaker, 10 * S);
        assert_eq!((breaker.position(S), breaker.trips()), (open, 1));
        assert_eq!(breaker.position(12 * S), Position::HalfOpen);
        let trial = trial(&breaker, 12 * S);
        assert_eq!(breaker.position(12 * S), Position::HalfOpen);
        fail(&breaker, 1, 12 * S);
        drop(trial);
        assert_eq!((breaker.trips(), breaker.opened()), (2, 2));
        breaker.reset();
        assert_eq!(breaker.position(12 * S), Position::Closed);
        assert_eq!((breaker.trips(), breaker.opened()), (0, 2));
        assert!(matches!(breaker.turn(12 * S), Turn::Free));
        assert_eq!(breaker.share(12 * S), 1.0, "not gently: somebody knows");
        fail(&breaker, 4, 12 * S);
        assert_eq!(breaker.position(12 * S), Position::Closed, "counted anew");
    }

    #[test]
    fn it_closes_gently() {
        let breaker = Arc::new(Breaker::default());
        assert_eq!(breaker.share(S), 1.0);
        fail(&breaker, 5, S);
        breaker.succeeded(12 * S);
        assert_eq!(breaker.share(12 * S), LEAST_SHARE);
        assert_eq!(breaker.share(17 * S), 0.5);
        assert_eq!(breaker.share(30 * S), 1.0);
    }
}
