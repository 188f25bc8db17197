//! One thing's rest: until when and why, by what was seen here and by what other replicas say. Shared atomics, no lock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::{Reason, millis};

/// Rest without an end that anyone knows: until the configuration changes or a probe passes.
const FOREVER: u64 = u64::MAX;

/// A rest that ends so little later than what others were told is not told again.
const NEWS: u64 = 1_000;

/// Whether something may be used.
#[derive(Debug, Default)]
pub struct Rest {
    /// What was seen here.
    own: Span,
    /// What another replica saw.
    learnt: Span,
    /// Which replica that was.
    from: AtomicU64,
    /// Until when others were told that it rests; 0 = they were not, or were told that it is over.
    told: AtomicU64,
}

/// Until when and why.
#[derive(Debug, Default)]
struct Span {
    /// Milliseconds of the clock; 0 = does not rest.
    until: AtomicU64,
    reason: AtomicU8,
}

/// Waits that are longer have no end that anybody could name.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long a rest is in whole seconds; `None`: it has no end.
pub fn seconds(wait: Duration) -> Option<u64> {
    (wait < LONGEST).then_some(wait.as_secs())
}

impl Span {
    fn resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        let until = self.until.load(Ordering::Acquire);
        let now = millis(now);
        if until <= now {
            return None;
        }
        let reason = Reason::from_code(self.reason.load(Ordering::Acquire))?;
        Some((reason, Duration::from_millis(until - now)))
    }

    fn is_for(&self, reasons: &[Reason]) -> bool {
        let reason = Reason::from_code(self.reason.load(Ordering::Acquire));
        reason.is_some_and(|reason| reasons.contains(&reason))
    }

    fn reset(&self) {
        self.until.store(0, Ordering::Release);
        self.reason.store(0, Ordering::Release);
    }
}

impl Rest {
    /// Why it rests and for how long still, whoever saw it; `None` where it does not.
    pub fn resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        match (self.own.resting(now), self.learnt.resting(now)) {
            (Some(own), Some(learnt)) if own.1 < learnt.1 => Some(learnt),
            (own, learnt) => own.or(learnt),
        }
    }

    /// The same by what was seen here alone.
    pub fn own(&self, now: Duration) -> Option<(Reason, Duration)> {
        self.own.resting(now)
    }

    /// The same, but for what another replica may have been wrong about: whether a provider can be reached, and answers, is not the
    /// same from everywhere.
    pub fn surely(&self, now: Duration) -> Option<(Reason, Duration)> {
        let learnt = self.learnt.resting(now);
        let sure = learnt.filter(|(reason, _)| !reason.is_of_breaker());
        let own = self.own.resting(now);
        own.into_iter().chain(sure).max_by_key(|(_, wait)| *wait)
    }

    /// Which replica said that it rests, where that is the longest that is known.
    pub fn learnt_from(&self, now: Duration) -> Option<u64> {
        let (_, learnt) = self.learnt.resting(now)?;
        let own = self.own.resting(now).map(|(_, wait)| wait);
        let is_longest = own.is_none_or(|own| own < learnt);
        is_longest.then(|| self.from.load(Ordering::Relaxed))
    }

    /// Rests at least so long: a later failure never shortens a rest.
    pub fn rest(&self, reason: Reason, now: Duration, wait: Option<Duration>) {
        let until = wait.map_or(FOREVER, |wait| millis(now.saturating_add(wait)));
        let before = self.own.until.fetch_max(until, Ordering::AcqRel);
        if before < until {
            self.own.reason.store(reason as u8, Ordering::Release);
        }
    }

    /// Another replica says that it rests so long; nothing: no longer. What was seen here stays.
    pub fn learn(&self, from: u64, reason: Reason, now: Duration, wait: Duration) {
        if wait.is_zero() {
            return self.learnt.reset();
        }
        self.from.store(from, Ordering::Relaxed);
        self.learnt.reason.store(reason as u8, Ordering::Release);
        let until = millis(now.saturating_add(wait));
        self.learnt.until.store(until, Ordering::Release);
    }

    /// It worked here: what others say is not so, or no longer.
    pub fn unlearn(&self) {
        if self.learnt.until.load(Ordering::Relaxed) != 0 {
            self.learnt.reset();
        }
    }

    /// What others have to be told: why it rests here and how long still, where that is news.
    pub fn news(&self, now: Duration) -> Option<(Reason, Duration)> {
        let (reason, wait) = self.own.resting(now)?;
        let until = self.own.until.load(Ordering::Acquire);
        let told = self.told.fetch_max(until, Ordering::AcqRel);
        (until > told.saturating_add(NEWS)).then_some((reason, wait))
    }

    /// Whether others were told that it rests, and it does no longer. True once.
    pub fn is_over(&self, now: Duration) -> bool {
        let was_told = self.told.load(Ordering::Relaxed) != 0;
        was_told && self.own.resting(now).is_none() && self.told.swap(0, Ordering::AcqRel) != 0
    }

    /// Ends a rest that has one of these reasons; true where there was one.
    pub fn wake(&self, reasons: &[Reason]) -> bool {
        if self.learnt.is_for(reasons) {
            self.learnt.reset();
        }
        let is_meant = self.own.is_for(reasons);
        if is_meant {
            self.own.reset();
        }
        is_meant
    }

    /// Ends its rest, whatever the reason.
    pub fn reset(&self) {
        self.own.reset();
        self.learnt.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_others_say_counts_until_it_works_here() {
        let rest = Rest::default();
        rest.learn(7, Reason::Limit, S, 9 * S);
        assert_eq!(rest.resting(S), Some((Reason::Limit, 9 * S)));
        assert_eq!((rest.own(S), rest.learnt_from(S)), (None, Some(7)));
        assert_eq!(rest.news(S), None, "it is not told on");
        rest.rest(Reason::Quota, S, Some(20 * S));
        assert_eq!(rest.resting(S), Some((Reason::Quota, 20 * S)));
        assert_eq!(rest.learnt_from(S), None);
        rest.unlearn();
        assert_eq!(rest.resting(S), Some((Reason::Quota, 20 * S)), "seen here");
        rest.learn(8, Reason::Limit, S, 60 * S);
        rest.learn(8, Reason::Limit, S, Duration::ZERO);
        assert_eq!(rest.resting(S), Some((Reason::Quota, 20 * S)));
        rest.learn(8, Reason::Auth, S, 60 * S);
        rest.reset();
        assert_eq!(rest.resting(S), None);
    }

    #[test]
    fn whether_somebody_can_be_reached_is_only_a_hint() {
        for (reason, is_sure) in [
            (Reason::Limit, true),
            (Reason::Auth, true),
            (Reason::Breaker, false),
            (Reason::Unreachable, false),
        ] {
            let rest = Rest::default();
            rest.learn(7, reason, S, 9 * S);
            assert_eq!(rest.surely(S).is_some(), is_sure, "{reason:?}");
            rest.rest(reason, S, Some(S));
            assert!(rest.surely(S).is_some(), "{reason:?}: seen here");
        }
    }

    #[test]
    fn others_are_told_once_and_of_the_end() {
        let rest = Rest::default();
        assert!(rest.news(S).is_none() && !rest.is_over(S));
        rest.rest(Reason::Limit, S, Some(10 * S));
        assert_eq!(rest.news(S), Some((Reason::Limit, 10 * S)));
        assert_eq!(rest.news(S), None);
        rest.rest(Reason::Limit, S, Some(10 * S + S / 2));
        assert_eq!(rest.news(S), None, "hardly longer");
        rest.rest(Reason::Limit, S, Some(15 * S));
        assert!(rest.news(S).is_some() && !rest.is_over(S));
        assert!(rest.is_over(16 * S) && !rest.is_over(16 * S));
    }
}
