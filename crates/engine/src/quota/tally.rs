//! What is taken of one limited amount, and of which part of it this process disposes: a few atomics, the same over reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

use super::book::Shared;
use super::{Measure, Period, Subject};

/// The bits of the amount: a million millions, which is a million dollars.
const AMOUNT_BITS: u32 = 40;
/// The most that is counted.
pub const MOST: u64 = (1 << AMOUNT_BITS) - 1;
const WINDOWS: u64 = (1 << (64 - AMOUNT_BITS)) - 1;

/// What was taken without the store's word: a little, or a share.
const LATE: u64 = 1;
const AWAY: u64 = 2;

/// A little is so many times what a call takes.
const LITTLE: u64 = 1000;

/// How it is known what others take of the same amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeping {
    /// There are no others.
    #[default]
    Alone,
    /// What is taken is written down, so that it outlives the process.
    Written,
    /// Parts of each amount are leased from a store that all replicas share.
    Leased,
}

/// What a tally is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TallyId {
    /// Whose limit it is.
    pub subject: Subject,
    /// What is counted.
    pub measure: Measure,
    /// In which windows.
    pub period: Period,
}

/// What is taken of one limited amount.
#[derive(Debug)]
pub struct Tally {
    id: TallyId,
    keeping: Keeping,
    shared: Arc<Shared>,
    /// The window's number, its lowest 24 bits, above what is taken in it.
    taken: AtomicU64,
    /// The same of what may be taken here, of even and of odd windows: so the next one's is there before it begins.
    granted: [AtomicU64; 2],
    /// The same of what all have taken, as it was last heard.
    known: AtomicU64,
    /// When that was; seconds since 1970.
    heard: AtomicU64,
    /// The same of a window in which something was taken because the store was late, or a share because it was away.
    share: AtomicU64,
    /// Somebody waited in vain since the store was last heard.
    late: AtomicBool,
    /// How much there is in a window.
    most: AtomicU64,
    /// What those want who wait.
    wanted: AtomicU64,
    /// With less than this left here, it is time to lease more.
    low: AtomicU64,
    /// Until then nobody needs to wait for more; seconds since 1970.
    dry: AtomicU64,
    /// It is in the keeper's line.
    is_called: AtomicBool,
    calls: mpsc::UnboundedSender<Arc<Tally>>,
    /// Tells those who wait.
    news: Notify,
}

/// Somebody waits for this much.
#[derive(Debug)]
pub struct Wanting {
    tally: Arc<Tally>,
    amount: u64,
}

impl TallyId {
    /// Its name where it is kept: `key/alice/requests/day`.
    pub fn name(&self) -> String {
        let Subject { kind, name } = &self.subject;
        let (measure, period) = (self.measure.name(), self.period.name());
        format!("{}/{name}/{measure}/{period}", kind.name())
    }
}

impl Tally {
    pub(super) fn new(
        id: TallyId,
        keeping: Keeping,
        shared: Arc<Shared>,
        calls: mpsc::UnboundedSender<Arc<Tally>>,
    ) -> Self {
        Self {
            id,
            keeping,
            shared,
            taken: AtomicU64::new(0),
            granted: Default::default(),
            known: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            share: AtomicU64::new(0),
            late: AtomicBool::new(false),
            most: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            low: AtomicU64::new(0),
            dry: AtomicU64::new(0),
            is_called: AtomicBool::new(false),
            calls,
            news: Notify::new(),
        }
    }

    /// What it is of.
    pub fn id(&self) -> &TallyId {
        &self.id
    }

    /// How much there is in a window.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn allow(&self, most: u64) {
        self.most.store(most.min(MOST), Ordering::Relaxed);
    }

    /// What is taken here in a window.
    pub fn taken(&self, window: u64) -> u64 {
        amount_in(self.taken.load(Ordering::SeqCst), window)
    }

    /// How much is left in a window, as far as is known here.
    pub fn left(&self, window: u64) -> u64 {
        let (most, taken) = (self.most(), self.taken(window));
        if self.keeping != Keeping::Leased {
            return most.saturating_sub(taken);
        }
        let known = amount_in(self.known.load(Ordering::Relaxed), window);
        let here = self.granted(window).saturating_sub(taken);
        most.saturating_sub(known).saturating_add(here).min(most)
    }

    /// Takes an amount, if so much is left here: `Err` has what is.
    pub(super) fn take(self: &Arc<Self>, window: u64, amount: u64) -> Result<(), u64> {
        match self.take_once(window, amount) {
            Err(_) if self.take_share(window, amount) => self.take_once(window, amount),
            taken => taken,
        }
    }

    fn take_once(self: &Arc<Self>, window: u64, amount: u64) -> Result<(), u64> {
        let ceiling = self.ceiling(window);
        let take = |state| {
            let taken = amount_in(state, window);
            let sum = taken.checked_add(amount).filter(|sum| *sum <= ceiling)?;
            // What blocks, blocks what takes nothing as well.
            (ceiling > 0).then(|| packed(window, sum))
        };
        let before = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, take)
            .map_err(|_| self.left(window))?;
        match self.keeping {
            Keeping::Alone => {}
            Keeping::Written => self.call(),
            Keeping::Leased => {
                let taken = amount_in(before, window) + amount;
                // What was given back in between is not there any more.
                let ceiling = self.ceiling(window);
                if taken > ceiling {
                    self.settle(window, amount, 0);
                    return Err(self.left(window));
                }
                if ceiling - taken < self.low.load(Ordering::Relaxed) {
                    self.call();
                }
            }
        }
        Ok(())
    }

    /// Makes of an amount that was taken in a window another one: more than was allowed, if it was.
    pub(super) fn settle(self: &Arc<Self>, window: u64, held: u64, used: u64) {
        let settle = |state| {
            // Another window has begun: what was taken in the old one is forgotten with it.
            if window_of(state) != window & WINDOWS {
                return None;
            }
            let taken = amount_in(state, window).saturating_sub(held);
            Some(packed(window, taken.saturating_add(used).min(MOST)))
        };
        let _ = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, settle);
        let is_news = match self.keeping {
            Keeping::Alone => false,
            Keeping::Written => held != used,
            Keeping::Leased => used > held,
        };
        if is_news {
            self.call();
        }
    }

    /// The most that may be taken here in a window.
    fn ceiling(&self, window: u64) -> u64 {
        match self.keeping {
            Keeping::Alone | Keeping::Written => self.most(),
            Keeping::Leased => self.granted(window).min(self.most()),
        }
    }

    /// Puts it into the keeper's line, once.
    fn call(self: &Arc<Self>) {
        // In one order with `answer` and `wanted`: a call that is not heard was answered before.
        if !self.is_called.load(Ordering::SeqCst) && !self.is_called.swap(true, Ordering::SeqCst) {
            // Where there is no keeper nobody hears it.
            let _ = self.calls.send(self.clone());
        }
    }
}

/// What those do who wait.
impl Tally {
    /// Somebody looks at what is left: what others have taken may be news.
    pub(super) fn look(self: &Arc<Self>, now: u64) {
        if self.keeping == Keeping::Leased && self.heard.load(Ordering::Relaxed) + 1 < now {
            self.call();
        }
    }

    /// Whether more may come within a moment for somebody who wants this much. Seconds since 1970.
    pub(super) fn may_come(&self, amount: u64, now: u64) -> bool {
        self.keeping == Keeping::Leased
            && !self.shared.is_away()
            && amount <= self.most()
            && now >= self.dry.load(Ordering::Relaxed)
    }

    /// Somebody waits for this much, until dropped.
    pub fn want(self: &Arc<Self>, amount: u64) -> Wanting {
        self.wanted.fetch_add(amount, Ordering::SeqCst);
        self.call();
        Wanting {
            tally: self.clone(),
            amount,
        }
    }

    /// Told when something has changed.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Somebody has waited as long as a call may: the store is silent, though the keeper may not know yet.
    pub fn is_late(&self) {
        self.late.store(true, Ordering::SeqCst);
    }

    /// A part of what was left when the store was last heard, once in a window, where the store is away. Where it is only late, a
    /// little of that, and only of plenty.
    fn take_share(self: &Arc<Self>, window: u64, amount: u64) -> bool {
        let is_away = self.shared.is_away();
        let is_alone = is_away || self.late.load(Ordering::SeqCst);
        if self.keeping != Keeping::Leased || !is_alone {
            return false;
        }
        let known = amount_in(self.known.load(Ordering::Relaxed), window);
        let mut share = self.most().saturating_sub(known) / self.shared.replicas();
        let mut kind = AWAY;
        if !is_away {
            let little = amount.saturating_mul(LITTLE);
            if little > share {
                return false;
            }
            (share, kind) = (little, LATE);
        }
        let mark = |state| (amount_in(state, window) < kind).then(|| packed(window, kind));
        let marked = self
            .share
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, mark);
        if marked.is_err() {
            return false;
        }
        let add = |state| {
            Some(packed(
                window,
                amount_in(state, window).saturating_add(share),
            ))
        };
        let slot = self.slot(window);
        let _ = slot.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        // What is taken of it is booked when the store is there again.
        self.call();
        true
    }
}

/// What the keeper does.
impl Tally {
    /// What may be taken here in a window.
    pub fn granted(&self, window: u64) -> u64 {
        amount_in(self.slot(window).load(Ordering::SeqCst), window)
    }

    /// So much may be taken here in a window: less than is taken, if that is more.
    pub fn grant(&self, window: u64, amount: u64) {
        self.slot(window)
            .store(packed(window, amount), Ordering::SeqCst);
    }

    fn slot(&self, window: u64) -> &AtomicU64 {
        let [even, odd] = &self.granted;
        if window.is_multiple_of(2) { even } else { odd }
    }

    /// What all together have taken, as it is known now; seconds since 1970.
    pub fn hear(&self, window: u64, known: u64, now: u64) {
        self.heard.store(now, Ordering::Relaxed);
        self.known.store(packed(window, known), Ordering::Relaxed);
        if self.late.swap(false, Ordering::SeqCst) && !self.shared.is_away() {
            self.end_share();
        }
    }

    /// The store is there again: when it goes once more, there is a share once more.
    pub fn end_share(&self) {
        self.share.store(0, Ordering::SeqCst);
    }

    /// Others have taken so much more, or less, of the same window.
    pub fn add(&self, window: u64, more: i64) {
        let add = |state| {
            let taken = amount_in(state, window).saturating_add_signed(more);
            Some(packed(window, taken.min(MOST)))
        };
        let _ = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
    }

    /// What those want who wait.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::SeqCst)
    }

    /// With less than this left here, the keeper wants to know.
    pub fn call_below(&self, low: u64) {
        self.low.store(low, Ordering::Relaxed);
    }

    /// Nobody needs to wait for more until then; seconds since 1970.
    pub fn is_dry_until(&self, moment: u64) {
        self.dry.store(moment, Ordering::Relaxed);
    }

    /// The keeper has come: what happens from here on is to be told again.
    pub fn answer(&self) {
        self.is_called.store(false, Ordering::SeqCst);
    }

    /// Tells those who wait to look again.
    pub fn tell(&self) {
        self.news.notify_waiters();
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        self.tally.wanted.fetch_sub(self.amount, Ordering::SeqCst);
    }
}

fn packed(window: u64, amount: u64) -> u64 {
    (window & WINDOWS) << AMOUNT_BITS | amount.min(MOST)
}

fn window_of(state: u64) -> u64 {
    state >> AMOUNT_BITS
}

fn amount_in(state: u64, window: u64) -> u64 {
    if window_of(state) == window & WINDOWS {
        state & MOST
    } else {
        0
    }
}
