//! How far the gateway is on its way out. One for the process; every connection can ask it and wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

/// How far the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// Readiness fails; connections are still taken, but not kept.
    Unready,
    /// No connection is taken any more; what is in flight may finish.
    Closing,
    /// What is in flight ends now, with an error.
    Cut,
}

const PHASES: [Phase; 4] = [Phase::Serving, Phase::Unready, Phase::Closing, Phase::Cut];

/// The phase. Asking is one load.
#[derive(Clone, Debug)]
pub struct Life(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: AtomicU8,
    told: watch::Sender<Phase>,
}

impl Life {
    /// Serving.
    pub fn new() -> Self {
        Life(Arc::new(Inner {
            phase: AtomicU8::new(Phase::Serving as u8),
            told: watch::Sender::new(Phase::Serving),
        }))
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        let phase = usize::from(self.0.phase.load(Ordering::Relaxed));
        PHASES.get(phase).copied().unwrap_or(Phase::Cut)
    }

    /// Whether new work should come here.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Whether what is in flight must end.
    pub fn is_cut(&self) -> bool {
        self.phase() == Phase::Cut
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
        self.0.told.send_replace(phase);
    }

    /// Hears of what comes; held by everything that must be over before the process ends.
    pub(crate) fn follow(&self) -> watch::Receiver<Phase> {
        self.0.told.subscribe()
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.0.told.receiver_count()
    }

    /// Waits until nobody follows any more.
    pub(crate) async fn deserted(&self) {
        self.0.told.closed().await;
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}
