//! Looks agree with what calls then do, whatever rests, is full or leads elsewhere; and change nothing.

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::*;
use crate::config::{Retry, Strategy};
use crate::engine::Engine;
use crate::plan::{Next, Plan};
use crate::quota::{Allowance, Measure, Period};
use crate::status::tests::{config, engine_of};

const S: Duration = Duration::from_secs(1);

/// How things stand with a model of four candidates.
#[derive(Clone, Debug)]
struct Drawn {
    strategy: Strategy,
    weights: Vec<u32>,
    /// Keys that rest.
    resting: Vec<bool>,
    /// The breaker of the first provider is open.
    is_open: bool,
    /// The second takes no more calls.
    is_full: bool,
    /// Nothing is left of what it may take in a day.
    is_spent: bool,
    /// Calls before.
    calls: usize,
    affinity: Option<u64>,
}

fn drawn() -> impl proptest::strategy::Strategy<Value = Drawn> {
    let strategy = prop::sample::select(vec![
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::FillFirst,
        Strategy::LeastBusy,
        Strategy::Cheapest,
    ]);
    let weights = prop::collection::vec(1_u32..6, 4);
    let resting = prop::collection::vec(prop::bool::weighted(0.3), 4);
    let affinity = prop::option::of(any::<u64>());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0_usize..9);
    (strategy, weights, resting, affinity, flags).prop_map(
        |(strategy, weights, resting, affinity, (is_open, is_full, is_spent, calls))| Drawn {
            strategy,
            weights,
            resting,
            is_open,
            is_full,
            is_spent,
            calls,
            affinity,
        },
    )
}

fn played(drawn: &Drawn) -> Engine {
    let mut config = config();
    config.routing.strategy = drawn.strategy;
    let keys = config.providers.iter_mut();
    let keys = keys.flat_map(|provider| provider.credentials.iter_mut());
    for (key, weight) in keys.zip(&drawn.weights) {
        key.weight = *weight;
    }
    config.providers[1].max_concurrent = Some(if drawn.is_full { 1 } else { 100 });
    config.providers[1].limits = vec![Allowance {
        measure: Measure::Requests,
        period: Period::Day,
        most: if drawn.is_spent { 0 } else { 100 },
    }];
    let (engine, _) = engine_of(config);
    let snapshot = engine.snapshot();
    let route = snapshot.route("m").expect("a route");
    for _ in 0..drawn.calls {
        let picked = route.pick(S, &[], &[], &Open::default(), None);
        assert!(picked.is_some());
    }
    let keys = snapshot.upstreams.iter().flat_map(|one| &one.credentials);
    for (key, _) in keys.zip(&drawn.resting).filter(|(_, rests)| **rests) {
        key.rest.rest(Reason::Limit, S, Some(60 * S));
    }
    if drawn.is_open {
        let breaker = &snapshot.upstreams[0].health.breaker;
        breaker.rest(Reason::Breaker, S, 10 * S);
    }
    engine
}

fn looking(key: Option<u64>) -> Looking {
    Looking {
        key,
        ..Looking::default()
    }
}

/// Everything that a look could have moved, as far as it can be seen.
fn shown(route: &Route, key: Option<u64>) -> String {
    format!("{:?}\n{:?}", route.steps, route.look(S, looking(key)))
}

proptest! {
    #[test]
    fn the_next_call_asks_whom_a_look_shows_and_nobody_that_it_leaves_out(drawn in drawn()) {
        let engine = played(&drawn);
        let snapshot = engine.snapshot();
        let upstream = &snapshot.upstreams[1];
        let _seat = drawn.is_full.then(|| upstream.health.seats.take(1));
        let route = snapshot.route("m").expect("a route");
        let before = shown(&route, drawn.affinity);
        for _ in 0..3 {
            prop_assert_eq!(&shown(&route, drawn.affinity), &before);
        }
        let seen = route.look(S, looking(drawn.affinity));
        prop_assert_eq!(seen.len(), route.len());
        let asked: Vec<Place> = seen
            .iter()
            .filter(|one| one.verdict.is_asked())
            .map(|one| one.place)
            .collect();
        for one in &seen {
            let rests = one.candidate.resting(S);
            let is_of_spent = one.candidate.upstream.name == upstream.name && drawn.is_spent;
            prop_assert!(!(is_of_spent && one.verdict.is_asked()), "{:?}", one);
            match one.verdict {
                Verdict::Resting(reason, wait) => prop_assert_eq!(rests, Some((reason, wait))),
                _ => prop_assert_eq!(rests, None),
            }
        }
        let retry = Retry { max_wait: Duration::ZERO, ..Retry::default() };
        let taking = looking(drawn.affinity).taking;
        let mut plan = Plan::new(&route, &retry).prefer(drawn.affinity).taking(taking);
        match plan.next(S) {
            Next::Ask(pass) => {
                let first = seen.first().map(|one| &one.verdict);
                if first == Some(&(Verdict::Asked { by_chance: false })) {
                    prop_assert_eq!(Some(&pass.place()), asked.first());
                }
                prop_assert!(asked.contains(&pass.place()), "{:?}", pass.candidate);
                while let Some(pass) = plan.beside(S) {
                    prop_assert!(asked.contains(&pass.place()), "{:?}", pass.candidate);
                }
            }
            other => prop_assert!(asked.is_empty(), "{other:?} but {seen:?}"),
        }
    }
}

#[test]
fn a_look_takes_no_turn() {
    let (engine, _) = engine_of(config());
    let route = engine.snapshot().route("m").expect("a route");
    let first = |route: &Route| route.look(S, Looking::default())[0].place;
    for _ in 0..5 {
        let foreseen = first(&route);
        assert_eq!(first(&route), foreseen);
        let taken = route.pick(S, &[], &[], &Open::default(), None);
        assert_eq!(taken, Some(foreseen));
        assert_ne!(first(&route), foreseen, "the turn is another's now");
    }
}

#[test]
fn what_chance_decides_is_said() {
    for (strategy, by_chance) in [(Strategy::Random, true), (Strategy::FillFirst, false)] {
        let mut config = config();
        config.routing.strategy = strategy;
        let (engine, _) = engine_of(config);
        let route = engine.snapshot().route("m").expect("a route");
        let verdict = route.look(S, Looking::default())[0].verdict.clone();
        assert_eq!(verdict, Verdict::Asked { by_chance });
    }
}

#[test]
fn who_rests_is_passed_over_as_far_as_it_may_have_been_its_turn() {
    for (strategy, expected) in [
        (Strategy::Weighted, vec!["a-one", "b-one"]),
        (Strategy::FillFirst, vec!["a-one"]),
    ] {
        let mut config = config();
        config.routing.strategy = strategy;
        let (engine, _) = engine_of(config);
        let snapshot = engine.snapshot();
        let route = snapshot.route("m").expect("a route");
        assert!(route.passed_over(S).is_empty());
        for upstream in &snapshot.upstreams {
            let key = &upstream.credentials[0];
            key.rest.rest(Reason::Limit, S, Some(60 * S));
        }
        let passed = route.passed_over(S);
        let names: Vec<&str> = passed.iter().map(|one| &*one.credential).collect();
        assert_eq!(names, expected, "{strategy:?}");
        assert!(passed.iter().all(|one| one.verdict == "limit"));
        assert_eq!(passed[0].rests_for_seconds, Some(60));
    }
}
