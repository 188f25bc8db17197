//! What is drawn from a seed: how each provider is, phase by phase.

use std::collections::HashMap;
use std::time::Duration;

use polygate_core::{Failure, Kind};
use polygate_engine::chance;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How long a schedule is, and its phases.
pub const PHASES: usize = 6;
const PHASE: Duration = Duration::from_secs(20);
pub const LENGTH: Duration = Duration::from_secs(120);

/// Each has two keys.
pub const PROVIDERS: [&str; 3] = ["a", "b", "c"];

/// Numbers as if by chance, the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        chance::mixed(self.0) % sides
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.roll(many) == 0
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// How a provider is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    Erring,
    Limiting,
    Gone,
    Hanging,
    Moody,
    /// Every tenth answer takes long.
    Slow,
}

impl Mood {
    pub const ALL: [Mood; 7] = [
        Mood::Well,
        Mood::Erring,
        Mood::Limiting,
        Mood::Gone,
        Mood::Hanging,
        Mood::Moody,
        Mood::Slow,
    ];

    /// How long an attempt takes, and what comes of it.
    pub fn attempt(self, dice: &mut Dice, longest: u64) -> (Duration, Result<(), Failure>) {
        let quick = MS * (20 + dice.roll(longest - 20) as u32);
        let failed = |kind| Err(Failure::new(kind, "by the schedule"));
        match self {
            Mood::Well => (quick, Ok(())),
            Mood::Erring => (quick, failed(Kind::UpstreamError)),
            Mood::Gone => (MS, failed(Kind::Connect)),
            Mood::Limiting => {
                let wait = S * (1 + dice.roll(8) as u32);
                let limit = Failure::new(Kind::UpstreamRateLimited, "by the schedule");
                (quick, Err(limit.retry_after(Some(wait))))
            }
            Mood::Hanging => {
                let silent = Failure::new(Kind::Timeout, "by the schedule").ambiguous();
                (5 * S, Err(silent))
            }
            Mood::Moody if dice.one_in(2) => (quick, Ok(())),
            Mood::Moody => (quick, failed(Kind::UpstreamError)),
            Mood::Slow if dice.one_in(10) => (3 * S, Ok(())),
            Mood::Slow => (quick, Ok(())),
        }
    }
}

/// How each provider is, phase by phase; afterwards all are well.
#[derive(Clone)]
pub struct Schedule(HashMap<&'static str, Vec<Mood>>);

impl Schedule {
    pub fn draw(mut draw: impl FnMut(&'static str) -> Mood) -> Self {
        let phases = |name| (0..PHASES).map(|_| draw(name)).collect();
        Self(PROVIDERS.into_iter().zip(PROVIDERS.map(phases)).collect())
    }

    pub fn mood(&self, provider: &str, now: Duration) -> Mood {
        let phase = (now.as_millis() / PHASE.as_millis()) as usize;
        let moods = self.0.get(provider).expect("a provider of the schedule");
        moods.get(phase).copied().unwrap_or(Mood::Well)
    }
}
