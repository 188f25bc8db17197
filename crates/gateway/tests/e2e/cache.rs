//! The response cache: what was answered once is answered again to the byte, to those who may have it, for nothing.

mod alike;
mod together;

use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use polygate_store::usage::{CallRow, State};
use polygate_test_services::Redis;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ledger::{KEY, rows, until_count};
use crate::support::{ADMIN_KEY, Gate, Reply, calls, chat, mock, until};
use crate::wall::UPSTREAMS;
use crate::wall::clients::{CLIENTS, columns};

/// One provider of model `m`, and what is kept of its answers.
fn config(mock: &Mock, cache: &str, more: &str) -> String {
    format!(
        "
providers:
  - {{name: p, type: mock, api_base: '{}', api_key: key-of-it, model_mapping: [m, other]}}
cache: {cache}
price_overrides: [{{model: '*', price: {{input: 1, output: 10}}}}]
health_check: {{enabled: false}}
{more}",
        mock.url()
    )
}

/// The question of a client, of which no provider keeps anything.
fn question(mut body: Value) -> Value {
    if body.get("input").is_some() {
        body["store"] = false.into();
    }
    body
}

async fn asks(gate: &Gate, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let path = "/v1/chat/completions";
    gate.ask(Method::POST, path, &all, body.to_string()).await
}

fn seen(reply: &Reply) -> &str {
    reply.header("x-polygate-cache")
}

/// Asks for a stream over a connection of its own, reads its first words, and goes.
async fn leaves(gate: &Gate, body: &Value) {
    let address = gate.address();
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let body = body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let sent = socket.write_all(text.as_bytes()).await;
    sent.expect("it is sent");
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while text.windows(9).filter(|at| at == b"\"content\"").count() < 4 {
        let read = socket.read(&mut piece).await.expect("an answer");
        assert!(read > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
    }
}

#[tokio::test]
async fn every_client_gets_the_same_bytes_again_from_every_upstream() {
    let mut providers = String::new();
    let mut mocks = Vec::new();
    for (at, (_, kind)) in UPSTREAMS.into_iter().enumerate() {
        let mock = mock("p").await;
        providers += &format!(
            "  - {{name: p{at}, type: {kind}, api_base: '{}', api_key: AK:secret, model_mapping: {{m{at}: m}}}}\n",
            mock.url()
        );
        mocks.push(mock);
    }
    let gate = Gate::start(&format!(
        "providers:\n{providers}cache: {{rules: [{{}}]}}\nhealth_check: {{enabled: false}}\n"
    ));
    for (at, mock) in mocks.iter().enumerate() {
        let model = format!("m{at}");
        for client in columns() {
            for stream in [false, true] {
                if client.is_array && !stream {
                    continue;
                }
                let (path, ask) = ((client.path)(&model, stream), (client.ask)(&model, stream));
                let ask = question(ask);
                let before = calls(mock).len();
                let first = gate.post(&path, &ask).await;
                let what = format!("{} of {} {stream}", client.name, UPSTREAMS[at].0);
                assert_eq!(
                    (first.status.as_u16(), seen(&first)),
                    (200, "miss"),
                    "{what} {}",
                    first.text()
                );
                assert!(
                    (client.is_complete)(&first, stream),
                    "{what} {}",
                    first.text()
                );
                let again = gate.post(&path, &ask).await;
                assert_eq!(
                    (again.status.as_u16(), seen(&again)),
                    (200, "hit"),
                    "{what}"
                );
                assert_eq!(again.body, first.body, "{what}");
                for same in [
                    "content-type",
                    "cache-control",
                    "x-polygate-provider",
                    "x-polygate-model",
                    "x-polygate-dropped",
                ] {
                    assert_eq!(again.header(same), first.header(same), "{what} {same}");
                }
                assert_eq!(again.header("x-polygate-attempts"), "0", "{what}");
                assert_eq!(again.header("x-polygate-cost"), "0.000000", "{what}");
                assert!(again.header("age").parse::<u64>().is_ok(), "{what}");
                assert_eq!(first.header("age"), "");
                assert_eq!(calls(mock).len(), before + 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn embeddings_are_kept_and_counts_and_proxied_calls_are_not() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "{rules: [{}]}", ""));
    for (path, body, expected) in [
        (
            "/v1/embeddings",
            json!({"model": "m", "input": "x"}),
            ["miss", "hit"],
        ),
        (
            "/v1/completions",
            json!({"model": "m", "prompt": "x"}),
            ["miss", "hit"],
        ),
        (
            "/v1/messages/count_tokens",
            question(chat("m", false)),
            ["", ""],
        ),
        ("/v1/m/images/generations", json!({"prompt": "x"}), ["", ""]),
        (
            "/v1/responses",
            json!({"model": "m", "input": "x"}),
            ["bypass", "bypass"],
        ),
    ] {
        for expected in expected {
            let reply = gate.post(path, &body).await;
            assert_eq!(seen(&reply), expected, "{path} {}", reply.text());
        }
    }
}

const KEYS: &str = "
teams: {red: {}, blue: {}}
master_keys:
  - {name: one, key: sk-one, team: red}
  - {name: two, key: sk-two, team: red}
  - {name: three, key: sk-three, team: blue}
  - {name: four, key: sk-four}
  - {name: five, key: sk-five}
  - {name: six, key: sk-six, allowed_models: [other]}
  - {name: strict, key: sk-strict, strict: true}
";

/// What the keys in turn get of the cache.
async fn seen_by(cache: &str, keys: &[&str]) -> Vec<String> {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, cache, KEYS));
    let mut all = Vec::new();
    for key in keys {
        let bearer = format!("Bearer sk-{key}");
        let reply = asks(&gate, &[("authorization", &bearer)], &chat("m", false)).await;
        all.push(match reply.status.as_u16() {
            200 => format!("{key} {}", seen(&reply)),
            status => format!("{key} {status}"),
        });
    }
    all
}

#[tokio::test]
async fn answers_go_to_those_who_share_them_and_to_nobody_who_may_not_have_the_model() {
    let keys = [
        "one", "two", "three", "four", "five", "six", "strict", "one",
    ];
    for (share, expected) in [
        (
            "key",
            [
                "one miss",
                "two miss",
                "three miss",
                "four miss",
                "five miss",
                "six 403",
                "strict miss",
                "one hit",
            ],
        ),
        (
            "team",
            [
                "one miss",
                "two hit",
                "three miss",
                "four miss",
                "five miss",
                "six 403",
                "strict miss",
                "one hit",
            ],
        ),
        (
            "all",
            [
                "one miss",
                "two hit",
                "three hit",
                "four hit",
                "five hit",
                "six 403",
                "strict miss",
                "one hit",
            ],
        ),
    ] {
        let seen = seen_by(&format!("{{share: {share}, rules: [{{}}]}}"), &keys).await;
        assert_eq!(seen, expected, "{share}");
    }
    let rules = "{rules: [{when: {keys: [two]}}, {when: {teams: [blue]}, share: team}]}";
    let seen = seen_by(rules, &["one", "two", "two", "three", "three"]).await;
    assert_eq!(
        seen,
        ["one ", "two miss", "two hit", "three miss", "three hit"]
    );
}

#[tokio::test]
async fn only_what_comes_to_a_good_end_is_kept() {
    let mock = mock("p").await;
    let more = "retry: {max_retries: 0, breaker_threshold: 1000}";
    let gate = Gate::start(&config(&mock, "{max_entry: 4KiB, rules: [{}]}", more));
    let behaviour = Behaviour::default;
    let faults = [
        Behaviour {
            status: Some(500),
            ..behaviour()
        },
        Behaviour {
            status: Some(400),
            ..behaviour()
        },
        Behaviour {
            fault: Some(Fault::CutAfter(4)),
            ..behaviour()
        },
        Behaviour {
            fault: Some(Fault::EndAfter(4)),
            ..behaviour()
        },
        Behaviour {
            fault: Some(Fault::ErrorAfter(4)),
            ..behaviour()
        },
        Behaviour {
            tokens: Some(2000),
            ..behaviour()
        },
    ];
    for (at, then) in faults.into_iter().enumerate() {
        for stream in [false, true] {
            let mut body = chat("m", stream);
            body["seed"] = at.into();
            mock.script(Rule {
                times: Some(1),
                then: then.clone(),
                ..Rule::default()
            });
            let before = calls(&mock).len();
            asks(&gate, &[], &body).await;
            let second = asks(&gate, &[], &body).await;
            // Faults in the middle of a stream are none of whole answers.
            if seen(&second) == "hit" {
                assert!(!stream && matches!(at, 2..=4), "{at} {stream}");
                assert_eq!(calls(&mock).len(), before + 1);
                continue;
            }
            assert_eq!(seen(&second), "miss", "{at} {stream}");
            assert_eq!(seen(&asks(&gate, &[], &body).await), "hit", "{at} {stream}");
        }
    }
    // Nobody knows how an answer ends that its client does not wait for.
    let body = chat("other", true);
    mock.script(Rule {
        model: Some("other".to_owned()),
        times: Some(1),
        then: Behaviour {
            token_ms: 20,
            tokens: Some(500),
            ..behaviour()
        },
        ..Rule::default()
    });
    leaves(&gate, &body).await;
    assert_eq!(seen(&asks(&gate, &[], &body).await), "miss");
}

async fn metric(gate: &Gate, series: &str) -> u64 {
    let text = gate.get("/metrics").await.text();
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    found.unwrap_or_default()
}

async fn admin(gate: &Gate, method: Method, path: &str) -> Reply {
    let key = format!("Bearer {ADMIN_KEY}");
    gate.ask(method, path, &[("authorization", &key)], "").await
}

#[tokio::test]
async fn rows_and_metrics_say_what_was_paid_and_what_was_not() {
    let mock = mock("p").await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/gate.db", folder.path().display());
    let more = "master_keys: [{name: k, key: sk-k, limits: {requests_per_day: 5, tokens_per_day: 5000}}]\njsonl_log: {enabled: true, path: calls.jsonl}";
    let gate = Gate::start_with(
        &config(&mock, "{rules: [{}]}", more),
        &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)],
    );
    let key = [("authorization", "Bearer sk-k")];
    let mut body = chat("m", false);
    body["max_tokens"] = 100.into();
    let mut left = String::new();
    for expected in ["miss", "hit", "hit"] {
        let reply = asks(&gate, &key, &body).await;
        assert_eq!(seen(&reply), expected, "{}", reply.text());
        let now = reply.header("x-ratelimit-remaining-tokens").to_owned();
        if expected == "hit" && !left.is_empty() {
            assert_eq!(now, left, "a hit takes no tokens");
        }
        if expected == "hit" {
            left = now;
        }
    }
    body["stream"] = true.into();
    for expected in ["miss", "hit"] {
        assert_eq!(seen(&asks(&gate, &key, &body).await), expected);
    }
    // Requests count, whoever answers.
    assert_eq!(asks(&gate, &key, &body).await.status, 429);
    // What was refused is not always written.
    until_count(&url, 6, &gate).await;
    let all = rows(&url).await;
    let (cached, others): (Vec<&CallRow>, Vec<&CallRow>) =
        all.iter().partition(|row| row.cached.is_some());
    assert_eq!((cached.len(), others.len()), (3, 3));
    let ledger = calls(&mock);
    assert_eq!(ledger.len(), 2);
    for row in cached {
        assert_eq!(
            (row.cost, row.state, row.attempts.len()),
            (0, State::Reported, 0)
        );
        assert_eq!(
            (&*row.provider, &*row.outcome, row.status),
            ("none", "completed", 200)
        );
        assert_eq!(row.usage.total(), 0);
        let saved = row.saved.expect("tokens of the answer");
        assert_eq!(
            (saved.input, saved.output),
            (ledger[0].input_tokens, ledger[0].output_tokens)
        );
    }
    let tokens = |of: fn(&polygate_mock_provider::Entry) -> u64| ledger.iter().map(of).sum::<u64>();
    let paid: u64 = all.iter().map(|row| row.usage.output).sum();
    assert_eq!(
        paid,
        tokens(|entry| entry.output_tokens),
        "only what the provider gave"
    );
    for (series, expected) in [
        (
            "polygate_cache_requests_total{model=\"m\",result=\"hit\"}",
            3,
        ),
        (
            "polygate_cache_requests_total{model=\"m\",result=\"miss\"}",
            2,
        ),
        ("polygate_cache_entries", 2),
        (
            "polygate_cache_saved_tokens_total{model=\"m\",kind=\"output\"}",
            3 * ledger[0].output_tokens,
        ),
        (
            "llm_proxy_tokens_total{model=\"m\",provider=\"p\",token_type=\"completion_tokens\",api_key_name=\"k\"}",
            tokens(|entry| entry.output_tokens),
        ),
    ] {
        assert_eq!(metric(&gate, series).await, expected, "{series}");
    }
    let logs = admin(&gate, Method::GET, "/admin/v1/logs?cached=true")
        .await
        .json();
    assert_eq!(logs["total"], 3);
    assert_eq!(logs["items"][0]["cached"], "hit");
    assert_eq!(
        logs["items"][0]["saved_tokens"]["output"],
        ledger[0].output_tokens
    );
    let logs = admin(&gate, Method::GET, "/admin/v1/logs?cached=false")
        .await
        .json();
    assert_eq!(logs["total"], 3);
    let log = gate.log();
    assert!(log.contains("\"cache\":\"hit\""), "{log}");
    until("the request log has it", || {
        let lines = std::fs::read_to_string(gate.dir().join("calls.jsonl")).unwrap_or_default();
        lines.matches("\"cache\":\"hit\"").count() == 3
    })
    .await;
}

#[tokio::test]
async fn answers_are_purged_and_that_is_written_down() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "{rules: [{}]}", ""));
    for model in ["m", "other", "m", "other"] {
        asks(&gate, &[], &chat(model, false)).await;
    }
    assert_eq!(calls(&mock).len(), 2);
    let purged = admin(&gate, Method::DELETE, "/admin/v1/cache?model=m").await;
    assert_eq!(purged.json(), json!({"purged": 1}));
    assert_eq!(seen(&asks(&gate, &[], &chat("other", false)).await), "hit");
    assert_eq!(seen(&asks(&gate, &[], &chat("m", false)).await), "miss");
    let purged = admin(&gate, Method::DELETE, "/admin/v1/cache").await;
    assert_eq!(purged.json(), json!({"purged": 2}));
    let audit = admin(&gate, Method::GET, "/admin/v1/audit?action=purge")
        .await
        .json();
    assert_eq!(
        audit["entries"].as_array().map(Vec::len),
        Some(2),
        "{audit}"
    );
    let denied = gate.ask(Method::DELETE, "/admin/v1/cache", &[], "").await;
    assert_eq!(denied.status, 401);
    let wrong = admin(&gate, Method::DELETE, "/admin/v1/cache?modle=m").await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_answers_in_redis_and_miss_it_only_while_it_is_away() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mock = mock("p").await;
    let url = redis.url();
    let config = config(
        &mock,
        "{store: redis, rules: [{coalesce: true}]}",
        "shared_health: false",
    );
    let start = || Gate::start_with(&config, &[("DB_URL", "none"), ("REDIS_URL", &url)]);
    let (one, two) = (start(), start());
    let again = async |gate: &Gate, body: &Value| {
        // It is written behind the call.
        for _ in 0..200 {
            let reply = asks(gate, &[], body).await;
            if seen(&reply) == "hit" {
                return reply;
            }
        }
        panic!("never kept: {}", gate.log());
    };
    for stream in [false, true] {
        let body = chat("m", stream);
        // An answer of one of the misses before may be written behind the first hit still.
        let mut is_same = false;
        for _ in 0..20 {
            let first = again(&one, &body).await;
            let other = asks(&two, &[], &body).await;
            is_same |= seen(&other) == "hit" && other.body == first.body;
        }
        assert!(is_same, "{}", one.log());
    }
    let before = calls(&mock).len();
    let purged = admin(&one, Method::DELETE, "/admin/v1/cache?model=m").await;
    assert_eq!(purged.json(), json!({"purged": 2}), "{}", one.log());
    assert_eq!(seen(&asks(&two, &[], &chat("m", false)).await), "miss");
    assert_eq!(calls(&mock).len(), before + 1);
    // Frozen, it is waited for once.
    redis.process().freeze();
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(asks(&one, &[], &chat("m", false)).await.status, 200);
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    redis.process().thaw();
    redis.process().kill();
    for gate in [&one, &two] {
        let reply = asks(gate, &[], &chat("m", false)).await;
        assert_eq!((reply.status.as_u16(), seen(&reply)), (200, "miss"));
    }
    let purged = admin(&one, Method::DELETE, "/admin/v1/cache").await;
    assert_eq!(purged.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_purges_the_others_forget_too() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let mock = mock("p").await;
    let url = redis.url();
    let config = config(&mock, "{rules: [{}]}", "shared_health: false");
    let start = || Gate::start_with(&config, &[("DB_URL", "none"), ("REDIS_URL", &url)]);
    let (one, two) = (start(), start());
    let (plain, other) = (chat("m", false), chat("other", false));
    for gate in [&one, &two] {
        for body in [&plain, &other] {
            assert_eq!(seen(&asks(gate, &[], body).await), "miss");
            assert_eq!(seen(&asks(gate, &[], body).await), "hit");
        }
    }
    let purged = admin(&one, Method::DELETE, "/admin/v1/cache?model=m").await;
    assert_eq!(purged.json(), json!({"purged": 1}), "{}", one.log());
    assert_eq!(seen(&asks(&one, &[], &plain).await), "miss");
    let mut is_forgotten = false;
    for _ in 0..200 {
        is_forgotten = seen(&asks(&two, &[], &plain).await) == "miss";
        if is_forgotten {
            break;
        }
    }
    assert!(is_forgotten, "{}", two.log());
    assert_eq!(seen(&asks(&two, &[], &other).await), "hit");
}

#[tokio::test]
async fn a_client_of_every_format_that_changes_its_question_is_asked_for_anew() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "{rules: [{}]}", ""));
    for client in &CLIENTS {
        let path = (client.path)("m", false);
        let ask = question((client.ask)("m", false));
        for number in 0..3 {
            let mut ask = ask.clone();
            ask["x"] = number.into();
            assert_eq!(
                seen(&gate.post(&path, &ask).await),
                "miss",
                "{}",
                client.name
            );
        }
    }
}
