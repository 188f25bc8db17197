//! Metrics: they agree with the ledger and the providers to the unit, and nothing that callers send makes them grow.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream::iter;
use http::Method;
use polygate_mock_provider::{Behaviour, Entry, Mock, Rule};
use polygate_store::usage::{CallRow, State};
use serde_json::json;

use crate::ledger::rows;
use crate::support::{Gate, calls, chat, mock, until};

const KEY: &str = "a secret key of some length";

/// The sum of a metric's samples that have these labels.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let has = |line: &str| {
        labels
            .iter()
            .all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    page.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name) && has(line))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>() as u64
}

fn tokens(entries: &[Entry]) -> (u64, u64) {
    let served = entries.iter().filter(|entry| entry.status == 200);
    served.fold((0, 0), |(input, output), entry| {
        (input + entry.input_tokens, output + entry.output_tokens)
    })
}

/// What the page, the rows and a provider say of the provider.
fn compare(page: &str, rows: &[CallRow], name: &str, mock: &Mock) {
    let theirs = calls(mock);
    let of = [("provider", name)];
    let attempts = rows.iter().flat_map(|row| &row.attempts);
    let ours: Vec<_> = attempts.filter(|one| one.provider == name).collect();
    assert!(!ours.is_empty());
    assert_eq!(ours.len(), theirs.len(), "{name}");
    assert_eq!(
        sum(page, "polygate_attempts_total", &of),
        ours.len() as u64,
        "{name}: attempts"
    );
    let failed = ours.iter().filter(|one| one.state == State::Failed);
    let failed = failed.count() as u64;
    let failed_there = theirs.iter().filter(|entry| entry.status != 200);
    assert_eq!(failed, failed_there.count() as u64, "{name}");
    assert_eq!(
        sum(page, "polygate_failovers_total", &of),
        failed,
        "{name}: failovers"
    );
    let (input, output) = tokens(&theirs);
    for (kind, count) in [("input", input), ("output", output)] {
        let labels = [("provider", name), ("kind", kind), ("state", "reported")];
        assert_eq!(
            sum(page, "polygate_charged_tokens_total", &labels),
            count,
            "{name}: {kind}"
        );
    }
    for (kind, count) in [("prompt_tokens", input), ("completion_tokens", output)] {
        let labels = [("provider", name), ("token_type", kind)];
        assert_eq!(
            sum(page, "llm_proxy_tokens_total", &labels),
            count,
            "{name}: {kind}"
        );
    }
    let cost = input + 10 * output;
    let row_cost: i64 = ours.iter().map(|one| one.cost).sum();
    assert_eq!(row_cost.unsigned_abs(), cost, "{name}");
    assert_eq!(
        sum(page, "polygate_cost_micro_usd_total", &of),
        cost,
        "{name}: cost"
    );
}

#[tokio::test]
async fn metrics_ledger_and_providers_say_the_same() {
    let (one, two) = (mock("one").await, mock("two").await);
    one.script(Rule {
        model: Some("flaky".to_owned()),
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("shared.db").display());
    let config = format!(
        "
providers:
  - {{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: [m, flaky]}}
  - {{name: two, type: mock, api_base: '{}', api_key: k, model_mapping: [m, flaky]}}
routing: {{strategy: fill-first}}
retry: {{breaker_threshold: 100000}}
health_check: {{enabled: false}}
server: {{body_limit: 64KiB}}
master_keys: [{{name: team-key, key: sk-of-the-team}}]
price_overrides: [{{model: '*', price: {{input: 1, output: 10}}}}]
",
        one.url(),
        two.url()
    );
    let mut gate = Gate::start_with(&config, &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)]);
    let headers = [
        ("authorization", "Bearer sk-of-the-team"),
        ("content-type", "application/json"),
    ];
    let ask = async |model: &str, stream: bool| {
        let body = chat(model, stream).to_string();
        gate.ask(Method::POST, "/v1/chat/completions", &headers, body)
            .await
            .status
            .as_u16()
    };
    for stream in [false, true] {
        for _ in 0..7 {
            assert_eq!(ask("m", stream).await, 200);
            assert_eq!(ask("flaky", stream).await, 200);
        }
    }
    assert_eq!(ask("nobody-has-it", false).await, 404);
    let stranger = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(gate.get("/v1/chat/completions").await.status, 405);
    assert_eq!(ask(&"m".repeat(100_000), false).await, 413);
    let page = gate.get("/metrics").await.text();
    gate.signal("TERM");
    assert!(gate.wait().success(), "{}", gate.log());
    let rows = rows(&url).await;
    compare(&page, &rows, "one", &one);
    compare(&page, &rows, "two", &two);
    let answered = rows.iter().filter(|row| row.status == 200).count() as u64;
    let requests = |labels: &[(&str, &str)]| sum(&page, "llm_proxy_requests_total", labels);
    assert_eq!(answered, 28);
    assert_eq!(requests(&[("status_code", "200")]), answered);
    assert_eq!(requests(&[]), answered + 4);
    let by_key = [("api_key_name", "team-key"), ("status_code", "413")];
    assert_eq!(requests(&by_key), 1);
    for (reason, status) in [
        ("model_not_found", "404"),
        ("invalid_api_key", "401"),
        ("method_not_allowed", "405"),
        ("request_too_large", "413"),
    ] {
        assert!(gate.log().contains(reason), "{reason}: {}", gate.log());
        let labels = [("reason", reason)];
        assert_eq!(
            sum(&page, "polygate_requests_refused_total", &labels),
            1,
            "{page}"
        );
        assert_eq!(requests(&[("status_code", status)]), 1);
    }
    for source in ["gateway", "provider"] {
        let labels = [("source", source)];
        assert_eq!(sum(&page, "llm_proxy_ttft_seconds_count", &labels), 14);
    }
    assert_eq!(sum(&page, "polygate_records_dropped_total", &[]), 0);
}

fn series(page: &str) -> BTreeSet<&str> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_names_are_no_series_more() {
    let one = mock("one").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: one, type: mock, api_base: '{}', api_key: k, model_mapping: {{known: m, 'open-*': m}}}}]\nhealth_check: {{enabled: false}}\n",
        one.url()
    ));
    let ask = async |number: usize| {
        let headers = [("content-type", "application/json")];
        let agent = format!("agent-{number}");
        let headers = [headers[0], ("user-agent", &*agent), ("x-user", &*agent)];
        let known = match number % 20 {
            0 => "open",
            _ => "unknown",
        };
        let model = format!("{known}-{number}");
        let body = json!({"model": model, "user": format!("user-{number}"), "messages": [{"role": "user", "content": "Hi"}]});
        let path = match number % 4 {
            1 => format!("/v1/{model}/anything/{number}"),
            2 => format!("/v1beta/models/{model}:generateContent"),
            3 => format!("/path-{number}"),
            _ => "/v1/chat/completions".to_owned(),
        };
        gate.ask(Method::POST, &path, &headers, body.to_string())
            .await
            .status
    };
    let asking = async |numbers: std::ops::Range<usize>| {
        let mut answers = iter(numbers).map(ask).buffer_unordered(64);
        let mut served = 0;
        while let Some(status) = answers.next().await {
            served += usize::from(status == 200);
        }
        served
    };
    assert!(asking(0..1000).await > 0, "some are served");
    let before = gate.get("/metrics").await.text();
    assert_eq!(asking(1000..100_000).await, 99_000 / 20);
    let after = gate.get("/metrics").await.text();
    assert_eq!(series(&before), series(&after));
    assert!(!after.contains("unknown-") && !after.contains("user-9") && !after.contains("path-"));
    // Pages that there are not are the web framework's and no calls; every other request is counted.
    let counted = sum(&after, "llm_proxy_requests_total", &[]);
    assert!(counted >= 75_000, "{counted}");
}

#[tokio::test]
async fn a_reader_gets_the_format_it_asks_for() {
    let gate = Gate::start("providers: []\n");
    for (accept, kind, is_open) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            true,
        ),
    ] {
        let page = gate
            .ask(Method::GET, "/metrics", &[("accept", accept)], "")
            .await;
        assert_eq!(page.header("content-type"), kind);
        assert_eq!(page.text().ends_with("# EOF\n"), is_open);
        assert!(sum(&page.text(), "process_open_fds", &[]) > 5);
        assert!(sum(&page.text(), "process_resident_memory_bytes", &[]) > 1_000_000);
        assert!(sum(&page.text(), "process_start_time_seconds", &[]) > 1_700_000_000);
    }
}

#[tokio::test]
async fn a_file_that_is_refused_shows_until_it_is_good_again() {
    let gate = Gate::start("providers: []\n");
    let refused = async || {
        let page = gate.get("/metrics").await.text();
        assert_eq!(sum(&page, "polygate_store_up", &[]), 1);
        sum(&page, "polygate_config_refused", &[("source", "file")])
    };
    assert_eq!(refused().await, 0);
    for (text, expected) in [
        ("providerz: []\n", 1),
        ("providers: []\n", 0),
        ("providerz: []\n", 1),
        ("providers: []\n# good\n", 0),
    ] {
        std::fs::write(gate.config_path(), text).expect("it is written");
        gate.signal("HUP");
        let start = std::time::Instant::now();
        while refused().await != expected {
            assert!(start.elapsed().as_secs() < 10, "{text}: {}", gate.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    until("it is said", || gate.log().contains("is refused")).await;
}
