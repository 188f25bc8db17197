//! Leases parts of amounts that all replicas share: ahead of need, as much as is used in a second, and less the less is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use polygate_engine::quota::{Tally, TallyId, Window};
use polygate_store::StoreError;
use polygate_store::quota::{Granted, Lease};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::meeting::Meeting;
use super::{BATCH, FORGET, Parts, forget, lease, signed};

/// How often rates are measured, leases looked at, and a store that is away is asked.
const TICK: Duration = Duration::from_millis(500);
const TICKS_A_SECOND: u64 = 2;

/// How long the store may take before calls stop waiting for it: less than they would.
const PROMPT: Duration = Duration::from_millis(80);

/// How long its answer is still of use.
const LATE: Duration = Duration::from_secs(3);

/// So long before a window ends, something of the next one is leased.
const NEXT: Duration = Duration::from_secs(2);

/// What is left is far from its end while it is so many times what one replica uses in a second, for each of them.
const PLENTY: u64 = 4;

/// Without use for so long a lease is given back whole, and forgotten.
const IDLE_TICKS: u32 = 4;
const FORGOTTEN_TICKS: u32 = 120;

/// How often replicas are counted while the store is there.
const MEET_TICKS: u32 = 4;

/// Leases parts of amounts.
pub struct Leased {
    parts: Parts,
    slots: HashMap<TallyId, Slot>,
    meeting: Meeting,
    ticks: u32,
}

/// What is leased of one tally.
struct Slot {
    tally: Arc<Tally>,
    window: u64,
    /// What the store says is ours.
    backed: u64,
    /// The same of the next window, and what all have taken of that.
    next: Option<Next>,
    /// What all have taken.
    known: u64,
    /// What was taken here when it was last measured, and what is in a second.
    seen: u64,
    rate: u64,
    /// What was leased since then.
    leased: u64,
    idle: u32,
}

/// What is leased of a window that has not begun.
#[derive(Clone, Copy)]
struct Next {
    window: u64,
    backed: u64,
    known: u64,
}

/// What a lease is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// More was taken than was ours.
    Overdraft,
    /// So much is needed at least.
    More { needed: u64 },
    /// What is not used goes back.
    Back,
    /// To hear how it stands.
    Look,
    /// For a window that has not begun.
    Next { window: u64 },
}

/// A lease with what it is for.
struct Wish {
    id: TallyId,
    purpose: Purpose,
    lease: Lease,
}

impl Leased {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            slots: HashMap::new(),
            meeting: Meeting::new(),
            ticks: 0,
        }
    }

    /// Is counted among the replicas, and counts them.
    pub async fn meet(&mut self) {
        let now = self.parts.clock.unix_seconds();
        let (leases, met) = self.meeting.leases(now);
        if let Some(granted) = self.ask(&leases).await {
            let replicas = self.meeting.hear(met, &granted);
            self.parts.book.set_replicas(replicas);
        }
    }

    /// Leases until told to stop, and then gives back what is left.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forgotten = Instant::now();
        loop {
            tokio::select! {
                // Without a word: it was not to stop, but is no more.
                told = stopped.changed() => match told {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = ticks.tick() => self.tick().await,
                Some(tally) = self.parts.calls.recv() => self.called(tally).await,
            }
            if forgotten.elapsed() >= FORGET && !self.parts.book.is_away() {
                forgotten = Instant::now();
                let now = self.parts.clock.unix_seconds();
                let _ = timeout(LATE, forget(&*self.parts.store, now)).await;
                self.forget_unnamed().await;
            }
        }
        self.give_back(|_| true).await;
    }

    /// Some want more.
    async fn called(&mut self, first: Arc<Tally>) {
        let mut tallies = vec![first];
        while tallies.len() < BATCH
            && let Ok(tally) = self.parts.calls.try_recv()
        {
            tallies.push(tally);
        }
        let now = self.parts.clock.unix_seconds();
        let mut wishes = Vec::new();
        for tally in tallies {
            tally.answer();
            let id = tally.id().clone();
            if self.parts.book.is_away() {
                tally.tell();
            }
            let slot = self.slots.entry(id).or_insert_with(|| Slot::new(tally));
            slot.turn(now);
            if !self.parts.book.is_away() {
                let before = wishes.len();
                slot.needs(self.parts.book.replicas(), now, &mut wishes);
                if wishes.len() == before {
                    slot.wish(Purpose::Look, &slot.window(now), 0, &mut wishes);
                }
            }
        }
        self.wish(wishes, now).await;
    }

    /// Measures, gives back, looks ahead; and finds out whether a store that was away is there again.
    async fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.parts.book.is_away() || self.ticks.is_multiple_of(MEET_TICKS) {
            self.meet().await;
        }
        if self.parts.book.is_away() {
            self.slots.values().for_each(|slot| slot.tally.tell());
            return;
        }
        let now = self.parts.clock.unix_seconds();
        let replicas = self.parts.book.replicas();
        // What was taken would be booked again, were it forgotten.
        self.slots
            .retain(|_, slot| slot.idle < FORGOTTEN_TICKS || slot.taken() > 0);
        let mut wishes = Vec::new();
        for slot in self.slots.values_mut() {
            slot.turn(now);
            slot.measure();
            slot.needs(replicas, now, &mut wishes);
            slot.spares(replicas, now, &mut wishes);
        }
        self.wish(wishes, now).await;
    }

    /// Gives back everything that is not taken, of these.
    async fn give_back(&mut self, of: impl Fn(&Slot) -> bool) {
        let now = self.parts.clock.unix_seconds();
        let mut wishes = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| of(slot)) {
            slot.turn(now);
            slot.back(slot.free(), now, &mut wishes);
        }
        self.wish(wishes, now).await;
    }

    /// Lets go of what no configuration names any more.
    async fn forget_unnamed(&mut self) {
        self.give_back(|slot| slot.is_unnamed()).await;
        self.slots.retain(|_, slot| !slot.is_unnamed());
        self.parts.book.forget_unnamed();
    }

    /// The store has lost what it knew: what is ours is booked once more.
    async fn book_again(&mut self) {
        tracing::warn!("the store of limits has lost what was taken: it is told again");
        let now = self.parts.clock.unix_seconds();
        let mut leases = Vec::new();
        for slot in self.slots.values_mut() {
            slot.turn(now);
            if slot.backed > 0 {
                let (window, backed) = (slot.window(now), signed(slot.backed));
                leases.push(lease(&slot.tally, &window, backed, i64::MAX));
            }
        }
        leases.push(self.meeting.own(1));
        for leases in leases.chunks(BATCH) {
            if self.answer(leases).await.is_none() {
                return;
            }
        }
    }

    async fn wish(&mut self, wishes: Vec<Wish>, now: u64) {
        for wishes in wishes.chunks(BATCH) {
            let leases: Vec<Lease> = wishes.iter().map(|wish| wish.lease.clone()).collect();
            let answer = self.ask(&leases).await;
            let replicas = self.parts.book.replicas();
            for (at, wish) in wishes.iter().enumerate() {
                let granted = answer.as_ref().and_then(|granted| granted.get(at));
                if let Some(slot) = self.slots.get_mut(&wish.id) {
                    slot.hear(wish, granted, replicas, now);
                }
            }
        }
    }

    /// Asks the store; `None` where it did not answer. What it grants then is nobody's, which errs on the safe side.
    async fn ask(&mut self, leases: &[Lease]) -> Option<Vec<Granted>> {
        let own = self.meeting.own(0);
        let leases = [leases, &[own]].concat();
        let mut granted = self.answer(&leases).await?;
        let own = granted.pop().map(|granted| granted.taken);
        if self.meeting.is_known && own == Some(0) {
            self.book_again().await;
            return None;
        }
        self.came();
        Some(granted)
    }

    async fn answer(&mut self, leases: &[Lease]) -> Option<Vec<Granted>> {
        let mut call = std::pin::pin!(self.parts.store.lease(leases));
        let answer = tokio::select! {
            answer = &mut call => answer,
            () = sleep(PROMPT) => {
                self.went("it is silent");
                let silent = || StoreError::Unavailable("it does not answer".to_owned());
                timeout(LATE, call).await.unwrap_or_else(|_| Err(silent()))
            }
        };
        match answer {
            Ok(granted) => Some(granted),
            Err(error) => {
                self.went(&error.to_string());
                None
            }
        }
    }

    fn went(&self, error: &str) {
        if !self.parts.book.is_away() {
            self.parts.book.set_away(true);
            tracing::warn!(
                error,
                "the store of limits is away: each replica goes on with its share of what was left"
            );
        }
        self.slots.values().for_each(|slot| slot.tally.tell());
    }

    fn came(&self) {
        if self.parts.book.is_away() {
            self.parts.book.set_away(false);
            for slot in self.slots.values() {
                // What was taken beyond that is booked next.
                slot.tally.grant(slot.window, slot.backed);
                slot.tally.end_share();
            }
            tracing::info!("the store of limits is there again");
        }
    }
}

impl Slot {
    fn new(tally: Arc<Tally>) -> Self {
        Self {
            tally,
            window: u64::MAX,
            backed: 0,
            next: None,
            known: 0,
            seen: 0,
            rate: 0,
            leased: 0,
            idle: 0,
        }
    }

    fn window(&self, now: u64) -> Window {
        self.tally.id().period.window(now)
    }

    /// Goes on to the window of now.
    fn turn(&mut self, now: u64) {
        let window = self.window(now).number;
        if window == self.window {
            return;
        }
        let next = self.next.take().filter(|next| next.window == window);
        self.window = window;
        self.backed = next.map_or(0, |next| next.backed);
        self.known = next.map_or(0, |next| next.known);
        self.tally.hear(window, self.known, now);
        self.seen = 0;
        self.leased = 0;
        self.tally.is_dry_until(0);
    }

    /// Nobody but the book and this holds it.
    fn is_unnamed(&self) -> bool {
        Arc::strong_count(&self.tally) <= 2
    }

    fn taken(&self) -> u64 {
        self.tally.taken(self.window)
    }

    /// What is leased and not taken.
    fn free(&self) -> u64 {
        self.backed.saturating_sub(self.taken())
    }

    fn left(&self) -> u64 {
        self.tally.most().saturating_sub(self.known)
    }

    /// What is leased beyond what is needed now: what is used in a second, as long as there is plenty; near the end nothing, so
    /// that no replica holds what another could use.
    fn ahead(&self, replicas: u64) -> u64 {
        let pace = self.rate.max(self.tally.wanted()).max(self.leased);
        let (left, all) = (self.left(), PLENTY.saturating_mul(replicas));
        if left < pace.saturating_mul(all) {
            return 0;
        }
        pace.min(left / all)
    }

    fn measure(&mut self) {
        let taken = self.taken();
        let used = taken.saturating_sub(self.seen);
        self.seen = taken;
        // Half of it is of before: a moment without calls is no end of them.
        self.rate = (self.rate + used * TICKS_A_SECOND).div_ceil(2);
        if used == 0 {
            self.rate /= 2;
            self.idle += 1;
        } else {
            self.idle = 0;
        }
        self.leased = 0;
    }

    fn wish(&self, purpose: Purpose, window: &Window, want: i64, wishes: &mut Vec<Wish>) {
        let cap = match purpose {
            Purpose::Overdraft => i64::MAX,
            _ => signed(self.tally.most()),
        };
        wishes.push(Wish {
            id: self.tally.id().clone(),
            purpose,
            lease: lease(&self.tally, window, want, cap),
        });
    }

    fn needs(&mut self, replicas: u64, now: u64, wishes: &mut Vec<Wish>) {
        let window = self.window(now);
        let (taken, wanted) = (self.taken(), self.tally.wanted());
        let over = taken.saturating_sub(self.backed);
        if over > 0 {
            self.wish(Purpose::Overdraft, &window, signed(over), wishes);
        }
        let (free, ahead) = (self.free(), self.ahead(replicas));
        let goal = wanted.saturating_add(ahead);
        if wanted > free || free < ahead / 2 {
            let needed = wanted.saturating_sub(free);
            self.wish(
                Purpose::More { needed },
                &window,
                signed(goal - free),
                wishes,
            );
        }
    }

    /// What is not needed goes back; what is used now will be used in the next window.
    fn spares(&mut self, replicas: u64, now: u64, wishes: &mut Vec<Wish>) {
        let window = self.window(now);
        let (free, ahead) = (self.free(), self.ahead(replicas));
        let spare = match self.idle >= IDLE_TICKS {
            true => free,
            false => free.saturating_sub(ahead.saturating_mul(2)),
        };
        if spare > self.tally.wanted() {
            self.back(spare - self.tally.wanted(), now, wishes);
        } else if self.idle == 0 {
            self.wish(Purpose::Look, &window, 0, wishes);
        }
        let is_ending = window.left(now).is_some_and(|left| left <= NEXT);
        if is_ending
            && self.rate > 0
            && self.next.is_none()
            && let Some(ends) = window.ends
        {
            let next = self.window(ends);
            let part = self.tally.most() / PLENTY.saturating_mul(replicas);
            let purpose = Purpose::Next {
                window: next.number,
            };
            self.wish(purpose, &next, signed(self.rate.min(part)), wishes);
        }
    }

    /// Gives so much back: it is not to be had here from now on, whatever the store says to it.
    fn back(&mut self, spare: u64, now: u64, wishes: &mut Vec<Wish>) {
        let rest = self.backed.saturating_sub(spare);
        self.tally.grant(self.window, rest);
        // What was taken just before that stays.
        let rest = rest.max(self.taken());
        let back = self.backed.saturating_sub(rest);
        self.tally.grant(self.window, self.backed - back);
        if back > 0 {
            self.backed -= back;
            let window = self.window(now);
            self.wish(Purpose::Back, &window, -signed(back), wishes);
        }
    }

    /// What came of a wish.
    fn hear(&mut self, wish: &Wish, granted: Option<&Granted>, replicas: u64, now: u64) {
        let Some(granted) = granted else {
            self.tally.tell();
            return;
        };
        let positive = |amount: i64| u64::try_from(amount).unwrap_or_default();
        let (got, known) = (positive(granted.granted), positive(granted.taken));
        if let Purpose::Next { window } = wish.purpose {
            self.next = Some(Next {
                window,
                backed: got,
                known,
            });
            self.tally.grant(window, got);
            return;
        }
        if self.window(now).number != self.window {
            return;
        }
        self.known = known;
        self.tally.hear(self.window, known, now);
        match wish.purpose {
            Purpose::Overdraft => self.backed += got,
            Purpose::More { needed } => {
                self.backed += got;
                self.leased += got;
                // Others may give something back: ask again in a while.
                self.tally
                    .is_dry_until(if got < needed { now + 1 } else { 0 });
            }
            _ => {}
        }
        self.tally.grant(self.window, self.backed);
        self.tally.call_below(self.ahead(replicas) / 2);
        self.tally.tell();
    }
}
