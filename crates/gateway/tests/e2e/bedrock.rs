//! Bedrock behind the gateway: every client format, whole and streamed; where it is asked, and with which key.

use polygate_mock_provider::Endpoint;
use serde_json::{Value, json};

use crate::support::{Gate, calls, mock};

const MODEL: &str = "us.anthropic.claude-haiku-4-5-20251001-v1:0";

fn config(url: &str, key: &str) -> String {
    format!(
        "providers: [{{name: p, type: bedrock, api_base: '{url}', region: eu-west-1, api_key: '{key}', model_mapping: {{m: '{MODEL}'}}}}]\nhealth_check: {{enabled: false}}"
    )
}

const TOOL: &str = "get_weather";

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

/// Each client's path and question, streaming or not.
fn questions(stream: bool) -> [(&'static str, Value); 4] {
    let text = "What is the weather? Use get_weather.";
    let gemini = if stream {
        "/v1beta/models/m:streamGenerateContent?alt=sse"
    } else {
        "/v1beta/models/m:generateContent"
    };
    let user = json!([{"role": "user", "content": text}]);
    [
        (
            "/v1/chat/completions",
            json!({"model": "m", "stream": stream, "messages": user, "tools": [{"type": "function", "function": {"name": TOOL, "parameters": schema()}}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "stream": stream, "input": text, "tools": [{"type": "function", "name": TOOL, "parameters": schema(), "strict": false}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "m", "stream": stream, "max_tokens": 99, "messages": user, "tools": [{"name": TOOL, "input_schema": schema()}]}),
        ),
        (
            gemini,
            json!({"contents": [{"role": "user", "parts": [{"text": text}]}], "tools": [{"functionDeclarations": [{"name": TOOL, "parametersJsonSchema": schema()}]}]}),
        ),
    ]
}

#[tokio::test]
async fn every_client_calls_tools_of_bedrock() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock.url(), "AKIDEXAMPLE:a-secret:a-token"));
    for stream in [false, true] {
        for (path, question) in questions(stream) {
            let reply = gate.post(path, &question).await;
            let text = reply.text();
            assert_eq!(reply.status, 200, "{path}: {text}");
            // Arguments come in pieces: the beginning of "Paris" is in one.
            assert!(
                text.contains(TOOL) && text.contains("Par"),
                "{path}: {text}"
            );
            assert_eq!(reply.header("x-polygate-model"), MODEL);
        }
    }
    let asked = calls(&mock);
    let endpoints: Vec<Endpoint> = asked.iter().map(|call| call.endpoint).collect();
    let (whole, streamed) = ([Endpoint::Converse; 4], [Endpoint::ConverseStream; 4]);
    assert_eq!(endpoints, [whole, streamed].concat());
    for call in &asked {
        assert!(
            call.path
                .starts_with("/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/"),
            "{}",
            call.path
        );
        let header = |name: &str| {
            let found = call.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let signature = header("authorization");
        assert!(
            signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{signature}"
        );
        assert!(
            signature.contains("/eu-west-1/bedrock/aws4_request"),
            "{signature}"
        );
        assert_eq!(header("x-amz-security-token"), "a-token");
        assert!(!format!("{:?}", call.headers).contains("a-secret"));
    }
}

#[tokio::test]
async fn a_bedrock_key_is_a_bearer() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock.url(), "bedrock-api-key-1234"));
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "Hello there"}]});
    let reply = gate.post("/v1/chat/completions", &chat).await;
    assert!(reply.text().contains("Hello there"), "{}", reply.text());
    assert_eq!(
        reply.json()["usage"]["total_tokens"]
            .as_u64()
            .map(|total| total > 2),
        Some(true)
    );
    let asked = calls(&mock);
    let bearer = (
        "authorization".to_owned(),
        "Bearer bedrock-api-key-1234".to_owned(),
    );
    assert!(asked[0].headers.contains(&bearer), "{:?}", asked[0].headers);
}
