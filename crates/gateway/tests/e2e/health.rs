//! What operators see of providers, keys and models, what they reset, and what they have checked.

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Gate, Reply, calls, chat, mock, until};

/// A gateway before this mock, with two keys for it, one after the other.
fn gate(mock: &Mock, more: &str) -> Gate {
    Gate::start(&format!(
        "
providers:
  - name: p
    type: mock
    api_base: '{}'
    api_keys: [{{key: sk-secret-one, name: one}}, {{key: sk-secret-two, name: two, priority: 1}}]
    model_mapping: {{m: m-there}}
retry: {{max_retries: 0}}
health_check: {{enabled: false}}
{more}",
        mock.url()
    ))
}

fn fails(mock: &Mock, status: u16, times: u64) {
    mock.script(Rule {
        times: Some(times),
        then: Behaviour {
            status: Some(status),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
}

async fn call(gate: &Gate) -> u16 {
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    reply.status.as_u16()
}

async fn admin(gate: &Gate, method: Method, path: &str, body: &str) -> Reply {
    let key = format!("Bearer {ADMIN_KEY}");
    let headers = [("authorization", &*key)];
    gate.ask(method, path, &headers, body.to_owned()).await
}

/// The one provider as the admin sees it.
async fn seen(gate: &Gate) -> Value {
    let reply = admin(gate, Method::GET, "/admin/v1/health", "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains("secret"), "{}", reply.text());
    reply.json()["providers"][0].clone()
}

async fn reset(gate: &Gate, which: &Value) -> Reply {
    let path = "/admin/v1/health/reset";
    admin(gate, Method::POST, path, &which.to_string()).await
}

async fn metric(gate: &Gate, series: &str) -> String {
    let text = gate.get("/metrics").await.text();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(series))
        .collect();
    assert_eq!(lines.len(), 1, "{series} in {text}");
    lines.concat().trim().to_owned()
}

#[tokio::test]
async fn a_breaker_that_opened_is_seen_and_reset() {
    let mock = mock("p").await;
    let gate = gate(&mock, "");
    let fresh = seen(&gate).await;
    assert_eq!(fresh["status"], "ok");
    assert_eq!(fresh["breaker"]["state"], "closed");
    fails(&mock, 500, 5);
    for _ in 0..5 {
        assert_eq!(call(&gate).await, 500);
    }
    let open = seen(&gate).await;
    assert_eq!(open["status"], "error");
    assert_eq!(open["breaker"]["state"], "open");
    assert_eq!(open["breaker"]["reason"], "breaker");
    assert_eq!(open["breaker"]["trips"], 1);
    let seconds = open["breaker"]["seconds"].as_f64().unwrap_or_default();
    assert!(seconds > 0.0 && seconds <= 15.0, "{open}");
    let state = "polygate_provider_breaker_state{provider=\"p\",state=\"open\"}";
    assert_eq!(metric(&gate, state).await, "1");
    assert_eq!(call(&gate).await, 503);
    assert_eq!(calls(&mock).len(), 5, "nobody asks one that rests");

    let ended = reset(&gate, &json!({})).await.json();
    let breaker = json!({"provider": "p", "credential": null, "model": null, "reason": "breaker"});
    assert_eq!(ended, json!({"reset": [breaker]}));
    assert_eq!(call(&gate).await, 200);
    assert_eq!(seen(&gate).await["breaker"]["state"], "closed");
    assert_eq!(metric(&gate, state).await, "0");
    let opened = "polygate_provider_breaker_opened_total{provider=\"p\"}";
    assert_eq!(metric(&gate, opened).await, "1");
    assert!(gate.log().contains("a rest was ended by the admin"));
}

#[tokio::test]
async fn who_lists_its_models_and_cuts_every_chat_is_not_woken_by_its_list() {
    let mock = mock("p").await;
    let gate = gate(&mock, "");
    mock.script(Rule {
        model: Some("m-there".to_owned()),
        then: Behaviour {
            fault: Some(Fault::Refuse),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    for _ in 0..5 {
        assert_eq!(call(&gate).await, 502);
    }
    let asked = admin(&gate, Method::POST, "/admin/v1/health/check", "").await;
    assert_eq!(asked.json()["providers"][0]["status"], "healthy");
    let breaker = seen(&gate).await["breaker"].clone();
    assert_eq!(breaker["state"], "open");
    assert_eq!(breaker["reason"], "breaker");
    assert_eq!(call(&gate).await, 503);
}

#[tokio::test]
async fn a_key_that_rests_is_seen_and_reset_by_its_name() {
    let mock = mock("p").await;
    let gate = gate(&mock, "");
    fails(&mock, 429, 1);
    assert_eq!(call(&gate).await, 429);
    let provider = seen(&gate).await;
    assert_eq!(provider["status"], "partial");
    let [one, two] = [0, 1].map(|at| &provider["credentials"][at]);
    assert_eq!(
        (&one["name"], &one["status"]),
        (&json!("one"), &json!("resting"))
    );
    assert_eq!(one["reason"], "limit");
    assert!(one["seconds"].as_f64().is_some_and(|left| left > 50.0));
    assert_eq!(
        (&two["name"], &two["status"]),
        (&json!("two"), &json!("ok"))
    );
    let rests = "polygate_credential_resting{provider=\"p\",credential=\"one\"}";
    assert_eq!(metric(&gate, rests).await, "1");

    assert_eq!(call(&gate).await, 200);
    let used = |mock: &Mock| {
        let last = calls(mock).pop().map(|entry| entry.headers);
        format!("{last:?}").contains("sk-secret-one")
    };
    assert!(!used(&mock), "one rests");
    let named = json!({"provider": "p", "credential": "one"});
    let ended = reset(&gate, &named).await.json();
    assert_eq!(ended["reset"][0]["credential"], "one");
    assert_eq!(call(&gate).await, 200);
    assert!(used(&mock), "one is asked again");
    let one = seen(&gate).await["credentials"][0].clone();
    assert!(one["latency_ms"].is_u64(), "{one}");
    assert_eq!(one["models"][0]["model"], "m-there");
    assert_eq!(metric(&gate, rests).await, "0");
}

#[tokio::test]
async fn a_model_that_rests_is_seen_and_reset_as_clients_call_it() {
    let mock = mock("p").await;
    let gate = gate(&mock, "");
    mock.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(404),
            body: Some(r#"{"error":{"message":"no such model","type":"invalid_request_error","code":"model_not_found"}}"#.to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    assert_eq!(call(&gate).await, 404);
    let model = seen(&gate).await["models"][0].clone();
    assert_eq!(
        (&model["model"], &model["reason"]),
        (&json!("m-there"), &json!("model"))
    );
    let resting = "polygate_provider_models_resting{provider=\"p\"}";
    assert_eq!(metric(&gate, resting).await, "1");
    let ended = reset(&gate, &json!({"model": "m"})).await.json();
    assert_eq!(ended["reset"][0]["model"], "m-there");
    assert_eq!(call(&gate).await, 200);
    assert_eq!(metric(&gate, resting).await, "0");
}

#[tokio::test]
async fn calls_under_way_are_seen_and_retries_are_counted() {
    let (first, second) = (mock("first").await, mock("second").await);
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: first, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}
  - {{name: second, type: mock, api_base: '{}', api_key: k, model_mapping: [m], max_concurrent: 3}}
routing: {{strategy: fill-first}}
health_check: {{enabled: false}}",
        first.url(),
        second.url()
    ));
    fails(&first, 500, 1);
    second.script(Rule {
        then: Behaviour {
            tokens: Some(10_000),
            token_ms: 20,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let body = chat("m", true).to_string();
    let path = "/v1/chat/completions";
    let stream = gate.send(Method::POST, path, &[], body).await;
    assert_eq!(stream.status(), 200);
    let all = gate.admin("/admin/v1/health").await.json();
    let [first, second] = [0, 1].map(|at| &all["providers"][at]);
    assert_eq!((&first["calls"], &second["calls"]), (&json!(0), &json!(1)));
    assert_eq!(second["max_calls"], 3);
    assert_eq!(second["connections"]["open"], 1);
    assert_eq!(second["retries"]["tried"], 1);
    let under_way = "polygate_provider_calls{provider=\"second\"}";
    assert_eq!(metric(&gate, under_way).await, "1");
    let retries = "polygate_provider_retries_total{provider=\"second\"}";
    assert_eq!(metric(&gate, retries).await, "1");
    let refused = "polygate_provider_retries_refused_total{provider=\"second\"}";
    assert_eq!(metric(&gate, refused).await, "0");
}

#[tokio::test]
async fn what_cannot_be_reset_is_said() {
    let mock = mock("p").await;
    let gate = gate(&mock, "master_keys: [{name: me, key: sk-client-key}]");
    let path = "/admin/v1/health/reset";
    for (which, status, said) in [
        (r#"{"provider":"q"}"#, 404, "no provider 'q'"),
        (r#"{"credential":"q"}"#, 404, "no credential 'q'"),
        (r#"{"model":"q"}"#, 404, "no model 'q'"),
        (r#"{"providr":"p"}"#, 400, "'providr' is not known here"),
        (r#"{"provider":7}"#, 400, "'provider' must be a name"),
        ("[]", 400, "must be a JSON object"),
        ("{", 400, "no JSON"),
    ] {
        let reply = admin(&gate, Method::POST, path, which).await;
        assert_eq!(reply.status, status, "{which}");
        let message = reply.json()["error"]["message"].to_string();
        assert!(message.contains(said), "{which}: {message}");
    }
    assert_eq!(admin(&gate, Method::POST, path, "").await.status, 200);
    assert_eq!(admin(&gate, Method::GET, path, "").await.status, 405);
    let page = "/admin/v1/health";
    assert_eq!(admin(&gate, Method::HEAD, page, "").await.status, 200);
    assert_eq!(admin(&gate, Method::POST, page, "").await.status, 405);
    for key in ["sk-client-key", "wrong"] {
        let key = format!("Bearer {key}");
        let headers = [("authorization", &*key)];
        for (method, path) in [(Method::GET, page), (Method::POST, path)] {
            let reply = gate.ask(method, path, &headers, "{}").await;
            assert_eq!(reply.status, 401, "{path}");
        }
    }
}

#[tokio::test]
async fn a_check_costs_no_tokens_unless_models_are_named() {
    let mock = mock("p").await;
    let gate = gate(&mock, "");
    let path = "/admin/v1/health/check";
    let reply = admin(&gate, Method::POST, path, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["total_providers"], 1);
    assert_eq!(answer["healthy_providers"], 1);
    assert_eq!(answer["unhealthy_providers"], 0);
    let provider = &answer["providers"][0];
    assert_eq!(provider["provider_id"], "p");
    assert_eq!(provider["provider_type"], "mock");
    assert_eq!(provider["status"], "healthy");
    assert!(provider["avg_response_time_ms"].is_u64() && provider["checked_at"].is_u64());
    assert!(calls(&mock).is_empty() && !mock.ledger().is_empty());

    mock.script(Rule {
        model: Some("gone".to_owned()),
        then: Behaviour {
            status: Some(500),
            error: Some("no way with sk-secret-one".to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let body = r#"{"provider_ids":["p"],"models":["m","gone"],"timeout_secs":5}"#;
    let reply = admin(&gate, Method::POST, path, body).await;
    let provider = reply.json()["providers"][0].clone();
    assert_eq!(provider["status"], "healthy", "one of them answers");
    assert_eq!(provider["models"][0]["status"], "healthy");
    assert_eq!(provider["models"][1]["status"], "unhealthy");
    let error = provider["models"][1]["error"].to_string();
    assert!(
        error.contains("no way") && !error.contains("secret"),
        "{error}"
    );
    let asked: Vec<String> = calls(&mock).into_iter().map(|entry| entry.model).collect();
    assert_eq!(asked, ["m-there", "gone"]);
    let question = calls(&mock).remove(0).body.unwrap_or_default();
    let question: Value = serde_json::from_slice(&question).expect("JSON");
    assert_eq!(question["max_tokens"], 1);

    // By its number, as llm-proxy's clients have it.
    let path = "/admin/v1/providers/1/health";
    let body = r#"{"models":["m","gone"],"max_concurrent":10,"timeout_secs":5}"#;
    let provider = admin(&gate, Method::POST, path, body).await.json();
    assert_eq!(provider["provider_id"], "p");
    assert_eq!(
        provider["summary"],
        json!({"total_models": 2, "healthy_models": 1, "unhealthy_models": 1})
    );
    assert_eq!(provider["models"][1]["model"], "gone", "in their order");
    let numbered = admin(
        &gate,
        Method::POST,
        "/admin/v1/health/check",
        r#"{"provider_ids":[1]}"#,
    );
    assert_eq!(numbered.await.json()["healthy_providers"], 1);
    for (path, body, status) in [
        ("/admin/v1/providers/2/health", "", 404),
        ("/admin/v1/providers/0/health", "", 404),
        (
            "/admin/v1/providers/p/health",
            r#"{"provider_ids":["p"]}"#,
            400,
        ),
        (
            "/admin/v1/providers/p/health",
            r#"{"max_concurrent":11}"#,
            400,
        ),
        ("/admin/v1/providers/p/health", "", 200),
    ] {
        let reply = admin(&gate, Method::POST, path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    assert_eq!(gate.ask(Method::POST, path, &[], "").await.status, 401);

    let path = "/admin/v1/health/providers/p?models=gone&timeout_secs=5";
    let provider = admin(&gate, Method::GET, path, "").await.json();
    assert_eq!(provider["status"], "unhealthy");
    assert_eq!(provider["models"][0]["model"], "gone");
    let costs = "llm_proxy_tokens_total{model=\"m\",provider=\"p\",token_type=\"total_tokens\",api_key_name=\"health-check\"}";
    assert_ne!(metric(&gate, costs).await, "0", "what it costs is counted");
}

/// Answers of models that spent their token on thinking: provider's type, model, answer.
const THINKERS: [(&str, &str, &str); 6] = [
    (
        "openai",
        "chat-1",
        r#"{"id":"c","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#,
    ),
    (
        "openai-compatible",
        "chat-2",
        r#"{"id":"c","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant","content":null},"finish_reason":"length"}]}"#,
    ),
    (
        "openai, wire_api: responses",
        "thinker",
        r#"{"id":"resp_1","object":"response","created_at":1,"model":"x","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"reasoning","id":"rs_1","summary":[]}],"usage":{"input_tokens":7,"output_tokens":16,"total_tokens":23}}"#,
    ),
    (
        "anthropic",
        "claude",
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[],"stop_reason":"max_tokens","stop_sequence":null,"usage":{"input_tokens":8,"output_tokens":1}}"#,
    ),
    (
        "gemini",
        "gemini-1",
        r#"{"candidates":[{"content":{"role":"model"},"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":2,"totalTokenCount":3,"thoughtsTokenCount":1},"modelVersion":"x"}"#,
    ),
    (
        "gemini",
        "gemini-2",
        r#"{"candidates":[{"finishReason":"MAX_TOKENS","index":0}],"usageMetadata":{"promptTokenCount":2,"totalTokenCount":2}}"#,
    ),
];

#[tokio::test]
async fn a_model_that_thinks_its_one_token_away_is_well() {
    let mock = mock("p").await;
    let mut providers = String::new();
    for (kind, model, answer) in THINKERS {
        mock.script(Rule {
            model: Some(model.to_owned()),
            then: Behaviour {
                body: Some(answer.to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let url = mock.url();
        providers += &format!(
            "  - {{name: {model}, type: {kind}, api_base: '{url}', api_key: k, model_mapping: [{model}]}}\n"
        );
    }
    let gate = Gate::start(&format!(
        "providers:\n{providers}health_check: {{enabled: false}}"
    ));
    for (kind, model, _) in THINKERS {
        let page = format!("/admin/v1/health/providers/{model}?models={model}");
        let checked = admin(&gate, Method::GET, &page, "").await.json();
        assert_eq!(checked["status"], "healthy", "{kind}: {checked}");
    }
    let asked: Vec<String> = calls(&mock).into_iter().map(|entry| entry.model).collect();
    assert_eq!(asked, THINKERS.map(|(_, model, _)| model));
}

#[tokio::test]
async fn a_check_says_what_it_cannot_do() {
    let mock = mock("p").await;
    let gate = gate(
        &mock,
        "master_keys: [{name: me, key: sk-client-key}]\nallow_anonymous: false",
    );
    let path = "/admin/v1/health/check";
    for (body, status, said) in [
        (r#"{"provider_ids":["q"]}"#, 404, "no provider 'q'"),
        (r#"{"provider_ids":"p"}"#, 400, "must be a list of names"),
        (r#"{"timeout_secs":0}"#, 400, "from 1 to 120"),
        (r#"{"max_concurrent":11}"#, 400, "from 1 to 10"),
        (r#"{"model":"m"}"#, 400, "'model' is not known here"),
    ] {
        let reply = admin(&gate, Method::POST, path, body).await;
        assert_eq!(reply.status, status, "{body}");
        assert!(reply.text().contains(said), "{body}: {}", reply.text());
    }
    let page = "/admin/v1/health/providers/q";
    assert_eq!(admin(&gate, Method::GET, page, "").await.status, 404);
    let page = "/admin/v1/health/providers/p?timeout_secs=many";
    assert_eq!(admin(&gate, Method::GET, page, "").await.status, 400);
    assert_eq!(gate.get("/admin/v1/health/providers/p").await.status, 401);
    assert!(mock.ledger().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_provider_that_is_gone_is_unhealthy_and_one_that_is_disabled_is_not_asked() {
    let gate = Gate::start(
        "
providers:
  - {name: gone, type: mock, api_base: 'http://127.0.0.1:9', api_key: k, model_mapping: [m]}
  - {name: off, type: mock, api_base: 'http://127.0.0.1:9', api_key: k, model_mapping: [m], disabled: true}
health_check: {enabled: false}",
    );
    let path = "/admin/v1/health/check";
    let answer = admin(&gate, Method::POST, path, "{}").await.json();
    let [gone, off] = [0, 1].map(|at| &answer["providers"][at]);
    assert_eq!(
        (&gone["status"], &off["status"]),
        (&json!("unhealthy"), &json!("disabled"))
    );
    assert!(gone["error"].is_string(), "{gone}");
    assert_eq!(
        (&answer["total_providers"], &answer["unhealthy_providers"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(seen(&gate).await["breaker"]["reason"], "unreachable");
}

/// A gateway that chats with its models every second, before this mock.
fn probing(mock: &Mock, probes: &str, cooldown: &str) -> Gate {
    Gate::start(&format!(
        "
providers:
  - name: p
    type: mock
    api_base: '{}'
    api_key: k
    model_mapping: {{m: m-there, 'gpt-*': other}}
{probes}
models: {{best: {{targets: [{{provider: p, model: best-there}}]}}}}
retry: {{max_retries: 0, breaker_threshold: 1, cooldown_error: {cooldown}}}",
        mock.url()
    ))
}

/// Waits for the provider's breaker to be in this state.
async fn until_breaker(gate: &Gate, state: &str) {
    let start = std::time::Instant::now();
    while seen(gate).await["breaker"]["state"] != state {
        assert!(start.elapsed().as_secs() < 10, "not in time: {state}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn chats_find_a_model_that_fails_and_close_its_breaker_when_it_is_well() {
    let mock = mock("p").await;
    mock.script(Rule {
        model: Some("best-there".to_owned()),
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let probes = "health_check: {probe_models: true, interval: 1}";
    let gate = probing(&mock, probes, "1s");
    until_breaker(&gate, "open").await;
    let mut asked: Vec<String> = calls(&mock).into_iter().map(|entry| entry.model).collect();
    asked.truncate(2);
    assert_eq!(asked, ["m-there", "best-there"], "what is named, in order");
    mock.clear();
    until_breaker(&gate, "closed").await;
    assert!(
        gate.log()
            .contains("a model does not answer the health check")
    );
}

#[tokio::test]
async fn a_provider_may_name_the_one_model_that_is_chatted_with() {
    let mock = mock("p").await;
    let probes = "    health_check: {model: gpt-x}\nhealth_check: {interval: 1}";
    let gate = probing(&mock, probes, "1s");
    until("two chats", || calls(&mock).len() >= 2).await;
    assert!(calls(&mock).iter().all(|entry| entry.model == "other"));
    assert_eq!(seen(&gate).await["breaker"]["state"], "closed");
}

#[tokio::test]
async fn without_being_asked_nobody_chats() {
    let mock = mock("p").await;
    let gate = probing(&mock, "health_check: {interval: 1}", "1s");
    until("two lists", || mock.ledger().len() >= 2).await;
    assert!(calls(&mock).is_empty());
    drop(gate);
}
