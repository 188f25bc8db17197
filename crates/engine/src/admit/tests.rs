//! Who is let in, and who is not.

use super::*;
use polygate_core::Secret;

use crate::config::{RateLimit, Team as TeamConfig};
use crate::pattern::Pattern;

fn ring(keys: Option<Vec<config::Key>>) -> KeyRing {
    let access = Access {
        keys,
        ..Access::default()
    };
    KeyRing::new(&access, None)
}

fn key(limit: Option<(u32, u32)>, models: &[&str]) -> config::Key {
    let bounds = config::Bounds {
        allowed_models: models
            .iter()
            .map(|model| Pattern::mapping(model).expect("valid"))
            .collect(),
        rate_limit: limit.map(|(requests_per_second, burst_size)| RateLimit {
            requests_per_second,
            burst_size,
        }),
        ..config::Bounds::default()
    };
    config::Key {
        bounds,
        ..config::Key::new("one", Secret::new("sk-1"))
    }
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn without_a_key_section_only_neighbours_are_served() {
    assert!(ring(None).authenticate(None, HERE, 0).is_ok());
    assert!(
        ring(None)
            .authenticate(Some("any"), "10.1.2.3".parse().expect("ip"), 0)
            .is_ok()
    );
    assert!(
        ring(None)
            .authenticate(None, "::ffff:192.168.1.1".parse().expect("ip"), 0)
            .is_ok()
    );
    let failure = ring(None)
        .authenticate(None, "8.8.8.8".parse().expect("ip"), 0)
        .expect_err("public");
    assert!(failure.message.contains("allow_anonymous: true"));
}

#[test]
fn an_empty_key_section_is_closed() {
    assert!(
        ring(Some(vec![]))
            .authenticate(Some("sk-1"), HERE, 0)
            .is_err()
    );
    let disabled = config::Key {
        enabled: false,
        ..key(None, &[])
    };
    assert!(
        ring(Some(vec![disabled]))
            .authenticate(Some("sk-1"), HERE, 0)
            .is_err()
    );
    assert!(
        ring(Some(vec![key(None, &[])]))
            .authenticate(Some("sk-1"), HERE, 0)
            .is_ok()
    );
    assert!(
        ring(Some(vec![key(None, &[])]))
            .authenticate(Some("sk-"), HERE, 0)
            .is_err()
    );
}

#[test]
fn models_are_allowed_by_name_wildcard_and_expression() {
    let caller = ring(Some(vec![key(None, &["gpt-4o", "claude-*", "o[13].*"])]))
        .authenticate(Some("sk-1"), HERE, 0)
        .expect("known");
    for (model, allowed) in [
        ("gpt-4o", true),
        ("gpt-4o-mini", false),
        ("claude-3", true),
        ("o3-mini", true),
        ("o2", false),
    ] {
        assert_eq!(
            caller.admit(model, Duration::ZERO).is_ok(),
            allowed,
            "{model}"
        );
    }
}

#[test]
fn a_limit_lets_in_its_burst_and_then_its_rate() {
    let caller = ring(Some(vec![key(Some((10, 5)), &[])]))
        .authenticate(Some("sk-1"), HERE, 0)
        .expect("known");
    let at = |millis| Duration::from_millis(millis);
    let admitted = |now, times: usize| {
        (0..times)
            .filter(|_| caller.admit("m", now).is_ok())
            .count()
    };
    assert_eq!(admitted(at(1000), 20), 5);
    assert_eq!(admitted(at(1099), 20), 0);
    assert_eq!(admitted(at(1100), 20), 1);
    assert_eq!(admitted(at(1500), 20), 4);
    let failure = caller.admit("m", at(1500)).expect_err("over");
    assert_eq!((failure.status, failure.retry_after), (429, Some(at(100))));
    assert_eq!(admitted(at(60_000), 20), 5);
}

#[test]
fn a_limit_is_exact_however_many_ask_at_once() {
    let caller = ring(Some(vec![key(Some((1, 100)), &[])]))
        .authenticate(Some("sk-1"), HERE, 0)
        .expect("known");
    let admitted: usize = std::thread::scope(|scope| {
        let run = || {
            (0..200)
                .filter(|_| caller.admit("m", Duration::from_secs(9)).is_ok())
                .count()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(0))
            .sum()
    });
    assert_eq!(admitted, 100);
}

#[test]
fn zero_requests_per_second_blocks() {
    let caller = ring(Some(vec![key(Some((0, 5)), &[])]))
        .authenticate(Some("sk-1"), HERE, 0)
        .expect("known");
    let failure = caller.admit("m", Duration::ZERO).expect_err("blocked");
    assert_eq!((failure.status, failure.retry_after), (429, None));
}

#[test]
fn a_key_is_good_until_it_expires_and_only_where_it_may_be_used() {
    let bound = config::Key {
        expires: Some(1_795_626_000),
        allowed_ips: vec!["10.0.0.0/8".parse().expect("a network")],
        ..key(None, &[])
    };
    let ring = ring(Some(vec![bound]));
    let ask = |peer: &str, now| ring.authenticate(Some("sk-1"), peer.parse().expect("ip"), now);
    assert!(ask("10.1.2.3", 1_795_625_999).is_ok());
    let expired = ask("10.1.2.3", 1_795_626_000).expect_err("expired");
    assert_eq!(expired.status, 401);
    assert!(
        expired.message.contains("2026-11-25T17:00:00Z"),
        "{expired}"
    );
    let elsewhere = ask("11.1.2.3", 0).expect_err("elsewhere");
    assert_eq!(elsewhere.status, 403);
    assert!(elsewhere.message.contains("11.1.2.3"), "{elsewhere}");
}

#[test]
fn a_replaced_key_is_good_until_its_end() {
    let old = key(None, &[]);
    let pepper = [7; 32];
    let empty = KeyRing::of(&pepper, Arc::default());
    let replaced = config::Key {
        previous: Some(config::Previous {
            hash: keyed_hash(&empty.pepper, "sk-0"),
            until: 100,
        }),
        ..old
    };
    let access = Access {
        keys: Some(vec![replaced]),
        ..Access::default()
    };
    let ring = KeyRing::new(&access, Some(&empty));
    for (shown, now, is_good) in [
        ("sk-0", 99, true),
        ("sk-0", 100, false),
        ("sk-1", 100, true),
    ] {
        let caller = ring.authenticate(Some(shown), HERE, now);
        assert_eq!(caller.is_ok(), is_good, "{shown} {now}");
    }
}

#[test]
fn what_bounds_a_team_bounds_all_its_keys_together() {
    let member = |secret: &str, team: &str| config::Key {
        team: Some(team.to_owned()),
        ..config::Key::new(secret, Secret::new(secret))
    };
    let team = |name: &str, enabled| TeamConfig {
        name: name.to_owned(),
        enabled,
        bounds: config::Bounds {
            allowed_models: vec![Pattern::mapping("m").expect("valid")],
            rate_limit: Some(RateLimit {
                requests_per_second: 1,
                burst_size: 2,
            }),
            max_concurrent: Some(1),
            limits: vec![],
        },
        metadata: Default::default(),
        tags: vec![],
    };
    let access = Access {
        keys: Some(vec![
            member("a", "ops"),
            member("b", "ops"),
            member("c", "nobody"),
            member("d", "off"),
        ]),
        teams: vec![team("ops", true), team("off", false)],
        ..Access::default()
    };
    let ring = KeyRing::new(&access, None);
    let ask = |shown| ring.authenticate(Some(shown), HERE, 0);
    let (a, b) = (ask("a").expect("known"), ask("b").expect("known"));
    assert!(a.may_use("m") && !a.may_use("n") && a.has_model_list());
    let now = Duration::from_secs(9);
    assert_eq!(a.admit("n", now).expect_err("not theirs").status, 403);
    let held = a.admit("m", now).expect("the first");
    assert!(b.admit("m", now).is_err(), "one at a time");
    drop(held);
    drop(b.admit("m", now).expect("the second"));
    let failure = a.admit("m", now).expect_err("the third");
    assert!(failure.message.contains("team 'ops'"), "{failure}");
    assert_eq!(ask("c").expect_err("no such team").status, 403);
    assert!(ask("d").is_err_and(|failure| failure.message.contains("disabled")));

    let again = KeyRing::new(&access, Some(&ring));
    let caller = again.authenticate(Some("b"), HERE, 0).expect("known");
    assert!(
        caller.admit("m", now).is_err(),
        "its state outlives reloads"
    );
}

#[test]
fn what_a_team_refuses_is_not_counted_for_the_key() {
    let rate = |requests_per_second, burst_size| config::Bounds {
        rate_limit: Some(RateLimit {
            requests_per_second,
            burst_size,
        }),
        ..config::Bounds::default()
    };
    let member = config::Key {
        team: Some("ops".to_owned()),
        bounds: rate(10, 3),
        ..key(None, &[])
    };
    let team = TeamConfig {
        name: "ops".to_owned(),
        enabled: true,
        bounds: rate(1, 1),
        metadata: Default::default(),
        tags: vec![],
    };
    let access = Access {
        keys: Some(vec![member]),
        teams: vec![team],
        ..Access::default()
    };
    let ring = KeyRing::new(&access, None);
    let caller = ring.authenticate(Some("sk-1"), HERE, 0).expect("known");
    let at = |seconds| Duration::from_secs(seconds);
    assert!(caller.admit("m", at(9)).is_ok());
    for _ in 0..20 {
        let failure = caller.admit("m", at(9)).expect_err("over");
        assert!(failure.message.contains("team 'ops'"), "{failure}");
    }
}
