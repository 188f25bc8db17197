//! Smooth weighted round robin as a precomputed cycle and an atomic cursor: exact shares, no lock.
//!
//! Each set of available candidates has a cycle of its own, so that the shares of the rest are right while one is out.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Cursor, Turn};

/// The longest cycle: larger weights are scaled down to it.
const LONGEST: u64 = 10_000;

/// How many sets of available candidates are remembered.
const REMEMBERED: usize = 256;

/// Shares by weight, evenly spread.
#[derive(Debug)]
pub struct Weighted {
    weights: Vec<u32>,
    all: Arc<Cycle>,
    partial: ArcSwap<HashMap<Vec<usize>, Arc<Cycle>>>,
}

#[derive(Debug)]
struct Cycle {
    order: Vec<usize>,
    cursor: Cursor,
}

impl Weighted {
    /// Candidates with these weights; where all are zero they count as equal.
    pub fn new(weights: &[u32]) -> Self {
        let everyone: Vec<usize> = (0..weights.len()).collect();
        let all = Arc::new(Cycle::new(weights, &everyone));
        Self {
            weights: weights.to_vec(),
            all,
            partial: ArcSwap::default(),
        }
    }

    /// The next of the available ones.
    pub fn pick(&self, available: &[usize], turn: Turn) -> Option<usize> {
        if available.len() == self.weights.len() {
            return self.all.next(turn);
        }
        if let [only] = available {
            return Some(*only);
        }
        if let Some(cycle) = self.partial.load().get(available) {
            return cycle.next(turn);
        }
        let cycle = Arc::new(Cycle::new(&self.weights, available));
        if turn == Turn::Foreseen {
            return cycle.next(turn);
        }
        self.partial.rcu(|known| {
            let mut known = if known.len() < REMEMBERED {
                HashMap::clone(known)
            } else {
                HashMap::new()
            };
            known
                .entry(available.to_vec())
                .or_insert_with(|| cycle.clone());
            known
        });
        cycle.next(turn)
    }
}

impl Cycle {
    fn new(weights: &[u32], available: &[usize]) -> Self {
        let shares = shares(weights, available);
        let total: i64 = shares.iter().sum();
        let mut current = vec![0_i64; shares.len()];
        let mut order = Vec::new();
        for _ in 0..total {
            for (standing, share) in current.iter_mut().zip(&shares) {
                *standing += share;
            }
            // The highest standing wins; of equals the first, so that the order is the configuration's.
            let best = current
                .iter()
                .enumerate()
                .max_by_key(|(at, standing)| (**standing, std::cmp::Reverse(*at)))
                .map(|(at, _)| at);
            let Some(best) = best else { break };
            if let Some(standing) = current.get_mut(best) {
                *standing -= total;
            }
            order.extend(available.get(best));
        }
        Self {
            order,
            cursor: Cursor::default(),
        }
    }

    fn next(&self, turn: Turn) -> Option<usize> {
        let at = self.cursor.step(turn).checked_rem(self.order.len())?;
        self.order.get(at).copied()
    }
}

/// Weights of the available ones, divided by what they have in common, scaled down where the cycle would be too long.
fn shares(weights: &[u32], available: &[usize]) -> Vec<i64> {
    let mut shares: Vec<u64> = available
        .iter()
        .map(|&at| u64::from(weights.get(at).copied().unwrap_or(1)))
        .collect();
    let total: u64 = shares.iter().sum();
    if total == 0 {
        shares.fill(1);
    } else if total > LONGEST {
        for share in &mut shares {
            *share = if *share == 0 {
                0
            } else {
                (*share * LONGEST / total).max(1)
            };
        }
    }
    let common = shares.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    shares
        .iter()
        .map(|share| i64::try_from(share / common).unwrap_or(1))
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weighted: &Weighted, available: &[usize], times: usize) -> Vec<usize> {
        (0..times)
            .filter_map(|_| weighted.pick(available, Turn::Taken))
            .collect()
    }

    #[test]
    fn shares_are_smooth_and_exact() {
        let weighted = Weighted::new(&[5, 1, 1]);
        assert_eq!(picks(&weighted, &[0, 1, 2], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn while_one_is_out_the_others_keep_their_proportion() {
        let weighted = Weighted::new(&[1, 2, 1]);
        let seen = picks(&weighted, &[0, 1], 300);
        assert_eq!(seen.iter().filter(|&&at| at == 1).count(), 200);
        let equal = Weighted::new(&[1, 1, 1]);
        let seen = picks(&equal, &[0, 2], 100);
        assert_eq!(seen.iter().filter(|&&at| at == 2).count(), 50);
    }

    #[test]
    fn weight_zero_never_comes_beside_others() {
        let weighted = Weighted::new(&[0, 3]);
        assert_eq!(picks(&weighted, &[0, 1], 4), [1, 1, 1, 1]);
        assert_eq!(picks(&weighted, &[0], 2), [0, 0]);
    }

    #[test]
    fn huge_weights_keep_their_proportion() {
        let weighted = Weighted::new(&[3_000_000, 1_000_000]);
        let seen = picks(&weighted, &[0, 1], 400);
        assert_eq!(seen.iter().filter(|&&at| at == 0).count(), 300);
    }
}
