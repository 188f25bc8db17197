//! How much is taken at a time: connections of the process, calls of a key, a model, a provider. What is over is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// When someone whom there was no seat for may come again.
pub const COME_AGAIN: Duration = Duration::from_secs(1);

/// A count of what is there now.
#[derive(Debug, Default)]
pub struct Seats(AtomicUsize);

/// One of those counted, until dropped.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Seats {
    /// A seat, if fewer than this many are taken.
    pub fn take(self: &Arc<Self>, limit: usize) -> Option<Seat> {
        // Counted first and asked then: two that come together cannot both get the last seat.
        let seat = self.add();
        (self.0.load(Ordering::Relaxed) <= limit).then_some(seat)
    }

    /// Whether there is one: nothing is taken.
    pub fn has_room(&self, limit: usize) -> bool {
        self.taken() < limit
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(self: &Arc<Self>) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Seats of which there are so many.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Those taken: the same over reloads.
    pub seats: Arc<Seats>,
    /// How many there are.
    pub most: usize,
}

impl Limit {
    /// A seat, if there is one.
    pub fn take(&self) -> Option<Seat> {
        self.seats.take(self.most)
    }

    /// Whether there is one: nothing is taken.
    pub fn has_room(&self) -> bool {
        self.seats.has_room(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_up_to_the_limit_and_come_back() {
        let seats = Arc::new(Seats::default());
        let first = seats.take(2);
        let second = seats.take(2);
        assert!(first.is_some() && second.is_some());
        assert!(seats.take(2).is_none());
        assert!(seats.take(2).is_none(), "a refusal takes no seat");
        drop(first);
        assert!(seats.take(2).is_some());
    }
}
