//! Writes down what is taken, a moment later: after a crash a second of it is missing, and nothing after a proper end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use polygate_engine::quota::{Period, Tally, TallyId, Window};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{BATCH, FORGET, Parts, forget, lease, signed};

/// Between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes down what is taken.
pub struct Written {
    parts: Parts,
    /// What is known to be written.
    pages: HashMap<TallyId, Page>,
    /// What could not be written yet.
    unwritten: Vec<Arc<Tally>>,
    is_away: bool,
}

/// What the store has of a tally.
#[derive(Clone, Copy, Default)]
struct Page {
    window: u64,
    taken: u64,
}

/// One tally's part of a write.
struct Line {
    tally: Arc<Tally>,
    window: Window,
    /// What the store has when it is written, as far as is known here.
    taken: u64,
    more: i64,
}

impl Written {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            pages: HashMap::new(),
            unwritten: Vec::new(),
            is_away: false,
        }
    }

    /// Finds out what was taken before.
    pub async fn load(&mut self) {
        let tallies = self.parts.book.tallies();
        self.write(tallies).await;
    }

    /// Writes until told to stop, and then once more.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forgotten = Instant::now();
        loop {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                // Without a word: it was not to stop, but is no more.
                told = stopped.changed() => match told {
                    Ok(()) => true,
                    Err(_) => return,
                },
            };
            let tallies = self.changed();
            self.write(tallies).await;
            if is_over {
                return;
            }
            if forgotten.elapsed() >= FORGET {
                forgotten = Instant::now();
                forget(&*self.parts.store, self.parts.clock.unix_seconds()).await;
                for id in self.parts.book.forget_unnamed() {
                    self.pages.remove(&id);
                }
            }
        }
    }

    /// What there is to write, each once.
    fn changed(&mut self) -> Vec<Arc<Tally>> {
        let mut tallies = std::mem::take(&mut self.unwritten);
        while let Ok(tally) = self.parts.calls.try_recv() {
            tallies.push(tally);
        }
        tallies.sort_by_key(Arc::as_ptr);
        tallies.dedup_by(|one, other| Arc::ptr_eq(one, other));
        tallies
    }

    async fn write(&mut self, tallies: Vec<Arc<Tally>>) {
        for tallies in tallies.chunks(BATCH) {
            let lines: Vec<Line> = tallies
                .iter()
                .filter_map(|tally| self.line(tally))
                .collect();
            if !lines.is_empty() {
                self.write_lines(lines).await;
            }
        }
    }

    /// What there is to write of a tally. Minutes are over before it matters.
    fn line(&self, tally: &Arc<Tally>) -> Option<Line> {
        tally.answer();
        let id = tally.id();
        if id.period == Period::Minute {
            return None;
        }
        let window = id.period.window(self.parts.clock.unix_seconds());
        let taken = tally.taken(window.number);
        let page = self
            .pages
            .get(id)
            .filter(|page| page.window == window.number);
        let written = page.map_or(0, |page| page.taken);
        Some(Line {
            tally: tally.clone(),
            window,
            taken,
            more: signed(taken) - signed(written),
        })
    }

    async fn write_lines(&mut self, lines: Vec<Line>) {
        let leases: Vec<_> = lines
            .iter()
            .map(|line| lease(&line.tally, &line.window, line.more, i64::MAX))
            .collect();
        let answer = self.parts.store.lease(&leases).await;
        match (&answer, self.is_away) {
            (Err(error), false) => {
                tracing::warn!(%error, "what is taken of limits cannot be written down: it is kept in memory until it can");
            }
            (Ok(_), true) => tracing::info!("what is taken of limits is written down again"),
            _ => {}
        }
        self.is_away = answer.is_err();
        let Ok(granted) = answer else {
            self.unwritten
                .extend(lines.into_iter().map(|line| line.tally));
            return;
        };
        for (line, granted) in lines.into_iter().zip(granted) {
            let taken = u64::try_from(granted.taken).unwrap_or_default();
            // What a process before this one, or beside it, has taken.
            let others = signed(taken) - signed(line.taken);
            if others != 0 {
                line.tally.add(line.window.number, others);
            }
            let page = Page {
                window: line.window.number,
                taken,
            };
            self.pages.insert(line.tally.id().clone(), page);
        }
    }
}
