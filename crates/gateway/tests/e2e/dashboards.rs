//! What is shipped for Prometheus and Grafana, on a real Prometheus that scrapes the gateway under traffic with faults: every panel's
//! query and every alert's figure has data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use polygate_test_services::{Prometheus, promtool};
use serde_json::{Value, json};

use crate::support::{Gate, chat, mock};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the repository").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const DASHBOARDS: [&str; 2] = ["overview", "inside"];

fn dashboard(name: &str) -> Value {
    let text = read(&format!("deploy/grafana/dashboards/{name}.json"));
    serde_json::from_str(&text).expect("JSON")
}

fn items<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name]
        .as_array()
        .unwrap_or_else(|| panic!("no {name}: {of}"))
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}: {of}"))
}

/// Queries by where they are, with what Grafana would put in.
fn panel_queries() -> BTreeMap<String, String> {
    let mut queries = BTreeMap::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        for panel in items(&dashboard, "panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut query = text(target, "expr").to_owned();
                for (variable, value) in [
                    ("$__rate_interval", "20s"),
                    ("$__range", "5m"),
                    ("$instance", ".*"),
                    ("$model", ".*"),
                    ("$provider", ".*"),
                ] {
                    query = query.replace(variable, value);
                }
                assert!(!query.contains('$'), "{query}");
                let at = format!("{name}: {} {}", text(panel, "title"), target["refId"]);
                assert!(queries.insert(at, query).is_none(), "two of one name");
            }
        }
    }
    queries
}

struct Api {
    url: String,
    client: Client<HttpConnector, String>,
}

impl Api {
    fn new(url: String) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { url, client }
    }

    async fn get(&self, path: &str) -> Value {
        let uri = format!("{}{path}", self.url).parse().expect("an address");
        let answer = self.client.get(uri).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body");
        serde_json::from_slice(&body.to_bytes()).expect("JSON")
    }

    /// Whether a query has a number now.
    async fn has_data(&self, query: &str) -> bool {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = items(&answer["data"], "result");
        let is_number = |one: &Value| one["value"][1].as_str().is_some_and(|text| text != "NaN");
        result.iter().any(is_number)
    }

    async fn alerts(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules?type=alert").await;
        let groups = items(&answer["data"], "groups").iter();
        groups
            .flat_map(|group| items(group, "rules").to_vec())
            .collect()
    }
}

/// What an alert compares with a number.
fn figure(query: &str) -> &str {
    let (figure, number) = query.rsplit_once(' ').expect("a number");
    assert!(number.parse::<f64>().is_ok(), "{query}");
    let (figure, comparison) = figure.rsplit_once(' ').expect("a comparison");
    assert!(["==", ">", "<"].contains(&comparison), "{query}");
    figure
}

fn config(one: &Mock, two: &Mock, shaky: &Mock) -> String {
    format!(
        "
providers:
  - {{name: one, type: mock, api_base: '{one}', api_key: k, model_mapping: [m, silent, long]}}
  - {{name: two, type: mock, api_base: '{two}', api_key: k, model_mapping: [m, flaky, silent]}}
  - {{name: shaky, type: mock, api_base: '{shaky}', api_key: k, model_mapping: [flaky]}}
  - {{name: chat-only, type: openai-compatible, api_base: '{one}/v1', api_key: k, model_mapping: {{plain: m}}}}
  - {{name: gone, type: mock, api_base: 'http://127.0.0.1:9', api_key: k, model_mapping: [lost]}}
models:
  silent: {{targets: [{{provider: one}}, {{provider: two}}], hedge: {{after: 20ms, max_percent: 100}}}}
  flaky: {{strategy: fill-first, targets: [{{provider: shaky}}, {{provider: two}}]}}
  mirrored: {{targets: [{{provider: one, model: m}}], shadow: {{model: m}}}}
guards: [{{name: words, words: [Hello], action: flag}}]
routing: {{strategy: fill-first}}
health_check: {{enabled: false}}
master_keys:
  - {{name: rich, key: sk-rich-0123456789, limits: {{requests_per_day: 1000000}}}}
  - {{name: poor, key: sk-poor-0123456789, limits: {{requests_per_day: 1, usd_per_day: 0.000001}}}}
price_overrides: [{{model: m, price: {{input: 1, output: 10}}}}]
",
        one = one.url(),
        two = two.url(),
        shaky = shaky.url()
    )
}

fn script(mock: &Mock, model: &str, then: Behaviour) {
    mock.script(Rule {
        model: Some(model.to_owned()),
        then,
        ..Rule::default()
    });
}

/// Calls of every kind, among them such that fail, are refused, lose something and are left.
async fn traffic(gate: &Gate) {
    let rich = [
        ("authorization", "Bearer sk-rich-0123456789"),
        ("content-type", "application/json"),
    ];
    let ask = async |path: &str, body: Value| {
        gate.ask(Method::POST, path, &rich, body.to_string())
            .await
            .status
    };
    for model in ["m", "flaky", "silent", "plain", "mirrored"] {
        for stream in [true, false] {
            let status = ask("/v1/chat/completions", chat(model, stream)).await;
            assert_eq!(status, 200, "{model}");
        }
    }
    let lossy = json!({"model": "plain", "max_tokens": 9, "top_k": 5, "messages": [{"role": "user", "content": "Hello there"}]});
    assert_eq!(ask("/v1/messages", lossy).await, 200);
    let lost = ask("/v1/chat/completions", chat("lost", false)).await;
    assert!(lost.is_server_error(), "{lost}");
    let poor = [("authorization", "Bearer sk-poor-0123456789"), rich[1]];
    let body = chat("m", false).to_string();
    gate.ask(Method::POST, "/v1/chat/completions", &poor, body)
        .await;
    let body = chat("long", true).to_string();
    let answer = gate
        .send(Method::POST, "/v1/chat/completions", &rich, body)
        .await;
    let mut answer = answer.into_body();
    assert!(answer.frame().await.is_some(), "it begins");
}

#[tokio::test]
async fn every_query_of_dashboards_and_alerts_has_data() {
    let (one, two, shaky) = (mock("one").await, mock("two").await, mock("shaky").await);
    let failing = Behaviour {
        status: Some(500),
        ..Behaviour::default()
    };
    let stalling = Behaviour {
        fault: Some(Fault::Stall),
        ..Behaviour::default()
    };
    let long = Behaviour {
        token_ms: 20,
        tokens: Some(500),
        ..Behaviour::default()
    };
    script(&shaky, "flaky", failing);
    script(&one, "silent", stalling);
    script(&one, "long", long);
    let gate = Gate::start(&config(&one, &two, &shaky));
    let scrape = json!({
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [file("deploy/prometheus/rules.yml")],
        "scrape_configs": [{"job_name": "polygate", "static_configs": [{"targets": [gate.address()]}]}],
    });
    let Some(prometheus) = Prometheus::start(&scrape.to_string()) else {
        return;
    };
    let api = Api::new(prometheus.url());
    let mut wanting = panel_queries();
    assert!(wanting.len() > 70, "{}", wanting.len());
    let start = Instant::now();
    while !wanting.is_empty() {
        traffic(&gate).await;
        for alert in api.alerts().await {
            let name = format!("alert {}", text(&alert, "name"));
            if start.elapsed() < Duration::from_secs(1) {
                wanting.insert(name, figure(text(&alert, "query")).to_owned());
            }
        }
        let mut left = BTreeMap::new();
        for (at, query) in wanting {
            if !api.has_data(&query).await {
                left.insert(at, query);
            }
        }
        wanting = left;
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "without data: {wanting:#?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let alerts = api.alerts().await;
    assert_eq!(
        alerts.len(),
        read("deploy/prometheus/rules.yml")
            .matches("- alert:")
            .count()
    );
    for alert in &alerts {
        assert_eq!(alert["health"], "ok", "{alert}");
    }
    let down = alerts
        .iter()
        .find(|one| one["name"] == "PolygateProviderDown");
    let down = items(down.expect("the alert"), "alerts");
    let is_gone = |one: &Value| one["labels"]["provider"] == "gone";
    assert!(down.iter().any(is_gone), "{down:?}");
}

#[test]
fn prometheus_own_tool_takes_the_files() {
    let (config, rules, cases) = (
        file("deploy/prometheus/prometheus.yml"),
        file("deploy/prometheus/rules.yml"),
        file("tests/prometheus/rules.yml"),
    );
    let shown = |path: &Path| path.display().to_string();
    for args in [
        vec!["check", "config", "--syntax-only", &*shown(&config)],
        vec!["check", "rules", &*shown(&rules)],
        vec!["test", "rules", &*shown(&cases)],
    ] {
        let Some((is_good, said)) = promtool(&args) else {
            return;
        };
        assert!(is_good, "{args:?}: {said}");
    }
}

/// Grafana itself cannot be had from a registry: this much of what it asks of a dashboard is held to.
#[test]
fn dashboards_are_what_grafana_takes() {
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(source.contains("uid: prometheus\n"));
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert!(uids.insert(text(&dashboard, "uid").to_owned()));
        assert!(dashboard["id"].is_null(), "provisioned ones have none");
        assert!(
            dashboard["schemaVersion"]
                .as_u64()
                .is_some_and(|version| version >= 36)
        );
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in items(&dashboard, "panels") {
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
            let at = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{panel}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "panels lie over one another: {panel}");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(panel, "title").is_empty());
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string());
            let mut refs = BTreeSet::new();
            for target in items(panel, "targets") {
                assert!(refs.insert(text(target, "refId")));
                for of in [panel, target] {
                    assert_eq!(
                        of["datasource"],
                        json!({"type": "prometheus", "uid": "prometheus"})
                    );
                }
            }
        }
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let (rules, operation) = (
        read("deploy/prometheus/rules.yml"),
        read("docs/operation.md"),
    );
    for name in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let anchor = format!("runbook: docs/operation.md#{}", name.to_lowercase());
        assert!(rules.contains(&anchor), "{name}");
        assert!(operation.contains(&format!("### {name}\n")), "{name}");
    }
}
