//! Two engines that tell one another.

use polygate_core::{Clock, Failure, FixedClock, Kind};

use super::*;
use crate::plan::{Next, Plan};
use crate::route::Route;
use crate::status::tests::{config, engine_of};

const S: Duration = Duration::from_secs(1);

fn route(engine: &Engine, model: &str) -> Arc<Route> {
    engine.snapshot().route(model).expect("a route")
}

/// Fails the first candidate so often; what is told.
fn told(engine: &Engine, failure: &Failure, times: u32) -> Vec<Signal> {
    let mut signals = engine.signals().listen().expect("nobody listens yet");
    let route = route(engine, "best");
    let candidate = route.candidates().next().expect("a candidate");
    for _ in 0..times {
        let retry = &engine.snapshot().config.retry;
        candidate.failed(failure, retry, S);
    }
    std::iter::from_fn(|| signals.try_recv().ok()).collect()
}

fn limited() -> Failure {
    Failure::new(Kind::UpstreamRateLimited, "x").retry_after(Some(30 * S))
}

fn whom(engine: &Engine, clock: &FixedClock) -> Option<Arc<str>> {
    let snapshot = engine.snapshot();
    let route = route(engine, "best");
    let mut plan = Plan::new(&route, &snapshot.config.retry);
    match plan.next(clock.now()) {
        Next::Ask(pass) => Some(pass.candidate.credential.name.clone()),
        _ => None,
    }
}

#[test]
fn what_one_engine_learns_another_heeds() {
    let ((one, _), (other, clock)) = (engine_of(config()), engine_of(config()));
    let signals = told(&one, &limited(), 3);
    let [signal] = signals.as_slice() else {
        panic!("told once, not {signals:?}");
    };
    assert_eq!(signal.credential.as_deref(), Some("b-one"));
    assert_eq!((signal.reason, signal.wait), (Reason::Limit, 30 * S));
    assert!(other.learn(7, signal));
    for _ in 0..4 {
        assert_eq!(whom(&other, &clock).as_deref(), Some("b-two"));
    }
    // No longer than told, and no longer than is configured.
    clock.advance(30 * S);
    let asked: Vec<_> = (0..2).filter_map(|_| whom(&other, &clock)).collect();
    assert!(asked.iter().any(|name| &**name == "b-one"), "{asked:?}");
    let for_ever = Signal {
        wait: Duration::MAX,
        ..signal.clone()
    };
    assert!(other.learn(7, &for_ever));
    let most = other.snapshot().config.retry.max_cooldown;
    let route = route(&other, "best");
    let first = route.candidates().next().expect("a candidate");
    let rests = first.resting(clock.now()).map(|(_, wait)| wait);
    assert!(rests.is_some_and(|wait| wait <= most), "{rests:?}");
}

#[test]
fn names_that_are_not_here_mean_nothing() {
    let (engine, _) = engine_of(config());
    let signal = told(&engine_of(config()).0, &limited(), 1).remove(0);
    for other in [
        Signal {
            provider: "c".into(),
            ..signal.clone()
        },
        Signal {
            credential: Some("b-three".into()),
            ..signal.clone()
        },
    ] {
        assert!(!engine.learn(7, &other), "{other:?}");
    }
    engine.signals().switch(false);
    assert!(
        !engine.learn(7, &signal),
        "nothing is heard where nothing is shared"
    );
    assert!(told(&engine, &limited(), 1).is_empty(), "or told");
}

#[test]
fn a_replica_that_reaches_nobody_stops_nobody_else() {
    let ((one, _), (other, clock)) = (engine_of(config()), engine_of(config()));
    let signals = told(&one, &Failure::new(Kind::Connect, "x"), 5);
    let [signal] = signals.as_slice() else {
        panic!("the breaker opened once, not {signals:?}");
    };
    assert_eq!((&signal.credential, &signal.model), (&None, &None));
    assert!(other.learn(7, signal));
    let route = route(&other, "m");
    for _ in 0..4 {
        let place = route.pick(clock.now(), &[], &[], &crate::route::Open::default(), None);
        let candidate = place
            .and_then(|place| route.candidate(place))
            .expect("a candidate");
        assert_eq!(
            &*candidate.upstream.name, "a",
            "where there is another, it is asked"
        );
    }
    assert!(
        whom(&other, &clock).is_some(),
        "where there is none, it is a hint"
    );
    // It works here, so it was not so.
    let best = self::route(&other, "best");
    let candidate = best.candidates().next().expect("a candidate");
    assert!(candidate.resting(clock.now()).is_some());
    candidate.succeeded(clock.now());
    assert!(candidate.resting(clock.now()).is_none());
}

#[test]
fn many_models_of_others_leave_room_for_the_own() {
    let (engine, _) = engine_of(config());
    let signal = |number: u32| Signal {
        provider: "a".into(),
        credential: None,
        model: Some(number.to_string().into()),
        reason: Reason::Model,
        wait: S,
    };
    let learnt = (0..2_000).filter(|number| engine.learn(7, &signal(*number)));
    assert_eq!(learnt.count(), 256);
}
