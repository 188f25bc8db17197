//! How many replicas there are: each says once in a while that it is there, in the store that they share.

use polygate_engine::quota::Window;
use polygate_store::quota::{Granted, Lease};

use super::named;

/// A replica is counted in windows of so many seconds.
const LENGTH: u64 = 10;
const REPLICAS: &str = "replicas";

/// What one replica knows of the others.
pub struct Meeting {
    /// What only this process writes: where it is gone, the store has lost its memory.
    own: String,
    /// It was written.
    pub is_known: bool,
    /// The window in which this one was counted last.
    met: u64,
}

impl Meeting {
    pub fn new() -> Self {
        Self {
            own: format!("replica/{:032x}", rand::random::<u128>()),
            is_known: false,
            met: 0,
        }
    }

    /// What only this process writes, with so much more.
    pub fn own(&self, more: i64) -> Lease {
        let window = Window {
            number: 0,
            began: 0,
            ends: None,
        };
        Lease {
            window: named(&self.own, &window),
            want: more,
            cap: i64::MAX,
        }
    }

    /// What is asked to be counted and to count, and the window of it.
    pub fn leases(&self, now: u64) -> (Vec<Lease>, u64) {
        let number = now / LENGTH;
        let count = |number: u64, want: bool| {
            let window = Window {
                number,
                began: number * LENGTH,
                ends: Some((number + 1) * LENGTH),
            };
            Lease {
                window: named(REPLICAS, &window),
                want: i64::from(want),
                cap: i64::MAX,
            }
        };
        let leases = vec![
            self.own(i64::from(!self.is_known)),
            count(number.saturating_sub(1), false),
            count(number, number != self.met),
        ];
        (leases, number)
    }

    /// How many there are: as many as were counted in this window or in the one before it.
    pub fn hear(&mut self, met: u64, granted: &[Granted]) -> u64 {
        self.is_known = true;
        self.met = met;
        let counts = granted.iter().skip(1).map(|granted| granted.taken);
        let most = counts.max().and_then(|most| u64::try_from(most).ok());
        most.unwrap_or(1)
    }
}
