//! The pages of usage and of single calls.

use std::time::{Duration, Instant};

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Gate, Reply, mock};

fn config(mock: &Mock) -> String {
    format!(
        "
providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m, bad]}}]
health_check: {{enabled: false}}
teams: {{blue: {{tags: [of-blue]}}, empty: {{}}}}
master_keys:
  - {{key: sk-of-alice, name: alice, team: blue, tags: [a, b]}}
  - {{key: sk-of-bob, name: bob}}
  - {{key: sk-of-reader, name: reader, role: read_only}}
  - {{key: sk-of-leader, name: leader, role: team_admin, team: blue}}
  - {{key: sk-of-nobody, name: nobody, role: team_admin, team: empty}}
price_overrides: [{{model: m, price: {{input: 1, output: 10}}, date: 2026-11}}]
",
        mock.url()
    )
}

async fn asked_by(gate: &Gate, key: &str, model: &str, stream: bool) -> Reply {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello there"}]});
    let key = format!("Bearer {key}");
    let headers = [
        ("authorization", &*key),
        ("content-type", "application/json"),
    ];
    let path = "/v1/chat/completions";
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

async fn admin(gate: &Gate, method: Method, path: &str, body: &str) -> Reply {
    admin_as(gate, ADMIN_KEY, method, path, body).await
}

async fn admin_as(gate: &Gate, key: &str, method: Method, path: &str, body: &str) -> Reply {
    let key = format!("Bearer {key}");
    let headers = [
        ("authorization", &*key),
        ("content-type", "application/json"),
    ];
    gate.ask(method, path, &headers, body.to_owned()).await
}

/// Waits until the store has so many calls.
async fn until_total(gate: &Gate, calls: i64) -> Value {
    let start = Instant::now();
    loop {
        let usage = gate.admin("/admin/v1/usage").await.json();
        if usage["totals"]["calls"] == calls && usage["waiting"] == 0 {
            return usage;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{usage}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two calls of alice, one of them a stream; one of bob; one of bob that fails.
async fn some_calls() -> (Gate, Mock, Value) {
    let mock = mock("p").await;
    mock.script(Rule {
        model: Some("bad".to_owned()),
        then: Behaviour {
            status: Some(400),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&mock));
    for (key, model, stream, status) in [
        ("sk-of-alice", "m", false, 200),
        ("sk-of-alice", "m", true, 200),
        ("sk-of-bob", "m", false, 200),
        ("sk-of-bob", "bad", false, 400),
    ] {
        let reply = asked_by(&gate, key, model, stream).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    let usage = until_total(&gate, 4).await;
    (gate, mock, usage)
}

#[tokio::test]
async fn usage_is_what_calls_add_up_to() {
    let (gate, mock, usage) = some_calls().await;
    let served = mock.ledger();
    let good: Vec<_> = served.iter().filter(|entry| entry.status == 200).collect();
    let input: u64 = good.iter().map(|entry| entry.input_tokens).sum();
    let output: u64 = good.iter().map(|entry| entry.output_tokens).sum();
    let totals = &usage["totals"];
    assert_eq!(
        (&totals["attempts"], &totals["errors"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(totals["input_tokens"], input, "{usage}");
    assert_eq!(totals["output_tokens"], output, "{usage}");
    assert_eq!(totals["cost_micro_usd"], input + 10 * output, "{usage}");
    assert_eq!(usage["groups"], json!([]));
    for (by, names) in [
        ("key", vec!["alice", "bob"]),
        ("team", vec!["", "blue"]),
        ("model", vec!["bad", "m"]),
        ("provider", vec!["p"]),
    ] {
        let usage = gate
            .admin(&format!("/admin/v1/usage?group_by={by}"))
            .await
            .json();
        let groups = usage["groups"].as_array().expect("groups");
        let found: Vec<_> = groups.iter().map(|group| &group["name"]).collect();
        assert_eq!(json!(found), json!(names), "{usage}");
        assert_eq!(groups[0][by], groups[0]["name"]);
        let sum: i64 = groups
            .iter()
            .filter_map(|group| group["calls"].as_i64())
            .sum();
        assert_eq!(sum, 4, "{usage}");
    }
    let hours = gate.admin("/admin/v1/usage?group_by=hour").await.json();
    let hour = hours["groups"][0]["hour"].as_str().expect("an hour");
    assert!(hour.ends_with(":00:00Z"), "{hours}");
    let calls = async |query: &str| {
        let usage = gate.admin(&format!("/admin/v1/usage?{query}")).await;
        usage.json()["totals"]["calls"].as_i64()
    };
    assert_eq!(calls("key=alice").await, Some(2));
    assert_eq!(calls("team=blue&model=m&provider=p").await, Some(2));
    assert_eq!(calls("key=nobody").await, Some(0));
    assert_eq!(calls("until=2020-01-01").await, Some(0));
    assert_eq!(
        calls("from=2020-01-01T00:00:00Z&until=4000000000").await,
        Some(4)
    );
    for (query, word) in [
        ("group_by=colour", "group_by"),
        ("from=yesterday", "from"),
        ("colour=red", "colour"),
    ] {
        let reply = gate.admin(&format!("/admin/v1/usage?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text().contains(word), "{}", reply.text());
    }
    assert_eq!(gate.get("/admin/v1/usage").await.status, 401);
}

#[tokio::test]
async fn calls_are_listed_shown_and_forgotten() {
    let (gate, _mock, _) = some_calls().await;
    let list = async |query: &str| gate.admin(&format!("/admin/v1/logs?{query}")).await.json();
    let all = list("").await;
    assert_eq!((&all["total"], &all["page"]), (&json!(4), &json!(1)));
    assert_eq!(
        (&all["page_size"], &all["total_pages"]),
        (&json!(50), &json!(1))
    );
    let newest = &all["items"][0];
    assert_eq!(newest["requested_model"], "bad");
    assert_eq!(newest["status_code"], 400);
    assert_eq!(
        (&newest["credential_name"], &newest["provider_name"]),
        (&json!("bob"), &json!("p"))
    );
    assert_eq!(
        (&newest["state"], &newest["cost_micro_usd"]),
        (&json!("failed"), &json!(0))
    );
    let second = list("page=2&page_size=3&sort_order=asc").await;
    assert_eq!(second["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&second["items"][0]["id"], &second["total_pages"]),
        (&newest["id"], &json!(2))
    );
    for (query, total) in [
        ("error_only=true", 1),
        ("status_code=400", 1),
        ("is_streaming=true", 1),
        ("is_streaming=false", 3),
        ("credential_name=alice&model=m", 2),
        ("provider_name=q", 0),
        ("end_time=2020-01-01", 0),
        ("start_time=2020-01-01&sort_by=cost_micro_usd", 4),
    ] {
        assert_eq!(list(query).await["total"], total, "{query}");
    }
    for query in [
        "page=0",
        "page_size=201",
        "status_code=x",
        "sort_by=colour",
        "sort_order=up",
        "is_streaming=maybe",
        "x=y",
    ] {
        let reply = gate.admin(&format!("/admin/v1/logs?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
    }
    let stats = gate
        .admin("/admin/v1/logs/stats?credential_name=bob")
        .await
        .json();
    assert_eq!((&stats["total"], &stats["errors"]), (&json!(2), &json!(1)));
    let errors = gate.admin("/admin/v1/error-logs").await.json();
    assert_eq!(
        (&errors["total"], &errors["items"][0]["id"]),
        (&json!(1), &newest["id"])
    );

    let alices = &list("credential_name=alice&is_streaming=true").await["items"][0];
    let id = alices["id"].as_str().expect("an id");
    let whole = gate.admin(&format!("/admin/v1/logs/{id}")).await.json();
    assert_eq!(whole["tags"], json!(["a", "b", "of-blue"]));
    assert_eq!(
        (&whole["team"], &whole["is_streaming"]),
        (&json!("blue"), &json!(true))
    );
    assert_eq!(whole["price"]["date"], "2026-11", "{whole}");
    assert_eq!(whole["attempts"][0]["state"], "reported", "{whole}");
    assert_eq!(
        whole["attempts"][0]["cost_micro_usd"],
        whole["cost_micro_usd"]
    );
    let request = whole["request_id"].as_str().expect("an id");
    let by_request = gate
        .admin(&format!("/admin/v1/logs/{request}"))
        .await
        .json();
    assert_eq!(by_request, whole);
    let no_error = gate.admin(&format!("/admin/v1/error-logs/{id}")).await;
    assert_eq!(no_error.status, 404, "{}", no_error.text());

    let path = format!("/admin/v1/logs/{id}");
    let deleted = admin(&gate, Method::DELETE, &path, "").await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    let again = admin(&gate, Method::DELETE, &path, "").await;
    assert_eq!(again.status, 404, "{}", again.text());
    let (batch, bad) = (
        "/admin/v1/logs/batch-delete",
        json!({"ids": [1]}).to_string(),
    );
    for body in [
        "",
        "[]",
        r#"{"ids": []}"#,
        r#"{"ids": ["a"], "more": 1}"#,
        &bad,
    ] {
        let reply = admin(&gate, Method::POST, batch, body).await;
        assert!(
            matches!(reply.status.as_u16(), 400 | 422),
            "{body}: {}",
            reply.text()
        );
    }
    let body = json!({"ids": [newest["id"], "nothing"]}).to_string();
    let reply = admin(&gate, Method::POST, batch, &body).await;
    assert_eq!(reply.json(), json!({"deleted": 1}));
    assert_eq!(list("").await["total"], 2);
    let usage = until_total(&gate, 4).await;
    assert_eq!(usage["totals"]["calls"], 4, "sums stay");
}

#[tokio::test]
async fn a_reader_sees_all_calls_and_forgets_none() {
    let (gate, _mock, _) = some_calls().await;
    let of = async |method: Method, path: &str, body: &str| {
        admin_as(&gate, "sk-of-reader", method, path, body).await
    };
    let usage = of(Method::GET, "/admin/v1/usage", "").await.json();
    assert_eq!(usage["totals"]["calls"], 4, "{usage}");
    let logs = of(Method::GET, "/admin/v1/logs", "").await.json();
    assert_eq!(logs["total"], 4, "{logs}");
    let id = logs["items"][0]["id"].as_str().expect("an id");
    let path = format!("/admin/v1/logs/{id}");
    assert_eq!(of(Method::GET, &path, "").await.status, 200);
    let ids = json!({"ids": [id]}).to_string();
    for (method, path, body) in [
        (Method::DELETE, &*path, ""),
        (Method::POST, "/admin/v1/logs/batch-delete", &*ids),
        (Method::POST, "/admin/v1/error-logs/batch-delete", &*ids),
    ] {
        let refused = of(method, path, body).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
    }
    assert_eq!(gate.admin(&path).await.status, 200, "it is still there");
    assert_eq!(
        admin_as(&gate, "sk-of-alice", Method::GET, "/admin/v1/usage", "")
            .await
            .status,
        401,
        "a key without a role has none"
    );
}

#[tokio::test]
async fn a_team_admin_sees_its_teams_calls_whatever_it_asks_for() {
    let (gate, _mock, _) = some_calls().await;
    let all = gate.admin("/admin/v1/logs").await.json();
    let one_of = |name: &str| {
        let mut items = all["items"].as_array().expect("items").iter();
        items
            .find(|item| item["credential_name"] == name)
            .expect("a call")
    };
    let of = async |path: &str| {
        let path = format!("/admin/v1/{path}");
        admin_as(&gate, "sk-of-leader", Method::GET, &path, "").await
    };
    for (path, pointer, expected) in [
        ("usage", "/totals/calls", 2),
        ("usage?team=blue", "/totals/calls", 2),
        ("usage?group_by=key", "/groups/0/calls", 2),
        ("usage?group_by=team", "/groups/0/calls", 2),
        ("usage?group_by=hour", "/groups/0/calls", 2),
        ("usage?key=bob", "/totals/calls", 0),
        ("usage?model=bad", "/totals/calls", 0),
        ("logs", "/total", 2),
        ("logs?team=blue", "/total", 2),
        ("logs?credential_name=bob", "/total", 0),
        ("logs?model=bad", "/total", 0),
        ("logs?page_size=200&sort_by=cost_micro_usd", "/total", 2),
        ("error-logs", "/total", 0),
        ("logs/stats", "/total", 2),
        ("logs/stats?credential_name=bob", "/total", 0),
        ("error-logs/stats", "/total", 2),
    ] {
        let reply = of(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let answer = reply.json();
        assert_eq!(
            answer.pointer(pointer),
            Some(&json!(expected)),
            "{path}: {answer}"
        );
        for theirs in ["bob", "\"bad\""] {
            assert!(!reply.text().contains(theirs), "{path}: {answer}");
        }
    }
    for by in ["key", "team", "model", "provider"] {
        let usage = of(&format!("usage?group_by={by}")).await.json();
        assert_eq!(usage["groups"].as_array().map(Vec::len), Some(1), "{usage}");
    }
    let theirs = one_of("bob")["request_id"].as_str().expect("an id");
    for (path, expected) in [
        ("usage?team=red".to_owned(), 403),
        ("usage?team=".to_owned(), 403),
        ("usage?team=blue&team=red".to_owned(), 400),
        ("logs?team=red".to_owned(), 403),
        ("logs/stats?team=".to_owned(), 403),
        (format!("logs/{theirs}"), 404),
        (format!("logs?request_id={theirs}"), 200),
        (
            format!("logs/{}", one_of("bob")["id"].as_str().expect("an id")),
            404,
        ),
        (
            format!("logs/{}", one_of("alice")["id"].as_str().expect("an id")),
            200,
        ),
    ] {
        let reply = of(&path).await;
        assert_eq!(reply.status, expected, "{path}: {}", reply.text());
    }
    let found = of(&format!("logs?request_id={theirs}")).await.json();
    assert_eq!((&found["total"], &found["items"]), (&json!(0), &json!([])));
    let own = one_of("alice")["id"].as_str().expect("an id");
    let path = format!("/admin/v1/logs/{own}");
    let refused = admin_as(&gate, "sk-of-leader", Method::DELETE, &path, "").await;
    assert_eq!(refused.status, 403, "what a team used is not its to forget");
    let nobody = admin_as(&gate, "sk-of-nobody", Method::GET, "/admin/v1/logs", "").await;
    assert_eq!(nobody.json()["total"], 0);
}

#[tokio::test]
async fn the_metrics_say_what_calls_cost() {
    let (gate, _mock, usage) = some_calls().await;
    let metrics = gate.get("/metrics").await.text();
    let cost = usage["totals"]["cost_micro_usd"].as_i64().expect("a cost");
    let line = format!("polygate_cost_micro_usd_total{{model=\"m\",provider=\"p\"}} {cost}");
    assert!(metrics.contains(&line), "{line}: {metrics}");
    assert!(!metrics.contains("polygate_unpriced_calls_total{model=\"bad\"}"));
    assert!(metrics.contains("polygate_ledger_shipped_total 4"));
    assert!(metrics.contains("polygate_ledger_waiting 0"));
}
