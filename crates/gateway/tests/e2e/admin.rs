//! First sight: metrics, health, admin, and the zero-configuration start.

use http::Method;
use polygate_mock_provider::{Behaviour, Rule};

use crate::support::{Gate, chat, mock};

#[tokio::test]
async fn with_nothing_configured_the_first_request_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = Gate::start_in(dir, &["--port", "0"], &[]);
    assert!(gate.url.starts_with("http://127.0.0.1:"));
    let chat_reply = gate
        .post("/v1/chat/completions", &chat("demo", false))
        .await;
    assert!(
        chat_reply.text().contains("Hello there"),
        "{}",
        chat_reply.text()
    );
    let messages = gate
        .ask(
            Method::POST,
            "/v1/messages",
            &[],
            r#"{"model":"demo","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#,
        )
        .await;
    assert_eq!(messages.json()["type"], "message");
    let responses = gate
        .ask(
            Method::POST,
            "/v1/responses",
            &[],
            r#"{"model":"demo","input":"Hi"}"#,
        )
        .await;
    assert_eq!(responses.json()["object"], "response");
    let gemini = gate
        .ask(
            Method::POST,
            "/v1beta/models/demo:generateContent",
            &[],
            r#"{"contents":[{"parts":[{"text":"Hi"}]}]}"#,
        )
        .await;
    assert!(gemini.json()["candidates"].is_array());
}

#[tokio::test]
async fn keys_in_the_environment_are_providers() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join(".env"),
        "ANTHROPIC_API_KEY=sk-ant-env\nOPENAI_API_KEY=from-file\n",
    )
    .expect("written");
    let gate = Gate::start_in(
        dir,
        &["--port", "0"],
        &[("OPENAI_API_KEY", "sk-openai-env")],
    );
    let config = gate.admin("/admin/config").await.json();
    let names: Vec<&str> = config["providers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|provider| provider["name"].as_str())
        .collect();
    assert_eq!(names, ["openai", "anthropic"]);
    assert!(!config.to_string().contains("sk-"));
}

#[tokio::test]
async fn admin_pages_are_behind_the_admin_key_only() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: sk-provider-key, model_mapping: [m]}}]\nmaster_keys: [{{name: me, key: sk-client-key}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    for path in ["/admin/config", "/admin/metrics", "/admin/models"] {
        assert_eq!(gate.get(path).await.status, 401, "{path}");
        assert_eq!(
            gate.ask(
                Method::GET,
                path,
                &[("authorization", "Bearer sk-client-key")],
                ""
            )
            .await
            .status,
            401,
            "{path}"
        );
        let reply = gate.admin(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.text().contains("sk-"), "{}", reply.text());
    }
    assert_eq!(gate.admin("/health/detailed").await.status, 200);
    assert_eq!(gate.get("/health/ready").await.status, 200);
    assert_eq!(gate.ask(Method::HEAD, "/", &[], "").await.status, 200);
}

#[tokio::test]
async fn metrics_agree_with_what_the_provider_served() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nretry: {{max_retries: 0}}\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    for stream in [false, true, true] {
        assert_eq!(
            gate.post("/v1/chat/completions", &chat("m", stream))
                .await
                .status,
            200
        );
    }
    mock.script(Rule {
        times: Some(1),
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        500
    );
    for at in 0..20 {
        gate.post(
            "/v1/chat/completions",
            &chat(&format!("unknown-{at}"), false),
        )
        .await;
    }
    let metrics = gate.get("/metrics").await.text();
    let line = |parts: &[&str]| {
        metrics
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)))
            .unwrap_or_else(|| panic!("{parts:?} in {metrics}"))
            .to_owned()
    };
    assert!(
        line(&[
            "llm_proxy_requests_total{",
            "model=\"m\"",
            "provider=\"p\"",
            "status_code=\"200\""
        ])
        .ends_with(" 3")
    );
    assert!(line(&["llm_proxy_requests_total{", "status_code=\"500\""]).ends_with(" 1"));
    assert!(
        line(&[
            "llm_proxy_requests_total{",
            "model=\"other\"",
            "status_code=\"404\""
        ])
        .ends_with(" 20")
    );
    assert!(line(&["llm_proxy_active_requests{", "chat/completions"]).ends_with(" 0"));
    assert!(line(&["llm_proxy_request_duration_seconds_count{", "model=\"m\""]).ends_with(" 4"));
    assert!(!metrics.contains("unknown-"));
    let totals = gate.admin("/admin/metrics").await.json();
    assert_eq!(
        (
            totals["total_requests"].as_u64(),
            totals["total_errors"].as_u64()
        ),
        (Some(24), Some(21))
    );
    let served: u64 = mock.ledger().iter().map(|entry| entry.output_tokens).sum();
    assert_eq!(totals["total_output_tokens"].as_u64(), Some(served));
}
