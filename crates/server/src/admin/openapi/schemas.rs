//! What bodies look like: of documents as they are sent and answered, and of everything else.

use polygate_store::config::Kind;
use serde_json::{Map, Value, json};

use super::super::body::{MADE_HERE, READ_ONLY};
use super::super::resource::{RESOURCES, Resource};
use super::accounts;

/// A member of an object: its name, its schema, and whether it is always there.
type Member = (&'static str, Value, bool);

/// Every schema by its name.
pub fn all() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    for resource in &RESOURCES {
        let members = match resource.kind {
            Kind::Provider => provider(),
            Kind::Key => key(),
            Kind::Model => model(),
            Kind::Team => bounds(),
            Kind::Price => price(),
        };
        let [view, new, change, views] = resource.schemas;
        add(view, answered(&members, resource));
        add(new, sent(&members, resource));
        add(change, sent(&members, resource));
        add(views, page(resource.list, view));
    }
    for (name, schema) in others().into_iter().chain(accounts::all()) {
        add(name, schema);
    }
    schemas.into()
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn named_texts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
}

fn object(members: Vec<Member>) -> Value {
    let required: Vec<&str> = members
        .iter()
        .filter(|member| member.2)
        .map(|member| member.0)
        .collect();
    let properties: Map<String, Value> = members
        .into_iter()
        .map(|(name, schema, _)| (name.to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// A document as it is answered: what there is to say of it, and what its kind has beside that.
fn answered(members: &[Member], resource: &Resource) -> Value {
    let called = resource.names.iter().find(|name| **name != "id");
    let mut all: Vec<Member> = vec![("id", text(), true)];
    all.extend(called.map(|name| (*name, text(), true)));
    all.extend(members.iter().cloned());
    let source = json!({"enum": ["file", "database"]});
    all.extend([
        ("number", maybe("integer"), true),
        ("version", maybe("integer"), true),
        ("source", source, true),
        ("created_at", maybe("string"), true),
        ("updated_at", maybe("string"), true),
        ("left_out", json!({"type": ["string", "array"]}), false),
        ("dry_run", json!({"const": true}), false),
    ]);
    object(all)
}

/// A document as it is sent. What answers say may be sent back; `null` clears.
fn sent(members: &[Member], resource: &Resource) -> Value {
    let nullable = |schema: &Value| json!({"anyOf": [schema, {"type": "null"}]});
    let mut all: Vec<Member> = Vec::new();
    for (name, schema, _) in members {
        all.push((name, nullable(schema), false));
        // The configuration's own words for the same.
        let words = resource
            .words
            .iter()
            .filter(|(published, native)| [*published, *native].contains(name));
        for word in words.flat_map(|(published, native)| [*published, *native]) {
            if word != *name {
                all.push((word, nullable(schema), false));
            }
        }
    }
    if resource
        .words
        .iter()
        .any(|(_, native)| *native == "enabled")
    {
        all.push(("disabled", nullable(&json!({"type": "boolean"})), false));
    }
    let name = json!({"type": ["string", "null"], "minLength": 1, "maxLength": 200});
    all.extend(
        resource
            .names
            .iter()
            .map(|called| (*called, name.clone(), false)),
    );
    for name in READ_ONLY {
        if !all.iter().any(|member| member.0 == name) {
            all.push((name, json!({"readOnly": true}), false));
        }
    }
    all.retain(|member| !MADE_HERE.contains(&member.0));
    let mut schema = object(all);
    schema["additionalProperties"] = false.into();
    schema
}

fn page(list: &'static str, item: &str) -> Value {
    let items = json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}});
    object(vec![
        ("version", json!({"type": "integer", "minimum": 0}), true),
        (list, items, true),
        ("next_cursor", maybe("string"), true),
    ])
}

fn provider() -> Vec<Member> {
    let secret =
        json!({"type": "string", "description": "sealed at rest; answers show a few signs of it"});
    let keys = json!({"type": "array", "items": {"anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {
            "key": text(), "name": text(), "weight": count(), "priority": {"type": "integer"}, "proxy_url": text(),
            "enabled": {"type": "boolean"}, "headers": named_texts(), "models": texts(), "excluded_models": texts(),
        }},
    ]}});
    vec![
        ("provider_type", maybe("string"), true),
        ("api_base", maybe("string"), true),
        ("model_mapping", json!({"type": ["object", "array"]}), true),
        ("weight", count(), true),
        ("is_enabled", json!({"type": "boolean"}), true),
        ("provider_params", provider_params(), true),
        ("api_key", secret, false),
        ("api_keys", keys, false),
        ("priority", json!({"type": "integer"}), false),
        ("prefix", text(), false),
        ("excluded_models", texts(), false),
        ("headers", named_texts(), false),
        (
            "forward_headers",
            json!({"type": ["array", "object"]}),
            false,
        ),
        ("passthrough_headers", texts(), false),
        ("wire_api", json!({"enum": ["chat", "responses"]}), false),
        ("api_version", text(), false),
        ("region", text(), false),
        ("proxy_url", text(), false),
        ("verify_ssl", json!({"type": "boolean"}), false),
        ("ca_file", text(), false),
        ("timeouts", json!({"type": "object"}), false),
        ("max_concurrent", count(), false),
        ("max_connections", count(), false),
        ("limits", limits(), false),
        ("health_check", json!({"type": "object"}), false),
    ]
}

/// What llm-proxy published, as far as it means anything here.
fn provider_params() -> Value {
    let policy = json!({"enum": ["drop", "allowlist", "passthrough"]});
    let members = json!({"anthropic_beta_policy": policy, "anthropic_beta_allowlist": {"type": ["array", "string"]}});
    json!({"type": "object", "properties": members})
}

fn limits() -> Value {
    let amount = json!({"type": "number", "minimum": 0});
    let names = [
        "requests_per_minute",
        "requests_per_day",
        "tokens_per_minute",
        "tokens_per_day",
        "usd_per_day",
        "usd_per_month",
        "usd_total",
    ];
    object(
        names
            .into_iter()
            .map(|name| (name, amount.clone(), false))
            .collect(),
    )
}

fn rate() -> Value {
    let spelt = object(vec![
        ("requests_per_second", count(), true),
        ("burst_size", count(), false),
    ]);
    json!({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": u32::MAX}, spelt]})
}

/// What keys and teams have in common.
fn bounds() -> Vec<Member> {
    vec![
        ("allowed_models", texts(), true),
        ("is_enabled", json!({"type": "boolean"}), true),
        ("rate_limit", rate(), false),
        ("max_concurrent", count(), false),
        ("limits", limits(), false),
        ("description", text(), false),
        (
            "metadata",
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            false,
        ),
        ("tags", texts(), false),
    ]
}

fn key() -> Vec<Member> {
    let mut members = bounds();
    members.extend([
        ("key", json!({"type": "string", "description": "brought by the user, or made here and shown once"}), false),
        ("key_preview", maybe("string"), true),
        ("expires_at", json!({"type": "string", "format": "date-time"}), false),
        ("previous_key_until", text(), false),
        ("allowed_ips", texts(), false),
        ("team", text(), false),
        ("role", json!({"enum": ["admin", "read_only", "team_admin"]}), false),
        ("strict", json!({"type": "boolean"}), false),
        ("explain", json!({"type": "boolean"}), false),
    ]);
    members
}

fn model() -> Vec<Member> {
    let percent = json!({"type": "number", "minimum": 0, "maximum": 100});
    let route = object(vec![
        ("model", text(), true),
        ("when", json!({"type": "object"}), false),
        ("percent", percent.clone(), false),
    ]);
    let shadow = object(vec![
        ("model", text(), true),
        ("percent", percent, false),
        ("max_concurrent", count(), false),
    ]);
    vec![
        ("routes", json!({"type": "array", "items": route}), false),
        ("shadow", shadow, false),
        (
            "targets",
            json!({"type": "array", "items": {"type": "object"}}),
            false,
        ),
        ("strategy", text(), false),
        ("affinity", json!({"type": ["string", "object"]}), false),
        ("fallbacks", json!({"type": ["array", "object"]}), false),
        ("timeouts", json!({"type": "object"}), false),
        ("max_concurrent", count(), false),
        ("limits", limits(), false),
        ("hedge", json!({"type": "object"}), false),
        ("continuation", json!({"type": "boolean"}), false),
        ("strict", json!({"type": "boolean"}), false),
    ]
}

fn price() -> Vec<Member> {
    let amount = json!({"type": "number", "minimum": 0, "description": "USD per million tokens"});
    let names = [
        "input",
        "output",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "input_audio",
        "output_audio",
        "reasoning",
    ];
    let mut members: Vec<Member> = names
        .into_iter()
        .map(|name| (name, amount.clone(), false))
        .collect();
    members.extend([
        ("long_prompt", json!({"type": "object"}), false),
        ("price", json!({"type": "object"}), false),
        ("provider", text(), false),
        ("date", text(), false),
    ]);
    members
}

/// A document that is not served.
fn left_out() -> Value {
    let one = object(vec![
        ("kind", text(), true),
        ("name", text(), true),
        ("why", text(), true),
    ]);
    json!({"type": "array", "items": one})
}

fn others() -> Vec<(&'static str, Value)> {
    let closed = |members: Vec<Member>| {
        let mut schema = object(members);
        schema["additionalProperties"] = false.into();
        schema
    };
    let field = object(vec![("field", text(), true), ("message", text(), true)]);
    let error = object(vec![
        ("message", text(), true),
        ("code", text(), true),
        ("origin", text(), true),
        ("field", text(), false),
        ("fields", json!({"type": "array", "items": field}), false),
    ]);
    let version: Vec<Member> = vec![
        ("version", json!({"type": "integer", "minimum": 1}), true),
        ("at", text(), true),
        ("actor", text(), true),
        ("action", text(), true),
        ("changes", count(), true),
    ];
    let change = object(vec![
        ("field", text(), true),
        ("before", json!(true), true),
        ("after", json!(true), true),
    ]);
    let document = |fields: Option<Value>| {
        let mut members: Vec<Member> = vec![
            ("kind", text(), true),
            ("name", text(), true),
            (
                "action",
                json!({"enum": ["created", "updated", "deleted"]}),
                true,
            ),
        ];
        members.extend(fields.map(|fields| ("fields", fields, true)));
        json!({"type": "array", "items": object(members)})
    };
    let changes = document(Some(json!({"type": "array", "items": change})));
    let entry = object(vec![
        ("number", json!({"type": "integer", "minimum": 1}), true),
        ("at", text(), true),
        ("actor", text(), true),
        ("action", text(), true),
        ("outcome", text(), true),
        ("subject", text(), true),
        ("version", maybe("integer"), true),
    ]);
    let with = |member: Member, members: &[Member]| {
        object(members.iter().cloned().chain([member]).collect())
    };
    let seconds = json!({"type": "integer", "minimum": 1, "maximum": 120});
    let at_once = json!({"type": "integer", "minimum": 1, "maximum": 10});
    let ids = json!({"type": "array", "items": {"type": ["string", "integer"]}});
    let checked = object(vec![
        ("provider_id", text(), true),
        ("provider_key", text(), true),
        (
            "status",
            json!({"enum": ["healthy", "unhealthy", "disabled"]}),
            true,
        ),
        (
            "models",
            json!({"type": "array", "items": {"type": "object"}}),
            true,
        ),
        ("checked_at", json!({"type": "integer"}), true),
    ]);
    vec![
        ("Error", object(vec![("error", error, true)])),
        ("Object", json!({"type": "object"})),
        (
            "Session",
            object(vec![
                ("valid", json!({"const": true}), true),
                ("message", text(), true),
                ("name", text(), true),
                ("role", text(), true),
                ("team", maybe("string"), true),
            ]),
        ),
        (
            "Dry",
            object(vec![
                ("deleted", text(), true),
                ("dry_run", json!({"const": true}), true),
                ("left_out", left_out(), true),
            ]),
        ),
        (
            "Rotation",
            closed(vec![
                (
                    "overlap_secs",
                    json!({"type": "integer", "minimum": 0, "maximum": 7_776_000}),
                    false,
                ),
                ("key", maybe("string"), false),
            ]),
        ),
        (
            "ConfigVersion",
            object(vec![
                ("version", json!({"type": "integer", "minimum": 0}), true),
                ("timestamp", text(), true),
                ("store_version", maybe("integer"), true),
                ("is_current", json!({"type": "boolean"}), true),
                ("generation", json!({"type": "integer"}), true),
                ("left_out", left_out(), true),
            ]),
        ),
        (
            "History",
            object(vec![
                (
                    "versions",
                    json!({"type": "array", "items": object(version.clone())}),
                    true,
                ),
                ("next_cursor", maybe("string"), true),
            ]),
        ),
        ("Changes", with(("documents", changes, true), &version)),
        (
            "Rollback",
            closed(vec![
                ("version", json!({"type": "integer", "minimum": 0}), true),
                ("include_keys", json!({"type": "boolean"}), false),
            ]),
        ),
        (
            "RolledBack",
            object(vec![
                ("version", json!({"type": "integer", "minimum": 0}), true),
                (
                    "rolled_back_to",
                    json!({"type": "integer", "minimum": 0}),
                    true,
                ),
                ("documents", document(None), true),
            ]),
        ),
        (
            "Audit",
            object(vec![
                ("entries", json!({"type": "array", "items": entry}), true),
                ("next_cursor", maybe("string"), true),
            ]),
        ),
        (
            "HealthList",
            object(vec![(
                "providers",
                json!({"type": "array", "items": {"type": "object"}}),
                true,
            )]),
        ),
        (
            "HealthReset",
            closed(vec![
                ("provider", maybe("string"), false),
                ("credential", maybe("string"), false),
                ("model", maybe("string"), false),
            ]),
        ),
        (
            "HealthResetDone",
            object(vec![(
                "reset",
                json!({"type": "array", "items": {"type": "object"}}),
                true,
            )]),
        ),
        (
            "Check",
            closed(vec![
                ("provider_ids", ids, false),
                ("models", texts(), false),
                ("timeout_secs", seconds.clone(), false),
                ("max_concurrent", at_once.clone(), false),
            ]),
        ),
        (
            "CheckModels",
            closed(vec![
                ("models", texts(), false),
                ("timeout_secs", seconds, false),
                ("max_concurrent", at_once, false),
            ]),
        ),
        ("Checked", checked),
        (
            "Checks",
            object(vec![
                ("total_providers", count(), true),
                ("healthy_providers", count(), true),
                ("unhealthy_providers", count(), true),
                (
                    "providers",
                    json!({"type": "array", "items": {"$ref": "#/components/schemas/Checked"}}),
                    true,
                ),
            ]),
        ),
    ]
}
