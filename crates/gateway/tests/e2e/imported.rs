//! LiteLLM's file, imported by the binary and served by it: calls get what deployments give to those that do not say it.

use std::process::Command;

use polygate_mock_provider::{Behaviour, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, calls, chat, mock};

const LITELLM: &str = r#"
model_list:
  - model_name: creative
    litellm_params: &params
      model: openai/gpt-4o
      api_base: os.environ/UPSTREAM
      api_key: os.environ/UPSTREAM_KEY
      temperature: 1.1
      seed: os.environ/SEED
      stop: ["\n\n"]
      extra_body: {metadata.team: poets, note: "US$ ${SEED}"}
      extra_headers: {X-Team: poets}
  - model_name: precise
    litellm_params: {<<: *params, temperature: 0, extra_body: {}, stop: null}
  - model_name: plain
    litellm_params: {<<: *params, model: openai/other, temperature: null, seed: null, stop: null, extra_body: {}}
  - model_name: long
    litellm_params: {model: anthropic/claude-haiku-4-5, api_base: os.environ/UPSTREAM, api_key: os.environ/UPSTREAM_KEY, max_tokens: 7_77}
  - model_name: thinker
    litellm_params: {<<: *params, model: openai/o3, temperature: null, extra_body: {}, stop: null, max_tokens: 888}
  - model_name: "open/*"
    litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: os.environ/UPSTREAM_KEY, top_p: 0.5}
router_settings: {model_group_alias: {poet: creative}}
guardrails:
  - guardrail_name: secrets
    litellm_params: {guardrail: hide-secrets, mode: pre_call, default_on: true}
"#;

/// What the provider was sent of a call.
async fn sent(gate: &Gate, mock: &polygate_mock_provider::Mock, body: Value) -> (Value, String) {
    sent_at("/v1/chat/completions", gate, mock, body).await
}

/// The same of a call of any format.
async fn sent_at(
    path: &str,
    gate: &Gate,
    mock: &polygate_mock_provider::Mock,
    body: Value,
) -> (Value, String) {
    let before = calls(mock).len();
    let reply = gate.post(path, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let calls = calls(mock);
    let [entry] = calls.get(before..).expect("calls") else {
        panic!("one call is made of one");
    };
    let body = entry.body.as_ref().expect("bodies are kept");
    let team = entry.headers.iter().find(|(name, _)| name == "x-team");
    let team = team.map(|(_, value)| value.clone()).unwrap_or_default();
    (serde_json::from_slice(body).expect("JSON"), team)
}

/// What the binary makes of LiteLLM's file.
fn imported(text: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("litellm.yaml");
    std::fs::write(&file, text).expect("written");
    let mut import = Command::new(env!("CARGO_BIN_EXE_polygate"));
    let output = import.arg("import").arg(&file).output().expect("it runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    String::from_utf8(output.stdout).expect("text")
}

const PATTERNS: &str = r#"
model_list:
  - {model_name: "*", litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: widest}}
  - {model_name: "vendor/*", litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: wide}}
  - {model_name: "vendor/new-*", litellm_params: {model: "openai/new-*", api_base: os.environ/UPSTREAM, api_key: narrow}}
  - {model_name: vendor/new-1, litellm_params: {model: openai/own, api_base: os.environ/UPSTREAM, api_key: exact}}
  - {model_name: plain, litellm_params: {model: openai/plain, api_base: os.environ/UPSTREAM, api_key: exact}}
  - {model_name: "all-*", litellm_params: {model: openai/fixed, api_base: os.environ/UPSTREAM, api_key: fixed}}
  - {model_name: "fo::*:static::*", litellm_params: {model: "openai/fo::*:static::*", api_base: os.environ/UPSTREAM, api_key: stars}}
"#;

#[tokio::test]
async fn an_exact_name_goes_before_patterns_and_a_longer_pattern_before_shorter_ones() {
    let mock = mock("p").await;
    let base = format!("{}/v1", mock.url());
    let gate = Gate::start_with(&imported(PATTERNS), &[("UPSTREAM", base.as_str())]);
    for (asked, key, model) in [
        ("vendor/new-1", "exact", "own"),
        ("plain", "exact", "plain"),
        ("vendor/new-2", "narrow", "new-2"),
        ("vendor/old", "wide", "old"),
        ("all-of-it", "fixed", "fixed"),
        ("fo::a:static::b", "stars", "fo::a:static::b"),
        ("whatever", "widest", "whatever"),
    ] {
        // Shares would show in some of these.
        for _ in 0..8 {
            let before = calls(&mock).len();
            let reply = gate.post("/v1/chat/completions", &chat(asked, false)).await;
            assert_eq!(reply.status, 200, "{asked}: {}", reply.text());
            let entry = calls(&mock).get(before).cloned().expect("a call");
            let sent = entry
                .headers
                .iter()
                .find(|(name, _)| name == "authorization");
            let sent = sent.map(|(_, value)| value.clone()).unwrap_or_default();
            let body = entry.body.as_ref().expect("bodies are kept");
            let body: Value = serde_json::from_slice(body).expect("JSON");
            let told = (sent.as_str(), body["model"].as_str());
            assert_eq!(told, (&*format!("Bearer {key}"), Some(model)), "{asked}");
        }
    }
}

const WITHOUT_RETRIES: &str = r#"
model_list:
  - {model_name: a, litellm_params: {model: openai/a, api_base: os.environ/UPSTREAM, api_key: one}}
  - {model_name: a, litellm_params: {model: openai/a, api_base: os.environ/UPSTREAM, api_key: two}}
  - {model_name: b, litellm_params: {model: openai/b, api_base: os.environ/UPSTREAM, api_key: one}}
  - {model_name: long, litellm_params: {model: openai/long, api_base: os.environ/UPSTREAM, api_key: one}}
litellm_settings: {num_retries: 0, fallbacks: [{main: [spare]}, {b: [a]}], context_window_fallbacks: [{b: [long]}]}
router_settings: {model_group_alias: {main: a, spare: b}}
"#;

#[tokio::test]
async fn fallbacks_are_asked_where_there_are_no_retries() {
    let mock = mock("p").await;
    let base = format!("{}/v1", mock.url());
    let gate = Gate::start_with(&imported(WITHOUT_RETRIES), &[("UPSTREAM", base.as_str())]);
    let fails = |model: &str, status: u16, error: &str| {
        mock.script(Rule {
            model: Some(model.to_owned()),
            then: Behaviour {
                status: Some(status),
                error: Some(error.to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
    };
    fails("a", 500, "down");
    let reply = gate
        .post("/v1/chat/completions", &chat("main", false))
        .await;
    assert_eq!(reply.header("x-polygate-model"), "b", "{}", reply.text());
    fails(
        "b",
        400,
        "This model's maximum context length is 8192 tokens",
    );
    let reply = gate.post("/v1/chat/completions", &chat("b", false)).await;
    assert_eq!(reply.header("x-polygate-model"), "long", "{}", reply.text());
}

#[tokio::test]
async fn what_litellm_gave_to_calls_is_given_to_them_here() {
    let native = imported(LITELLM);
    let mock = mock("p").await;
    let base = format!("{}/v1", mock.url());
    let variables = [
        ("UPSTREAM", base.as_str()),
        ("UPSTREAM_KEY", "sk-upstream"),
        ("SEED", "7"),
    ];
    let gate = Gate::start_with(&native, &variables);

    for name in ["creative", "poet"] {
        let (body, team) = sent(&gate, &mock, chat(name, false)).await;
        assert_eq!(team, "poets");
        assert_eq!(body["model"], "gpt-4o");
        for (key, value) in [
            ("temperature", json!(1.1)),
            ("seed", json!(7)),
            ("stop", json!(["\n\n"])),
            ("metadata.team", json!("poets")),
            ("note", json!("US$ ${SEED}")),
        ] {
            assert_eq!(body[key], value, "{name}: {key} of {body}");
        }
    }
    let mut own = chat("creative", false);
    own["temperature"] = json!(0.3);
    own["stop"] = Value::Null;
    let (body, _) = sent(&gate, &mock, own).await;
    assert_eq!(body["temperature"], 0.3, "what a call says stands");
    assert!(body["stop"].is_null() && body["seed"] == 7, "{body}");

    let (body, _) = sent(&gate, &mock, chat("precise", false)).await;
    assert_eq!(body["temperature"], 0, "the same model by another name");
    assert!(body.get("stop").is_none(), "{body}");
    let (body, _) = sent(&gate, &mock, chat("plain", false)).await;
    assert!(body.get("temperature").is_none(), "{body}");
    assert!(body.get("seed").is_none(), "{body}");
    let (body, _) = sent(&gate, &mock, chat("long", false)).await;
    assert_eq!(body["max_tokens"], 777, "before what translation makes up");
    let mut own = chat("long", false);
    own["max_tokens"] = json!(9);
    let (body, _) = sent(&gate, &mock, own).await;
    assert_eq!(body["max_tokens"], 9);
    let (body, _) = sent(&gate, &mock, chat("thinker", false)).await;
    assert_eq!(body["max_completion_tokens"], 888, "{body}");
    assert!(body.get("max_tokens").is_none(), "{body}");
    let (body, _) = sent(&gate, &mock, chat("open/anything", false)).await;
    assert_eq!(
        (&body["model"], &body["top_p"]),
        (&json!("anything"), &json!(0.5))
    );

    let secret = format!("sk-ant-api03-{}", "Ab1".repeat(20));
    let mut told = chat("plain", false);
    told["messages"][0]["content"] = json!(format!("my key is {secret}"));
    let (body, _) = sent(&gate, &mock, told).await;
    assert!(!body.to_string().contains(&secret), "{body}");
}

const LIMITED: &str = r#"
model_list:
  - {model_name: limited, litellm_params: {model: groq/llama, api_base: os.environ/UPSTREAM, api_key: k, max_tokens: 66}}
  - {model_name: "*", litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: wide}}
  - {model_name: "narrow/*", litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: narrow, top_p: 0.5}}
  - {model_name: shared, litellm_params: {model: openai/first, api_base: os.environ/UPSTREAM, api_key: k, weight: 0.9}}
  - {model_name: shared, litellm_params: {model: openai/second, api_base: os.environ/UPSTREAM, api_key: k}}
"#;

#[tokio::test]
async fn clients_of_every_format_have_the_limit_and_patterns_their_own_parameters() {
    let mock = mock("p").await;
    let base = format!("{}/v1", mock.url());
    let gate = Gate::start_with(&imported(LIMITED), &[("UPSTREAM", base.as_str())]);
    let says = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    for (path, body, limit, other) in [
        (
            "/v1/chat/completions",
            chat("limited", false),
            "max_tokens",
            "max_completion_tokens",
        ),
        (
            "/v1/responses",
            json!({"model": "limited", "input": "hi"}),
            "max_output_tokens",
            "max_tokens",
        ),
        (
            "/v1beta/models/limited:generateContent",
            json!({"contents": says}),
            "max_completion_tokens",
            "max_tokens",
        ),
    ] {
        let (body, _) = sent_at(path, &gate, &mock, body).await;
        assert_eq!(body[limit], 66, "{path}: {body}");
        assert!(body.get(other).is_none(), "{path}: {body}");
    }
    let (body, _) = sent(&gate, &mock, chat("narrow/one", false)).await;
    assert_eq!(body["top_p"], 0.5, "{body}");
    let (body, _) = sent(&gate, &mock, chat("another", false)).await;
    assert!(body.get("top_p").is_none(), "{body}");
    for _ in 0..8 {
        let (body, _) = sent(&gate, &mock, chat("shared", false)).await;
        assert_eq!(body["model"], "first", "who says no share gets none");
    }
}
