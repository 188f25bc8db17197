//! How many retries may fail: a fifth of the calls and a few. When everything is down, retries must not make it worse.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Thousandths of a retry: what a call brings, what a second brings, and the most there can be.
const CALL: i32 = 200;
const SECOND: i32 = 1000;
const MOST: i32 = 10_000;

/// Many retries may be under way when the first of them fail.
const DEEPEST_DEBT: i32 = -100_000;

/// A provider's budget of retries. Retries that succeed cost nothing: failing over to a provider that works is what a gateway is for.
#[derive(Debug)]
pub struct RetryBudget {
    account: AtomicU64,
    /// Retries that were tried, and those that were not allowed.
    tried: AtomicU64,
    refused: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            account: AtomicU64::new(packed(MOST, 0)),
            tried: AtomicU64::default(),
            refused: AtomicU64::default(),
        }
    }
}

impl RetryBudget {
    /// A call asks the provider as its first.
    pub fn deposit(&self, now: Duration) {
        self.change(now, CALL);
    }

    /// A retry at the provider failed.
    pub fn charge(&self, now: Duration) {
        self.change(now, -1000);
    }

    /// Whether a retry may be tried; a refusal is counted.
    pub fn allows(&self, now: Duration) -> bool {
        let allows = self.left(now) >= 1.0;
        if !allows {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        allows
    }

    /// A retry asks the provider.
    pub fn retries(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    /// How many retries may fail now; less than none while it is in debt.
    pub fn left(&self, now: Duration) -> f64 {
        f64::from(balance(self.account.load(Ordering::Relaxed), now)) / 1000.0
    }

    /// How many retries were tried and how many were refused, since the start.
    pub fn counts(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.tried), load(&self.refused))
    }

    /// Makes it full again.
    pub fn refill(&self, now: Duration) {
        self.account
            .store(packed(MOST, stamp(now)), Ordering::Relaxed);
    }

    fn change(&self, now: Duration, by: i32) {
        let change = |known| {
            let left = balance(known, now).saturating_add(by);
            let changed = packed(left.clamp(DEEPEST_DEBT, MOST), stamp(now));
            (changed != known).then_some(changed)
        };
        // `Err`: it is full at this moment, and stays so.
        let _ = self
            .account
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

/// Thousandths, with what the time since brought.
fn balance(packed: u64, now: Duration) -> i32 {
    let (left, then) = ((packed >> 32) as u32 as i32, packed as u32);
    let since = stamp(now).saturating_sub(then) as i32;
    let brought = since.saturating_mul(SECOND / 10);
    left.saturating_add(brought).min(MOST)
}

/// Tenths of a second: they last for thirteen years.
fn stamp(now: Duration) -> u32 {
    (now.as_millis() / 100) as u32
}

fn packed(left: i32, stamp: u32) -> u64 {
    u64::from(left as u32) << 32 | u64::from(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_fifth_of_the_calls_and_a_few() {
        let budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..1000 {
            budget.deposit(S);
            if budget.allows(S) {
                budget.charge(S);
                retries += 1;
            }
        }
        assert!((200..=210).contains(&retries), "{retries}");
    }

    #[test]
    fn time_brings_some_back_and_debts_end() {
        let budget = RetryBudget::default();
        for _ in 0..500 {
            budget.charge(S);
        }
        assert!(!budget.allows(90 * S));
        assert!(budget.allows(103 * S));
        assert_eq!(budget.left(1000 * S), f64::from(MOST) / 1000.0);
    }

    #[test]
    fn a_refill_ends_a_debt_and_refusals_are_counted() {
        let budget = RetryBudget::default();
        for _ in 0..50 {
            budget.charge(S);
        }
        assert!(!budget.allows(S) && budget.left(S) < 0.0);
        budget.refill(S);
        assert!(budget.allows(S) && budget.left(S) == 10.0);
        budget.retries();
        assert_eq!(budget.counts(), (1, 1));
    }
}
