//! What must never reach a provider, planted into requests to every endpoint: what arrives is all that may.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Gate, calls, mock};

/// Every header that is never passed on, and some that nobody asked for.
const PLANTED: [&str; 39] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-litellm-api-key",
    "x-bf-vk",
    "x-portkey-api-key",
    "proxy-authorization",
    "proxy-connection",
    "proxy-anything",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "cookie",
    "te",
    "trailer",
    "keep-alive",
    "accept-encoding",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-polygate-user",
    "x-polygate-session",
    "x-polygate-tags",
    "x-polygate-anything",
    "x-litellm-tags",
    "x-request-id",
    "origin",
    "referer",
    "accept-language",
    "if-none-match",
    "range",
    "openai-organization",
    "x-stainless-os",
    "traceparent",
    "content-language",
];

/// All that may arrive: what the gateway writes, and `x-fine`, which the configuration asks for.
const MAY_ARRIVE: [&str; 11] = [
    "host",
    "user-agent",
    "content-type",
    "content-length",
    "accept",
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "anthropic-version",
    "x-polygate-hops",
    "x-fine",
];

const KINDS: [&str; 5] = ["mock", "openai", "anthropic", "gemini", "response_api"];

fn asks(model: &str) -> Vec<(String, Value)> {
    let said =
        json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]});
    let mut asks = vec![
        ("/v1/chat/completions".to_owned(), said.clone()),
        (
            "/v1/completions".to_owned(),
            json!({"model": model, "prompt": "Hi"}),
        ),
        (
            "/v1/embeddings".to_owned(),
            json!({"model": model, "input": "Hi"}),
        ),
        (
            "/v1/responses".to_owned(),
            json!({"model": model, "input": "Hi"}),
        ),
        (
            "/v1/responses/input_tokens".to_owned(),
            json!({"model": model, "input": "Hi"}),
        ),
        ("/v1/messages".to_owned(), said.clone()),
        ("/v1/messages/count_tokens".to_owned(), said.clone()),
        (format!("/v1/{model}/some/tail"), said),
    ];
    for method in [
        "generateContent",
        "streamGenerateContent?alt=sse",
        "streamGenerateContent",
        "countTokens",
    ] {
        asks.push((format!("/v1beta/models/{model}:{method}"), contents.clone()));
    }
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses"] {
        let (_, mut body) = asks
            .iter()
            .find(|(known, _)| known == path)
            .cloned()
            .expect("known");
        body["stream"] = true.into();
        asks.push((path.to_owned(), body));
    }
    asks
}

#[tokio::test]
async fn what_is_the_clients_alone_reaches_no_provider() {
    let mock = mock("p").await;
    let providers = KINDS.iter().map(|kind| {
        format!(
            "  - {{name: {kind}, type: {kind}, api_base: '{}', api_key: ours, model_mapping: [{kind}-m], forward_headers: [x-fine]}}\n",
            mock.url()
        )
    });
    let gate = Gate::start(&format!(
        "health_check: {{enabled: false}}\nproviders:\n{}",
        providers.collect::<String>()
    ));
    let mut headers: Vec<(&str, &str)> = PLANTED.iter().map(|name| (*name, "planted")).collect();
    headers.push(("connection", "keep-alive, x-nominated"));
    headers.push(("x-fine", "fine"));
    headers.push(("content-type", "application/json"));
    let mut wrong = Vec::new();
    for kind in KINDS {
        let mut arrived = 0;
        for (path, body) in asks(&format!("{kind}-m")) {
            let before = calls(&mock).len();
            let reply = gate
                .ask(Method::POST, &path, &headers, body.to_string())
                .await;
            for entry in calls(&mock).into_iter().skip(before) {
                arrived += 1;
                let what = format!("{kind} {path} ({})", reply.status);
                let all = format!("{} {:?}", entry.path, entry.headers);
                if all.contains("planted") || !all.contains("(\"x-fine\", \"fine\")") {
                    wrong.push(format!("{what}: {all}"));
                }
                let others = entry.headers.iter().map(|(name, _)| name.as_str());
                let others = others.filter(|name| !MAY_ARRIVE.contains(name));
                wrong.extend(others.map(|name| format!("{what}: {name}")));
            }
        }
        // Some ask for what a format has not: those are refused, and most are not.
        assert!(arrived >= 8, "{kind}: {arrived}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
