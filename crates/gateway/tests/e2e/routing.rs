//! Which provider a model goes to, under which name, and in which shares.

use std::collections::BTreeMap;

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};

use crate::support::{Gate, calls, chat, mock};

async fn providers_of(gate: &Gate, model: &str, times: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..times {
        let reply = gate.post("/v1/chat/completions", &chat(model, false)).await;
        *seen
            .entry(format!(
                "{}/{}",
                reply.header("x-polygate-provider"),
                reply.header("x-polygate-model")
            ))
            .or_default() += 1;
    }
    seen
}

async fn goes_to(gate: &Gate, model: &str) -> String {
    providers_of(gate, model, 1)
        .await
        .into_keys()
        .next()
        .unwrap_or_default()
}

fn provider(name: &str, mock: &Mock, rest: &str) -> String {
    format!(
        "  - {{name: {name}, type: mock, api_base: '{}', api_key: k, {rest}}}\n",
        mock.url()
    )
}

#[tokio::test]
async fn weights_are_shares_and_the_order_is_smooth() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers:\n{}{}{}health_check: {{enabled: false}}",
        provider("a", &mock, "weight: 3, model_mapping: [m]"),
        provider("b", &mock, "weight: 1, model_mapping: [m]"),
        provider("drained", &mock, "weight: 0, model_mapping: [m]"),
    ));
    let seen = providers_of(&gate, "m", 8).await;
    assert_eq!(
        seen,
        BTreeMap::from([("a/m".to_owned(), 6), ("b/m".to_owned(), 2)])
    );
}

#[tokio::test]
async fn a_drained_provider_serves_only_when_all_others_are_out() {
    let (good, bad) = (mock("good").await, mock("bad").await);
    bad.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "providers:\n{}{}health_check: {{enabled: false}}",
        provider("a", &bad, "weight: 1, model_mapping: [m]"),
        provider("drained", &good, "weight: 0, model_mapping: [m]"),
    ));
    assert_eq!(goes_to(&gate, "m").await, "drained/m");
    assert_eq!(calls(&bad).len(), 1);
}

#[tokio::test]
async fn the_most_specific_mapping_wins() {
    let mock = mock("p").await;
    let mapping = "model_mapping: {'gpt-*': wide, 'gpt-4*': narrower, 'gpt-4o': exact, 'claude-(opus|sonnet)-.*': regex, 'gpt-3.5-*': dotted}";
    let gate = Gate::start(&format!(
        "providers:\n{}health_check: {{enabled: false}}",
        provider("p", &mock, mapping)
    ));
    for (model, upstream) in [
        ("gpt-4o", "exact"),
        ("gpt-4-turbo", "narrower"),
        ("gpt-5", "wide"),
        ("claude-opus-4", "regex"),
        ("gpt-3.5-turbo", "dotted"),
        ("gpt-3x5-turbo", "wide"),
    ] {
        assert_eq!(
            goes_to(&gate, model).await,
            format!("p/{upstream}"),
            "{model}"
        );
    }
    let unknown = gate
        .post("/v1/chat/completions", &chat("claude-haiku-4", false))
        .await;
    assert_eq!(
        (
            unknown.status.as_u16(),
            unknown.json()["error"]["code"].as_str()
        ),
        (404, Some("model_not_found"))
    );
    let sent: Vec<String> = calls(&mock).into_iter().map(|call| call.model).collect();
    assert_eq!(sent[0], "exact", "the upstream is told its own name");
}

#[tokio::test]
async fn models_name_their_targets_and_fall_back() {
    let (one, two) = (mock("one").await, mock("two").await);
    let gate = Gate::start(&format!(
        "
providers:
{}{}
models:
  smart: {{strategy: fill-first, targets: [{{provider: one, model: big}}, {{provider: two, model: large}}], fallbacks: [plain]}}
  plain: {{targets: [{{provider: two, model: small}}]}}
health_check: {{enabled: false}}",
        provider("one", &one, "model_mapping: [x]"),
        provider("two", &two, "model_mapping: [x]"),
    ));
    assert_eq!(goes_to(&gate, "smart").await, "one/big");
    one.script(Rule {
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    assert_eq!(goes_to(&gate, "smart").await, "two/large");
    two.script(Rule {
        model: Some("large".to_owned()),
        then: Behaviour {
            status: Some(503),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    assert_eq!(goes_to(&gate, "smart").await, "two/small");
}

#[tokio::test]
async fn ai_proxy_prefixes_aliases_and_exclusions() {
    let (team, plain) = (mock("team").await, mock("plain").await);
    let config = |force: bool| {
        format!(
            "
request-retry: 0
force-model-prefix: {force}
routing: {{strategy: fill-first}}
openai-compatibility:
  - {{name: team, api-key: k1, base-url: '{}', prefix: 'teamA/', models: [{{id: real-name, alias: nick}}, {{id: 'gpt-*'}}], excluded-models: ['*-preview'], headers: {{x-team: a}}}}
  - {{name: plain, api-key: k2, base-url: '{}/v1', models: [{{id: gpt-4o}}]}}
  - {{name: off, api-key: k3, base-url: 'http://127.0.0.1:1', disabled: true}}
",
            team.url(),
            plain.url()
        )
    };
    let gate = Gate::start(&config(false));
    assert_eq!(goes_to(&gate, "teamA/nick").await, "team/real-name");
    assert_eq!(goes_to(&gate, "nick").await, "team/real-name");
    assert_eq!(goes_to(&gate, "teamA/gpt-5").await, "team/gpt-5");
    let excluded = gate
        .post("/v1/chat/completions", &chat("teamA/gpt-5-preview", false))
        .await;
    assert_eq!(excluded.status, 404);
    assert!(calls(&team).iter().all(|call| {
        call.headers
            .contains(&("x-team".to_owned(), "a".to_owned()))
    }));
    let list = gate.get("/v1/models").await.text();
    assert!(
        list.contains("\"teamA/nick\"") && list.contains("\"gpt-4o\"") && !list.contains("gpt-*"),
        "{list}"
    );
    let forced = Gate::start(&config(true));
    assert_eq!(goes_to(&forced, "gpt-4o").await, "plain/gpt-4o");
    assert_eq!(
        forced
            .post("/v1/chat/completions", &chat("nick", false))
            .await
            .status,
        404
    );
    assert_eq!(goes_to(&forced, "teamA/nick").await, "team/real-name");
}

#[tokio::test]
async fn keys_of_one_provider_take_turns_and_only_the_limited_one_rests() {
    let limited = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_keys: [key-one-1, key-two-2, key-three-3], model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        limited.url()
    ));
    assert_eq!(providers_of(&gate, "m", 6).await.len(), 1);
    let used = |calls: Vec<polygate_mock_provider::Entry>| {
        let bearer = |call: polygate_mock_provider::Entry| {
            call.headers
                .into_iter()
                .find(|(name, _)| name == "authorization")
                .map(|(_, value)| value)
        };
        calls.into_iter().filter_map(bearer).fold(
            BTreeMap::<String, usize>::new(),
            |mut seen, key| {
                *seen.entry(key).or_default() += 1;
                seen
            },
        )
    };
    assert_eq!(
        used(calls(&limited)).into_values().collect::<Vec<_>>(),
        [2, 2, 2]
    );
    limited.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(429),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let seen = providers_of(&gate, "m", 4).await;
    assert_eq!(seen.values().sum::<usize>(), 4);
    let rested = used(calls(&limited).split_off(7));
    assert_eq!(rested.len(), 2, "two keys go on: {rested:?}");
}

#[tokio::test]
async fn the_generic_proxy_passes_any_method_path_and_query() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers:\n{}health_check: {{enabled: false}}",
        provider("p", &mock, "model_mapping: [m, 'org/model-x']")
    ));
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ] {
        let reply = gate
            .ask(
                method.clone(),
                "/v1/m/files/abc?purpose=x&y=%20z",
                &[("content-type", "text/csv"), ("x-secret", "no")],
                "a,b",
            )
            .await;
        let echo = &reply.json()["echo"];
        assert_eq!(
            (
                echo["method"].as_str(),
                echo["path"].as_str(),
                echo["query"].as_str()
            ),
            (
                Some(method.as_str()),
                Some("/v1/files/abc"),
                Some("purpose=x&y=%20z")
            )
        );
        assert_eq!(
            (
                echo["body"].as_str(),
                echo["headers"]["content-type"].as_str()
            ),
            (Some("a,b"), Some("text/csv"))
        );
        assert!(echo["headers"]["x-secret"].is_null());
    }
    let slashed = gate.get("/v1/org/model-x/files").await;
    assert_eq!(slashed.json()["echo"]["path"], "/v1/files");
    let big = "x".repeat(5_000_000);
    let reply = gate
        .ask(Method::POST, "/v1/m/upload", &[], big.clone())
        .await;
    assert_eq!(
        reply.json()["echo"]["body"].as_str().map(str::len),
        Some(big.len())
    );
    for climbing in [
        "/v1/m/../admin",
        "/v1/m/%2e%2e/admin",
        "/v1/m/a/..%2f..%2fadmin",
    ] {
        assert_eq!(gate.get(climbing).await.status, 404, "{climbing}");
    }
    assert_eq!(gate.get("/v1/unknown/files").await.status, 404);
}

#[tokio::test]
async fn what_a_proxied_path_answers_is_the_callers_business_and_rests_nobody() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers:\n{}health_check: {{enabled: false}}",
        provider("p", &mock, "model_mapping: [m]")
    ));
    for status in [404, 400, 409] {
        let then = Behaviour {
            status: Some(status),
            error: Some("no such file".to_owned()),
            ..Behaviour::default()
        };
        mock.script(Rule {
            path: Some("files".to_owned()),
            times: Some(1),
            then,
            ..Rule::default()
        });
        let reply = gate.get("/v1/m/files/none").await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-polygate-attempts")),
            (status, "1")
        );
        assert!(
            reply.text().contains("no such file"),
            "as the provider said it"
        );
    }
    let then = Behaviour {
        status: Some(404),
        error: Some("unknown url".to_owned()),
        ..Behaviour::default()
    };
    mock.script(Rule {
        path: Some("embeddings".to_owned()),
        then,
        ..Rule::default()
    });
    let embeddings = gate
        .post(
            "/v1/embeddings",
            &serde_json::json!({"model": "m", "input": "x"}),
        )
        .await;
    assert_eq!(embeddings.status, 404);
    assert_eq!(goes_to(&gate, "m").await, "p/m", "chat goes on");
}
