//! Seeing and resetting, on a snapshot of two providers.

use polygate_core::{FixedClock, Secret};

use super::*;
use crate::config::{Config, Mapping, Model, Provider, Retry, Target};
use crate::observe::metrics::{Format, Now, Standing};
use crate::observe::{Metrics, Recorders};
use crate::pattern::Pattern;

const S: Duration = Duration::from_secs(1);

fn provider(name: &str, models: &[(&str, &str)]) -> Provider {
    let mut provider = Provider::new(name, "openai-compatible");
    provider.api_base = Some("http://127.0.0.1:9".to_owned());
    provider.credentials = ["one", "two"]
        .map(|key| {
            let secret = Secret::new(format!("sk-{name}-{key}"));
            crate::config::Credential::new(format!("{name}-{key}"), secret)
        })
        .into();
    provider.models = models
        .iter()
        .map(|(said, there)| Mapping {
            pattern: Pattern::mapping(said).expect("a pattern"),
            target: Some((*there).to_owned()),
            price: None,
        })
        .collect();
    provider
}

/// Two providers of two keys each, and a model that names one of them.
pub(crate) fn config() -> Config {
    let target = Target {
        provider: "b".to_owned(),
        model: Some("big".to_owned()),
        weight: None,
        priority: None,
        price: None,
    };
    Config {
        providers: vec![
            provider("a", &[("m", "m-at-a")]),
            provider("b", &[("m", "m-at-b"), ("big", "big")]),
        ],
        models: vec![Model {
            name: "best".to_owned(),
            routes: vec![],
            strategy: None,
            affinity: None,
            targets: vec![target],
            fallbacks: crate::config::Fallbacks::default(),
            timeouts: crate::config::Deadlines::default(),
            max_concurrent: None,
            limits: vec![],
            hedge: None,
            continuation: None,
            strict: false,
            shadow: None,
        }],
        ..Config::default()
    }
}

/// An engine of it, at one second.
pub(crate) fn engine_of(config: Config) -> (Engine, Arc<FixedClock>) {
    let metrics = Arc::new(Metrics::new());
    let (recorders, _, _) = Recorders::new(metrics.clone());
    let clock = Arc::new(FixedClock::default());
    clock.advance(S);
    let engine = Engine::new(config, clock.clone(), metrics, recorders);
    (engine.expect("it compiles"), clock)
}

fn engine() -> Engine {
    engine_of(config()).0
}

/// Everything rests that can.
fn exhaust(engine: &Engine) {
    for name in ["m", "best"] {
        let route = engine.snapshot().route(name).expect("a route");
        for candidate in route.candidates() {
            let resters = candidate.resters();
            resters.credential.rest(Reason::Limit, S, Some(60 * S));
            resters.model.rest(Reason::Model, S, Some(15 * S));
        }
    }
    open(engine);
    for upstream in &engine.snapshot().upstreams {
        for _ in 0..50 {
            upstream.health.budget.charge(S);
        }
    }
}

/// Every breaker opens for ten seconds.
pub(crate) fn open(engine: &Engine) {
    for upstream in &engine.snapshot().upstreams {
        for _ in 0..5 {
            let retry = Retry::default();
            let breaker = &upstream.health.breaker;
            breaker.failed(Reason::Breaker, 10 * S, &retry, S);
        }
    }
}

fn which(provider: Option<&str>, credential: Option<&str>, model: Option<&str>) -> Which {
    Which {
        provider: provider.map(str::to_owned),
        credential: credential.map(str::to_owned),
        model: model.map(str::to_owned),
    }
}

/// What a reset ended, as text.
fn ended(engine: &Engine, which: &Which) -> Vec<String> {
    let ended = reset(engine, which).expect("the names are known");
    let text = |one: &Ended| {
        let part = one.credential.as_deref().or(one.model.as_deref());
        format!("{} {} {}", one.provider, part.unwrap_or("-"), one.reason)
    };
    ended.iter().map(text).collect()
}

#[tokio::test]
async fn what_rests_is_seen() {
    let engine = engine();
    let fresh = providers(&engine.snapshot(), S);
    assert!(fresh.iter().all(|one| one.is_up && one.calls == 0));
    exhaust(&engine);
    let all = providers(&engine.snapshot(), S);
    let [_, b] = all.as_slice() else {
        panic!("two providers: {all:?}");
    };
    assert!(!b.is_up);
    assert_eq!(b.breaker, Position::Open(Reason::Breaker, 10 * S));
    assert_eq!((b.trips, b.opened), (1, 1));
    assert!(b.retries.left < 0.0);
    assert_eq!(b.credentials.len(), 2);
    assert!(
        b.credentials
            .iter()
            .all(|key| key.rest == Some((Reason::Limit, 60 * S)))
    );
    let models: Vec<&str> = b.resting_models.iter().map(|(name, ..)| &**name).collect();
    assert_eq!(models, ["big", "m-at-b"]);
}

#[tokio::test]
async fn calls_under_way_are_those_of_all_keys_and_models() {
    let engine = engine();
    let route = engine.snapshot().route("m").expect("a route");
    let flights: Vec<_> = route
        .candidates()
        .map(|candidate| candidate.begin(None))
        .collect();
    let calls = |engine: &Engine| -> Vec<u32> {
        let all = providers(&engine.snapshot(), S);
        all.iter().map(|one| one.calls).collect()
    };
    assert_eq!(calls(&engine), [2, 2]);
    let snapshot = engine.snapshot();
    let key = &snapshot.upstreams[0].credentials[0];
    let models = models(key, S);
    assert_eq!(
        (models.len(), &*models[0].name, models[0].calls),
        (1, "m-at-a", 1)
    );
    drop(flights);
    assert_eq!(calls(&engine), [0, 0]);
}

#[tokio::test]
async fn a_reset_of_everything_ends_everything() {
    let engine = engine();
    exhaust(&engine);
    let ended = ended(&engine, &Which::default());
    assert_eq!(
        ended,
        [
            "a - breaker",
            "a a-one limit",
            "a a-two limit",
            "a m-at-a model",
            "b - breaker",
            "b b-one limit",
            "b b-two limit",
            "b big model",
            "b m-at-b model"
        ]
    );
    let all = providers(&engine.snapshot(), S);
    assert!(all.iter().all(|one| one.is_up && one.retries.left == 10.0));
    assert!(all.iter().all(|one| one.breaker == Position::Closed));
    assert!(all.iter().all(|one| one.resting_models.is_empty()));
    assert!(reset(&engine, &Which::default()).is_ok_and(|ended| ended.is_empty()));
}

#[tokio::test]
async fn what_is_named_is_reset_and_nothing_else() {
    for (which, expected) in [
        (
            which(Some("a"), None, None),
            &[
                "a - breaker",
                "a a-one limit",
                "a a-two limit",
                "a m-at-a model",
            ][..],
        ),
        (which(None, Some("b-two"), None), &["b b-two limit"]),
        (which(Some("b"), Some("b-one"), None), &["b b-one limit"]),
        (
            which(None, None, Some("m")),
            &["a m-at-a model", "b m-at-b model"],
        ),
        (which(Some("b"), None, Some("m-at-b")), &["b m-at-b model"]),
        (which(None, None, Some("best")), &["b big model"]),
        (
            which(None, Some("a-one"), Some("m")),
            &["a a-one limit", "a m-at-a model"],
        ),
    ] {
        let engine = engine();
        exhaust(&engine);
        assert_eq!(ended(&engine, &which), expected, "{which:?}");
        let left = ended(&engine, &Which::default());
        assert_eq!(left.len(), 9 - expected.len(), "{which:?}: {left:?}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_changes_nothing() {
    let engine = engine();
    exhaust(&engine);
    for (which, said) in [
        (which(Some("c"), None, None), "no provider 'c'"),
        (which(None, Some("c"), None), "no credential 'c'"),
        (which(Some("a"), Some("b-one"), None), "no credential"),
        (which(None, None, Some("c")), "no model 'c'"),
        (which(Some("a"), None, Some("big")), "no model 'big'"),
        (which(None, Some("a-one"), Some("big")), "no model 'big'"),
    ] {
        let refused = reset(&engine, &which).expect_err("nobody has it");
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(ended(&engine, &Which::default()).len(), 9);
}

#[tokio::test]
async fn metrics_have_the_state_of_now_and_no_provider_that_is_gone() {
    let engine = engine();
    exhaust(&engine);
    let render = |engine: &Engine| {
        let all = providers(&engine.snapshot(), S);
        let now = Now {
            providers: &all,
            ledger: None,
            limits: engine.limits(),
            standing: Standing::default(),
            micros: 0,
        };
        engine.metrics().render(&now, Format::Plain)
    };
    let text = [render(&engine), render(&engine)][1].clone();
    for line in [
        "polygate_provider_breaker_state{provider=\"a\",state=\"open\"} 1",
        "polygate_provider_breaker_state{provider=\"a\",state=\"closed\"} 0",
        "polygate_provider_breaker_state{provider=\"a\",state=\"half_open\"} 0",
        "polygate_provider_breaker_opened_total{provider=\"a\"} 1",
        "polygate_credential_resting{provider=\"b\",credential=\"b-two\"} 1",
        "polygate_provider_models_resting{provider=\"b\"} 2",
        "polygate_provider_retry_budget{provider=\"b\"} -40.0",
        "polygate_provider_calls{provider=\"b\"} 0",
        "llm_proxy_provider_health{provider=\"b\"} 0",
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line:?} in {text}"
        );
    }
    let mut config = engine.snapshot().config.clone();
    config.providers.truncate(1);
    config.models.clear();
    engine.apply(config).expect("it compiles");
    assert!(!render(&engine).contains("provider=\"b\""));
}
