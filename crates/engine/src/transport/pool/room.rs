//! How many connections there may be to one origin: who finds none free waits in line, and whoever is first hears of the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Gauge;

/// Leave to have one connection open; it comes back when the connection is closed.
pub(super) type Permit = OwnedSemaphorePermit;

/// The count, and the line before it.
pub(super) struct Room {
    left: Arc<Semaphore>,
    /// One at a time looks for a free connection: the others stand behind it in the order of coming.
    line: Semaphore,
    waiting: AtomicUsize,
    /// A connection, or a stream of one, came free.
    news: Notify,
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        Self {
            left: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            line: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            news: Notify::new(),
        }
    }

    /// Whether nobody waits, so that nobody is passed by.
    pub(super) fn is_free(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// To be the first in line.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.line.acquire().await
    }

    /// Leave to open a connection, or `None`: it is worth another look at those that are open.
    pub(super) async fn permit_or_news(&self) -> Option<Permit> {
        tokio::select! {
            permit = self.left.clone().acquire_owned() => permit.ok(),
            // What came free before this is remembered: nothing is missed between two looks.
            () = self.news.notified() => None,
        }
    }
}

/// Something came free.
pub(super) fn tell(room: Option<&Arc<Room>>) {
    if let Some(room) = room {
        room.news.notify_one();
    }
}

/// One that waits, counted until it is dropped.
pub(super) struct Waiting(Arc<Room>, Arc<Gauge>);

impl Waiting {
    pub(super) fn new(room: Arc<Room>, gauge: Arc<Gauge>) -> Self {
        room.waiting.fetch_add(1, Ordering::Relaxed);
        gauge.waiting.fetch_add(1, Ordering::Relaxed);
        Self(room, gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.1.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No connection came free in time.
#[derive(Debug)]
pub(in super::super) struct NoRoom;

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no connection came free in time")
    }
}

impl std::error::Error for NoRoom {}
