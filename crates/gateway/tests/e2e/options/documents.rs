//! The same options in documents of the admin API.

use serde_json::{Value, json};

use crate::admin_documents::{GET, POST, PUT, asked, file};
use crate::support::{Gate, calls, mock};

async fn betas(gate: &Gate, mock: &polygate_mock_provider::Mock) -> (Option<String>, String) {
    let headers = [
        ("authorization", "Bearer sk-file-key"),
        ("anthropic-beta", "files-api-1, oauth-2"),
    ];
    let body = json!({"model": "theirs", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let reply = gate
        .ask(POST, "/v1/messages", &headers, body.to_string())
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = calls(mock).pop().expect("a call");
    let mut headers = entry.headers.into_iter();
    let sent = headers.find(|(name, _)| name == "anthropic-beta");
    (
        sent.map(|(_, value)| value),
        reply.header("x-seen").to_owned(),
    )
}

#[tokio::test]
async fn what_a_document_says_of_headers_is_in_force_and_no_secret_of_it_is_shown() {
    let (own, other) = (mock("own").await, mock("other").await);
    other.script(
        serde_json::from_value(json!({"then": {"headers": {"x-seen": "yes"}}})).expect("a rule"),
    );
    let gate = Gate::start(&file(&own));
    let body = json!({
        "id": "p", "provider_type": "anthropic", "api_base": other.url(), "model_mapping": {"theirs": "m"},
        "api_keys": [{"key": "sk-of-the-database", "headers": {"x-org": "hush-0123456789-hush"}}],
        "provider_params": {"anthropic_beta_policy": "allowlist", "anthropic_beta_allowlist": ["files-*"]},
        "passthrough_headers": ["x-seen"],
    });
    let made = asked(&gate, POST, "providers", body, 201).await;
    assert_eq!(made["api_keys"][0]["headers"]["x-org"], "hus***ush");
    assert_eq!(
        made["provider_params"]["anthropic_beta_policy"],
        "allowlist"
    );
    assert_eq!(
        betas(&gate, &other).await,
        (Some("files-api-1".to_owned()), "yes".to_owned())
    );
    assert!(format!("{:?}", calls(&other)).contains("hush-0123456789-hush"));

    let body = json!({"provider_params": null, "forward_headers": {"anthropic-beta": "oauth-*"}, "passthrough_headers": []});
    asked(&gate, PUT, "providers/p", body, 200).await;
    assert_eq!(
        betas(&gate, &other).await,
        (Some("oauth-2".to_owned()), String::new())
    );
    let shown = asked(&gate, GET, "providers/p", Value::Null, 200).await;
    assert_eq!(
        shown["forward_headers"],
        json!({"anthropic-beta": "oauth-*"})
    );

    let body = json!({"forward_headers": ["cookie"]});
    let refused = asked(&gate, PUT, "providers/p", body, 422).await;
    assert!(refused.to_string().contains("never passed on"), "{refused}");
    assert_eq!(betas(&gate, &other).await.0.as_deref(), Some("oauth-2"));
}
