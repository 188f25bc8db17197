//! How many tokens a request is: each client asks in its own words, each upstream is asked in its, and where nobody counts an
//! estimate says that it is one.

use polygate_mock_provider::{Behaviour, Endpoint, Mock, Rule};
use serde_json::{Value, json};

use crate::support::{Gate, Reply, calls, mock};

const TEXT: &str = "How many tokens is a question of this length, give or take a few?";

/// A client's path and question, and where its answer has the count.
type Client = (&'static str, fn() -> Value, &'static str);

const CLIENTS: [Client; 4] = [
    (
        "/v1/messages/count_tokens",
        || json!({"model": "m", "messages": [{"role": "user", "content": TEXT}]}),
        "input_tokens",
    ),
    (
        "/v1/responses/input_tokens",
        || json!({"model": "m", "input": TEXT}),
        "input_tokens",
    ),
    (
        "/v1beta/models/m:countTokens",
        || json!({"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}),
        "totalTokens",
    ),
    (
        "/v1beta/models/m:countTokens",
        || json!({"generateContentRequest": {"model": "models/m", "contents": [{"role": "user", "parts": [{"text": TEXT}]}]}}),
        "totalTokens",
    ),
];

/// Upstreams and where they are asked; `None` for those that do not count.
const UPSTREAMS: [(&str, Option<Endpoint>); 5] = [
    ("anthropic", Some(Endpoint::CountTokens)),
    ("gemini", Some(Endpoint::GeminiCount)),
    ("bedrock", Some(Endpoint::ConverseCount)),
    ("openai", Some(Endpoint::ResponsesCount)),
    ("openai-compatible, wire_api: chat", None),
];

fn gate(kind: &str, mock: &Mock) -> Gate {
    Gate::start(&format!(
        "providers: [{{name: p, type: {kind}, api_base: '{}', api_key: k, model_mapping: {{m: upstream-m}}}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ))
}

/// Every client's count, and whether it says that it is an estimate.
async fn counts(gate: &Gate) -> Vec<(u64, bool)> {
    let mut counts = Vec::new();
    for (path, question, member) in CLIENTS {
        let reply = gate.post(path, &question()).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        counts.push((
            count(&reply, member),
            reply.header("x-polygate-estimated") == "true",
        ));
    }
    counts
}

fn count(reply: &Reply, member: &str) -> u64 {
    let count = reply.json()[member].as_u64();
    count.unwrap_or_else(|| panic!("no {member} in {}", reply.text()))
}

#[tokio::test]
async fn who_counts_is_asked_and_the_rest_is_estimated() {
    for (kind, endpoint) in UPSTREAMS {
        let mock = mock("p").await;
        let gate = gate(kind, &mock);
        let counts = counts(&gate).await;
        let asked = calls(&mock);
        match endpoint {
            Some(endpoint) => {
                // The mock counts four characters a token.
                let native = (TEXT.len() as u64 / 4, false);
                assert_eq!(counts, vec![native; CLIENTS.len()], "{kind}");
                assert_eq!(asked.len(), CLIENTS.len(), "{kind}");
                assert!(
                    asked.iter().all(|call| call.endpoint == endpoint),
                    "{kind}: {asked:?}"
                );
            }
            None => {
                assert!(
                    counts
                        .iter()
                        .all(|(tokens, is_estimate)| (15..25).contains(tokens) && *is_estimate),
                    "{kind}: {counts:?}"
                );
                assert!(asked.is_empty(), "{kind}: nobody is asked: {asked:?}");
            }
        }
    }
}

/// A provider that speaks the format and has no such path: its answer is no reason to fail, nor to rest it.
#[tokio::test]
async fn who_knows_no_such_question_is_estimated() {
    for (kind, status) in [("anthropic", 404), ("gemini", 405), ("bedrock", 501)] {
        let mock = mock("p").await;
        mock.script(Rule {
            then: Behaviour {
                status: Some(status),
                error: Some("no such path".to_owned()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let gate = gate(kind, &mock);
        for (tokens, is_estimate) in counts(&gate).await {
            assert!((15..25).contains(&tokens) && is_estimate, "{kind} {tokens}");
        }
        mock.clear();
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(
            gate.post("/v1/chat/completions", &chat).await.status,
            200,
            "{kind}"
        );
    }
}
