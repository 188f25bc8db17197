//! LiteLLM's file, imported by the binary and served by it: calls get what deployments give to those that do not say it.

use std::process::Command;

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
  - model_name: "open/*"
    litellm_params: {model: "openai/*", api_base: os.environ/UPSTREAM, api_key: os.environ/UPSTREAM_KEY, top_p: 0.5}
router_settings: {model_group_alias: {poet: creative}}
guardrails:
  - guardrail_name: secrets
    litellm_params: {guardrail: hide-secrets, mode: pre_call, default_on: true}
"#;

/// What the provider was sent of a call.
async fn sent(gate: &Gate, mock: &polygate_mock_provider::Mock, body: Value) -> (Value, String) {
    let before = calls(mock).len();
    let reply = gate.post("/v1/chat/completions", &body).await;
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

#[tokio::test]
async fn what_litellm_gave_to_calls_is_given_to_them_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("litellm.yaml");
    std::fs::write(&file, LITELLM).expect("written");
    let mut import = Command::new(env!("CARGO_BIN_EXE_polygate"));
    let output = import.arg("import").arg(&file).output().expect("it runs");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let native = String::from_utf8(output.stdout).expect("text");

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
