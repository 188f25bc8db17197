//! Rows just written that the shipper takes without reading the log again, as long as it keeps up: so many at most, since a store that is
//! away costs disk, not memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use polygate_store::usage::CallRow;

/// Behind a frame of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The segment's number.
    pub(crate) segment: u64,
    /// How far into it.
    pub(crate) offset: u64,
}

/// The newest rows.
#[derive(Debug)]
pub(crate) struct Fresh {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// With where each ends in the log, in its order.
    rows: VecDeque<(Place, CallRow)>,
    /// All rows behind this place are here.
    since: Place,
    /// The last row ends here.
    last: Place,
}

impl Fresh {
    /// So many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            held: Mutex::default(),
        }
    }

    /// These were written; with where each ends.
    pub(crate) fn put(&self, rows: impl ExactSizeIterator<Item = (Place, CallRow)>) {
        let mut held = self.held();
        let has_room = held.rows.len() + rows.len() <= self.most;
        let mut is_next = true;
        for (place, row) in rows {
            is_next &= place > held.last;
            held.last = held.last.max(place);
            held.rows.push_back((place, row));
        }
        if !has_room || !is_next {
            held.rows = VecDeque::new();
            held.since = held.last;
        }
    }

    /// The rows behind a place, so many at most, and where the last of them ends; `None`: they have to be read.
    pub(crate) fn take(&self, behind: Place, most: usize) -> Option<(Vec<CallRow>, Place)> {
        let mut held = self.held();
        while held.rows.front().is_some_and(|(end, _)| *end <= behind) {
            held.rows.pop_front();
        }
        if held.since > behind {
            return None;
        }
        let some = most.min(held.rows.len());
        let mut end = behind;
        let rows = held.rows.drain(..some).map(|(place, row)| {
            end = place;
            row
        });
        let rows = rows.collect();
        Some((rows, end))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
