//! How a target does right now: calls in flight, and how long it takes to the first good event. Atomics, no lock.
//!
//! Policies go by a peak-EWMA of everything that it was asked; hedging by what nearly all good answers take, and there streams, which
//! are waited for until their first event, are told from whole answers, which take many times as long.
//!
//! Pulses outlive configuration reloads: [`HealthBook`](crate::health::HealthBook) hands the same ones to the same credential again.

mod histogram;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::seats::Seat;
use histogram::Histogram;

/// What was measured so long ago weighs e times less.
const DECAY: Duration = Duration::from_secs(10);

/// What was measured so long ago is no news any more.
const STALE: Duration = Duration::from_secs(60);

/// What a failure counts for at least, and what any measure counts for at most.
const PENALTY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// How many models a credential has pulses of: names are a caller's text.
const MODELS: usize = 512;

/// What a call waits for before anything of its answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The first good event of a stream.
    FirstEvent,
    /// All of an answer that does not stream.
    Answer,
}

/// Calls in flight and a peak-EWMA of the time to the first good event: it rises at once and sinks slowly.
#[derive(Debug, Default)]
pub struct Pulse {
    in_flight: AtomicU32,
    /// Microseconds as the bits of an `f32`, above the millisecond it was measured in; 0 = never.
    latency: AtomicU64,
    /// How long good ones took, by what was waited for. Made for those only that have one: names are a caller's text.
    first_events: OnceLock<Box<Histogram>>,
    answers: OnceLock<Box<Histogram>>,
}

/// The pulses of one credential: all of its calls, and those of each model.
#[derive(Debug, Default)]
pub struct Pulses {
    account: Arc<Pulse>,
    models: ArcSwap<HashMap<String, Arc<Pulse>>>,
}

/// What a policy asks of one target: its credential's load, and its own.
#[derive(Clone, Debug, Default)]
pub struct Target {
    account: Arc<Pulse>,
    own: Arc<Pulse>,
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub struct Flight {
    target: Target,
    _seat: Option<Seat>,
}

impl Pulse {
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The measure and its age; `None` where there is none.
    fn measured(&self, now: Duration) -> Option<(f32, Duration)> {
        let packed = self.latency.load(Ordering::Relaxed);
        if packed == 0 {
            return None;
        }
        let (micros, then) = unpacked(packed);
        // Clocks of two threads may differ by a moment: what was measured later than now is new.
        let age = stamp(now).wrapping_sub(then);
        let age = if age > u32::MAX / 2 { 0 } else { age };
        Some((micros, Duration::from_millis(u64::from(age))))
    }

    fn histogram(&self, awaited: Awaited) -> &OnceLock<Box<Histogram>> {
        match awaited {
            Awaited::FirstEvent => &self.first_events,
            Awaited::Answer => &self.answers,
        }
    }

    fn observe(&self, now: Duration, took: Duration) {
        let sample = took.min(LONGEST).as_micros() as f32;
        let mean = match self.measured(now) {
            Some((mean, age)) if sample < mean => {
                let weight = decay(age);
                mean * weight + sample * (1.0 - weight)
            }
            _ => sample,
        };
        // A race loses one sample of many.
        self.latency
            .store(packed(mean.max(1.0), stamp(now)), Ordering::Relaxed);
    }
}

impl Pulses {
    /// One model's target.
    pub fn target(&self, model: &str) -> Target {
        let account = self.account.clone();
        let own = self.models.load().get(model).cloned();
        let own = own.unwrap_or_else(|| self.add(model));
        Target { account, own }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.account.in_flight()
    }

    /// Each model that was asked for, by name.
    pub fn targets(&self) -> Vec<(String, Target)> {
        let models = self.models.load();
        let targets = models.iter().map(|(name, own)| {
            let (account, own) = (self.account.clone(), own.clone());
            (name.clone(), Target { account, own })
        });
        let mut targets: Vec<_> = targets.collect();
        targets.sort_by(|(one, _), (other, _)| one.cmp(other));
        targets
    }

    fn add(&self, model: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        self.models.rcu(|known| {
            let mut known = if known.len() < MODELS {
                HashMap::clone(known)
            } else {
                HashMap::new()
            };
            known
                .entry(model.to_owned())
                .or_insert_with(|| pulse.clone());
            known
        });
        self.models.load().get(model).cloned().unwrap_or(pulse)
    }
}

impl Target {
    /// A call begins.
    pub fn begin(&self, seat: Option<Seat>) -> Flight {
        for pulse in [&self.account, &self.own] {
            pulse.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Flight {
            target: self.clone(),
            _seat: seat,
        }
    }

    /// An attempt worked: its first good event, or all of a whole answer, took so long.
    pub fn succeeded(&self, now: Duration, took: Duration) {
        self.own.observe(now, took);
    }

    /// An attempt failed: it counts as if it had taken twice as long as the target's calls do, and a second at least, so that
    /// failing fast is no virtue.
    pub fn failed(&self, now: Duration, took: Duration) {
        let usual = self.latency(now).unwrap_or_default();
        self.own.observe(now, took.max(usual * 2).max(PENALTY));
    }

    /// What was waited for took so long, and was good.
    pub fn learn(&self, awaited: Awaited, now: Duration, took: Duration) {
        let histogram = self.own.histogram(awaited).get_or_init(Box::default);
        histogram.count(now, took);
    }

    /// It was given up after so long, because another was good first.
    pub fn gave_up(&self, awaited: Awaited, now: Duration, took: Duration) {
        if let Some(histogram) = self.own.histogram(awaited).get() {
            histogram.gave_up(now, took);
        }
    }

    /// How long all but a twentieth of the good ones took lately, see [`histogram`]; `None`: too few are known.
    pub fn p95(&self, awaited: Awaited, now: Duration) -> Option<Duration> {
        self.own.histogram(awaited).get()?.p95(now)
    }

    /// Calls in flight of the credential.
    pub fn account_load(&self) -> u32 {
        self.account.in_flight()
    }

    /// Calls in flight of this model with the credential.
    pub fn load(&self) -> u32 {
        self.own.in_flight()
    }

    /// The peak-EWMA, sinking while nobody calls, so that a target that was slow once is tried again; `None`: nobody measured it
    /// lately.
    pub fn decayed(&self, now: Duration) -> Option<Duration> {
        self.fresh(now)
            .map(|(micros, age)| micros_of(micros * decay(age)))
    }

    /// The peak-EWMA as it was last measured; `None`: nobody did lately.
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        self.fresh(now).map(|(micros, _)| micros_of(micros))
    }

    fn fresh(&self, now: Duration) -> Option<(f32, Duration)> {
        self.own.measured(now).filter(|(_, age)| *age < STALE)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        for pulse in [&self.target.account, &self.target.own] {
            pulse.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn decay(age: Duration) -> f32 {
    (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()
}

fn micros_of(micros: f32) -> Duration {
    Duration::from_micros(micros as u64)
}

/// Milliseconds of the clock; they wrap after 49 days, which differences do not mind.
fn stamp(now: Duration) -> u32 {
    now.as_millis() as u32
}

fn packed(micros: f32, stamp: u32) -> u64 {
    u64::from(micros.to_bits()) << 32 | u64::from(stamp)
}

fn unpacked(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Shelf;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn close(one: Duration, other: Duration) -> bool {
        one.abs_diff(other) < MS
    }

    #[test]
    fn it_rises_at_once_and_sinks_slowly() {
        let target = Target::default();
        assert_eq!(target.decayed(S), None, "nobody measured it");
        target.succeeded(S, 100 * MS);
        target.succeeded(S, 900 * MS);
        assert!(close(target.decayed(S).expect("a measure"), 900 * MS));
        target.succeeded(S, 100 * MS);
        assert!(
            close(target.decayed(S).expect("a measure"), 900 * MS),
            "at the same moment the peak stands"
        );
        let later = target.decayed(11 * S).expect("a measure");
        assert!(close(later, 331 * MS), "{later:?}");
        target.succeeded(11 * S, 100 * MS);
        let then = target.latency(11 * S).expect("a measure");
        assert!(
            close(then, 394 * MS),
            "e times less of the old, the rest of the new: {then:?}"
        );
        assert_eq!(
            target.decayed(80 * S),
            None,
            "what is old is as if never measured"
        );
    }

    #[test]
    fn failing_fast_is_no_virtue() {
        let target = Target::default();
        target.failed(S, MS);
        assert!(target.latency(S).expect("a measure") >= S);
        target.succeeded(S, 4 * S);
        target.failed(S, MS);
        assert!(target.latency(S).expect("a measure") >= 8 * S);
    }

    #[test]
    fn streams_are_told_from_whole_answers() {
        let target = Target::default();
        for _ in 0..50 {
            target.learn(Awaited::FirstEvent, S, 300 * MS);
        }
        assert_eq!(target.p95(Awaited::FirstEvent, S), Some(320 * MS));
        assert_eq!(target.p95(Awaited::Answer, S), None);
        target.gave_up(Awaited::Answer, S, 9 * S);
        assert_eq!(target.p95(Awaited::Answer, S), None);
    }

    #[test]
    fn calls_in_flight_are_counted_until_they_are_dropped() {
        let pulses = Pulses::default();
        let (one, other) = (pulses.target("a"), pulses.target("b"));
        let flights = [one.begin(None), one.begin(None), other.begin(None)];
        assert_eq!(
            (one.load(), other.load(), one.account_load()),
            (2, 1, 3),
            "a model's own, and all of the credential's"
        );
        assert_eq!(
            pulses.target("a").load(),
            2,
            "the same model, the same pulse"
        );
        drop(flights);
        assert_eq!((one.load(), one.account_load()), (0, 0));
    }

    #[test]
    fn pulses_outlive_a_reload_and_no_longer_than_they_are_used() {
        let book = Shelf::<Pulses>::default();
        let pulses = book.of("k");
        let flight = pulses.target("m").begin(None);
        book.renew();
        assert_eq!(book.of("k").target("m").load(), 1);
        drop(pulses);
        book.renew();
        assert_eq!(
            book.of("k").target("m").load(),
            0,
            "nobody used it: it is another"
        );
        drop(flight);
    }

    #[test]
    fn names_of_callers_do_not_grow_it() {
        let pulses = Pulses::default();
        for name in 0..3 * MODELS {
            pulses.target(&name.to_string());
        }
        assert!(pulses.models.load().len() <= MODELS);
    }

    #[test]
    fn the_clock_may_wrap() {
        let target = Target::default();
        let before = Duration::from_millis(u64::from(u32::MAX) - 10);
        target.succeeded(before, 500 * MS);
        let after = before + S;
        assert!(target.decayed(after).expect("a measure") > 400 * MS);
    }
}
