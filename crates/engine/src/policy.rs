//! Which of several candidates comes first: one small struct a policy, no lock.

mod weighted;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use weighted::Weighted;

use crate::config::Strategy;

/// Orders the candidates of a group. Indices are those of the group.
#[derive(Debug)]
pub enum Policy {
    /// Smooth weighted round robin.
    Weighted(Weighted),
    /// The first that is available, in order.
    FillFirst,
}

impl Policy {
    /// The policy of this strategy over candidates of these weights.
    pub fn new(strategy: Strategy, weights: &[u32]) -> Self {
        match strategy {
            Strategy::Weighted => Policy::Weighted(Weighted::new(weights)),
            Strategy::RoundRobin => Policy::Weighted(Weighted::new(&vec![1; weights.len()])),
            Strategy::FillFirst => Policy::FillFirst,
        }
    }

    /// One of the available candidates (ascending indices, at least one).
    pub fn pick(&self, available: &[usize]) -> Option<usize> {
        match self {
            Policy::Weighted(weighted) => weighted.pick(available),
            Policy::FillFirst => available.first().copied(),
        }
    }
}

/// A place in a repeated sequence; concurrent callers get different places.
#[derive(Debug, Default)]
struct Cursor(AtomicUsize);

impl Cursor {
    fn step(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
