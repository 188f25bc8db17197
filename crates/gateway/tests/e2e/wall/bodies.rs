//! Bodies that say something else than an answer, in each upstream format.

use serde_json::{Value, json};

use super::faults::Asked;

/// An error as the format says it, where an answer should be.
pub fn error(format: &str) -> String {
    let says = "the servers are busy";
    let error = match format {
        "openai-chat" => json!({"error": {"message": says, "type": "server_error", "code": null}}),
        "openai-responses" => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "failed", "output": [], "error": {"code": "server_error", "message": says}})
        }
        "anthropic-messages" => {
            json!({"type": "error", "error": {"type": "overloaded_error", "message": says}})
        }
        "gemini" => json!({"error": {"code": 503, "message": says, "status": "UNAVAILABLE"}}),
        _ => json!({"message": says}),
    };
    error.to_string()
}

/// An answer of the right kind without anything in it: its type and body.
pub fn hollow(asked: Asked) -> (&'static str, String) {
    let answer = match asked.format {
        "openai-chat" => {
            json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": []})
        }
        "openai-responses" => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "model": "m"})
        }
        "anthropic-messages" => {
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m"})
        }
        "gemini" => json!({"candidates": [], "modelVersion": "m"}),
        _ => json!({"metrics": {"latencyMs": 1}}),
    };
    if asked.is_array {
        return ("application/json", json!([answer]).to_string());
    }
    if !asked.stream {
        return ("application/json", answer.to_string());
    }
    let events: Vec<Value> = match asked.format {
        "openai-chat" => vec![
            json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}),
        ],
        "openai-responses" => vec![],
        "anthropic-messages" => vec![json!({"type": "ping"})],
        "gemini" => vec![answer],
        _ => vec![],
    };
    let body: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    ("text/event-stream", body)
}
