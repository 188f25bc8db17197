//! What keeps two calls apart that say the same: guards, routes and rules of payloads that are for one and not for the other; and what
//! guards make of answers that are kept. What explanations say of it.

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use super::{asks, config, seen};
use crate::support::{ADMIN_KEY, Gate, calls, chat, mock, until};

const ADDRESS: &str = "ann.lee@example.com";

/// Answers with this text.
fn says(mock: &Mock, text: &str) {
    mock.script(Rule {
        then: Behaviour {
            text: Some(text.to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
}

fn asking(text: &str, stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn what_guards_put_back_is_kept_for_nobody() {
    let mock = mock("p").await;
    let guards = "guards: [{name: personal, detect: [email], action: restore}]";
    let gate = Gate::start(&config(
        &mock,
        "{share: all, rules: [{coalesce: true}]}",
        guards,
    ));
    for stream in [false, true] {
        let body = asking(&format!("write to {ADDRESS}"), stream);
        for _ in 0..2 {
            assert_eq!(seen(&asks(&gate, &[], &body).await), "bypass");
        }
        let body = asking("write to nobody", stream);
        for expected in ["miss", "hit"] {
            assert_eq!(seen(&asks(&gate, &[], &body).await), expected);
        }
    }
    assert_eq!(calls(&mock).len(), 6);
}

#[tokio::test]
async fn answers_are_kept_as_guards_let_them_through_and_looked_through_again() {
    let mock = mock("p").await;
    let guards = "
guards:
  - {name: hides, when: {headers: {x-guard: hides}}, on: [answer], detect: [email], action: redact}
  - {name: tells, when: {headers: {x-guard: tells}}, on: [answer], detect: [email], action: flag}
  - {name: stops, when: {headers: {x-guard: stops}}, on: [answer], detect: [email], action: block}";
    let gate = Gate::start(&config(&mock, "{share: all, rules: [{}]}", guards));
    says(&mock, &format!("that is {ADDRESS}, surely"));
    for stream in [false, true] {
        let body = chat("m", stream);
        // Nobody's guard: it is kept as it is, and given to nobody with another.
        for expected in ["miss", "hit"] {
            let open = asks(&gate, &[], &body).await;
            assert_eq!(seen(&open), expected, "{stream}");
        }
        for expected in ["miss", "hit"] {
            let hidden = asks(&gate, &[("x-guard", "hides")], &body).await;
            assert_eq!(seen(&hidden), expected, "{stream}");
            assert!(!hidden.text().contains("example.com"), "{}", hidden.text());
        }
        for expected in ["miss", "hit"] {
            let told = asks(&gate, &[("x-guard", "tells")], &body).await;
            assert_eq!(seen(&told), expected, "{stream}");
            if expected == "hit" {
                assert_eq!(told.header("x-polygate-guards"), "tells", "{stream}");
            }
        }
        for _ in 0..2 {
            let stopped = asks(&gate, &[("x-guard", "stops")], &body).await;
            assert_eq!(
                seen(&stopped),
                "miss",
                "what is not let through is not kept"
            );
            assert!(
                stopped.text().contains("content_blocked"),
                "{}",
                stopped.text()
            );
        }
    }
}

#[tokio::test]
async fn who_is_led_elsewhere_or_sent_otherwise_asks_something_else() {
    let mock = mock("p").await;
    let more = "
models:
  led: {routes: [{when: {headers: {x-tier: gold}}, model: other}], targets: [{provider: p, model: m}]}
payload:
  override: [{when: {headers: {x-short: 'yes'}}, params: {temperature: 0}}]";
    let gate = Gate::start(&config(&mock, "{share: all, rules: [{}]}", more));
    let body = chat("led", false);
    let ways = [
        &[][..],
        &[("x-tier", "gold")],
        &[("x-short", "yes")],
        &[("x-tier", "gold"), ("x-short", "yes")],
    ];
    for headers in ways {
        assert_eq!(
            seen(&asks(&gate, headers, &body).await),
            "miss",
            "{headers:?}"
        );
    }
    for headers in ways {
        let reply = asks(&gate, headers, &body).await;
        let model = if headers.iter().any(|(name, _)| *name == "x-tier") {
            "other"
        } else {
            "m"
        };
        assert_eq!(
            (seen(&reply), reply.header("x-polygate-model")),
            ("hit", model)
        );
    }
    // A header that nothing goes by makes no other question.
    assert_eq!(seen(&asks(&gate, &[("x-other", "1")], &body).await), "hit");
}

#[tokio::test]
async fn a_hit_has_no_shadow_and_is_given_where_a_budget_is_spent() {
    let (mock, other) = (mock("p").await, mock("q").await);
    let more = "
models:
  shown: {targets: [{provider: p, model: m}], shadow: {model: tried}}
  tried: {targets: [{provider: q, model: tried}]}
master_keys: [{name: k, key: sk-k, limits: {tokens_per_day: 250}}]";
    let config = config(&mock, "{rules: [{}]}", more).replace(
        "cache:",
        &format!(
            "  - {{name: q, type: mock, api_base: '{}', api_key: k, model_mapping: [tried]}}\ncache:",
            other.url()
        ),
    );
    let gate = Gate::start(&config);
    let key = [("authorization", "Bearer sk-k")];
    mock.script(Rule {
        then: Behaviour {
            tokens: Some(150),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let mut body = chat("shown", false);
    body["max_tokens"] = 160.into();
    let first = asks(&gate, &key, &body).await;
    assert_eq!(seen(&first), "miss", "{}", first.text());
    until("the shadow", || calls(&other).len() == 1).await;
    for _ in 0..5 {
        assert_eq!(seen(&asks(&gate, &key, &body).await), "hit");
    }
    // The same of another call is too much.
    body["seed"] = 1.into();
    assert_eq!(asks(&gate, &key, &body).await.status, 429);
    assert_eq!((calls(&mock).len(), calls(&other).len()), (1, 1));
}

/// What an explanation says of the cache.
async fn explained(gate: &Gate, body: &Value) -> Value {
    let key = format!("Bearer {ADMIN_KEY}");
    let headers = [("authorization", &*key)];
    let path = "/admin/v1/explain";
    let reply = gate.ask(Method::POST, path, &headers, body.to_string());
    reply.await.json()["cache"].clone()
}

#[tokio::test]
async fn an_explanation_says_whether_there_is_an_answer() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "{share: all, rules: [{}]}", ""));
    let body = chat("m", false);
    assert_eq!(explained(&gate, &body).await["is_found"], false);
    asks(&gate, &[], &body).await;
    let found = explained(&gate, &body).await;
    assert_eq!(found["is_found"], true, "{found}");
    assert!(found["age_seconds"].is_u64(), "{found}");
}

#[tokio::test]
async fn an_explanation_names_the_rule_or_says_why_not() {
    let mock = mock("p").await;
    let rules =
        "{rules: [{when: {models: [other]}}, {when: {models: [m]}, ttl: 1m, coalesce: true}]}";
    let gate = Gate::start(&config(&mock, rules, ""));
    let expected = json!({"rule": 2, "when": "models m", "ttl_seconds": 60, "share": "key", "coalesce": true, "why_not": null, "is_found": false, "age_seconds": null});
    assert_eq!(explained(&gate, &chat("m", false)).await, expected);
    let mut body = chat("m", false);
    body["store"] = true.into();
    let why = explained(&gate, &body).await["why_not"].clone();
    assert!(
        why.as_str().is_some_and(|why| why.contains("keep")),
        "{why}"
    );
    assert!(calls(&mock).is_empty());
}
