//! What replicas tell one another: that something rests, and that it does no longer. Told in passing, never waited for; what is heard is
//! bounded by the own configuration, and only of things that it names.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::health::{Reason, Rest};
use crate::observe::SignalCounters;
use crate::route::Candidate;

/// How many wait to be told. Those that find no room are dropped: they are hints.
const QUEUE: usize = 256;

/// One thing's rest, by the names of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The provider.
    pub provider: Arc<str>,
    /// Its key, where that rests.
    pub credential: Option<Arc<str>>,
    /// Its model, where that rests.
    pub model: Option<Arc<str>>,
    /// Why.
    pub reason: Reason,
    /// How long still; nothing: no longer. Clocks differ, so this is no moment.
    pub wait: Duration,
}

/// Where signals go out.
#[derive(Debug, Default)]
pub struct Signals {
    out: OnceLock<mpsc::Sender<Signal>>,
    is_off: AtomicBool,
    counters: SignalCounters,
}

impl Signals {
    /// Counted here.
    pub fn counted(counters: SignalCounters) -> Self {
        Self {
            counters,
            ..Self::default()
        }
    }

    /// What is to be told, from now on; `None` where somebody has it already.
    pub fn listen(&self) -> Option<mpsc::Receiver<Signal>> {
        let (out, signals) = mpsc::channel(QUEUE);
        self.out.set(out).ok().map(|()| signals)
    }

    /// Whether anything is told and heard.
    pub fn switch(&self, on: bool) {
        self.is_off.store(!on, Ordering::Relaxed);
    }

    /// How many went which way.
    pub fn counters(&self) -> &SignalCounters {
        &self.counters
    }

    fn is_on(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    fn tell(&self, signal: impl FnOnce() -> Signal) {
        let Some(out) = self.out.get().filter(|_| self.is_on()) else {
            return;
        };
        match out.try_send(signal()) {
            Ok(()) => self.counters.told(),
            Err(_) => self.counters.dropped(),
        }
    }
}

/// What of a candidate may rest, with the part of a signal that names it.
type Part<'a> = (&'a Rest, Option<&'a Arc<str>>, Option<&'a Arc<str>>);

impl Candidate {
    /// Tells other replicas what rests here since a failure.
    pub(crate) fn tell_rests(&self, now: Duration) {
        for part in self.parts() {
            if let Some((reason, wait)) = part.0.news(now) {
                let signals = &self.upstream.signals;
                signals.tell(|| self.signal(part, reason, wait));
            }
        }
    }

    /// Tells other replicas what rests here no longer.
    pub(crate) fn tell_ends(&self, now: Duration) {
        for part in self.parts() {
            if part.0.is_over(now) {
                let signals = &self.upstream.signals;
                signals.tell(|| self.signal(part, Reason::Breaker, Duration::ZERO));
            }
        }
    }

    fn parts(&self) -> [Part<'_>; 3] {
        [
            (self.upstream.health.breaker.rest_cell(), None, None),
            (&self.credential.rest, Some(&self.credential.name), None),
            (self.model_rest(), None, Some(&self.model)),
        ]
    }

    fn signal(&self, (_, credential, model): Part<'_>, reason: Reason, wait: Duration) -> Signal {
        Signal {
            provider: self.upstream.name.clone(),
            credential: credential.cloned(),
            model: model.cloned(),
            reason,
            wait,
        }
    }
}

impl Engine {
    /// Rests by what another replica says, within what the own configuration allows; whether that meant something here.
    pub fn learn(&self, from: u64, signal: &Signal) -> bool {
        let (snapshot, now) = (self.snapshot(), self.clock().now());
        let signals = self.signals();
        let mut upstreams = snapshot.upstreams.iter();
        let upstream = upstreams.find(|one| signals.is_on() && one.name == signal.provider);
        let wait = signal.wait.min(snapshot.config.retry.max_cooldown);
        let learn = |rest: &Rest| rest.learn(from, signal.reason, now, wait);
        let learnt = upstream.and_then(|upstream| match (&signal.credential, &signal.model) {
            (Some(name), _) => {
                let mut keys = upstream.credentials.iter();
                keys.find(|key| key.name == *name)
                    .map(|key| learn(&key.rest))
            }
            (None, Some(model)) => upstream.model_rests.if_room(model).map(|rest| learn(&rest)),
            (None, None) => {
                learn(upstream.health.breaker.rest_cell());
                Some(())
            }
        });
        match learnt {
            Some(()) => signals.counters.heard(),
            None => signals.counters.ignored(),
        }
        learnt.is_some()
    }
}

#[cfg(test)]
mod tests;
