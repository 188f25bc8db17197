//! Why calls go where they go: asked before, with the answer, and afterwards; and that it is what calls then do.

use http::Method;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use serde_json::{Value, json};

use crate::admin_documents::{GET, POST, ask_as, asked};
use crate::support::{ADMIN_KEY, Gate, Reply, calls, chat, mock};

/// `smart` is at `a` first and then at `b`, whose format is another; `poor` may spend a little.
fn config(a: &Mock, b: &Mock) -> String {
    let (a, b) = (a.url(), b.url());
    format!(
        "
providers:
  - {{name: a, type: openai, api_base: '{a}', api_key: k-of-a, model_mapping: [gpt-4o-mini]}}
  - {{name: b, type: anthropic, api_base: '{b}', api_key: k-of-b, model_mapping: [claude-haiku-4-5]}}
models:
  smart:
    strategy: fill-first
    targets:
      - {{provider: a, model: gpt-4o-mini}}
      - {{provider: b, model: claude-haiku-4-5}}
teams: {{red: {{}}}}
master_keys:
  - {{name: dev, key: sk-dev-0123456789, explain: true, team: red}}
  - {{name: plain, key: sk-plain-0123456789, team: red}}
  - {{name: poor, key: sk-poor-0123456789, limits: {{requests_per_day: 1}}}}
  - {{name: leader, key: sk-leader-0123456789, role: team_admin, team: red}}
health_check: {{enabled: false}}
retry: {{max_wait_secs: 0}}"
    )
}

async fn call(gate: &Gate, key: &str, body: &Value, explain: &str) -> Reply {
    let key = format!("Bearer sk-{key}-0123456789");
    let headers = [("authorization", &*key), ("x-polygate-explain", explain)];
    let path = "/v1/chat/completions";
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

async fn explained(gate: &Gate, body: Value) -> Value {
    asked(gate, POST, "explain", body, 200).await
}

/// What is said of a call that was, as soon as the ledger has it.
async fn past(gate: &Gate, id: &str) -> Value {
    loop {
        let reply = gate.admin(&format!("/admin/v1/explain/{id}")).await;
        if reply.status == 200 {
            return reply.json();
        }
        tokio::task::yield_now().await;
    }
}

fn verdicts(explanation: &Value) -> Vec<(String, String)> {
    let candidates = explanation["candidates"].as_array().expect("a list");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = candidates.iter();
    pairs
        .map(|one| (word(&one["provider"]), word(&one["verdict"])))
        .collect()
}

fn pair(provider: &str, verdict: &str) -> (String, String) {
    (provider.to_owned(), verdict.to_owned())
}

fn limited(mock: &Mock) {
    mock.script(Rule {
        then: Behaviour {
            status: Some(429),
            headers: [("retry-after".to_owned(), "60".to_owned())].into(),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
}

#[tokio::test]
async fn what_would_come_of_a_call_is_what_comes_of_it() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    let body = json!({"model": "smart", "max_tokens": 50, "logprobs": true,
        "messages": [{"role": "user", "content": "Hi"}]});
    let before = explained(&gate, json!({"body": body, "key": "dev"})).await;
    assert_eq!(verdicts(&before), [pair("a", "asked"), pair("b", "asked")]);
    assert_eq!(
        (&before["key"], &before["team"]),
        (&json!("dev"), &json!("red"))
    );
    assert_eq!(before["output_tokens"], 50);
    let [first, second] = [0, 1].map(|at| before["candidates"][at].clone());
    assert_eq!(
        first["lane"],
        json!({"kind": "native", "format": "openai-chat"})
    );
    assert_eq!(first["altered"], json!(["/model"]));
    assert_eq!(first["strategy"], "fill-first");
    assert_eq!(first["price"]["model"], "gpt-4o-mini", "{first}");
    assert_eq!(second["lane"]["kind"], "translated");
    assert_eq!(second["losses"], json!(["/logprobs"]));
    assert!(
        calls(&a).is_empty() && calls(&b).is_empty(),
        "nobody was asked"
    );

    limited(&a);
    let reply = call(&gate, "dev", &body, "1").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let told: Value = serde_json::from_str(reply.header("x-polygate-explain")).expect("JSON");
    assert_eq!(verdicts(&told), [pair("a", "asked"), pair("b", "asked")]);
    assert_eq!(reply.header("x-polygate-provider"), "b");
    assert_eq!(reply.header("x-polygate-dropped"), "/logprobs");

    let after = explained(&gate, json!({"body": body})).await;
    assert_eq!(verdicts(&after), [pair("b", "asked"), pair("a", "limit")]);
    let wait = after["candidates"][1]["rests_for_seconds"].as_u64();
    assert!(
        wait.is_some_and(|wait| (50..=60).contains(&wait)),
        "{after}"
    );
    let reply = call(&gate, "dev", &body, "1").await;
    let told: Value = serde_json::from_str(reply.header("x-polygate-explain")).expect("JSON");
    assert_eq!(verdicts(&told), verdicts(&after));
    assert_eq!(reply.header("x-polygate-attempts"), "1");

    let id = reply.header("x-request-id");
    let past = past(&gate, id).await;
    assert_eq!(past["request_id"], id);
    assert_eq!(past["passed_over"][0]["provider"], "a");
    assert_eq!(past["passed_over"][0]["verdict"], "limit");
    assert_eq!(past["attempts"][0]["provider_name"], "b");
    assert!(
        past["attempts"][0]["started_ms"]
            .as_f64()
            .is_some_and(|at| at >= 0.0)
    );
    assert_eq!(past["losses"], json!(["/logprobs"]));
    let lane = json!({"kind": "translated", "format": "anthropic-messages"});
    assert_eq!(past["lane"], lane);
    assert_eq!(
        past["considered"],
        json!([]),
        "nothing measured decides where the first comes first"
    );
}

#[tokio::test]
async fn what_a_call_was_held_to_and_chosen_by_is_known_afterwards() {
    let (a, b) = (mock("a").await, mock("b").await);
    let more = "
  quick:
    strategy: least-busy
    targets:
      - {provider: a, model: gpt-4o-mini}
      - {provider: a, model: gpt-4o-mini-2}
  virtual: {routes: [{when: {stream: true}, model: smart}, {model: quick}]}
payload: {default: [{params: {temperature: 0.5}}]}
teams:";
    let config = config(&a, &b).replace("model_mapping: [gpt-4o-mini]", "priority: 0");
    let gate = Gate::start(&config.replace("\nteams:", more));
    let body = json!({"model": "virtual", "messages": []});
    let reply = call(&gate, "poor", &body, "0").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let past_one = past(&gate, reply.header("x-request-id")).await;
    let route = json!([{"model": "virtual", "route": 2, "to": "quick"}]);
    assert_eq!(past_one["routes"], route);
    let limit = &past_one["limits"][0];
    assert_eq!(
        (&limit["name"], &limit["most"], &limit["left"]),
        (&json!("poor"), &json!(1), &json!(0))
    );
    let considered = past_one["considered"].as_array().expect("a list");
    assert_eq!(considered.len(), 2, "{past_one}");
    assert_eq!(considered[0]["scores"]["calls"], 0);
    assert_eq!(past_one["lane"]["kind"], "native");
    assert_eq!(past_one["altered"], json!(["/model"]));
    assert_eq!(past_one["rules"], json!(["default[0] temperature"]));

    let refused = call(&gate, "poor", &body, "0").await;
    assert_eq!(refused.status, 429);
    let past_two = past(&gate, refused.header("x-request-id")).await;
    assert_eq!(past_two["limits"][0]["left"], 0);
    assert_eq!(past_two["refusal"]["code"], "rate_limit_exceeded");
    assert_eq!(
        (&past_two["lane"], &past_two["considered"]),
        (&Value::Null, &json!([]))
    );
}

#[tokio::test]
async fn limits_are_judged_and_looking_takes_nothing_of_them() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    let body = json!({"model": "smart", "messages": []});
    for _ in 0..20 {
        let explanation = explained(&gate, json!({"body": body, "key": "poor"})).await;
        assert_eq!(explanation["refusal"], Value::Null);
        assert_eq!(explanation["limits"][0]["left"], 1);
    }
    let reply = call(&gate, "poor", &body, "0").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let explanation = explained(&gate, json!({"body": body, "key": "poor"})).await;
    assert_eq!(
        explanation["refusal"]["code"], "rate_limit_exceeded",
        "{explanation}"
    );
    let refused = call(&gate, "poor", &body, "0").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.json()["error"]["message"],
        explanation["refusal"]["message"]
    );
}

#[tokio::test]
async fn only_those_who_may_see_explanations() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    let body = json!({"model": "smart", "stream": true, "messages": []});
    let told = call(&gate, "plain", &body, "1").await;
    let told = told.header("x-polygate-explain").to_owned();
    assert!(
        told.contains("may not see") && !told.contains("candidates"),
        "{told}"
    );
    let told = call(&gate, "dev", &body, "true").await;
    let told = told.header("x-polygate-explain");
    assert!(told.contains("\"candidates\":[{"), "{told}");
    assert!(!told.contains("k-of-a"), "no key of a provider: {told}");
    let silent = call(&gate, "dev", &body, "0").await;
    assert_eq!(silent.header("x-polygate-explain"), "");
    let leader = "sk-leader-0123456789";
    let refused = ask_as(&gate, leader, POST, "explain", &[], &body).await;
    assert_eq!(refused.status, 403);
    let own = call(&gate, "plain", &body, "0").await;
    let id = own.header("x-request-id");
    past(&gate, id).await;
    let path = format!("explain/{id}");
    let seen = ask_as(&gate, leader, GET, &path, &[], &Value::Null).await;
    assert_eq!(seen.status, 200, "a call of its team");
}

#[tokio::test]
async fn what_cannot_be_understood_names_the_field() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    for (body, field) in [
        (json!({"messages": []}), "body.model"),
        (
            json!({"endpoint": "/health", "body": {"model": "smart"}}),
            "endpoint",
        ),
        (json!({"key": "nobody", "body": {"model": "smart"}}), "key"),
        (
            json!({"headers": {"x-api-key": "k"}, "body": {"model": "smart"}}),
            "headers.x-api-key",
        ),
        (
            json!({"body": {"model": "smart", "stream": 7}}),
            "body.stream",
        ),
    ] {
        let refused = asked(&gate, POST, "explain", body, 422).await;
        assert_eq!(refused["error"]["fields"][0]["field"], field, "{refused}");
    }
    let gemini =
        json!({"endpoint": "/v1beta/models/smart:streamGenerateContent", "body": {"contents": []}});
    let explanation = explained(&gate, gemini).await;
    assert_eq!(
        (&explanation["model"], &explanation["stream"]),
        (&json!("smart"), &json!(true))
    );
    let unknown = explained(&gate, chat("nobody-has-it", false)).await;
    assert_eq!(unknown["refusal"]["code"], "model_not_found", "{unknown}");
    let reply = ask_as(
        &gate,
        ADMIN_KEY,
        GET,
        "explain/no-such-call",
        &[],
        &Value::Null,
    )
    .await;
    assert_eq!(reply.status, 404);
}

/// What `polygate explain` prints with these words, beside a gateway.
fn printed(gate: &Gate, words: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_polygate"))
        .arg("explain")
        .args(words)
        .current_dir(gate.dir())
        .env_clear()
        .env("ADMIN_KEY", ADMIN_KEY)
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    (output.status.success(), text)
}

/// What a body says twice is explained as it is sent: what decides who may do what is refused, of all else the bytes pass.
#[tokio::test]
async fn a_member_that_is_there_twice_is_explained_as_a_call_has_it() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    let admin = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("authorization", &*admin),
        ("content-type", "application/json"),
    ];
    let twice = r#"{"model": "smart", "model": "poor", "messages": []}"#;
    let wrapped = format!(r#"{{"endpoint": "/v1/chat/completions", "body": {twice}}}"#);
    for body in [twice.to_owned(), wrapped] {
        let reply = gate
            .ask(Method::POST, "/admin/v1/explain", &headers, body)
            .await;
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert!(reply.text().contains("body.model"), "{}", reply.text());
    }
    let body = r#"{"model": "smart", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50, "max_tokens": 4000}"#;
    let before = gate
        .ask(Method::POST, "/admin/v1/explain", &headers, body.to_owned())
        .await;
    assert_eq!(before.status, 200, "{}", before.text());
    let own = [
        ("authorization", "Bearer sk-dev-0123456789"),
        ("x-polygate-explain", "1"),
    ];
    let reply = gate
        .ask(Method::POST, "/v1/chat/completions", &own, body.to_owned())
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let told: Value = serde_json::from_str(reply.header("x-polygate-explain")).expect("JSON");
    assert_eq!(
        before.json()["output_tokens"],
        told["output_tokens"],
        "{told}"
    );
    let sent = calls(&a).last().and_then(|entry| entry.body.clone());
    let sent = String::from_utf8(sent.expect("a body").to_vec()).expect("text");
    assert!(
        sent.contains(r#""max_tokens": 50, "max_tokens": 4000"#),
        "{sent}"
    );
    let described_twice = format!(r#"{{"body": {body}, "body": {body}}}"#);
    let reply = gate
        .ask(Method::POST, "/admin/v1/explain", &headers, described_twice)
        .await;
    assert_eq!(reply.status, 400, "{}", reply.text());
}

#[tokio::test]
async fn the_command_line_says_the_same_to_people() {
    let (a, b) = (mock("a").await, mock("b").await);
    let gate = Gate::start(&config(&a, &b));
    limited(&a);
    let body = json!({"model": "smart", "messages": [{"role": "user", "content": "Hi"}]});
    let reply = call(&gate, "dev", &body, "0").await;
    let id = reply.header("x-request-id");
    past(&gate, id).await;

    let (is_good, text) = printed(&gate, &["--offline", "--model", "smart", "--key", "poor"]);
    assert!(is_good, "{text}");
    assert!(text.contains("1. a / a#1 as gpt-4o-mini: asked"), "{text}");
    assert!(text.contains("key poor: 1 requests left of 1"), "{text}");
    let (_, text) = printed(&gate, &["--url", &gate.url, "--model", "smart"]);
    assert!(
        text.contains("1. b / b#1 as claude-haiku-4-5: asked"),
        "{text}"
    );
    assert!(
        text.contains("-  a / a#1 as gpt-4o-mini: limit, rests "),
        "{text}"
    );
    let (_, text) = printed(&gate, &["--url", &gate.url, id]);
    assert!(text.contains("1. a / a#1 as gpt-4o-mini: "), "{text}");
    assert!(text.contains("completed with 200"), "{text}");
    let (_, text) = printed(&gate, &["--url", &gate.url, "--model", "smart", "--json"]);
    let object: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(verdicts(&object), [pair("b", "asked"), pair("a", "limit")]);
    let (is_good, text) = printed(&gate, &["--url", &gate.url, "no-such-call"]);
    assert!(!is_good && text.contains("404"), "{text}");
    let (is_good, text) = printed(&gate, &["--url", &gate.url, "--key", "nobody", "-m", "x"]);
    assert!(!is_good && text.contains("no enabled key"), "{text}");
}
