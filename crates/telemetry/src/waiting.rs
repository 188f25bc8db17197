//! Calls that wait to be told of, within a budget of bytes for each who is told: where it is spent, first what was said is dropped, and
//! only then calls are.
//!
//! What was said is large and its loss is one call's; the figures are small, and without them sums are wrong. So the last part of the
//! budget is for figures alone, and a destination that hangs goes on to be told of every call that its queue has a place for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use polygate_engine::observe::{CallRecord, Content, Finished, Told};

/// So many bytes one destination's calls may keep.
const BUDGET: usize = 32 << 20;

/// One of so many parts of a budget is for figures alone: with a queue of 4096, two kilobytes for each call.
const PARTS: usize = 4;

/// Lets calls into a queue.
pub(crate) struct Door {
    budget: Budget,
    /// What was said is told here too.
    content: bool,
    told: Told,
}

/// A call that waits. What it keeps is given back with it.
pub(crate) struct Waiting {
    /// What is known of it.
    pub(crate) record: Arc<CallRecord>,
    /// What was said in it.
    pub(crate) spoken: Spoken,
    /// What it keeps of the budget.
    pub(crate) held: Held,
}

/// What was said in a call, for one of those who are told.
pub(crate) enum Spoken {
    /// Not to be told here.
    Untold,
    /// To be told, but there was no room for it.
    Dropped,
    /// This.
    Kept(Arc<Content>),
}

/// Bytes that may be kept.
#[derive(Clone, Debug)]
struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    most: usize,
    held: AtomicUsize,
}

/// Bytes of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    budget: Budget,
}

impl Door {
    /// Of one destination.
    pub(crate) fn new(told: Told, content: bool) -> Self {
        Self {
            budget: Budget::new(BUDGET),
            content,
            told,
        }
    }

    /// What is counted of it.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Lets a call in, if `send` has a place for it. What is lost is counted.
    pub(crate) fn pass(&self, call: &Finished, send: impl FnOnce(Waiting) -> bool) {
        let Some(waiting) = self.admit(call) else {
            return self.told.dropped();
        };
        let is_silent = matches!(waiting.spoken, Spoken::Dropped);
        match send(waiting) {
            true if is_silent => self.told.content_dropped(),
            true => {}
            false => self.told.dropped(),
        }
    }

    fn admit(&self, call: &Finished) -> Option<Waiting> {
        let figures = call.record.size();
        let (spoken, held) = match call.content.as_ref().filter(|_| self.content) {
            None => (Spoken::Untold, self.budget.hold(figures)?),
            Some(content) => match self.budget.hold_all(figures, content.size()) {
                Some(held) => (Spoken::Kept(content.clone()), held),
                None => (Spoken::Dropped, self.budget.hold(figures)?),
            },
        };
        Some(Waiting {
            record: call.record.clone(),
            spoken,
            held,
        })
    }
}

impl Waiting {
    /// What was said, where it is told.
    pub(crate) fn content(&self) -> Option<&Content> {
        match &self.spoken {
            Spoken::Kept(content) => Some(content),
            Spoken::Untold | Spoken::Dropped => None,
        }
    }

    /// There was no room for what was said.
    pub(crate) fn is_silenced(&self) -> bool {
        matches!(self.spoken, Spoken::Dropped)
    }
}

impl Budget {
    fn new(most: usize) -> Self {
        let held = AtomicUsize::new(0);
        Self(Arc::new(Account { most, held }))
    }

    /// For a call's figures: all there is.
    fn hold(&self, figures: usize) -> Option<Held> {
        self.take(figures, self.0.most)
    }

    /// For figures and what was said: not what is for figures alone.
    fn hold_all(&self, figures: usize, content: usize) -> Option<Held> {
        let most = self.0.most - self.0.most / PARTS;
        self.take(figures.saturating_add(content), most)
    }

    fn take(&self, bytes: usize, most: usize) -> Option<Held> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        let taken = self
            .0
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.ok().map(|_| Held {
            bytes,
            budget: self.clone(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 10_000;

    fn held(budget: &Budget) -> usize {
        budget.0.held.load(Ordering::Relaxed)
    }

    #[test]
    fn what_was_said_leaves_room_for_figures() {
        let budget = Budget::new(MOST);
        let talk: Vec<Held> = std::iter::from_fn(|| budget.hold_all(100, 900)).collect();
        assert_eq!((talk.len(), held(&budget)), (7, 7000));
        let figures: Vec<Held> = std::iter::from_fn(|| budget.hold(100)).collect();
        assert_eq!((figures.len(), held(&budget)), (30, MOST));
        assert!(budget.hold_all(1, 1).is_none());
        drop(figures);
        assert!(budget.hold_all(100, 900).is_none(), "7500 is the most");
        drop(talk);
        assert_eq!(held(&budget), 0);
        assert!(budget.hold_all(usize::MAX, usize::MAX).is_none());
    }

    #[test]
    fn many_hands_take_no_more_than_there_is() {
        let budget = Budget::new(MOST);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let one = budget.hold_all(round % 700, 2000);
                        let other = budget.hold(1000 + round % 300);
                        assert!(held(&budget) <= MOST);
                        drop((one, other));
                    }
                });
            }
        });
        assert_eq!(held(&budget), 0);
    }

    proptest! {
        #[test]
        fn a_budget_holds_what_waits_and_no_more(
            steps in prop::collection::vec((any::<bool>(), 0..400_usize, 0..4000_usize), 0..200),
        ) {
            let budget = Budget::new(MOST);
            let mut queue: VecDeque<Held> = VecDeque::new();
            let mut sum = 0;
            for (is_push, figures, content) in steps {
                if !is_push {
                    sum -= queue.pop_front().map_or(0, |one| one.bytes);
                } else if let Some(one) = budget.hold_all(figures, content) {
                    prop_assert!(sum + figures + content <= MOST / 4 * 3);
                    sum += figures + content;
                    queue.push_back(one);
                } else if let Some(one) = budget.hold(figures) {
                    prop_assert!(sum + figures + content > MOST / 4 * 3);
                    sum += figures;
                    queue.push_back(one);
                } else {
                    prop_assert!(sum + figures > MOST);
                }
                prop_assert_eq!(held(&budget), sum);
                prop_assert!(sum <= MOST);
            }
            drop(queue);
            prop_assert_eq!(held(&budget), 0);
        }
    }
}
