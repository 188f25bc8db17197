//! Whom a plan asks where our own limits are spent.

use polygate_core::{Clock, Kind};

use super::*;
use crate::config::{Config, Fallbacks};
use crate::quota::{Allowance, Measure, Period};
use crate::status::tests::{config, engine_of};

/// `best` is at provider `b` alone, of which so many calls may be asked; `m` is at `a` first.
fn limited(most: u64, fallbacks: Fallbacks) -> Config {
    let mut config = config();
    config.providers[1].limits = vec![Allowance {
        measure: Measure::Requests,
        period: Period::Total,
        most,
    }];
    config.models[0].fallbacks = fallbacks;
    config
}

/// Whom the plan of a call of `best` asks first, or what it is refused with.
fn first(config: Config) -> Result<String, Failure> {
    let (engine, clock) = engine_of(config);
    let snapshot = engine.snapshot();
    let route = snapshot.route("best").expect("a route");
    let mut plan = Plan::new(&route, &snapshot.config.retry);
    match plan.next(clock.now()) {
        Next::Ask(pass) => Ok(pass.candidate.model.to_string()),
        Next::GiveUp(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn quota() -> Fallbacks {
    Fallbacks {
        quota: vec!["m".to_owned()],
        ..Fallbacks::default()
    }
}

#[test]
fn a_spent_provider_opens_the_fallbacks_for_limits() {
    assert_eq!(first(limited(1, quota())).ok().as_deref(), Some("big"));
    assert_eq!(first(limited(0, quota())).ok().as_deref(), Some("m-at-a"));
}

#[test]
fn no_other_fallback_is_opened_by_it_and_the_refusal_names_the_limit() {
    let long = Fallbacks {
        context_length: vec!["m".to_owned()],
        ..Fallbacks::default()
    };
    let failure = first(limited(0, long)).expect_err("nobody is left");
    assert_eq!(failure.kind, Kind::AllLimited);
    assert!(failure.message.contains("'b'"), "{}", failure.message);
}
