//! What usage and single calls look like.

use serde_json::{Map, Value, json};

/// The sums of calls, by name.
const SUMS: [&str; 9] = [
    "calls",
    "attempts",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_micro_usd",
];

/// The schemas.
pub fn all() -> [(&'static str, Value); 10] {
    let state = json!({"enum": ["reported", "estimated", "aborted", "failed"]});
    let sums = object(SUMS.map(|name| (name, integer())));
    let mut group = sums.clone();
    group["properties"]["name"] = text();
    let item = [
        ("id", text()),
        ("created_at", text()),
        ("request_id", text()),
        ("endpoint", text()),
        ("credential_name", text()),
        ("team", text()),
        ("requested_model", text()),
        ("mapped_model", text()),
        ("model", text()),
        ("provider_name", text()),
        ("provider_credential_name", text()),
        ("client", text()),
        ("is_streaming", json!({"type": "boolean"})),
        ("status_code", integer()),
        ("outcome", text()),
        ("error_category", json!({"type": ["string", "null"]})),
        ("state", state),
        ("input_tokens", integer()),
        ("output_tokens", integer()),
        ("total_tokens", integer()),
        ("tokens", json!({"type": "object"})),
        ("cost_micro_usd", integer()),
        ("price", json!({"type": ["object", "null"]})),
        ("losses", json!({"type": ["array", "null"]})),
        ("end_user", json!({"type": ["string", "null"]})),
        ("session", json!({"type": ["string", "null"]})),
        ("passed_over", json!({"type": ["array", "null"]})),
        (
            "cached",
            json!({"type": ["string", "null"], "enum": ["hit", "shared", null]}),
        ),
        ("saved_tokens", json!({"type": ["object", "null"]})),
        ("shadow_of", json!({"type": ["string", "null"]})),
        ("tags", json!({"type": ["array", "null"]})),
        ("metadata", json!({"type": ["object", "null"]})),
        ("total_duration_ms", json!({"type": "number"})),
        ("ttft_ms", json!({"type": ["number", "null"]})),
    ];
    let item = object(item);
    let mut whole = item.clone();
    whole["properties"]["attempts"] = list(json!({"type": "object"}));
    let page = object([
        ("items", list(item)),
        ("total", integer()),
        ("total_is_exact", json!({"type": "boolean"})),
        ("page", integer()),
        ("page_size", integer()),
        ("total_pages", integer()),
    ]);
    let usage = object([
        ("totals", sums.clone()),
        ("group_by", json!({"type": ["string", "null"]})),
        ("groups", list(group)),
        ("waiting", integer()),
        ("oldest_waiting", json!({"type": ["string", "null"]})),
    ]);
    let stats = object([
        ("total", integer()),
        ("errors", integer()),
        ("totals", sums),
    ]);
    let ids =
        json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1000});
    let mut ids = object([("ids", ids)]);
    ids["additionalProperties"] = false.into();
    [
        ("Usage", usage),
        ("Logs", page),
        ("Log", whole),
        ("LogStats", stats),
        ("LogIds", ids),
        ("DeletedLogs", object([("deleted", integer())])),
        ("Purged", object([("purged", integer())])),
        ("Explain", explain()),
        ("Explanation", explanation()),
        ("ExplainedCall", explained_call()),
    ]
}

fn explain() -> Value {
    json!({
        "type": "object",
        "description": "The body of a call; or {\"endpoint\": the path that it would be sent to, \"body\": its body, \"key\": the name \
                        of the key that calls, \"headers\": its headers}, of which all but `body` may be left out",
        "examples": [
            {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]},
            {"endpoint": "/v1/messages", "body": {"model": "demo", "max_tokens": 64, "messages": []}},
        ],
    })
}

fn explanation() -> Value {
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let flag = || json!({"type": "boolean"});
    let refusal = json!({"type": ["object", "null"], "required": ["code", "message"]});
    let limit = object([
        ("of", text()),
        ("name", text()),
        ("measure", json!({"enum": ["requests", "tokens", "usd"]})),
        ("period", text()),
        ("most", integer()),
        ("left", integer()),
        ("resets_in_seconds", maybe("integer")),
    ]);
    let route = object([
        ("model", text()),
        ("route", integer()),
        ("to", text()),
        ("when", text()),
        ("percent", maybe("string")),
        (
            "verdict",
            json!({"enum": ["taken", "condition", "percent", "behind"]}),
        ),
        ("by_chance", flag()),
    ]);
    let candidate = object([
        ("provider", text()),
        ("credential", text()),
        ("model", text()),
        ("verdict", text()),
        ("why", maybe("string")),
        ("by_chance", flag()),
        ("by_affinity", flag()),
        ("rests_for_seconds", maybe("integer")),
        ("fallback_for", maybe("string")),
        ("group", integer()),
        ("strategy", text()),
        ("scores", json!({"type": "object"})),
        ("lane", maybe("object")),
        ("refusal", refusal.clone()),
        ("altered", list(text())),
        ("losses", list(text())),
        ("rules", list(text())),
        ("price", maybe("object")),
        ("most_cost", maybe("integer")),
        ("limits", list(limit.clone())),
    ]);
    let guard = object([
        ("guard", text()),
        ("action", maybe("string")),
        ("on", list(text())),
        ("found", maybe("integer")),
    ]);
    object([
        ("at", text()),
        ("endpoint", text()),
        ("model", text()),
        ("label", maybe("string")),
        ("stream", flag()),
        ("strict", flag()),
        ("key", text()),
        ("team", maybe("string")),
        ("routes", list(route)),
        ("has_affinity", flag()),
        ("input_tokens", integer()),
        ("output_tokens", integer()),
        ("cache", json!({"type": ["object", "null"]})),
        ("refusal", refusal),
        ("limits", list(limit)),
        ("guards", list(guard)),
        ("candidates", list(candidate)),
    ])
}

fn explained_call() -> Value {
    object([
        ("at", text()),
        ("id", text()),
        ("request_id", text()),
        ("endpoint", text()),
        ("model", text()),
        ("label", text()),
        ("stream", json!({"type": "boolean"})),
        ("key", text()),
        ("team", text()),
        ("refusal", json!({"type": ["object", "null"]})),
        (
            "cache",
            json!({"type": ["string", "null"], "enum": ["hit", "shared", "miss", "bypass", null]}),
        ),
        ("saved_tokens", json!({"type": ["object", "null"]})),
        ("routes", list(json!({"type": "object"}))),
        ("limits", list(json!({"type": "object"}))),
        ("considered", list(json!({"type": "object"}))),
        ("lane", json!({"type": ["object", "null"]})),
        ("altered", list(text())),
        ("rules", list(text())),
        ("guards", list(json!({"type": "object"}))),
        ("passed_over", list(json!({"type": "object"}))),
        ("attempts", list(json!({"type": "object"}))),
        ("outcome", text()),
        ("status_code", integer()),
        ("state", text()),
        ("losses", json!({"type": ["array", "null"]})),
        ("price", json!({"type": ["object", "null"]})),
        ("tokens", json!({"type": "object"})),
        ("cost_micro_usd", integer()),
        ("total_duration_ms", json!({"type": "number"})),
        ("ttft_ms", json!({"type": ["number", "null"]})),
    ])
}

fn text() -> Value {
    json!({"type": "string"})
}

fn integer() -> Value {
    json!({"type": "integer"})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object whose members are all there.
fn object<const N: usize>(members: [(&'static str, Value); N]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let members = members.into_iter();
    let properties: Map<String, Value> = members
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}
