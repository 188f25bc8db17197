//! Affinity as a cost: calls with one key prefer one candidate, and leave it where it is much busier, slower or dearer than others.
//!
//! Weighted rendezvous hashing, so nothing is remembered: a candidate that rests loses its calls, has them again afterwards, and
//! moves nobody else's.

use std::time::Duration;

use super::Standing;
use crate::chance::mixed;

/// A preferred candidate may have so many times the mean of calls in flight, and this many more.
const LOAD_FACTOR: f64 = 1.25;
const LOAD_SLACK: f64 = 2.0;

/// It may take so many times as long as the quickest, and this much longer: below it, differences are noise.
const LATENCY_FACTOR: u32 = 2;
const LATENCY_SLACK: Duration = Duration::from_millis(100);

/// It may cost so many times the lowest price.
const PRICE_FACTOR: f64 = 1.25;

/// What the available candidates are like, to compare one with.
struct Field {
    most_calls: f64,
    longest: Option<Duration>,
    dearest: Option<f64>,
}

/// The candidate that this key prefers most among those that cost little; `None` where all cost too much.
pub fn preferred(
    standings: &[Standing],
    available: &[usize],
    key: u64,
    now: Duration,
    by_price: bool,
) -> Option<usize> {
    let known = available
        .iter()
        .filter_map(|at| standings.get(*at).map(|one| (*at, one)));
    let mut ranked: Vec<(f64, usize, &Standing)> = known
        .map(|(at, one)| (distance(key, one), at, one))
        .collect();
    let field = Field::new(ranked.iter().map(|(.., one)| *one), now, by_price);
    ranked.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let near = ranked.into_iter().find(|(.., one)| field.bears(one, now));
    near.map(|(_, at, _)| at)
}

/// An exponential variate whose rate is the weight: the least of them falls to each candidate in its share.
fn distance(key: u64, one: &Standing) -> f64 {
    let hash = mixed(key ^ mixed(one.id));
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(one.weight.max(1))
}

impl Field {
    fn new<'a>(
        standings: impl Iterator<Item = &'a Standing> + Clone,
        now: Duration,
        by_price: bool,
    ) -> Self {
        let calls = standings.clone().map(|one| f64::from(one.target.load()));
        let mean = calls.sum::<f64>() / (standings.clone().count().max(1) as f64);
        let quickest = standings
            .clone()
            .filter_map(|one| one.target.latency(now))
            .min();
        let lowest = standings.filter_map(|one| one.price).min();
        Self {
            most_calls: LOAD_FACTOR * mean + LOAD_SLACK,
            longest: quickest
                .map(|quickest| (quickest * LATENCY_FACTOR).max(quickest + LATENCY_SLACK)),
            dearest: lowest
                .filter(|_| by_price)
                .map(|lowest| lowest as f64 * PRICE_FACTOR),
        }
    }

    /// Whether one costs no more than affinity is worth.
    fn bears(&self, one: &Standing, now: Duration) -> bool {
        let is_slow = match (one.target.latency(now), self.longest) {
            (Some(latency), Some(longest)) => latency > longest,
            _ => false,
        };
        let is_dear = self
            .dearest
            .is_some_and(|dearest| one.price.is_none_or(|price| price as f64 > dearest));
        f64::from(one.target.load()) <= self.most_calls && !is_slow && !is_dear
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::tests::{Dice, standings};
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn prefers(standings: &[Standing], available: &[usize], key: u64) -> usize {
        preferred(standings, available, key, S, false).expect("one")
    }

    proptest! {
        /// Whoever goes out moves its own sessions and nobody else's, and gets the same ones back.
        #[test]
        fn only_the_sessions_of_the_missing_move(
            weights in prop::collection::vec(1_u32..20, 2..8),
            keys in prop::collection::vec(any::<u64>(), 1..100),
            out: prop::sample::Index,
        ) {
            let standings = standings(&weights);
            let all: Vec<usize> = (0..weights.len()).collect();
            let out = out.index(weights.len());
            let left: Vec<usize> = all.iter().copied().filter(|at| *at != out).collect();
            for key in keys {
                let before = prefers(&standings, &all, key);
                let after = prefers(&standings, &left, key);
                let moved = before != after;
                prop_assert_eq!(moved, before == out);
                prop_assert_eq!(prefers(&standings, &all, key), before);
            }
        }
    }

    #[test]
    fn sessions_fall_to_candidates_in_their_shares() {
        let standings = standings(&[1, 2, 5]);
        let mut seen = BTreeMap::<usize, i32>::new();
        for key in Dice(1).take(8000) {
            *seen
                .entry(prefers(&standings, &[0, 1, 2], key))
                .or_default() += 1;
        }
        for (at, expected) in [(0, 1000), (1, 2000), (2, 5000)] {
            assert!((seen[&at] - expected).abs() < 160, "{seen:?}");
        }
    }

    #[test]
    fn a_busy_a_slow_or_a_dear_favourite_is_left() {
        let mut standings = standings(&[1, 1]);
        let first = |standings: &[Standing], by_price| {
            preferred(standings, &[0, 1], 9, S, by_price).expect("one")
        };
        let favourite = first(&standings, false);
        let other = 1 - favourite;
        let flights: Vec<_> = (0..6)
            .map(|_| standings[favourite].target.begin(None))
            .collect();
        assert_eq!(first(&standings, false), other, "6 > 1.25 × 3 + 2");
        drop(flights);
        standings[other].target.succeeded(S, S);
        standings[favourite].target.succeeded(S, S * 2);
        assert_eq!(first(&standings, false), favourite, "not twice as slow");
        standings[favourite].target.succeeded(S, S * 3);
        assert_eq!(first(&standings, false), other);
        standings[other].target.succeeded(S, S * 3);
        (standings[favourite].price, standings[other].price) = (Some(125), Some(100));
        assert_eq!(first(&standings, true), favourite);
        standings[favourite].price = Some(126);
        assert_eq!(first(&standings, true), other);
        assert_eq!(
            first(&standings, false),
            favourite,
            "where price decides nothing"
        );
    }
}
