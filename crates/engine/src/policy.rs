//! Which of several candidates comes first: one small struct a policy, no lock.

mod affinity;
mod busy;
mod latency;
mod weighted;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use busy::LeastBusy;
pub use weighted::Weighted;

use crate::chance;
use crate::config::Strategy;
use crate::pulse::Target;

/// What a policy knows of one candidate.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Its share.
    pub weight: u32,
    /// What it costs, as one number; `None`: nobody knows, which counts as dearest.
    pub price: Option<u64>,
    /// A number of its own, the same in every process.
    pub id: u64,
    /// How it does.
    pub target: Target,
}

/// Orders the candidates of a group. Indices are those of the group.
#[derive(Debug)]
pub enum Policy {
    /// Smooth weighted round robin.
    Weighted(Weighted),
    /// The first that is available, in order.
    FillFirst,
    /// By chance, in shares by weight.
    Random,
    /// The fewest calls in flight for its weight.
    LeastBusy(LeastBusy),
    /// The quicker of two.
    LowestLatency,
    /// The lowest price; of equals in turn, by weight.
    Cheapest(Weighted),
}

/// Whether a choice is made for a call, which takes its turn, or only looked at, so that the next call finds all as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next choice is another turn.
    Taken,
    /// The next choice is this one. Chance is not asked: what it would decide falls to the first.
    Foreseen,
}

impl Turn {
    fn roll(self) -> u64 {
        match self {
            Turn::Taken => chance::number(),
            Turn::Foreseen => 0,
        }
    }
}

impl Policy {
    /// The policy of this strategy over these candidates.
    pub fn new(strategy: Strategy, standings: &[Standing]) -> Self {
        let weighted = || {
            let weights: Vec<u32> = standings.iter().map(|one| one.weight).collect();
            Weighted::new(&weights)
        };
        match strategy {
            Strategy::Weighted => Policy::Weighted(weighted()),
            Strategy::RoundRobin => Policy::Weighted(Weighted::new(&vec![1; standings.len()])),
            Strategy::FillFirst => Policy::FillFirst,
            Strategy::Random => Policy::Random,
            Strategy::LeastBusy => Policy::LeastBusy(LeastBusy::default()),
            Strategy::LowestLatency => Policy::LowestLatency,
            Strategy::Cheapest => Policy::Cheapest(weighted()),
        }
    }

    /// One of the available candidates (ascending indices, at least one); the one that a call with this key of affinity prefers,
    /// where that costs little.
    pub fn pick(
        &self,
        standings: &[Standing],
        available: &[usize],
        key: Option<u64>,
        now: Duration,
        turn: Turn,
    ) -> Option<usize> {
        let by_price = matches!(self, Policy::Cheapest(_));
        let preferred =
            key.and_then(|key| affinity::preferred(standings, available, key, now, by_price));
        preferred.or_else(|| self.choose(standings, available, now, turn))
    }

    /// Whether a choice among so many cannot be foreseen: chance has a part in it, or it depends on the choices before it, as turns
    /// among those that are as busy do where it is not the first.
    pub fn is_by_chance(&self, available: usize, is_first: bool) -> bool {
        let is_open = match self {
            Policy::Random | Policy::LowestLatency => true,
            Policy::LeastBusy(_) => !is_first,
            Policy::Weighted(_) | Policy::FillFirst | Policy::Cheapest(_) => false,
        };
        is_open && available > 1
    }

    fn choose(
        &self,
        standings: &[Standing],
        available: &[usize],
        now: Duration,
        turn: Turn,
    ) -> Option<usize> {
        match self {
            Policy::Weighted(weighted) => weighted.pick(available, turn),
            Policy::FillFirst => available.first().copied(),
            Policy::Random => by_chance(standings, available, turn.roll()),
            Policy::LeastBusy(busy) => busy.pick(standings, available, turn),
            Policy::LowestLatency => latency::pick(standings, available, turn.roll(), now),
            Policy::Cheapest(weighted) => weighted.pick(&cheapest(standings, available), turn),
        }
    }
}

/// The candidate into whose share this roll falls.
fn by_chance(standings: &[Standing], available: &[usize], roll: u64) -> Option<usize> {
    let weight = |at: &usize| u64::from(standings.get(*at).map_or(1, |one| one.weight.max(1)));
    let total: u64 = available.iter().map(weight).sum();
    let mut left = roll.checked_rem(total)?;
    let found = available.iter().find(|at| {
        let share = weight(at);
        let is_here = left < share;
        left = left.saturating_sub(share);
        is_here
    });
    found.copied()
}

fn cheapest(standings: &[Standing], available: &[usize]) -> Vec<usize> {
    let price = |at: &usize| standings.get(*at).and_then(|one| one.price);
    let price = |at: &usize| price(at).unwrap_or(u64::MAX);
    let least = available.iter().map(price).min();
    let is_least = |at: &usize| Some(price(at)) == least;
    available.iter().copied().filter(is_least).collect()
}

/// A place in a repeated sequence; concurrent callers get different places.
#[derive(Debug, Default)]
struct Cursor(AtomicUsize);

impl Cursor {
    fn step(&self, turn: Turn) -> usize {
        match turn {
            Turn::Taken => self.0.fetch_add(1, Ordering::Relaxed),
            Turn::Foreseen => self.0.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates of these weights that nobody has asked yet.
    pub(super) fn standings(weights: &[u32]) -> Vec<Standing> {
        let standing = |(at, weight): (usize, &u32)| Standing {
            weight: *weight,
            id: at as u64 + 1,
            target: crate::pulse::Pulses::default().target("m"),
            price: None,
        };
        weights.iter().enumerate().map(standing).collect()
    }

    /// Numbers as if by chance, the same in every run.
    pub(super) struct Dice(pub u64);

    impl Iterator for Dice {
        type Item = u64;

        fn next(&mut self) -> Option<u64> {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            Some(chance::mixed(self.0))
        }
    }

    #[test]
    fn chance_keeps_shares() {
        let standings = standings(&[3, 0, 1]);
        let mut seen = [0_i32; 3];
        for roll in Dice(7).take(4000) {
            seen[by_chance(&standings, &[0, 2], roll).expect("one")] += 1;
        }
        assert!((seen[0] - 3000).abs() < 120, "{seen:?}");
        assert_eq!(seen[1], 0, "it was not available");
    }

    #[test]
    fn the_cheapest_take_turns_and_an_unknown_price_is_the_dearest() {
        let mut standings = standings(&[1, 2, 1, 1]);
        for (standing, price) in standings.iter_mut().zip([None, Some(5), Some(5), Some(9)]) {
            standing.price = price;
        }
        let policy = Policy::new(Strategy::Cheapest, &standings);
        let pick = |available: &[usize]| {
            policy
                .pick(&standings, available, None, Duration::ZERO, Turn::Taken)
                .expect("one")
        };
        let seen: Vec<usize> = (0..6).map(|_| pick(&[0, 1, 2, 3])).collect();
        assert_eq!(seen, [1, 2, 1, 1, 2, 1]);
        assert_eq!((pick(&[0, 3]), pick(&[0])), (3, 0));
    }
}
