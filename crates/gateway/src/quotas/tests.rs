//! What is kept of limits, with stores that are slow, silent, or have lost their memory. Time is the runtime's, and paused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use polygate_engine::quota::{
    Allowance, Amounts, Measure, Period, Quota, Reservation, Spent, Subject, SubjectKind,
};
use polygate_store::quota::Granted;
use polygate_store::{MemoryStore, StoreError};
use tokio::time::{Instant, sleep};

use super::*;

/// A store that does as it is told.
#[derive(Default)]
struct Store {
    memory: Mutex<Arc<MemoryStore>>,
    /// Milliseconds until it answers.
    slow: AtomicU64,
    is_down: AtomicU64,
}

impl Store {
    fn memory(&self) -> Arc<MemoryStore> {
        self.memory.lock().expect("unpoisoned").clone()
    }

    async fn lose_memory(&self) {
        *self.memory.lock().expect("unpoisoned") = Arc::default();
    }

    fn set_slow(&self, millis: u64) {
        self.slow.store(millis, Ordering::SeqCst);
    }
}

#[async_trait]
impl QuotaStore for Store {
    async fn lease(&self, leases: &[Lease]) -> polygate_store::Result<Vec<Granted>> {
        sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst))).await;
        if self.is_down.load(Ordering::SeqCst) > 0 {
            return Err(StoreError::Unavailable("down".to_owned()));
        }
        self.memory().lease(leases).await
    }

    async fn taken(&self, windows: &[QuotaWindow]) -> polygate_store::Result<Vec<i64>> {
        self.memory().taken(windows).await
    }

    async fn forget_windows(&self, before: i64, limit: u32) -> polygate_store::Result<u64> {
        self.memory().forget_windows(before, limit).await
    }
}

/// The runtime's time, from the middle of some day.
struct Time(Instant);

impl Clock for Time {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_seconds(&self) -> u64 {
        1_795_626_005 + self.now().as_secs()
    }

    fn unix_micros(&self) -> i64 {
        i64::try_from(self.unix_seconds() * 1_000_000).expect("a moment")
    }
}

/// A process with one limit.
struct Replica {
    book: Arc<Book>,
    quota: Arc<Quota>,
    clock: Arc<Time>,
    keeper: Option<Keeper>,
}

impl Replica {
    async fn start(store: &Arc<Store>, keeping: Keeping, period: Period, most: u64) -> Self {
        let (book, calls) = Book::new(keeping);
        let book = Arc::new(book);
        let allowance = Allowance {
            measure: Measure::Tokens,
            period,
            most,
        };
        let subject = Subject::new(SubjectKind::Key, "one");
        let quota = Quota::new(&subject, &[allowance], &book).expect("a quota");
        let clock = Arc::new(Time(Instant::now()));
        let keeper = Keeper::start(Parts {
            book: book.clone(),
            store: store.clone(),
            clock: clock.clone(),
            calls,
        });
        Self {
            book,
            quota,
            clock,
            keeper: Some(keeper.await),
        }
    }

    fn take(&self, tokens: u64) -> Result<Reservation, Spent> {
        let mut reservation = Reservation::default();
        let amounts = Amounts {
            requests: 1,
            tokens,
            money: 0,
        };
        let now = self.clock.unix_seconds();
        self.quota.reserve(amounts, now, &mut reservation)?;
        Ok(reservation)
    }

    /// As a call does: waits once, and not for long. How long it waited.
    async fn call(&self, tokens: u64) -> (Result<Reservation, Spent>, Duration) {
        let start = Instant::now();
        let until = start + Duration::from_millis(100);
        loop {
            let taken = self.take(tokens);
            let more = taken.as_ref().err().and_then(|spent| spent.more.clone());
            let (Some(more), true) = (more, Instant::now() < until) else {
                return (taken, start.elapsed());
            };
            let mut news = std::pin::pin!(more.news());
            news.as_mut().enable();
            let _wanting = more.want(tokens);
            let _ = tokio::time::timeout_at(until, news).await;
        }
    }

    /// Settled as it was reserved; whether there was so much.
    async fn use_up(&self, tokens: u64) -> bool {
        let (taken, _) = self.call(tokens).await;
        taken
            .map(|taken| {
                taken.settle(Amounts {
                    requests: 1,
                    tokens,
                    money: 0,
                });
            })
            .is_ok()
    }

    fn left(&self) -> u64 {
        let mut standings = self.quota.standings(self.clock.unix_seconds());
        standings.next().expect("one").left
    }

    async fn stop(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop(Duration::from_secs(5)).await;
        }
    }
}

async fn replicas(store: &Arc<Store>, period: Period, most: u64) -> Vec<Replica> {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Replica::start(store, Keeping::Leased, period, most).await);
    }
    // Each hears of the others.
    sleep(Duration::from_secs(3)).await;
    assert!(all.iter().all(|one| one.book.replicas() == 3));
    all
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_there_after_a_restart() {
    let store = Arc::new(Store::default());
    let start = || Replica::start(&store, Keeping::Written, Period::Day, 100);
    let first = start().await;
    assert!(first.use_up(30).await);
    first.stop().await;
    let second = start().await;
    assert_eq!(second.left(), 70);
    let held = second.take(20).expect("enough");
    assert!(second.use_up(30).await);
    sleep(Duration::from_secs(2)).await;
    // Killed: what was reserved counts as taken.
    std::mem::forget(held);
    drop(second);
    let third = start().await;
    assert_eq!(third.left(), 20);
    assert!(!third.use_up(21).await);
}

#[tokio::test(start_paused = true)]
async fn processes_beside_each_other_hear_of_what_the_other_takes() {
    let store = Arc::new(Store::default());
    let start = || Replica::start(&store, Keeping::Written, Period::Total, 100);
    let (old, new) = (start().await, start().await);
    assert!(old.use_up(60).await && new.use_up(10).await);
    sleep(Duration::from_secs(3)).await;
    assert!(old.use_up(1).await && new.use_up(1).await);
    sleep(Duration::from_secs(3)).await;
    assert!(old.use_up(1).await && new.use_up(1).await);
    sleep(Duration::from_secs(3)).await;
    assert!(old.use_up(1).await);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(old.left(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_is_written_later() {
    let store = Arc::new(Store::default());
    let start = || Replica::start(&store, Keeping::Written, Period::Month, 100);
    let first = start().await;
    store.is_down.store(1, Ordering::SeqCst);
    assert!(first.use_up(30).await);
    sleep(Duration::from_secs(5)).await;
    assert!(first.use_up(30).await);
    store.is_down.store(0, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    drop(first);
    assert_eq!(start().await.left(), 40);
}

#[tokio::test(start_paused = true)]
async fn replicas_together_take_exactly_what_there_is() {
    for (most, each) in [(1000, 1), (1000, 3), (7, 1), (1, 1), (0, 1)] {
        let store = Arc::new(Store::default());
        let all = replicas(&store, Period::Day, most).await;
        store.set_slow(3);
        let calls = (0..2000).map(|at: usize| {
            let one = &all[at % 3];
            async move {
                // They come within a second or so.
                sleep(Duration::from_millis(at as u64 / 2)).await;
                one.use_up(each).await
            }
        });
        let admitted = futures_util::future::join_all(calls).await;
        let admitted = admitted.into_iter().filter(|admitted| *admitted).count() as u64;
        assert!(admitted * each <= most, "{admitted} of {most}");
        assert!(
            most - admitted * each < 3 * each,
            "{admitted} of {most} in parts of {each}"
        );
        for one in all {
            one.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_does_not_use_another_may_after_a_while() {
    let store = Arc::new(Store::default());
    let all = replicas(&store, Period::Day, 1000).await;
    for _ in 0..200 {
        assert!(all[0].use_up(1).await);
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let mut used = 0;
    while all[1].use_up(1).await {
        used += 1;
    }
    assert_eq!(used, 800);
    assert!(!all[2].use_up(1).await);
    assert_eq!(all[2].left(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_beyond_a_reservation_is_everybodys() {
    let store = Arc::new(Store::default());
    let all = replicas(&store, Period::Total, 1000).await;
    let (held, _) = all[0].call(10).await;
    held.expect("enough").settle(Amounts {
        requests: 1,
        tokens: 900,
        money: 0,
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!all[1].use_up(101).await);
    assert!(all[1].use_up(100).await);
    assert!(!all[2].use_up(1).await);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_a_silent_store_once_and_not_for_long() {
    let store = Arc::new(Store::default());
    let all = replicas(&store, Period::Day, 900).await;
    assert!(all[0].use_up(300).await);
    assert!(all[1].use_up(1).await && all[2].use_up(1).await);
    sleep(Duration::from_secs(10)).await;
    store.set_slow(1_000_000);
    let mut waits = 0;
    let mut used = [0_u64; 3];
    for _ in 0..500 {
        for (one, used) in all.iter().zip(&mut used) {
            let (taken, waited) = one.call(1).await;
            assert!(waited <= Duration::from_millis(100), "{waited:?}");
            waits += u32::from(waited > Duration::from_millis(1));
            if let Ok(taken) = taken {
                std::mem::forget(taken);
                *used += 1;
            }
        }
    }
    assert!(waits <= 3, "{waits} waited");
    let total: u64 = used.iter().sum();
    // Each has a third of what was left as it was last heard; nobody has taken more in the meantime.
    assert!(
        used.iter().all(|used| (190..=202).contains(used)),
        "{used:?}"
    );
    assert!(total <= 598, "{used:?}");
    store.set_slow(0);
    sleep(Duration::from_secs(10)).await;
    assert!(all.iter().all(|one| !one.book.is_away()));
    for one in &all {
        let (taken, _) = one.call(1).await;
        drop(taken);
        sleep(Duration::from_secs(10)).await;
    }
    let left: Vec<u64> = all.iter().map(Replica::left).collect();
    assert_eq!(left, vec![598 - total; 3], "limits agree again");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_memory_is_told_again() {
    let store = Arc::new(Store::default());
    let all = replicas(&store, Period::Day, 100).await;
    assert!(all[0].use_up(50).await && all[1].use_up(30).await);
    sleep(Duration::from_secs(10)).await;
    store.is_down.store(1, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    store.lose_memory().await;
    store.is_down.store(0, Ordering::SeqCst);
    sleep(Duration::from_secs(5)).await;
    assert!(!all[2].use_up(21).await);
    assert!(all[2].use_up(20).await);
    assert!(!all[0].use_up(1).await);
}

#[tokio::test(start_paused = true)]
async fn the_next_window_is_there_before_it_begins() {
    let store = Arc::new(Store::default());
    let all = replicas(&store, Period::Minute, 60_000).await;
    store.set_slow(20);
    let mut waited_after_first_second = 0;
    for at in 0..12_000_u64 {
        let (taken, waited) = all[0].call(1).await;
        std::mem::forget(taken.expect("enough"));
        if at > 1000 && waited > Duration::from_millis(1) {
            waited_after_first_second += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        waited_after_first_second <= 3,
        "{waited_after_first_second}"
    );
}
