//! Chance, by one door: a simulation seeds it for its thread, so that what went wrong once goes wrong again.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Chance on this thread follows a seed until this is dropped.
#[derive(Debug)]
pub struct Seeded(PhantomData<*const ()>);

/// Chance on this thread is the same for the same seed.
pub fn seed(seed: u64) -> Seeded {
    SEEDED.set(Some(seed));
    Seeded(PhantomData)
}

impl Drop for Seeded {
    fn drop(&mut self) {
        SEEDED.set(None);
    }
}

/// Any number.
pub fn number() -> u64 {
    let Some(state) = SEEDED.get() else {
        return rand::random();
    };
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEEDED.set(Some(state));
    mixed(state)
}

/// From 0 to 1, which it never is.
pub fn part() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number that looks like chance (the last step of splitmix64).
pub fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_nothing_else_does() {
        let numbers = || [(); 4].map(|()| number());
        let of = |seed: u64| {
            let _seeded = super::seed(seed);
            numbers()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(numbers(), numbers());
        let _seeded = seed(3);
        let mean = (0..1000).map(|_| part()).sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }
}
