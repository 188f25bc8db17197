//! Words that one provider is not to see: it gets placeholders, and the client its own words again.

use http::Method;
use polygate_mock_provider::{Behaviour, Rule};
use serde_json::{Value, json};

use crate::admin_documents::{POST, asked};
use crate::guards::{config, in_every_way, said, sent};
use crate::support::{Gate, Reply, calls, chat, mock, until};

const CLOAK: &str = "cloak: {mode: always, sensitive-words: [Project Aurora, zürich]}";

/// Every provider has a cloak.
fn cloaked(config: &str) -> String {
    config.replace("model_mapping:", &format!("{CLOAK}, model_mapping:"))
}

async fn post(gate: &Gate, path: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    gate.ask(Method::POST, path, &headers, body.to_string())
        .await
}

#[tokio::test]
async fn words_stay_here_and_come_back_in_every_format_lane_and_way() {
    let mock = mock("p").await;
    let gate = Gate::start(&cloaked(&config(&mock, "")));
    let prompt = "On Project Aurora in ZÜRICH, \"Project Aurora\" and no other";
    in_every_way(&gate, "none", prompt, |client, reply, stream, what| {
        let sent = sent(&mock);
        assert!(
            !sent.contains("Aurora") && !sent.contains("RICH") && sent.contains("[WORD_"),
            "{what} sent {sent}"
        );
        assert!(said(client, reply, stream).contains(prompt), "{what}");
        assert!(!reply.text().contains("[WORD_"), "{what}");
        assert_eq!(
            reply.header("x-polygate-guards"),
            "sensitive-words",
            "{what}"
        );
    })
    .await;
    let page = gate.get("/metrics").await.text();
    let line = "polygate_guard_matches_total{guard=\"sensitive-words\",action=\"restore\",side=\"request\"} 96";
    assert!(page.contains(line), "{page}");
    assert!(!gate.log().contains("Aurora"), "it is never told");
}

#[tokio::test]
async fn each_attempt_hides_for_itself() {
    let (one, two) = (mock("one").await, mock("two").await);
    one.script(Rule {
        then: Behaviour {
            status: Some(500),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&format!(
        "
providers:
  - {{name: one, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [m], {CLOAK}}}
  - {{name: two, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [m], priority: 1}}
health_check: {{enabled: false}}",
        one.url(),
        two.url()
    ));
    let mut body = chat("m", false);
    body["messages"][0]["content"] = json!("On Project Aurora");
    let explained = asked(&gate, POST, "explain", json!({"body": body}), 200).await;
    let altered = |at: usize| explained["candidates"][at]["altered"].clone();
    assert!(altered(0).to_string().contains("/messages"), "{explained}");
    assert_eq!(altered(1), json!([]));
    let reply = post(&gate, "/v1/chat/completions", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-polygate-provider"), "two");
    assert!(sent(&one).contains("[WORD_"), "{}", sent(&one));
    assert!(sent(&two).contains("On Project Aurora"), "{}", sent(&two));
    assert!(said("chat", &reply, false).contains("On Project Aurora"));
}

#[tokio::test]
async fn a_guard_and_a_cloak_both_put_back() {
    let mock = mock("p").await;
    let guards = "guards: [{name: addresses, detect: [email], action: restore}]\n";
    let gate = Gate::start(&cloaked(&config(&mock, guards)));
    let prompt = "Ask ann@example.com for Project Aurora";
    in_every_way(&gate, "none", prompt, |client, reply, stream, what| {
        let sent = sent(&mock);
        assert!(
            sent.contains("Ask [EMAIL_") && sent.contains("for [WORD_"),
            "{what} sent {sent}"
        );
        assert!(said(client, reply, stream).contains(prompt), "{what}");
    })
    .await;
    let body = json!({"model": "chat-m", "messages": [{"role": "user", "content": prompt}]});
    let explained = asked(&gate, POST, "explain", json!({"body": body}), 200).await;
    assert_eq!(
        explained["guards"],
        json!([{"guard": "addresses", "action": "restore", "on": ["request"], "found": 1}])
    );
    assert!(!explained.to_string().contains("ann@example.com"));
}

#[tokio::test]
async fn what_is_kept_is_what_the_client_got() {
    let mock = mock("p").await;
    let gate = Gate::start(&cloaked(&config(&mock, "")));
    let first = json!({"model": "messages-m", "input": "On Project Aurora"});
    let first = post(&gate, "/v1/responses", &first).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let kept = gate.get(&format!("/v1/responses/{id}")).await;
    assert!(
        kept.text().contains("Project Aurora") && !kept.text().contains("[WORD_"),
        "{}",
        kept.text()
    );
    let second = json!({"model": "messages-m", "input": "And then?", "previous_response_id": id});
    let second = post(&gate, "/v1/responses", &second).await;
    assert_eq!(second.status, 200, "{}", second.text());
    let sent = sent(&mock);
    assert_eq!(sent.matches("[WORD_").count(), 2, "what both said: {sent}");
    assert!(!sent.contains("Aurora"), "{sent}");
}

#[tokio::test]
async fn what_nobody_can_look_through_does_not_pass() {
    let mock = mock("p").await;
    let small = "server: {body_limit: 1MiB}\n";
    let gate = Gate::start(&cloaked(&config(&mock, small)));
    let path = "/v1/chat-m/things";
    let reply = post(&gate, path, &json!({"text": "On Project Aurora"})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(sent(&mock).contains("On [WORD_"), "{}", sent(&mock));
    assert!(
        reply.text().contains("Project Aurora"),
        "it is put back: {}",
        reply.text()
    );
    let before = calls(&mock).len();
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let reply = gate
        .ask(Method::POST, path, &headers, "\u{1f}\u{8b}".to_owned())
        .await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(
        reply.text().contains("'sensitive-words'"),
        "{}",
        reply.text()
    );
    assert_eq!(calls(&mock).len(), before);
}

#[tokio::test]
async fn the_request_log_is_told_no_more_than_the_provider() {
    let mock = mock("p").await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("calls.jsonl");
    let config = cloaked(&config(&mock, ""));
    let path = file.display().to_string();
    let gate = Gate::start_with(
        &config,
        &[
            ("JSONL_LOG_ENABLED", "true"),
            ("JSONL_LOG_CONTENT", "true"),
            ("JSONL_LOG_FILE_PATH", &path),
        ],
    );
    let mut body = chat("chat-m", true);
    body["messages"][0]["content"] = json!("On Project Aurora");
    let reply = post(&gate, "/v1/chat/completions", &body).await;
    assert!(reply.text().contains("Aurora"), "{}", reply.text());
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the line is there", || read().contains("[WORD_")).await;
    assert!(!read().contains("Aurora"), "{}", read());
}
