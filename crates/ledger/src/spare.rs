//! How many calls are written that nobody has to pay: so many a second, so that a flood of them fills no log and no database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts them (GCRA: the moment at which all that was let through would have been due).
#[derive(Debug)]
pub(crate) struct Spares {
    start: Instant,
    /// Nanoseconds from the start.
    due: AtomicU64,
}

impl Default for Spares {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            due: AtomicU64::new(0),
        }
    }
}

impl Spares {
    /// Whether there is one more now, of so many a second and as many as ten seconds bring at once.
    pub(crate) fn take(&self, per_second: u32) -> bool {
        self.take_at(self.start.elapsed(), per_second)
    }

    fn take_at(&self, now: Duration, per_second: u32) -> bool {
        let Some(interval) = 1_000_000_000_u64.checked_div(u64::from(per_second)) else {
            return false;
        };
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let most = now.saturating_add(10_000_000_000);
        let take = |due: u64| {
            let next = due.max(now).saturating_add(interval);
            (next <= most).then_some(next)
        };
        let order = Ordering::Relaxed;
        self.due.fetch_update(order, order, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_what_ten_seconds_bring_and_then_so_many_a_second() {
        let spares = Spares::default();
        let taken = |now| {
            let now = Duration::from_secs(now);
            let taken = std::iter::repeat_with(|| spares.take_at(now, 5));
            taken.take(1000).filter(|taken| *taken).count()
        };
        assert_eq!(taken(0), 50);
        assert_eq!(taken(1), 5);
        assert_eq!(taken(3), 10);
        assert_eq!(taken(60), 50);
        assert!(!spares.take_at(Duration::from_secs(99), 0), "none at all");
    }
}
