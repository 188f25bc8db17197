//! The examples of `docs/admin-api.md` do what the page says, and so do those that llm-proxy publishes.

use std::process::Command;

use serde_json::{Value, json};

use crate::admin_documents::{GET, asked};
use crate::support::{ADMIN_KEY, Gate};

/// A file that has nothing of what the examples make.
const FILE: &str =
    "master_keys: [{name: filed, key: sk-file-key}]\nhealth_check: {enabled: false}\n";

/// Runs a command as a reader would; the status of its answer, and the answer.
fn run(gate: &Gate, command: &str) -> (u16, Value) {
    let script = command.replacen("curl ", "curl -sS -w '\\n%{http_code}' ", 1);
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .env("GATEWAY", &gate.url)
        .env("ADMIN_KEY", ADMIN_KEY)
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let (body, status) = said
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{command}: {said}{errors}"));
    let body = match body {
        "" => Value::Null,
        body => {
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{command}: {error}: {body}"))
        }
    };
    (status.parse().expect("a status"), body)
}

/// The commands of a page, in their order.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let blocks = page.split("```console\n").skip(1);
    for line in blocks
        .filter_map(|block| block.split("```").next())
        .flat_map(str::lines)
    {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(command.to_owned()),
            (None, Some(last)) => last.push_str(&format!("\n{line}")),
            (None, None) => {}
        }
    }
    commands
}

#[tokio::test]
async fn every_example_of_the_page_does_what_it_says() {
    let gate = Gate::start(FILE);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin-api.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let commands = commands(&page);
    assert!(commands.len() >= 15, "{commands:?}");
    for command in &commands {
        let (status, body) = run(&gate, command);
        assert!(
            status == 200 || status == 201,
            "{command}: {status}: {body}"
        );
    }
    let left = asked(&gate, GET, "config/version", Value::Null, 200).await;
    assert_eq!(
        (&left["left_out"], &left["is_current"]),
        (&json!([]), &json!(true)),
        "{left}"
    );
}

/// Every other route that llm-proxy's documentation has, in its words: method, path, body, status, and a member of the answer.
const PUBLISHED: [(&str, &str, &str, u16, &str); 24] = [
    ("GET", "providers/provider-1", "", 200, "provider_type"),
    ("GET", "providers/provider-2", "", 200, "created_at"),
    (
        "PUT",
        "providers/provider-2",
        r#"{"weight": 5}"#,
        200,
        "weight",
    ),
    ("GET", "master-keys", "", 200, "keys"),
    ("GET", "credentials", "", 200, "credentials"),
    ("GET", "master-keys/key-1", "", 200, "key_preview"),
    (
        "PUT",
        "master-keys/key-1",
        r#"{"rate_limit": 50}"#,
        200,
        "rate_limit",
    ),
    (
        "PUT",
        "credentials/other",
        r#"{"is_enabled": true}"#,
        200,
        "is_enabled",
    ),
    ("GET", "config/version", "", 200, "timestamp"),
    (
        "POST",
        "health/check",
        r#"{"provider_ids": ["provider-2"], "models": ["m"], "timeout_secs": 5, "max_concurrent": 2}"#,
        200,
        "total_providers",
    ),
    (
        "GET",
        "health/providers/provider-2?models=m&timeout_secs=5",
        "",
        200,
        "status",
    ),
    (
        "POST",
        "providers/provider-2/health",
        r#"{"models": ["m"], "max_concurrent": 1, "timeout_secs": 5}"#,
        200,
        "summary",
    ),
    (
        "GET",
        "logs?page=1&page_size=20&sort_by=created_at&sort_order=desc",
        "",
        200,
        "total_pages",
    ),
    (
        "GET",
        "logs?provider_name=p&model=m&credential_name=c&status_code=200&is_streaming=true&error_only=false",
        "",
        200,
        "items",
    ),
    (
        "GET",
        "logs?start_time=2026-01-01T00:00:00Z&end_time=2026-02-01T00:00:00Z",
        "",
        200,
        "total",
    ),
    ("GET", "logs/stats", "", 200, "total"),
    ("GET", "logs/1", "", 404, "error"),
    ("DELETE", "logs/1", "", 404, "error"),
    (
        "POST",
        "logs/batch-delete",
        r#"{"ids": ["1", "2"]}"#,
        200,
        "deleted",
    ),
    ("GET", "error-logs?page=1&page_size=20", "", 200, "items"),
    ("GET", "error-logs/stats", "", 200, "total"),
    (
        "POST",
        "error-logs/batch-delete",
        r#"{"ids": ["1"]}"#,
        200,
        "deleted",
    ),
    ("DELETE", "credentials/other", "", 204, ""),
    ("DELETE", "providers/provider-2", "", 204, ""),
];

/// As its documentation has them: a provider by `id`, with an empty mapping that serves every name; a master key that is brought.
#[tokio::test]
async fn the_examples_that_llm_proxy_publishes_work_as_written() {
    let gate = Gate::start(FILE);
    let send = |method: &str, path: &str, body: &str| {
        let command = format!(
            "curl -X {method} $GATEWAY/admin/v1/{path} -H \"Authorization: Bearer $ADMIN_KEY\" -H 'Content-Type: application/json' -d '{body}'"
        );
        run(&gate, &command)
    };
    let provider = r#"{"id": "provider-1", "provider_type": "openai", "api_base": "http://127.0.0.1:1/v1", "api_key": "sk-xxx", "model_mapping": {}}"#;
    let (status, made) = send("POST", "providers", provider);
    assert_eq!(
        (status, &made["id"], &made["model_mapping"]),
        (201, &json!("provider-1"), &json!({})),
        "{made}"
    );
    let later = r#"{"provider_key": "provider-2", "provider_type": "anthropic", "api_base": "http://127.0.0.1:1", "api_key": "sk-xxx", "model_mapping": {"claude-*": "claude-3-opus"}, "weight": 3, "is_enabled": true, "provider_params": {}}"#;
    let (status, made) = send("POST", "providers", later);
    assert_eq!(
        (status, &made["provider_key"], &made["weight"]),
        (201, &json!("provider-2"), &json!(3)),
        "{made}"
    );
    let (status, list) = run(
        &gate,
        "curl -H \"Authorization: Bearer $ADMIN_KEY\" $GATEWAY/admin/v1/providers",
    );
    assert_eq!(
        (
            status,
            list["providers"].as_array().map(Vec::len),
            &list["version"]
        ),
        (200, Some(2), &json!(2))
    );
    let key = r#"{"id": "key-1", "key": "sk-your-master-key", "name": "My key", "allowed_models": ["gpt-4*"], "rate_limit": 100}"#;
    let (status, made) = send("POST", "master-keys", key);
    assert_eq!(
        (
            status,
            &made["name"],
            &made["rate_limit"],
            &made["is_enabled"]
        ),
        (201, &json!("My key"), &json!(100), &json!(true)),
        "{made}"
    );
    let credential = r#"{"key": "sk-another-key", "name": "other", "allowed_models": [], "rate_limit": null, "is_enabled": false}"#;
    let (status, made) = send("POST", "credentials", credential);
    assert_eq!(
        (status, &made["is_enabled"]),
        (201, &json!(false)),
        "{made}"
    );
    let (status, _) = send("PUT", "providers/provider-1", r#"{"is_enabled": false}"#);
    assert_eq!(status, 200);
    for (method, path, body, expected, member) in PUBLISHED {
        let command = format!(
            "curl -X {method} \"$GATEWAY/admin/v1/{path}\" -H \"Authorization: Bearer $ADMIN_KEY\" -H 'Content-Type: application/json' -d '{body}'"
        );
        let (status, answer) = run(&gate, &command);
        assert_eq!(status, expected, "{command}: {answer}");
        assert!(
            member.is_empty() || !answer[member].is_null(),
            "{command}: '{member}' is missing: {answer}"
        );
    }
    let (status, reloaded) = run(
        &gate,
        "curl -X POST -H \"Authorization: Bearer $ADMIN_KEY\" $GATEWAY/admin/v1/config/reload",
    );
    assert_eq!((status, &reloaded["version"]), (200, &json!(10)));
    assert!(reloaded["timestamp"].is_string());
    let (status, _) = run(
        &gate,
        "curl -X DELETE -H \"Authorization: Bearer $ADMIN_KEY\" $GATEWAY/admin/v1/master-keys/key-1",
    );
    assert_eq!(status, 204);
    let (status, valid) = run(
        &gate,
        "curl -X POST -H \"Authorization: Bearer $ADMIN_KEY\" $GATEWAY/admin/v1/auth/validate",
    );
    assert_eq!((status, &valid["valid"]), (200, &json!(true)));
}
