//! What a connection is doing, and when that has taken too long. One timer a connection, moved only when it fires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use polygate_engine::config::Patience;
use tokio::time::Instant;

/// What a connection is doing. Written by whoever reads, writes and answers on it; read when its timer fires.
#[derive(Debug)]
pub struct Activity {
    began: Instant,
    /// Requests that are being answered.
    calls: AtomicU32,
    /// Since when there are none.
    quiet_since: AtomicU64,
    /// Since when a request's head is being read; 0: none is.
    head_since: AtomicU64,
    /// Since when the client takes nothing; 0: it does.
    blocked_since: AtomicU64,
    /// HTTP/2: what comes between requests need not be a head.
    multiplexed: AtomicBool,
    /// HTTP/2: pieces of answers for which the client gives no window, and when the last of any was passed on. There the socket
    /// takes bytes though the client takes none.
    held: AtomicU32,
    moved_at: AtomicU64,
}

/// A request that is being answered, until dropped.
#[derive(Debug)]
pub struct Busy {
    activity: Arc<Activity>,
    multiplexed: bool,
    /// It gave a piece and was not asked for the next one.
    holds: bool,
}

/// What must become of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; it is asked again then.
    Bearable(Instant),
    /// Nothing was asked for too long: it may go, politely.
    Idle,
    /// The client is too slow: it goes.
    TooSlow,
}

impl Activity {
    /// A connection that was just made: its first request is awaited.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            calls: AtomicU32::new(0),
            quiet_since: AtomicU64::new(1),
            head_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            held: AtomicU32::new(0),
            moved_at: AtomicU64::new(0),
        }
    }

    /// A request's head has come.
    pub fn call(self: &Arc<Self>, multiplexed: bool) -> Busy {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        if multiplexed {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        Busy {
            activity: self.clone(),
            multiplexed,
            holds: false,
        }
    }

    /// Bytes came.
    pub fn heard(&self) {
        if self.calls.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
            && !self.multiplexed.load(Ordering::Relaxed)
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The client took something, or did not.
    pub fn wrote(&self, something: bool) {
        let blocked = self.blocked_since.load(Ordering::Relaxed) != 0;
        if blocked == something {
            let now = self.now();
            self.blocked_since
                .store(if something { 0 } else { now }, Ordering::Relaxed);
            self.quiet_since.store(now, Ordering::Relaxed);
        }
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// Whether for so long nothing was asked that is not answered.
    pub fn is_quiet_for(&self, time: Duration) -> bool {
        let quiet = self.quiet_since.load(Ordering::Relaxed);
        !self.is_busy() && self.after(quiet, time) <= Instant::now()
    }

    /// Whether an answer lies ready that the client does not take.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since.load(Ordering::Relaxed) != 0
    }

    /// Whether several requests share it.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// What must become of it by now.
    pub fn verdict(&self, patience: &Patience) -> Verdict {
        let load = |time: &AtomicU64| time.load(Ordering::Relaxed);
        let load_count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let now = self.now();
        let (blocked, head) = (load(&self.blocked_since), load(&self.head_since));
        // What may begin at any moment is over, at the earliest, so long after now.
        let mut due = self.after(now, patience.write);
        if blocked != 0 {
            due = self.after(blocked, patience.write);
            if due <= Instant::now() {
                return Verdict::TooSlow;
            }
        } else if self.is_busy() {
            if load_count(&self.held) > 0 {
                due = self.after(load(&self.moved_at), patience.write);
                if due <= Instant::now() {
                    return Verdict::TooSlow;
                }
            }
        } else if head != 0 {
            due = due.min(self.after(head, patience.header));
            if due <= Instant::now() {
                return Verdict::TooSlow;
            }
        } else {
            due = due.min(self.after(now, patience.header));
            let idle = self.after(load(&self.quiet_since), patience.idle);
            if idle <= Instant::now() {
                return Verdict::Idle;
            }
            due = due.min(idle);
        }
        Verdict::Bearable(due)
    }

    /// Milliseconds since the beginning; never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn after(&self, time: u64, patience: Duration) -> Instant {
        let since = self.began + Duration::from_millis(time);
        // A century is for ever, and fits.
        since + patience.min(Duration::from_secs(100 * 365 * 24 * 3600))
    }
}

impl Busy {
    /// The client asks for a piece of the answer. HTTP/1.1 needs no such notes: its socket tells.
    pub fn asked(&mut self) {
        if std::mem::replace(&mut self.holds, false) {
            self.activity.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// It got one.
    pub fn gave(&mut self) {
        if self.multiplexed {
            let now = self.activity.now();
            self.activity.moved_at.store(now, Ordering::Relaxed);
            self.activity.held.fetch_add(1, Ordering::Relaxed);
            self.holds = true;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.asked();
        let activity = &self.activity;
        // The time first: who sees no call sees since when.
        activity
            .quiet_since
            .store(activity.now(), Ordering::Relaxed);
        activity.calls.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const PATIENCE: Patience = Patience {
        handshake: Duration::from_secs(1),
        header: Duration::from_secs(10),
        body: Duration::from_secs(1),
        write: Duration::from_secs(20),
        idle: Duration::from_secs(40),
    };

    /// Follows the verdicts to the last of them; returns it with the seconds until then.
    async fn end(activity: &Activity) -> (Verdict, u64) {
        let from = Instant::now();
        loop {
            match activity.verdict(&PATIENCE) {
                Verdict::Bearable(due) => {
                    assert!(due > Instant::now(), "a timer that fires at once spins");
                    sleep_until(due).await;
                }
                verdict => return (verdict, from.elapsed().as_secs()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_a_head_meets_the_header_deadline() {
        let activity = Arc::new(Activity::new());
        activity.heard();
        assert_eq!(end(&activity).await, (Verdict::TooSlow, 10));
        let activity = Arc::new(Activity::new());
        drop(activity.call(false));
        advance(Duration::from_secs(30)).await;
        activity.heard();
        assert_eq!(end(&activity).await, (Verdict::TooSlow, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_the_idle_deadline_holds() {
        for multiplexed in [false, true] {
            let activity = Arc::new(Activity::new());
            let busy = activity.call(multiplexed);
            advance(Duration::from_secs(1000)).await;
            assert!(matches!(activity.verdict(&PATIENCE), Verdict::Bearable(_)));
            drop(busy);
            if multiplexed {
                // Pings are no heads.
                activity.heard();
            }
            assert_eq!(end(&activity).await, (Verdict::Idle, 40));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_too_slow_and_who_takes_something_is_not() {
        let activity = Arc::new(Activity::new());
        let _busy = activity.call(false);
        for _ in 0..10 {
            activity.wrote(false);
            advance(Duration::from_secs(15)).await;
            assert!(matches!(activity.verdict(&PATIENCE), Verdict::Bearable(_)));
            activity.wrote(true);
        }
        activity.wrote(false);
        advance(Duration::from_secs(5)).await;
        activity.wrote(false);
        assert_eq!(end(&activity).await, (Verdict::TooSlow, 15));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_no_window_is_too_slow_and_who_waits_for_an_answer_is_not() {
        let activity = Arc::new(Activity::new());
        let mut busy = activity.call(true);
        busy.asked();
        advance(Duration::from_secs(1000)).await;
        assert!(matches!(activity.verdict(&PATIENCE), Verdict::Bearable(_)));
        busy.gave();
        busy.asked();
        advance(Duration::from_secs(1000)).await;
        assert!(matches!(activity.verdict(&PATIENCE), Verdict::Bearable(_)));
        busy.gave();
        assert_eq!(end(&activity).await, (Verdict::TooSlow, 20));
        drop(busy);
        assert_eq!(end(&activity).await, (Verdict::Idle, 40));
    }
}
