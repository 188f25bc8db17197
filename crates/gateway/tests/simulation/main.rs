//! Thousands of outages that never were: calls through the real engine over simulated time, to providers that fail by a schedule
//! drawn from a seed. What must hold whatever happens is checked at every attempt.

mod schedule;
mod world;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use polygate::config::env::Environment;
use polygate::config::{Flags, load};
use polygate_core::Clock;
use polygate_core::clock::micros;
use polygate_engine::admit::Caller;
use polygate_engine::observe::{CallRecord, Metrics, Recorders};
use polygate_engine::{Config, Endpoint, Engine, Inbound, InboundBody, chance};
use tokio::time::Instant;

use schedule::{Dice, LENGTH, Mood, Schedule};
use world::{Asking, Seen, World};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How many schedules a setting sees.
const SEEDS: u64 = 200;

/// Sessions that calls may belong to.
const SESSIONS: usize = 8;

/// The longest that a call may take: two attempts that hang, and what else is tried.
const LONGEST: Duration = Duration::from_secs(30);

/// What stays the same over many schedules.
pub struct Setting {
    /// What the gateway is told.
    pub config: Config,
    /// The most milliseconds that a quick answer takes.
    pub longest: u64,
    /// What each session prefers, best first: keys with their providers.
    pub homes: Vec<Vec<(Arc<str>, Arc<str>)>>,
}

/// Time by the runtime's paused clock.
struct Simulated(Instant);

impl Clock for Simulated {
    fn now(&self) -> Duration {
        // Nothing happens at zero, which means never.
        self.0.elapsed() + S
    }

    fn unix_micros(&self) -> i64 {
        micros(self.now())
    }
}

impl Setting {
    fn new(strategy: &str, more: &str) -> Self {
        Self::with_breakers(strategy, 5, more)
    }

    /// The same where a breaker opens after so many failures in a row.
    fn with_breakers(strategy: &str, threshold: u32, more: &str) -> Self {
        let text = format!(
            "
providers:
  - {{name: a, type: mock, api_base: 'http://127.0.0.1:9', api_keys: [a1-key, a2-key]}}
  - {{name: b, type: mock, api_base: 'http://127.0.0.1:9', api_keys: [b1-key, b2-key]}}
  - {{name: c, type: mock, api_base: 'http://127.0.0.1:9', api_keys: [c1-key, c2-key]}}
verify_ssl: false
routing: {{strategy: {strategy}, affinity: session}}
retry: {{initial_backoff: 100ms, max_backoff: 1s, max_wait: 2s, cooldown_error: 10s, cooldown_network: 10s, breaker_threshold: {threshold}}}
{more}
"
        );
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("config.yaml"), text).expect("written");
        let loaded = load(&Flags::default(), &Environment::of(&[]), directory.path());
        let loaded = loaded.map_err(|report| report.to_string());
        Self {
            config: loaded.expect("good").config,
            longest: 420,
            homes: vec![],
        }
    }

    /// The same where answers take much the same time, so that no session leaves for a quicker key.
    fn with_homes(mut self) -> Self {
        self.longest = 110;
        let setting = Arc::new(self);
        // Whoever is limited is left for the next best.
        let limited = Schedule::draw(|_| Mood::Limiting);
        let homes = (0..SESSIONS).map(|session| {
            let asking = Asking {
                session: Some(session),
                ..Asking::default()
            };
            let mut seen = simulated(&setting, &limited, 0, vec![(S, asking)]);
            let tries = seen.calls.remove(0).into_iter();
            tries.map(|one| (one.key, one.provider)).collect()
        });
        let homes: Vec<Vec<_>> = homes.collect();
        assert!(homes.iter().all(|order| order.len() == 6), "{homes:?}");
        let setting = Arc::into_inner(setting).expect("nobody else has it");
        Self { homes, ..setting }
    }
}

/// One schedule from its beginning to the end of the last call.
fn simulated(
    setting: &Arc<Setting>,
    schedule: &Schedule,
    seed: u64,
    calls: Vec<(Duration, Asking)>,
) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _seeded = chance::seed(seed);
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(Simulated(Instant::now()));
        let asking = calls.iter().map(|(_, asking)| *asking).collect();
        let world = World::new(setting, schedule, clock.clone(), asking, Dice(seed));
        let world = Arc::new(world);
        let metrics = Arc::new(Metrics::new());
        let (recorders, mut pump, _) = Recorders::new(metrics.clone());
        let engine = Engine::new(setting.config.clone(), clock, metrics, recorders);
        let engine = Arc::new(engine.expect("an engine").with(world.clone()));
        let start = Instant::now();
        let clients = calls.into_iter().enumerate().map(|(number, (at, asking))| {
            let (engine, world) = (engine.clone(), world.clone());
            tokio::spawn(async move {
                tokio::time::sleep_until(start + at).await;
                world.call();
                let call = call(&engine, number, asking);
                let patience = asking.patience.unwrap_or(LONGEST);
                let ended = tokio::time::timeout(patience, call).await;
                assert!(ended.is_ok() || asking.patience.is_some(), "{number} ends");
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no rule is broken");
        }
        let records = std::iter::from_fn(|| pump.take()).map(|record| CallRecord::clone(&record));
        world.recorded(&records.collect::<Vec<CallRecord>>());
        drop(engine);
        let world = Arc::into_inner(world).expect("nobody else has it");
        world.over()
    })
}

/// One call, to the end of its answer.
async fn call(engine: &Arc<Engine>, number: usize, asking: Asking) {
    let mut headers = HeaderMap::new();
    if let Some(session) = asking.session {
        headers.insert("x-session-id", session.into());
    }
    let body = format!(
        r#"{{"model":"gpt-5","stream":{},"messages":[]}}"#,
        asking.stream
    );
    let inbound = Inbound {
        endpoint: Endpoint::Chat,
        method: Method::POST,
        model_in_path: None,
        headers,
        body: InboundBody::Whole(Bytes::from(body)),
        request_id: number.to_string().into(),
        caller: Caller::default(),
    };
    if let Ok(reply) = engine.call(inbound).await.result {
        let _ = reply.body.collect().await;
    }
}

/// Who calls.
#[derive(Clone, Copy)]
struct Clients {
    calls: usize,
    /// Most calls belong to a session.
    has_sessions: bool,
    /// A tenth of them do not wait for the answer.
    may_leave: bool,
}

impl Clients {
    const RESTLESS: Clients = Clients {
        calls: 150,
        has_sessions: false,
        may_leave: true,
    };

    fn patient(calls: usize) -> Self {
        Clients {
            calls,
            may_leave: false,
            ..Self::RESTLESS
        }
    }

    /// Their calls, at times as if by chance.
    fn draw(self, dice: &mut Dice) -> Vec<(Duration, Asking)> {
        let pause = 2 * LENGTH.as_millis() as u64 / self.calls as u64;
        let mut at = S;
        let mut next = || {
            at += MS * dice.roll(pause) as u32;
            let is_of_session = self.has_sessions && !dice.one_in(4);
            let leaves = self.may_leave && dice.one_in(10);
            let asking = Asking {
                session: is_of_session.then(|| dice.roll(SESSIONS as u64) as usize),
                stream: dice.one_in(2),
                patience: leaves.then(|| MS * dice.roll(2000) as u32),
            };
            (at, asking)
        };
        (0..self.calls).map(|_| next()).collect()
    }
}

/// How many of a hundred calls may have a second attempt, and when that is made.
const HEDGES: [(usize, &str); 3] = [
    (100, "hedge: {after: 150ms, max_percent: 100}"),
    (10, "hedge: {after: 300ms, max_percent: 10}"),
    (20, "hedge: {after: p95, max_percent: 20}"),
];

/// Schedules of any moods, one a seed; says how many second attempts there were in all.
fn whatever_fails(strategy: &str, hedge: &str) -> usize {
    let setting = Arc::new(Setting::new(strategy, hedge));
    let schedules = (0..SEEDS).map(|seed| {
        let mut dice = Dice(seed);
        let schedule = Schedule::draw(|_| dice.of(&Mood::ALL));
        let calls = Clients::RESTLESS.draw(&mut dice);
        let seen = simulated(&setting, &schedule, seed, calls);
        seen.hedges
    });
    schedules.sum()
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
        assert_eq!(whatever_fails(strategy, ""), 0);
    }
}

#[test]
fn whatever_fails_no_rule_is_broken_by_second_attempts() {
    for strategy in ["weighted", "fill-first", "lowest-latency"] {
        for (_, hedge) in HEDGES {
            let hedges = whatever_fails(strategy, hedge);
            assert!(hedges > 0, "{strategy}, {hedge}: nothing was seen");
        }
    }
}

#[test]
fn sessions_stay_where_they_are_while_that_is_well() {
    for strategy in ["weighted", "least-busy"] {
        for hedge in ["", "hedge: {after: 60ms, max_percent: 50}"] {
            let setting = Arc::new(Setting::new(strategy, hedge).with_homes());
            let (mut at_home, mut away) = (0, 0);
            for seed in 0..SEEDS {
                let mut dice = Dice(seed);
                let schedule = Schedule::draw(|_| match dice.roll(5) {
                    0 => Mood::Limiting,
                    1 => dice.of(&Mood::ALL),
                    _ => Mood::Well,
                });
                let clients = Clients {
                    has_sessions: true,
                    ..Clients::RESTLESS
                };
                let seen = simulated(&setting, &schedule, seed, clients.draw(&mut dice));
                at_home += seen.at_home;
                away += seen.away;
            }
            assert!(at_home > 10_000 && away > 5_000, "{at_home}, {away}");
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
        Mood::Slow,
    ];
    let hedges = ["", "hedge: {after: 150ms, max_percent: 100}"];
    for strategy in ["weighted", "fill-first", "lowest-latency"] {
        for hedge in hedges {
            let setting = Arc::new(Setting::new(strategy, hedge));
            for seed in 0..SEEDS {
                let mut dice = Dice(seed);
                let schedule = Schedule::draw(|name| match name {
                    "b" => Mood::Well,
                    _ => dice.of(&moods),
                });
                let calls = Clients::patient(150).draw(&mut dice);
                let seen = simulated(&setting, &schedule, seed, calls);
                assert_eq!(
                    seen.answered, seen.begun,
                    "{strategy}, {hedge}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn when_everything_is_down_retries_do_not_make_it_worse() {
    for (percent, hedge) in [(0, "")].into_iter().chain(HEDGES) {
        let setting = Arc::new(Setting::new("weighted", hedge));
        for mood in [Mood::Erring, Mood::Gone, Mood::Hanging] {
            let schedule = Schedule::draw(|_| mood);
            for calls in [100, 1000, 10_000] {
                let calls = Clients::patient(calls).draw(&mut Dice(0));
                let seen = simulated(&setting, &schedule, 0, calls);
                assert!(
                    seen.asked * 100 <= seen.begun * (120 + percent),
                    "{mood:?}, {hedge}: {} upstream calls for {} calls",
                    seen.asked,
                    seen.begun
                );
            }
        }
    }
}

/// Breakers that never open leave it to the budgets: a fifth of the calls, and of each provider ten and one a second.
#[test]
fn retries_that_fail_are_paid_for() {
    for hedge in ["", "hedge: {after: 150ms, max_percent: 100}"] {
        let setting = Arc::new(Setting::with_breakers("weighted", 1_000_000, hedge));
        for seed in 0..8 {
            let mut dice = Dice(seed);
            let schedule = Schedule::draw(|_| dice.of(&[Mood::Erring, Mood::Gone, Mood::Moody]));
            let calls = Clients::patient(3000).draw(&mut dice);
            let seen = simulated(&setting, &schedule, seed, calls);
            let seconds = LENGTH.as_secs() as usize + 10;
            let most = seen.begun / 5 + 3 * (10 + seconds) + seen.most_in_flight;
            assert!(
                seen.retries_failed <= most,
                "{hedge}, seed {seed}: {} retries failed of {} calls",
                seen.retries_failed,
                seen.begun
            );
        }
    }
}

/// What went wrong once goes wrong again, by its seed.
#[test]
fn a_seed_tells_the_same_story_twice() {
    let setting = Arc::new(Setting::new("lowest-latency", HEDGES[0].1));
    let story = |seed| {
        let mut dice = Dice(seed);
        let schedule = Schedule::draw(|_| dice.of(&Mood::ALL));
        let calls = Clients::RESTLESS.draw(&mut dice);
        format!("{:?}", simulated(&setting, &schedule, seed, calls).calls)
    };
    for seed in 0..20 {
        assert!(story(seed) == story(seed), "seed {seed}");
    }
    assert!(story(0) != story(1));
}
