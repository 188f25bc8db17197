//! Choices among routes, of calls that were read.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::admit::Caller;
use crate::call::{Endpoint, Inbound, InboundBody};
use crate::condition::Condition;
use crate::config::{Config, Fallbacks, Model, Shadow};
use crate::health::HealthBook;
use crate::status::tests::config;

const CALLS: u64 = 10_000;

fn to(model: &str) -> ModelRoute {
    ModelRoute {
        when: Condition::default(),
        percent: None,
        model: model.to_owned(),
    }
}

fn part(percent: f64, model: &str) -> ModelRoute {
    ModelRoute {
        percent: Percent::of(percent),
        ..to(model)
    }
}

fn streams(model: &str) -> ModelRoute {
    ModelRoute {
        when: Condition {
            stream: Some(true),
            ..Condition::default()
        },
        ..to(model)
    }
}

fn model(name: &str, routes: Vec<ModelRoute>) -> Model {
    Model {
        routes,
        ..Model::named(name)
    }
}

/// Providers that have `m` and `big`, a model `best`, and these.
fn snapshot(models: Vec<Model>) -> Snapshot {
    let mut config: Config = config();
    config.models.extend(models);
    Snapshot::compile(config, &HealthBook::default(), None).expect("it compiles")
}

fn call(snapshot: &Snapshot, body: &str, session: Option<u64>) -> Call {
    let mut headers = HeaderMap::new();
    if let Some(session) = session {
        headers.insert("x-session-id", HeaderValue::from(session));
    }
    let inbound = Inbound {
        endpoint: Endpoint::Chat,
        method: Method::POST,
        model_in_path: None,
        headers,
        body: InboundBody::Whole(Bytes::from(body.to_owned())),
        request_id: "r".into(),
        caller: Caller::default(),
    };
    Call::read(snapshot, inbound).expect("a call").0
}

/// The model that a call of this one is asked of.
fn asked(snapshot: &Snapshot, body: &str, session: Option<u64>) -> String {
    let call = call(snapshot, body, session);
    let route = route(snapshot, &call, &call.model).expect("a route");
    let chain = route.choices.chain(&call.model);
    chain.last().expect("a model").to_string()
}

/// How many of ten thousand calls each model gets.
fn shares(snapshot: &Snapshot, has_sessions: bool) -> BTreeMap<String, u64> {
    let mut shares = BTreeMap::new();
    for number in 0..CALLS {
        let session = has_sessions.then_some(number);
        let model = asked(snapshot, r#"{"model":"virtual"}"#, session);
        *shares.entry(model).or_default() += 1;
    }
    shares
}

#[test]
fn the_first_that_fits_is_taken_and_routes_lead_through_routes() {
    let snapshot = snapshot(vec![
        model("alias", vec![to("virtual")]),
        model("virtual", vec![streams("fast"), to("m")]),
        model("fast", vec![to("best")]),
    ]);
    for (body, chain) in [
        (r#"{"model":"alias"}"#, ["alias", "virtual", "m"].as_slice()),
        (
            r#"{"model":"alias","stream":true}"#,
            &["alias", "virtual", "fast", "best"],
        ),
    ] {
        let call = call(&snapshot, body, None);
        let route = route(&snapshot, &call, &call.model).expect("a route");
        assert_eq!(route.choices.chain(&call.model), chain);
        assert_eq!(&*route.label, "alias", "it is called as it was asked for");
        let names: Vec<_> = route
            .candidates()
            .map(|one| one.model.to_string())
            .collect();
        let expected: &[&str] = match chain.last() {
            Some(&"m") => &["m-at-a", "m-at-a", "m-at-b", "m-at-b"],
            _ => &["big", "big"],
        };
        assert_eq!(names, expected);
    }
}

#[test]
fn shares_are_exact_over_many_and_each_route_draws_by_itself() {
    let routes = vec![part(10.0, "big"), part(50.0, "best"), to("m")];
    let snapshot = snapshot(vec![model("virtual", routes)]);
    for has_sessions in [true, false] {
        let _seeded = chance::seed(7);
        let shares = shares(&snapshot, has_sessions);
        for (model, share) in [("big", 1000), ("best", 4500), ("m", 4500)] {
            let got = shares.get(model).copied().unwrap_or_default();
            assert!(got.abs_diff(share) < 150, "{model}: {got} {shares:?}");
        }
    }
}

#[test]
fn calls_of_one_session_or_end_user_go_one_way_and_stay_when_there_are_more() {
    let of = |percent| {
        let routes = vec![part(percent, "big"), to("m")];
        snapshot(vec![model("virtual", routes)])
    };
    let (ten, twenty) = (of(10.0), of(20.0));
    for session in 0..200 {
        let ask = |snapshot: &Snapshot| asked(snapshot, r#"{"model":"virtual"}"#, Some(session));
        let first = ask(&ten);
        assert!((0..5).all(|_| ask(&ten) == first));
        if first == "big" {
            assert_eq!(ask(&twenty), "big");
        }
    }
    let of_user = |user: u64| {
        let body = format!(r#"{{"model":"virtual","safety_identifier":"u-{user}"}}"#);
        let ways: Vec<_> = (0..20).map(|_| asked(&ten, &body, None)).collect();
        ways.windows(2).all(|pair| pair[0] == pair[1])
    };
    assert!((0..50).all(of_user));
}

#[test]
fn what_no_route_takes_goes_to_the_models_own_targets() {
    let mut own = config().models.remove(0);
    own.name = "virtual".to_owned();
    own.routes = vec![streams("m")];
    let snapshot = snapshot(vec![own]);
    let call = call(&snapshot, r#"{"model":"virtual"}"#, None);
    let route = route(&snapshot, &call, "virtual").expect("a route");
    let taken = route.choices.taken("virtual");
    assert_eq!((taken[0].route, taken[0].to.as_deref()), (None, None));
    assert!(route.candidates().all(|one| &*one.model == "big"));
}

#[test]
fn fallbacks_are_those_of_the_model_that_is_asked_and_then_those_of_who_led_to_it() {
    let any = |names: &[&str]| Fallbacks {
        any: names.iter().map(ToString::to_string).collect(),
        ..Fallbacks::default()
    };
    let mut best = config().models.remove(0);
    best.name = "inner".to_owned();
    best.fallbacks = any(&["m"]);
    let outer = Model {
        fallbacks: any(&["other"]),
        ..model("outer", vec![to("inner")])
    };
    // A fallback with routes is decided for the call too.
    let other = model("other", vec![streams("m"), to("big")]);
    let snapshot = snapshot(vec![best, outer, other]);
    let names = |body: &str| {
        let call = call(&snapshot, body, None);
        let route = route(&snapshot, &call, "outer").expect("a route");
        let mut names: Vec<_> = route
            .candidates()
            .map(|one| one.model.to_string())
            .collect();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(names(r#"{"model":"outer"}"#), "big m-at-a m-at-b big");
    let streaming = r#"{"model":"outer","stream":true}"#;
    assert_eq!(names(streaming), "big m-at-a m-at-b m-at-a m-at-b");
}

#[test]
fn settings_of_the_asked_model_come_first_and_limits_are_those_of_all() {
    let most = |most: usize, strict: bool, name: &str, routes| Model {
        max_concurrent: Some(most),
        strict,
        ..model(name, routes)
    };
    let mut inner = config().models.remove(0);
    inner.name = "inner".to_owned();
    inner.max_concurrent = Some(1);
    inner.shadow = Some(Shadow {
        model: "m".to_owned(),
        percent: Percent::ALL,
        max_concurrent: 3,
    });
    let snapshot = snapshot(vec![inner, most(2, true, "outer", vec![to("inner")])]);
    let call = call(&snapshot, r#"{"model":"outer"}"#, None);
    let route = route(&snapshot, &call, "outer").expect("a route");
    let seats: Vec<_> = route.seats.iter().map(|limit| limit.most).collect();
    assert_eq!((seats, route.strict), (vec![2, 1], true));
    let shadow = route.shadow.as_ref().expect("the inner one's");
    assert_eq!((&*shadow.model, shadow.seats.most), ("m", 3));
}

#[test]
fn one_choice_is_one_route_and_nobodys_names_are_remembered_among_them() {
    let snapshot = snapshot(vec![model("virtual", vec![streams("m"), to("big")])]);
    let of = |body: &str| {
        let call = call(&snapshot, body, None);
        route(&snapshot, &call, &call.model)
    };
    let (one, other) = (of(r#"{"model":"virtual"}"#), of(r#"{"model":"virtual"}"#));
    assert!(
        one.zip(other)
            .is_some_and(|(one, other)| Arc::ptr_eq(&one, &other))
    );
    assert!(
        of(r#"{"model":"virtual:2."}"#).is_none(),
        "a name is no key of a choice"
    );
    let streaming = of(r#"{"model":"virtual","stream":true}"#).expect("a route");
    assert!(
        streaming
            .candidates()
            .all(|one| one.model.starts_with("m-at"))
    );
}

#[test]
fn circles_that_nobody_read_end() {
    let snapshot = snapshot(vec![
        model("virtual", vec![to("other")]),
        model("other", vec![to("virtual")]),
    ]);
    let call = call(&snapshot, r#"{"model":"virtual"}"#, None);
    assert!(route(&snapshot, &call, "virtual").is_none());
}

#[test]
fn explanations_say_what_became_of_each_route() {
    let routes = vec![streams("m"), part(0.0, "m"), to("big"), to("best")];
    let snapshot = snapshot(vec![model("virtual", routes)]);
    let call = call(&snapshot, r#"{"model":"virtual"}"#, None);
    let route = route(&snapshot, &call, "virtual").expect("a route");
    let looked = looked(&snapshot, &call, &route);
    let said: Vec<_> = looked
        .iter()
        .map(|one| (one.verdict, one.by_chance))
        .collect();
    let expected = [
        (Look::Condition, false),
        (Look::Percent, true),
        (Look::Taken, false),
        (Look::Behind, false),
    ];
    assert_eq!(said, expected);
    assert_eq!(looked[0].when, "stream true");
    let choice = &route.choices.taken("virtual")[0];
    assert_eq!(choice.to_string(), "virtual#3 -> big");
}
