//! Keys of callers: where they may stand, what they allow, how often, and that they stay here.

use http::Method;
use polygate_mock_provider::Mock;

use crate::support::{Gate, calls, chat, mock};

fn config(mock: &Mock) -> String {
    format!(
        "
providers: [{{name: p, type: mock, api_base: '{}', api_key: provider-key-1}}]
master_keys:
  - {{name: all, key: sk-all}}
  - {{name: some, key: sk-some, allowed_models: [gpt-4o, 'claude-*']}}
  - {{name: off, key: sk-off, enabled: false}}
  - {{name: slow, key: sk-slow, rate_limit: {{requests_per_second: 1, burst_size: 5}}}}
  - {{name: shut, key: sk-shut, rate_limit: {{requests_per_second: 0}}}}
health_check: {{enabled: false}}
",
        mock.url()
    )
}

async fn status(gate: &Gate, path: &str, headers: &[(&str, &str)], model: &str) -> u16 {
    gate.ask(Method::POST, path, headers, chat(model, false).to_string())
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn a_key_counts_wherever_clients_put_it_and_reaches_no_upstream() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    let chat_path = "/v1/chat/completions";
    for header in [
        ("authorization", "Bearer sk-all"),
        ("authorization", "bearer sk-all"),
        ("x-api-key", "sk-all"),
        ("x-goog-api-key", "sk-all"),
        ("api-key", "sk-all"),
    ] {
        assert_eq!(
            status(&gate, chat_path, &[header, ("cookie", "session=1")], "m").await,
            200,
            "{header:?}"
        );
    }
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}"#;
    let gemini = gate
        .ask(
            Method::POST,
            "/v1beta/models/m:generateContent?key=sk-all",
            &[],
            body,
        )
        .await;
    assert_eq!(gemini.status, 200, "{}", gemini.text());
    let proxied = gate
        .ask(
            Method::GET,
            "/v1/m/files?key=sk-all&limit=2",
            &[("x-api-key", "sk-all"), ("cookie", "a=b")],
            "",
        )
        .await;
    assert_eq!(proxied.json()["echo"]["query"], "limit=2");
    for call in calls(&mock) {
        let sent = format!("{:?} {:?} {:?}", call.path, call.headers, call.body);
        assert!(
            !sent.contains("sk-all") && !sent.contains("cookie"),
            "{sent}"
        );
        assert!(sent.contains("Bearer provider-key-1"), "{sent}");
    }
    // The first one present decides; the query counts on Google's routes only.
    assert_eq!(
        status(
            &gate,
            chat_path,
            &[("authorization", "Bearer wrong"), ("x-api-key", "sk-all")],
            "m"
        )
        .await,
        401
    );
    assert_eq!(
        status(&gate, "/v1/chat/completions?key=sk-all", &[], "m").await,
        401
    );
    assert!(!gate.log().contains("sk-all") && !gate.log().contains("provider-key-1"));
}

#[tokio::test]
async fn unknown_disabled_and_odd_keys_are_refused_alike() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    for key in [
        "",
        "Bearer ",
        "Bearer sk-off",
        "Bearer null",
        "Bearer sk-al",
        "Bearer sk-all2",
        "Bearer ' or 1=1 --",
        "Basic c2stYWxs",
    ] {
        let reply = gate
            .ask(
                Method::POST,
                "/v1/chat/completions",
                &[("authorization", key)],
                chat("m", false).to_string(),
            )
            .await;
        assert_eq!(reply.status, 401, "{key}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key", "{key}");
    }
    let anthropic = gate
        .ask(Method::POST, "/v1/messages", &[("x-api-key", "no")], "{}")
        .await;
    assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
    let gemini = gate
        .ask(
            Method::POST,
            "/v1beta/models/m:generateContent",
            &[("x-goog-api-key", "no")],
            "{}",
        )
        .await;
    assert_eq!(gemini.json()["error"]["status"], "UNAUTHENTICATED");
    assert_eq!(gate.get("/v1/models").await.status, 401);
    assert_eq!(gate.get("/health/detailed").await.status, 401);
    assert_eq!(gate.get("/health").await.status, 200);
    assert!(calls(&mock).is_empty());
}

#[tokio::test]
async fn allowed_models_hold_on_every_way_to_a_model() {
    let mock = mock("p").await;
    let gate = Gate::start_with(&config(&mock), &[("PROVIDER_SUFFIX", "Proxy")]);
    let key = ("authorization", "Bearer sk-some");
    let chat_path = "/v1/chat/completions";
    for (model, expected) in [
        ("gpt-4o", 200),
        ("claude-x", 200),
        ("gpt-4o-mini", 403),
        ("Proxy/gpt-4o", 200),
        ("Proxy/gpt-5", 403),
        ("Other/gpt-4o", 403),
    ] {
        assert_eq!(
            status(&gate, chat_path, &[key], model).await,
            expected,
            "{model}"
        );
    }
    assert_eq!(
        status(&gate, "/v1/models/gpt-5/chat/completions", &[key], "gpt-4o").await,
        403
    );
    assert_eq!(
        gate.ask(Method::GET, "/v1/gpt-5/files", &[key], "")
            .await
            .status,
        403
    );
    assert_eq!(
        status(&gate, "/v1beta/models/gpt-5:generateContent", &[key], "x").await,
        403
    );
    let smuggled = r#"{"model":"gpt-4o","models":["gpt-4o","gpt-5"],"messages":[]}"#;
    assert_eq!(
        gate.ask(Method::POST, chat_path, &[key], smuggled)
            .await
            .status,
        403
    );
    let upstream_models: Vec<String> = calls(&mock).into_iter().map(|call| call.model).collect();
    assert_eq!(upstream_models, ["gpt-4o", "claude-x", "gpt-4o"]);
}

#[tokio::test]
async fn a_rate_limit_is_exact_under_concurrency_and_says_until_when() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock));
    let key = [
        ("authorization", "Bearer sk-slow"),
        ("content-type", "application/json"),
    ];
    let ask = || {
        gate.ask(
            Method::POST,
            "/v1/chat/completions",
            &key,
            chat("m", false).to_string(),
        )
    };
    let replies = tokio::join!(
        ask(),
        ask(),
        ask(),
        ask(),
        ask(),
        ask(),
        ask(),
        ask(),
        ask(),
        ask()
    );
    let replies = [
        replies.0, replies.1, replies.2, replies.3, replies.4, replies.5, replies.6, replies.7,
        replies.8, replies.9,
    ];
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 200).count(),
        5
    );
    let refused = replies
        .iter()
        .find(|reply| reply.status == 429)
        .expect("some are refused");
    assert_eq!(
        (
            refused.header("retry-after"),
            refused.header("x-polygate-origin")
        ),
        ("1", "gateway")
    );
    assert!(
        refused.json()["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("'slow'"))
    );
    assert_eq!(calls(&mock).len(), 5);
    assert_eq!(
        status(
            &gate,
            "/v1/chat/completions",
            &[("x-api-key", "sk-shut")],
            "m"
        )
        .await,
        429
    );
}
