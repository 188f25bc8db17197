//! Calls that ask the same at the same time: one of them asks, and the others wait for its answer.
//!
//! Each waits for its turn. Who has it asks; where an answer came of it, all others have that, and where none did, the turn is the
//! next one's. A stream is shown to all from its first good event on. A flight is known as long as anybody is in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entry::{Entry, Head};
use super::key::Key;
use crate::body::{Listener, Live};

/// Parts that are locked each by itself.
const SHARDS: usize = 16;

/// What is asked, and after how many purges: who comes after one joins nobody from before.
type Name = (Key, u64);

/// All flights.
#[derive(Default)]
pub(crate) struct Flights {
    shards: [Mutex<HashMap<Name, Arc<Flight>>>; SHARDS],
}

/// Calls that ask the same.
struct Flight {
    /// One may ask at a time; closed, there is nothing more to wait for.
    turn: Arc<Semaphore>,
    answer: OnceLock<Arc<Entry>>,
    /// The stream of who has the turn, from its first good event on, as long as somebody wants it.
    live: OnceLock<(Weak<Live>, Head)>,
}

/// A call that is in a flight.
pub(crate) struct Joined {
    flights: Arc<Flights>,
    name: Name,
    flight: Arc<Flight>,
}

/// A call whose turn it is. Dropped, it has no answer, and the turn is the next one's.
pub(crate) struct Lead {
    joined: Joined,
    _turn: OwnedSemaphorePermit,
}

/// Where the stream of who has the turn is shown to the others.
pub(crate) struct Stage(Weak<Flight>);

/// What comes of waiting.
pub(crate) enum Turn {
    /// It is this call's turn.
    Lead(Lead),
    /// There is an answer.
    Answer(Arc<Entry>),
    /// There is a stream of one, as it comes.
    Live(Box<Listener>, Box<Head>),
    /// There will be none that could be shared.
    Alone,
}

impl Flights {
    /// Joins those who ask the same.
    pub(crate) fn join(self: &Arc<Self>, name: Name) -> Joined {
        let new = || Flight {
            turn: Arc::new(Semaphore::new(1)),
            answer: OnceLock::new(),
            live: OnceLock::new(),
        };
        let mut shard = self.shard(&name);
        let flight = shard.entry(name).or_insert_with(|| Arc::new(new())).clone();
        Joined {
            flights: self.clone(),
            name,
            flight,
        }
    }

    fn shard(&self, (key, _): &Name) -> MutexGuard<'_, HashMap<Name, Arc<Flight>>> {
        let shard = &self.shards[key.shard(SHARDS)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().expect("a shard").len())
            .sum()
    }
}

impl Joined {
    /// Takes the turn, if it is nobody's.
    pub(crate) fn lead(self) -> Result<Lead, Self> {
        match self.flight.turn.clone().try_acquire_owned() {
            Ok(turn) => Ok(Lead {
                joined: self,
                _turn: turn,
            }),
            Err(_) => Err(self),
        }
    }

    /// Waits for an answer, or for the turn.
    pub(crate) async fn turn(self) -> Turn {
        let turn = self.flight.turn.clone().acquire_owned().await;
        match (turn, self.flight.answer.get()) {
            (_, Some(answer)) => Turn::Answer(answer.clone()),
            (Ok(turn), None) => Turn::Lead(Lead {
                joined: self,
                _turn: turn,
            }),
            (Err(_), None) => self.listen().unwrap_or(Turn::Alone),
        }
    }

    fn listen(&self) -> Option<Turn> {
        let (live, head) = self.flight.live.get()?;
        Some(Turn::Live(
            Box::new(live.upgrade()?.listen()?),
            Box::new(head.clone()),
        ))
    }

    /// Whoever comes from now on begins another.
    fn leave(&self, is_over: bool) {
        let mut shard = self.flights.shard(&self.name);
        let known = shard.get(&self.name);
        let is_own = known.is_some_and(|known| Arc::ptr_eq(known, &self.flight));
        // The shard's and this one: nobody else is in it.
        let is_last = Arc::strong_count(&self.flight) == 2;
        if is_own && (is_over || is_last) {
            shard.remove(&self.name);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.leave(false);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Whatever became of its stream, there is none for those who come now.
        if self.joined.flight.live.get().is_some() {
            self.joined.leave(true);
        }
    }
}

impl Lead {
    /// Where its stream is shown to the others.
    pub(crate) fn stage(&self) -> Stage {
        Stage(Arc::downgrade(&self.joined.flight))
    }

    /// Here is the answer, for all.
    pub(crate) fn answers(self, entry: Arc<Entry>) {
        let _ = self.joined.flight.answer.set(entry);
        self.end();
    }

    /// There will be none for anybody else: each asks for itself.
    pub(crate) fn end(self) {
        self.joined.leave(true);
        self.joined.flight.turn.close();
    }
}

impl Stage {
    /// Here it is: those who wait have it, and so has whoever comes while it goes on.
    pub(crate) fn show(&self, live: &Arc<Live>, head: Head) {
        if let Some(flight) = self.0.upgrade() {
            let _ = flight.live.set((Arc::downgrade(live), head));
            flight.turn.close();
        }
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lead")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::entry;
    use crate::cache::tests::key;

    fn lead(flights: &Arc<Flights>) -> Lead {
        flights.join((key(1), 0)).lead().ok().expect("its turn")
    }

    async fn waiting(flights: &Arc<Flights>) -> tokio::task::JoinHandle<Turn> {
        let joined = flights.join((key(1), 0)).lead().expect_err("somebody asks");
        let waiting = tokio::spawn(joined.turn());
        tokio::task::yield_now().await;
        waiting
    }

    #[tokio::test]
    async fn all_have_the_answer_of_one() {
        let flights = Arc::default();
        let first = lead(&flights);
        let mut others = Vec::new();
        for _ in 0..1_000 {
            others.push(waiting(&flights).await);
        }
        assert_eq!(flights.len(), 1);
        let answer = Arc::new(entry(&["x"]));
        first.answers(answer.clone());
        for other in others {
            let Turn::Answer(got) = other.await.expect("no panic") else {
                panic!("no answer");
            };
            assert!(Arc::ptr_eq(&got, &answer));
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn where_one_has_no_answer_the_turn_is_the_next_ones_alone() {
        let flights = Arc::default();
        let first = lead(&flights);
        let (second, third) = (waiting(&flights).await, waiting(&flights).await);
        drop(first);
        let Turn::Lead(second) = second.await.expect("no panic") else {
            panic!("it is its turn");
        };
        assert!(!third.is_finished(), "one at a time");
        // Who comes now waits too.
        let fourth = waiting(&flights).await;
        third.abort();
        second.answers(Arc::new(entry(&["x"])));
        assert!(matches!(fourth.await.expect("no panic"), Turn::Answer(_)));
        assert_eq!(flights.len(), 0, "nobody is left behind");
    }

    #[tokio::test]
    async fn where_there_will_be_no_answer_each_goes_its_way() {
        let flights = Arc::default();
        let first = lead(&flights);
        let (second, third) = (waiting(&flights).await, waiting(&flights).await);
        first.end();
        for other in [second, third] {
            assert!(matches!(other.await.expect("no panic"), Turn::Alone));
        }
        assert_eq!(flights.len(), 0);
        drop(lead(&flights));
        assert_eq!(flights.len(), 0, "alone and without an answer");
    }
}
