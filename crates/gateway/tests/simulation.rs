//! Thousands of outages that never were: calls over simulated time, against providers that fail by a schedule drawn from a seed.
//! What must hold whatever happens is checked at every step.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use polygate::config::env::Environment;
use polygate::config::{Flags, load};
use polygate_core::{Failure, Kind, Scope};
use polygate_engine::health::{HealthBook, Trial};
use polygate_engine::plan::{Next, Plan};
use polygate_engine::route::{Place, Route};
use polygate_engine::snapshot::Snapshot;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How long a schedule is, and its phases.
const PHASES: u64 = 6;
const PHASE: Duration = Duration::from_secs(20);

/// How many schedules a strategy sees.
const SEEDS: u64 = 200;

const PROVIDERS: [&str; 3] = ["a", "b", "c"];

/// Numbers as if by chance, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// How a provider is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Erring,
    Limiting,
    Gone,
    Hanging,
    Moody,
}

const MOODS: [Mood; 6] = [
    Mood::Well,
    Mood::Erring,
    Mood::Limiting,
    Mood::Gone,
    Mood::Hanging,
    Mood::Moody,
];

impl Mood {
    /// How long an attempt takes, and what comes of it.
    fn attempt(self, dice: &mut Dice) -> (Duration, Result<(), Failure>) {
        let quick = MS * (20 + dice.roll(400) as u32);
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
            Mood::Moody if dice.roll(2) == 0 => (quick, Ok(())),
            Mood::Moody => (quick, failed(Kind::UpstreamError)),
        }
    }
}

type Schedule = HashMap<&'static str, Vec<Mood>>;

enum Event {
    Begin(usize),
    Wake(usize),
    Done {
        call: usize,
        place: Place,
        result: Result<(), Failure>,
        trial: Option<Trial>,
    },
}

/// What was seen of one schedule.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    answered: u64,
    asked: u64,
    retries_failed: u64,
    most_in_flight: u64,
    in_flight: u64,
    trials: HashMap<String, i32>,
    limited: HashMap<String, Duration>,
    in_a_row: HashMap<String, u32>,
    shut: HashMap<String, Duration>,
}

struct Simulation<'a> {
    route: &'a Route,
    snapshot: &'a Snapshot,
    schedule: &'a Schedule,
    dice: Dice,
    plans: Vec<Option<Plan<'a>>>,
    tries: Vec<u32>,
    unclear: Vec<u32>,
    queue: BinaryHeap<Reverse<(Duration, usize)>>,
    events: Vec<Option<Event>>,
    seen: Seen,
}

impl<'a> Simulation<'a> {
    fn run(mut self, calls: usize) -> Seen {
        let mut at = S;
        for call in 0..calls {
            at += MS * self.dice.roll(2 * 120_000 / calls as u64) as u32;
            self.push(at, Event::Begin(call));
            self.plans.push(None);
            self.tries.push(0);
            self.unclear.push(0);
        }
        let mut steps = 0;
        while let Some(Reverse((now, at))) = self.queue.pop() {
            steps += 1;
            assert!(steps < calls * 60, "calls go on for ever");
            let Some(event) = self.events[at].take() else {
                continue;
            };
            self.event(event, now);
        }
        assert!(self.plans.iter().all(Option::is_none), "every call ends");
        assert_eq!(self.seen.in_flight, 0);
        self.seen
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.events.push(Some(event));
        self.queue.push(Reverse((at, self.events.len() - 1)));
    }

    fn event(&mut self, event: Event, now: Duration) {
        match event {
            Event::Begin(call) => {
                self.seen.calls += 1;
                let plan = Plan::new(self.route, &self.snapshot.config.retry);
                self.plans[call] = Some(plan);
                self.go_on(call, now);
            }
            Event::Wake(call) => self.go_on(call, now),
            Event::Done {
                call,
                place,
                result,
                trial,
            } => self.done(call, place, result, trial, now),
        }
    }

    fn go_on(&mut self, call: usize, now: Duration) {
        let plan = self.plans[call].as_mut().expect("a call that goes on");
        match plan.next(now) {
            Next::Wait(wait) => self.push(now + wait.max(MS), Event::Wake(call)),
            Next::GiveUp(_) => self.plans[call] = None,
            Next::Ask(place, pass) => self.ask(call, place, pass.trial, now),
        }
    }

    fn ask(&mut self, call: usize, place: Place, trial: Option<Trial>, now: Duration) {
        let candidate = self.route.candidate(place).expect("a place in the route");
        let (provider, key) = (&*candidate.upstream.name, &*candidate.credential.name);
        let seen = &mut self.seen;
        // Rests are told to the millisecond.
        let until = |known: &HashMap<String, Duration>, name: &str| {
            let until = known.get(name).copied().unwrap_or_default();
            until.saturating_sub(MS)
        };
        assert!(until(&seen.limited, key) <= now, "{key} is limited");
        assert!(until(&seen.shut, provider) <= now, "{provider} is shut");
        if trial.is_some() {
            let trials = seen.trials.entry(provider.to_owned()).or_default();
            *trials += 1;
            assert_eq!(*trials, 1, "one trial at a time");
        }
        seen.asked += 1;
        seen.in_flight += 1;
        seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
        self.tries[call] += 1;
        let moods = self.schedule.get(provider).expect("a schedule");
        let phase = (now.as_millis() / PHASE.as_millis()) as usize;
        let mood = moods.get(phase).copied().unwrap_or(Mood::Well);
        let (took, result) = mood.attempt(&mut self.dice);
        let done = Event::Done {
            call,
            place,
            result,
            trial,
        };
        self.push(now + took, done);
    }

    fn done(
        &mut self,
        call: usize,
        place: Place,
        result: Result<(), Failure>,
        trial: Option<Trial>,
        now: Duration,
    ) {
        let candidate = self.route.candidate(place).expect("a place in the route");
        let (provider, key) = (&*candidate.upstream.name, &*candidate.credential.name);
        self.seen.in_flight -= 1;
        let is_trial = trial.is_some();
        if is_trial {
            *self.seen.trials.entry(provider.to_owned()).or_default() -= 1;
        }
        let retry = &self.snapshot.config.retry;
        let Err(failure) = result else {
            candidate.resters().succeeded(now);
            self.seen.in_a_row.insert(provider.to_owned(), 0);
            self.seen.answered += 1;
            self.plans[call] = None;
            return;
        };
        let breaker = &candidate.upstream.health.breaker;
        let is_open = !is_trial && breaker.resting(now).is_some();
        candidate.resters().note(&failure, retry, now);
        drop(trial);
        self.seen.retries_failed += u64::from(self.tries[call] > 1);
        if let Some(wait) = failure.retry_after {
            let until = self.seen.limited.entry(key.to_owned()).or_default();
            *until = (*until).max(now + wait);
        }
        if failure.scope != Scope::Provider && is_trial {
            // It refuses, so it is there.
            self.seen.in_a_row.insert(provider.to_owned(), 0);
        }
        // Failures of calls that were under way when it opened count no more.
        if failure.scope == Scope::Provider && !is_open {
            let in_a_row = self.seen.in_a_row.entry(provider.to_owned()).or_default();
            *in_a_row += 1;
            if *in_a_row == retry.breaker_threshold {
                *in_a_row = 0;
                let rests = retry.cooldown_error.min(retry.cooldown_network);
                self.seen.shut.insert(provider.to_owned(), now + rests);
            }
        }
        self.unclear[call] += u32::from(failure.ambiguous);
        assert!(self.unclear[call] <= 2, "never paid a third time");
        let plan = self.plans[call].as_mut().expect("a call that goes on");
        match plan.failed(place, failure, now) {
            Ok(()) => self.go_on(call, now),
            Err(_) => self.plans[call] = None,
        }
    }
}

fn first(strategy: &str) -> Snapshot {
    let text = format!(
        "
providers:
  - {{name: a, type: openai, api_keys: [a1-key, a2-key]}}
  - {{name: b, type: openai, api_keys: [b1-key, b2-key]}}
  - {{name: c, type: openai, api_keys: [c1-key, c2-key]}}
routing: {{strategy: {strategy}}}
retry: {{initial_backoff: 100ms, max_backoff: 1s, max_wait: 2s, cooldown_error: 10s, cooldown_network: 10s, breaker_threshold: 5}}
"
    );
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("config.yaml"), text).expect("written");
    let loaded = load(&Flags::default(), &Environment::of(&[]), directory.path());
    let config = loaded
        .map_err(|report| report.to_string())
        .expect("good")
        .config;
    Snapshot::compile(config, &HealthBook::default(), None).expect("compiled")
}

/// The same configuration, of which nothing is known yet.
fn simulated(first: &Snapshot, schedule: &Schedule, seed: u64, calls: usize) -> Seen {
    let config = first.config.clone();
    let snapshot =
        Snapshot::compile(config, &HealthBook::default(), Some(first)).expect("compiled");
    let route = snapshot.route("gpt-5").expect("a route");
    let simulation = Simulation {
        route: &route,
        snapshot: &snapshot,
        schedule,
        dice: Dice(seed),
        plans: vec![],
        tries: vec![],
        unclear: vec![],
        queue: BinaryHeap::new(),
        events: vec![],
        seen: Seen::default(),
    };
    simulation.run(calls)
}

fn schedule(draw: &mut impl FnMut(&'static str) -> Mood) -> Schedule {
    let phases = |name| (0..=PHASES).map(|_| draw(name)).collect();
    PROVIDERS.into_iter().zip(PROVIDERS.map(phases)).collect()
}

#[test]
fn whatever_fails_no_rule_is_broken() {
    for strategy in [
        "weighted",
        "round-robin",
        "fill-first",
        "least-busy",
        "lowest-latency",
    ] {
        let first = first(strategy);
        for seed in 0..SEEDS {
            let mut dice = Dice(seed);
            let schedule = schedule(&mut |_| MOODS[dice.roll(6) as usize]);
            let seen = simulated(&first, &schedule, seed, 150);
            let seconds = 2 * PHASES * PHASE.as_secs();
            let most = seen.calls / 5 + 3 * (10 + seconds) + seen.most_in_flight;
            assert!(
                seen.retries_failed <= most,
                "{strategy}, seed {seed}: {} retries failed of {} calls",
                seen.retries_failed,
                seen.calls
            );
        }
    }
}

#[test]
fn while_one_provider_is_well_no_call_is_lost() {
    let moods = [
        Mood::Well,
        Mood::Erring,
        Mood::Limiting,
        Mood::Gone,
        Mood::Moody,
    ];
    for strategy in ["weighted", "fill-first", "lowest-latency"] {
        let first = first(strategy);
        for seed in 0..SEEDS {
            let mut dice = Dice(seed);
            let schedule = schedule(&mut |name| match name {
                "b" => Mood::Well,
                _ => moods[dice.roll(5) as usize],
            });
            let seen = simulated(&first, &schedule, seed, 150);
            assert_eq!(seen.answered, seen.calls, "{strategy}, seed {seed}");
        }
    }
}

#[test]
fn when_everything_is_down_retries_do_not_make_it_worse() {
    for (seed, mood) in [Mood::Erring, Mood::Gone, Mood::Hanging]
        .into_iter()
        .enumerate()
    {
        let first = first("weighted");
        let schedule = schedule(&mut |_| mood);
        for calls in [100, 1000, 10_000] {
            let seen = simulated(&first, &schedule, seed as u64, calls);
            assert!(
                seen.asked * 10 <= seen.calls * 12,
                "{mood:?}: {} upstream calls for {} calls",
                seen.asked,
                seen.calls
            );
        }
    }
}
