//! A body that plays events, with delays and with whatever was scripted to go wrong; it keeps the ledger as it goes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::ledger::Outcome;
use crate::server::{Connection, Shared};

/// A body being played.
pub(crate) struct Playing {
    events: std::vec::IntoIter<Bytes>,
    /// What follows when the events are over.
    then: Then,
    every: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    sent: u32,
    length: Option<u64>,
    entry: usize,
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    done: bool,
}

/// What follows the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// A proper end.
    End,
    /// A proper end of the body, not of what it says.
    FaultyEnd,
    /// The connection closes.
    Cut,
    /// The connection is reset.
    Reset,
    /// Nothing, ever.
    Stall,
    /// The last event again and again.
    Repeat,
}

/// A body that breaks off. hyper closes the connection on it.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scripted to break off")
    }
}

impl std::error::Error for BrokenOff {}

impl Playing {
    pub(crate) fn new(
        events: Vec<Bytes>,
        then: Then,
        every: Duration,
        entry: usize,
        shared: Arc<Shared>,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            events: events.into_iter(),
            then,
            every,
            timer: None,
            sent: 0,
            length: None,
            entry,
            shared,
            connection,
            done: false,
        }
    }

    /// Says how long the body is, truly or not.
    pub(crate) fn with_length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    fn end(&mut self, outcome: Outcome) {
        self.done = true;
        let sent = self.sent;
        self.shared.ledger.update(self.entry, |entry| {
            entry.events_sent = sent;
            entry.outcome = outcome;
        });
    }

    fn finish(&mut self) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.then {
            Then::Stall | Then::Repeat => Poll::Pending,
            Then::End => {
                self.end(Outcome::Completed);
                Poll::Ready(None)
            }
            Then::FaultyEnd => {
                self.end(Outcome::Faulted);
                Poll::Ready(None)
            }
            Then::Cut | Then::Reset => {
                self.connection
                    .reset
                    .store(self.then == Then::Reset, Ordering::SeqCst);
                self.end(Outcome::Faulted);
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }
}

impl Body for Playing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        let Some(event) = self.events.next() else {
            return self.finish();
        };
        self.sent += 1;
        if self.then == Then::Repeat && self.events.len() == 0 {
            self.events = vec![event.clone()].into_iter();
        }
        // A break comes a moment after what was sent before it, or that would be lost with it.
        let is_last = self.events.len() == 0;
        let pause = if is_last && matches!(self.then, Then::Cut | Then::Reset) {
            Duration::from_millis(5).max(self.every)
        } else {
            self.every
        };
        if !pause.is_zero() {
            self.timer = Some(Box::pin(sleep(pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        if !self.done
            && self
                .length
                .is_none_or(|_| self.events.len() > 0 || self.then != Then::End)
        {
            self.end(Outcome::ClientGone);
        } else if !self.done {
            // A body of known length is not asked whether it is over.
            self.end(Outcome::Completed);
        }
    }
}
