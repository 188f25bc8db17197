//! The providers of a simulation: they answer by the schedule, and hold the engine to its rules at every attempt.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use polygate_core::{Clock, Failure, Scope};
use polygate_engine::attempt::{Answering, Attempt, Reply, StandIn};
use polygate_engine::body::ReplyBody;
use polygate_engine::config::{HedgeAfter, Retry};
use polygate_engine::observe::{AttemptRecord, CallRecord, Outcome as End};
use polygate_engine::route::Candidate;

use crate::Setting;
use crate::schedule::{Dice, Schedule};

const MS: Duration = Duration::from_millis(1);

/// What a call may have cost: its answer, and what failed or was given up after it was sent.
const PAID: usize = 2;

/// How many good answers of a key hedging by their percentile takes at least.
const KNOWN: usize = 20;

/// What records call an attempt whose client did not wait for it.
const GIVEN_UP: &str = "given_up";

/// A call as its client knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asking {
    pub session: Option<usize>,
    pub stream: bool,
    /// When the client goes, whatever has come.
    pub patience: Option<Duration>,
}

/// One attempt of a call as the provider knows it.
#[derive(Clone, Debug)]
pub struct Try {
    pub key: Arc<str>,
    pub provider: Arc<str>,
    started: Duration,
    ended: Option<Duration>,
    outcome: Outcome,
    made: Made,
    is_trial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Under way, or dropped.
    Open,
    Good,
    Failed(&'static str),
    /// Failed, and may have been paid.
    Unclear(&'static str),
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    First,
    Retry,
    Beside,
}

/// When a good answer came, and how long it took.
#[derive(Debug)]
struct Good {
    at: Duration,
    took: Duration,
}

/// What was seen of one schedule.
#[derive(Debug, Default)]
pub struct Seen {
    /// The tries of each call.
    pub calls: Vec<Vec<Try>>,
    /// How many calls have begun.
    pub begun: usize,
    pub asked: usize,
    pub answered: usize,
    pub hedges: usize,
    pub retries_failed: usize,
    pub most_in_flight: usize,
    /// First attempts of sessions at the key that they prefer most, and elsewhere.
    pub at_home: usize,
    pub away: usize,
    in_flight: HashMap<Arc<str>, usize>,
    /// Good answers of each key, streams for themselves.
    good: HashMap<(Arc<str>, bool), Vec<Good>>,
    trials: HashMap<Arc<str>, i32>,
    limited: HashMap<Arc<str>, Duration>,
    in_a_row: HashMap<Arc<str>, u32>,
    shut: HashMap<Arc<str>, Duration>,
    /// Providers that ever failed, or took long.
    unwell: HashSet<Arc<str>>,
}

/// The providers.
pub struct World {
    setting: Arc<Setting>,
    schedule: Schedule,
    clock: Arc<dyn Clock>,
    asking: Vec<Asking>,
    state: Mutex<State>,
}

/// What changes.
struct State {
    dice: Dice,
    seen: Seen,
}

/// An attempt under way.
struct Trying<'a> {
    world: &'a World,
    candidate: &'a Candidate,
    call: usize,
    at: usize,
}

impl StandIn for World {
    fn answer<'a>(&'a self, attempt: &'a Attempt<'a>) -> Answering<'a> {
        Box::pin(async move {
            let call = attempt.call.inbound.request_id.parse().expect("a number");
            let (trying, took, result) = self.begin(call, attempt.candidate);
            tokio::time::sleep(took).await;
            trying.end(result.as_ref().err());
            result.map(|()| Reply {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: ReplyBody::whole(Bytes::from_static(b"{}"), None),
                guarded: None,
                failure: None,
            })
        })
    }
}

impl World {
    pub fn new(
        setting: &Arc<Setting>,
        schedule: &Schedule,
        clock: Arc<dyn Clock>,
        asking: Vec<Asking>,
        dice: Dice,
    ) -> Self {
        let seen = Seen {
            calls: vec![vec![]; asking.len()],
            ..Seen::default()
        };
        Self {
            setting: setting.clone(),
            schedule: schedule.clone(),
            clock,
            asking,
            state: Mutex::new(State { dice, seen }),
        }
    }

    /// A call begins.
    pub fn call(&self) {
        self.state.lock().expect("no panic before").seen.begun += 1;
    }

    /// What was seen, when all is over.
    pub fn over(self) -> Seen {
        self.state.into_inner().expect("no panic before").seen
    }

    fn begin<'a>(
        &'a self,
        call: usize,
        candidate: &'a Candidate,
    ) -> (Trying<'a>, Duration, Result<(), Failure>) {
        let now = self.clock.now();
        let (provider, key) = (&candidate.upstream.name, &candidate.credential.name);
        let state = &mut *self.state.lock().expect("no panic before");
        let seen = &mut state.seen;
        seen.nobody_rests(provider, key, now);
        let is_trial = candidate.upstream.health.breaker.trips() > 0;
        if is_trial {
            let trials = seen.trials.entry(provider.clone()).or_default();
            *trials += 1;
            assert_eq!(*trials, 1, "one trial of {provider} at a time");
        }
        let made = self.made(seen, call, now);
        match made {
            Made::First => self.is_pinned(seen, call, key, now),
            Made::Beside => self.is_paid_for(seen, call, key, now),
            Made::Retry => {}
        }
        seen.asked += 1;
        *seen.in_flight.entry(key.clone()).or_default() += 1;
        seen.most_in_flight = seen.most_in_flight.max(seen.in_flight.values().sum());
        let tries = &mut seen.calls[call];
        tries.push(Try {
            key: key.clone(),
            provider: provider.clone(),
            started: now,
            ended: None,
            outcome: Outcome::Open,
            made,
            is_trial,
        });
        let trying = Trying {
            world: self,
            candidate,
            call,
            at: tries.len() - 1,
        };
        let mood = self.schedule.mood(provider, now);
        let (took, result) = mood.attempt(&mut state.dice, self.setting.longest);
        (trying, took, result)
    }

    /// Why this attempt is made, as far as a provider can tell.
    fn made(&self, seen: &Seen, call: usize, now: Duration) -> Made {
        let tries = &seen.calls[call];
        let paid = tries.iter().filter(|one| one.may_be_paid()).count();
        assert!(paid < PAID, "{call} may be paid a third time: {tries:?}");
        let mut under_way = tries.iter().filter(|one| one.ended.is_none());
        let first = under_way.next();
        assert!(under_way.next().is_none(), "{call} asks a third: {tries:?}");
        match first {
            Some(first) => {
                assert!(now > first.started, "{call} asks two at once");
                Made::Beside
            }
            None if tries.is_empty() => Made::First,
            None => Made::Retry,
        }
    }

    /// A session leaves those only that it prefers more which rest, were ever unwell, or have much to do.
    fn is_pinned(&self, seen: &mut Seen, call: usize, key: &Arc<str>, now: Duration) {
        let Some(session) = self.asking[call].session else {
            return;
        };
        let Some(homes) = self.setting.homes.get(session) else {
            return;
        };
        for (home, provider) in homes.iter().take_while(|(home, _)| home != key) {
            let rests = seen.limited.get(home).is_some_and(|until| *until >= now);
            let is_busy = seen.in_flight.get(home).is_some_and(|many| *many > 2);
            assert!(
                rests || is_busy || seen.unwell.contains(provider),
                "{call} of session {session} left {home} for {key}"
            );
        }
        let is_home = homes.first().is_some_and(|(home, _)| home == key);
        *(if is_home {
            &mut seen.at_home
        } else {
            &mut seen.away
        }) += 1;
    }

    /// Second attempts come when the configuration says, to others, and as many as it pays for.
    fn is_paid_for(&self, seen: &mut Seen, call: usize, key: &Arc<str>, now: Duration) {
        let hedge = self.setting.config.hedge.expect("hedges are on");
        let first = seen.calls[call].last().expect("a first one");
        assert_ne!(first.key, *key, "{call} has its second where its first is");
        match hedge.after {
            HedgeAfter::Time(after) => assert_eq!(now, first.started + after),
            HedgeAfter::P95 => {
                let asked = (first.key.clone(), self.asking[call].stream);
                let good = seen.good.get(&asked).expect("good answers are known");
                let before = good.iter().filter(|one| one.at <= first.started);
                let mut took: Vec<Duration> = before.map(|one| one.took).collect();
                took.sort_unstable();
                assert!(took.len() >= KNOWN, "{call} goes by {} answers", took.len());
                // Those that were given up count as well, as slow ones.
                let waited = now - first.started;
                let (least, most) = (took[took.len() * 95 / 100 - 1], took[took.len() - 1]);
                assert!(
                    waited >= least && waited <= most + most / 8 + MS,
                    "{call}: {waited:?}"
                );
            }
        }
        seen.hedges += 1;
        let begun = seen.begun;
        assert!(
            seen.hedges * 100 <= begun * hedge.max_percent as usize,
            "{} second attempts for {begun} calls",
            seen.hedges
        );
    }

    /// One record a call, and in it what the providers saw of it.
    pub fn recorded(&self, records: &[CallRecord]) {
        let state = self.state.lock().expect("no panic before");
        assert_eq!(records.len(), self.asking.len(), "one record a call");
        let mut numbers = HashSet::new();
        for record in records {
            let call: usize = record.request_id.parse().expect("a number");
            assert!(numbers.insert(call), "{call} is recorded twice");
            let tries = &state.seen.calls[call];
            let told: Vec<Told<'_>> = record.attempts.iter().map(Told::of_record).collect();
            let known: Vec<Told<'_>> = tries.iter().map(|one| one.told(tries)).collect();
            assert_eq!(told, known, "{call}: {record:?}");
            let is_good = tries.iter().any(|one| one.outcome == Outcome::Good);
            let end = match record.outcome {
                End::Completed => is_good,
                End::Failed => !is_good && known.iter().all(|one| one.outcome != GIVEN_UP),
                End::ClientGone => !is_good && self.asking[call].patience.is_some(),
            };
            assert!(end, "{call} ended otherwise: {record:?}");
        }
        assert!(state.seen.in_flight.values().all(|many| *many == 0));
    }
}

/// What a record says of an attempt.
#[derive(Debug, PartialEq)]
struct Told<'a> {
    key: &'a str,
    outcome: &'a str,
    started: Duration,
    took: Duration,
    is_ambiguous: bool,
}

impl<'a> Told<'a> {
    fn of_record(attempt: &'a AttemptRecord) -> Self {
        Told {
            key: &attempt.credential,
            outcome: attempt.outcome,
            started: attempt.started,
            took: attempt.duration,
            is_ambiguous: attempt.ambiguous,
        }
    }
}

impl Try {
    fn may_be_paid(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(_))
    }

    /// What the record should say of it, among the tries of its call.
    fn told(&self, tries: &[Try]) -> Told<'_> {
        let ended = self.ended.expect("every attempt ends");
        let won = |one: &Try| one.outcome == Outcome::Good && one.ended == Some(ended);
        Told {
            key: &self.key,
            outcome: match self.outcome {
                Outcome::Good => "ok",
                Outcome::Failed(kind) | Outcome::Unclear(kind) => kind,
                Outcome::Open if tries.iter().any(won) => "hedge_lost",
                Outcome::Open => GIVEN_UP,
            },
            started: self.started,
            took: ended - self.started,
            is_ambiguous: matches!(self.outcome, Outcome::Open | Outcome::Unclear(_)),
        }
    }
}

impl Trying<'_> {
    /// It came out. Dropped before, it was given up.
    fn end(self, failure: Option<&Failure>) {
        let now = self.world.clock.now();
        let seen = &mut self.world.state.lock().expect("no panic before").seen;
        let tried = &mut seen.calls[self.call][self.at];
        tried.outcome = match failure {
            None => Outcome::Good,
            Some(failure) if failure.ambiguous => Outcome::Unclear(failure.kind.name()),
            Some(failure) => Outcome::Failed(failure.kind.name()),
        };
        let tried = tried.clone();
        match failure {
            None => {
                seen.answered += 1;
                if now - tried.started > MS * self.world.setting.longest as u32 {
                    seen.unwell.insert(tried.provider.clone());
                }
                seen.in_a_row.insert(tried.provider, 0);
                let stream = self.world.asking[self.call].stream;
                let good = seen.good.entry((tried.key, stream)).or_default();
                good.push(Good {
                    at: now,
                    took: now - tried.started,
                });
            }
            Some(failure) => {
                let retry = &self.world.setting.config.retry;
                let breaker = &self.candidate.upstream.health.breaker;
                let is_open = !tried.is_trial && breaker.resting(now).is_some();
                seen.failure(&tried, failure, is_open, retry, now);
            }
        }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let now = self.world.clock.now();
        let Ok(mut state) = self.world.state.lock() else {
            return;
        };
        let seen = &mut state.seen;
        let tried = &mut seen.calls[self.call][self.at];
        tried.ended = Some(now);
        let tried = tried.clone();
        if tried.is_trial {
            *seen.trials.entry(tried.provider).or_default() -= 1;
        }
        *seen.in_flight.entry(tried.key).or_default() -= 1;
    }
}

impl Seen {
    fn nobody_rests(&self, provider: &str, key: &str, now: Duration) {
        // Rests are told to the millisecond.
        let until = |known: &HashMap<Arc<str>, Duration>, name: &str| {
            known
                .get(name)
                .copied()
                .unwrap_or_default()
                .saturating_sub(MS)
        };
        assert!(until(&self.limited, key) <= now, "{key} is limited");
        assert!(until(&self.shut, provider) <= now, "{provider} is shut");
    }

    /// What must rest after a failure, at the least.
    fn failure(
        &mut self,
        tried: &Try,
        failure: &Failure,
        is_open: bool,
        retry: &Retry,
        now: Duration,
    ) {
        self.retries_failed += usize::from(tried.made == Made::Retry);
        if let Some(wait) = failure.retry_after {
            let until = self.limited.entry(tried.key.clone()).or_default();
            *until = (*until).max(now + wait);
        }
        if failure.scope != Scope::Provider {
            if tried.is_trial {
                // It refuses, so it is there.
                self.in_a_row.insert(tried.provider.clone(), 0);
            }
            return;
        }
        self.unwell.insert(tried.provider.clone());
        // Failures of calls that were under way when it opened count no more.
        if !is_open {
            let in_a_row = self.in_a_row.entry(tried.provider.clone()).or_default();
            *in_a_row += 1;
            if *in_a_row == retry.breaker_threshold {
                *in_a_row = 0;
                let rests = retry.cooldown_error.min(retry.cooldown_network);
                self.shut.insert(tried.provider.clone(), now + rests);
            }
        }
    }
}
