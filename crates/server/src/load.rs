//! How much is taken at a time: connections and model calls. What is over is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use polygate_core::{Failure, Kind};

/// When someone who was refused may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// A count of what is there now.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicUsize>);

/// One of those counted, until dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Load {
    /// A place, if fewer than this many are taken.
    pub fn take(&self, limit: usize) -> Option<Place> {
        // Counted first and asked then: two that come together cannot both get the last place.
        let place = self.add();
        (self.0.load(Ordering::Relaxed) <= limit).then_some(place)
    }

    fn add(&self) -> Place {
        self.0.fetch_add(1, Ordering::Relaxed);
        Place(self.0.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The refusal of a call that there is no place for.
pub fn overloaded(what: &str) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!("the gateway has as many {what} as it takes: try again shortly"),
    )
    .retry_after(Some(COME_AGAIN))
}

/// The end of a call for which the gateway did not wait.
pub fn stopping() -> Failure {
    Failure::new(
        Kind::Unavailable,
        "the gateway is stopping and could not wait for the rest of this answer",
    )
    .retry_after(Some(COME_AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_come_back() {
        let load = Load::default();
        let first = load.take(2);
        let second = load.take(2);
        assert!(first.is_some() && second.is_some());
        assert!(load.take(2).is_none());
        assert!(load.take(2).is_none(), "a refusal takes no place");
        drop(first);
        assert!(load.take(2).is_some());
    }
}
