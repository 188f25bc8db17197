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
pub fn all() -> [(&'static str, Value); 6] {
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
    ]
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
