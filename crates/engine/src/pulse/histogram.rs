//! How long a target's good answers took lately, and how long all but a twentieth of them took. Atomics, no lock.
//!
//! Counts on a logarithmic scale, in two windows that take turns: what is older than both is forgotten. The percentile is the upper
//! edge of a bucket, so it is never below that of the samples, and above it by an eighth or a millisecond at most. Threads that meet
//! where a window begins may lose the samples of that moment.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::LONGEST;

/// How long samples go into one window. Those of this one and the one before count: a target that gets two calls a minute is known
/// by five to ten minutes of them.
const WINDOW: Duration = Duration::from_secs(300);

/// The least samples that say anything of the slowest twentieth: with fewer it would be the slowest of all, a single accident.
const LEAST: u64 = 20;

/// Buckets of an octave, as a power of two, and how many there are up to [`LONGEST`] in milliseconds.
const FINENESS: u32 = 3;
const BUCKETS: usize = bucket(LONGEST.as_millis() as u32) + 1;

/// Times of good answers.
#[derive(Debug, Default)]
pub(super) struct Histogram([Window; 2]);

#[derive(Debug)]
struct Window {
    /// Which window of the clock it is, counted from 1; 0 = none yet.
    number: AtomicU32,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            number: AtomicU32::new(0),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }
}

impl Histogram {
    /// A good answer took so long.
    pub(super) fn count(&self, now: Duration, took: Duration) {
        let number = number(now);
        let [even, odd] = &self.0;
        let window = if number.is_multiple_of(2) { even } else { odd };
        window.begin(number);
        let millis = took.min(LONGEST).as_millis() as u32;
        if let Some(count) = window.counts.get(bucket(millis)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One was given up after so long, because another answered: where that is longer than nearly all take, it counts as one that
    /// takes as long as they. So hedging does not hide the slow ones from what it goes by, nor do those stretch it that would never
    /// have come. What was given up earlier might have been quick or slow, and says nothing.
    pub(super) fn gave_up(&self, now: Duration, took: Duration) {
        if let Some(usual) = self.p95(now).filter(|usual| took >= *usual) {
            self.count(now, usual.saturating_sub(Duration::from_millis(1)));
        }
    }

    /// How long all but a twentieth took; `None`: too few are known.
    pub(super) fn p95(&self, now: Duration) -> Option<Duration> {
        let fresh = number(now).saturating_sub(1).max(1);
        let [one, other] = &self.0;
        let [one, other] = [one, other].map(|window| window.since(fresh));
        let counts = || {
            let counts = |window: Option<&Window>, at: usize| {
                let count = window.and_then(|window| window.counts.get(at));
                u64::from(count.map_or(0, |count| count.load(Ordering::Relaxed)))
            };
            (0..BUCKETS).map(move |at| counts(one, at) + counts(other, at))
        };
        let all: u64 = counts().sum();
        let rank = (all * 95).div_ceil(100);
        let mut below = 0;
        let reaches = |count: u64| {
            below += count;
            below >= rank
        };
        let at = counts().position(reaches).filter(|_| all >= LEAST)?;
        Some(Duration::from_millis(floor(at + 1)))
    }
}

impl Window {
    /// Empties it where it is of a time before. Who is late counts in the newer one.
    fn begin(&self, number: u32) {
        let newer = |known: u32| (known < number).then_some(number);
        let begins = self
            .number
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer);
        if begins.is_ok() {
            for count in &self.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// This one, where it is not older than that.
    fn since(&self, number: u32) -> Option<&Self> {
        (self.number.load(Ordering::Relaxed) >= number).then_some(self)
    }
}

fn number(now: Duration) -> u32 {
    (now.as_secs() / WINDOW.as_secs()) as u32 + 1
}

/// The bucket of a time: one a millisecond, then eight an octave.
const fn bucket(millis: u32) -> usize {
    if millis < 1 << FINENESS {
        return millis as usize;
    }
    let shift = millis.ilog2() - FINENESS;
    (((shift + 1) << FINENESS) + ((millis >> shift) - (1 << FINENESS))) as usize
}

/// The milliseconds that a bucket begins with.
const fn floor(bucket: usize) -> u64 {
    let (octave, step) = (bucket >> FINENESS, (bucket & ((1 << FINENESS) - 1)) as u64);
    if octave == 0 {
        return step;
    }
    ((1 << FINENESS) + step) << (octave - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn of(samples: impl IntoIterator<Item = u32>) -> Histogram {
        let histogram = Histogram::default();
        for millis in samples {
            histogram.count(S, MS * millis);
        }
        histogram
    }

    fn exact(samples: &[u32]) -> Duration {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        MS * sorted[(sorted.len() * 95).div_ceil(100) - 1]
    }

    #[test]
    fn buckets_are_in_order_and_leave_no_gap() {
        for at in 0..BUCKETS {
            let (from, to) = (floor(at) as u32, floor(at + 1) as u32);
            assert_eq!((bucket(from), bucket(to - 1)), (at, at));
            assert!(to - from <= (from / 8).max(1), "{from}..{to}");
        }
        assert!(floor(BUCKETS) > LONGEST.as_millis() as u64);
    }

    proptest! {
        #[test]
        fn it_is_the_percentile_or_an_eighth_more(
            samples in prop::collection::vec(0_u32..700_000, LEAST as usize..400),
        ) {
            let clamped: Vec<u32> = samples.iter().map(|millis| (*millis).min(600_000)).collect();
            let (exact, said) = (exact(&clamped), of(samples).p95(S).expect("enough"));
            prop_assert!(said > exact && said <= exact + (exact / 8).max(MS), "{exact:?} {said:?}");
        }
    }

    /// An exponential distribution's 95th percentile is its mean times ln 20.
    #[test]
    fn known_distributions_have_their_percentiles() {
        let even = (0..1000).map(|at| (f64::from(at) + 0.5) / 1000.0);
        let exponential = even.map(|part| (-part.ln() * 400.0) as u32);
        let said = of(exponential).p95(S).expect("enough");
        assert!(said >= 1195 * MS && said <= 1350 * MS, "{said:?}");
        assert_eq!(
            of(1..=1000).p95(S),
            Some(960 * MS),
            "uniform: 950 and the edge"
        );
        assert_eq!(of([250; 50]).p95(S), Some(256 * MS), "always the same");
        let two = (0..100).map(|at| if at % 10 == 0 { 5000 } else { 100 });
        assert_eq!(of(two).p95(S), Some(5120 * MS), "a tenth is slow");
        let rare = (0..100).map(|at| if at % 25 == 0 { 5000 } else { 100 });
        assert_eq!(of(rare).p95(S), Some(104 * MS), "a twenty-fifth is slow");
    }

    #[test]
    fn too_few_say_nothing() {
        let histogram = of([100; LEAST as usize - 1]);
        assert_eq!(histogram.p95(S), None);
        histogram.count(S, 9 * S);
        assert_eq!(
            histogram.p95(S),
            Some(104 * MS),
            "one accident decides nothing"
        );
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let histogram = of([4000; 100]);
        assert_eq!(histogram.p95(WINDOW * 2 - S), Some(4096 * MS));
        assert_eq!(histogram.p95(WINDOW * 2), None);
        for _ in 0..100 {
            histogram.count(WINDOW + S, 100 * MS);
        }
        assert_eq!(histogram.p95(WINDOW + S), Some(4096 * MS), "half is slow");
        assert_eq!(histogram.p95(WINDOW * 2), Some(104 * MS));
        for _ in 0..20 {
            histogram.count(WINDOW * 2, 200 * MS);
        }
        assert_eq!(histogram.p95(WINDOW * 2), Some(208 * MS));
        assert_eq!(histogram.p95(WINDOW * 3), Some(208 * MS), "they alone");
        histogram.count(WINDOW * 9, 200 * MS);
        assert_eq!(histogram.p95(WINDOW * 9), None, "nobody called in between");
    }

    #[test]
    fn a_thread_that_is_late_empties_nothing() {
        let histogram = Histogram::default();
        for _ in 0..LEAST {
            histogram.count(WINDOW * 2, 100 * MS);
        }
        histogram.count(S, 100 * MS);
        assert_eq!(histogram.p95(WINDOW * 2), Some(104 * MS));
    }

    /// A tenth of the calls would never be answered; each is given up for a second attempt that takes 50 ms.
    #[test]
    fn what_is_given_up_neither_hides_nor_stretches_it() {
        let histogram = of((0..100).map(|at| 100 + at));
        let first = histogram.p95(S).expect("enough");
        for at in 0..2000 {
            let after = histogram.p95(S).expect("enough");
            match at % 10 {
                0 => histogram.gave_up(S, after + 50 * MS),
                _ => histogram.count(S, MS * (100 + at % 100)),
            }
            histogram.gave_up(S, MS);
        }
        assert_eq!(histogram.p95(S), Some(first));
    }

    /// The same calls, of which those are given up that take longer than the percentile and 50 ms.
    #[test]
    fn hedging_does_not_pull_down_what_it_goes_by() {
        let even = |at: u32| (f64::from(at * 7919 % 1000) + 0.5) / 1000.0;
        let took = |at: u32| MS * (-even(at).ln() * 400.0) as u32;
        let histogram = of([]);
        for at in 0..20_000 {
            let given_up = histogram.p95(S).map(|after| after + 50 * MS);
            match given_up.filter(|given_up| took(at) > *given_up) {
                Some(given_up) => histogram.gave_up(S, given_up),
                None => histogram.count(S, took(at)),
            }
        }
        let said = histogram.p95(S).expect("enough");
        assert!(said >= 1195 * MS && said <= 1350 * MS, "{said:?}");
    }
}
