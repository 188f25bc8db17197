//! A second attempt beside a slow first one: asked of another candidate, and only as often as the configuration pays for.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::config::Hedge;

/// Thousandths of a second attempt, and the most that is saved up.
const ONE: i64 = 1000;
const MOST: i64 = 10 * ONE;

/// What is saved up for second attempts: so many per hundred calls.
#[derive(Debug, Default)]
pub struct Hedges(AtomicI64);

impl Hedges {
    /// A call that might want one.
    pub fn call(&self, hedge: &Hedge) {
        let by = i64::from(hedge.max_percent) * ONE / 100;
        self.add(by);
    }

    /// Pays for a second attempt; false where nothing is left.
    pub fn take(&self) -> bool {
        let pay = |saved: i64| (saved >= ONE).then_some(saved - ONE);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay)
            .is_ok()
    }

    /// One that was paid for was not made.
    pub fn give_back(&self) {
        self.add(ONE);
    }

    fn add(&self, by: i64) {
        let add = |saved: i64| Some((saved + by).min(MOST));
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HedgeAfter;

    #[test]
    fn no_more_than_so_many_of_a_hundred() {
        let hedge = Hedge {
            after: HedgeAfter::P95,
            max_percent: 5,
        };
        let hedges = Hedges::default();
        let mut made = 0;
        for _ in 0..1000 {
            hedges.call(&hedge);
            made += i32::from(hedges.take());
        }
        assert_eq!(made, 50);
        for _ in 0..10_000 {
            hedges.call(&hedge);
        }
        let saved = std::iter::repeat_with(|| hedges.take()).take_while(|paid| *paid);
        assert_eq!(saved.count(), 10, "what is saved up has an end");
    }
}
