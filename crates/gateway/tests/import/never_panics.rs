//! Whatever a file holds, importing it ends; and what LiteLLM could mean loads.

use polygate::config::env::Environment;
use polygate::import::import;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEYS: [&str; 44] = [
    "model_list",
    "litellm_settings",
    "router_settings",
    "general_settings",
    "environment_variables",
    "credential_list",
    "model_name",
    "litellm_params",
    "model_info",
    "model",
    "api_base",
    "api_key",
    "api_version",
    "weight",
    "rpm",
    "tpm",
    "order",
    "timeout",
    "stream_timeout",
    "organization",
    "extra_headers",
    "max_parallel_requests",
    "ssl_verify",
    "input_cost_per_token",
    "output_cost_per_token",
    "custom_llm_provider",
    "aws_region_name",
    "aws_access_key_id",
    "litellm_credential_name",
    "routing_strategy",
    "num_retries",
    "allowed_fails",
    "cooldown_time",
    "retry_after",
    "fallbacks",
    "context_window_fallbacks",
    "default_fallbacks",
    "model_group_alias",
    "master_key",
    "global_max_parallel_requests",
    "*",
    "a",
    "b",
    "c",
];

/// What deployments give to calls, what they cost, and what may stand beside them.
const PARAMS: [&str; 12] = [
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "thinking",
    "tools",
    "extra_body",
    "tags",
    "input_cost_per_token",
    "output_cost_per_token",
    "input_cost_per_token_above_200k_tokens",
    "base_model",
];

/// Settings beside those of `KEYS`.
const SETTINGS: [&str; 6] = [
    "callbacks",
    "success_callback",
    "enable_pre_call_checks",
    "allowed_ips",
    "max_request_size_mb",
    "maximum_spend_logs_retention_period",
];

/// Members of guardrails.
const GUARDS: [&str; 8] = [
    "mode",
    "patterns",
    "pattern",
    "pattern_name",
    "action",
    "blocked_words",
    "keyword",
    "categories",
];

const WORDS: [&str; 47] = [
    "a",
    "b",
    "c",
    "openai/a",
    "openai/*",
    "*",
    "azure/b",
    "anthropic/claude-3",
    "bedrock/us-east-1/x.y",
    "nowhere/x",
    "os.environ/KEY",
    "os.environ/",
    "${X}",
    "$$",
    "https://h.example/v1",
    "http://[",
    "h",
    "",
    "-1",
    "0",
    "1",
    "2.5",
    "1e999",
    "NaN",
    "4294967296",
    "true",
    "false",
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "gpt-4o",
    "sk-x",
    "a\nb",
    "a\u{0}b",
    "é (x)",
    "x[",
    "a*b*c",
    "openai/responses/x",
    "0.7",
    "1_000",
    "a*",
    "a/*:*",
    "openai/a/*:*",
    "bedrock/converse/arn:aws:bedrock:eu-west-3:1:inference-profile/a",
    "https://r.example/openai/deployments/?api-version=",
    "http://h.example/compat/chat/completions/",
    "mock/a",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(&WORDS[..]).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<i32>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&KEYS[..]), inner), 0..5).prop_map(
                |members| {
                    Value::Object(
                        members
                            .into_iter()
                            .map(|(key, value)| (key.to_owned(), value))
                            .collect(),
                    )
                }
            ),
        ]
    })
}

fn params() -> impl Strategy<Value = Value> {
    let member = (prop::sample::select(&KEYS[9..29]), leaf());
    let given = (prop::sample::select(&PARAMS[..]), tree());
    let member = prop_oneof![member, given];
    let word = prop::sample::select(&WORDS[..]);
    (word, prop::collection::vec(member, 0..6)).prop_map(|(model, members)| {
        let mut params = json!({});
        for (key, value) in members {
            params[key] = value;
        }
        params["model"] = model.into();
        params
    })
}

/// Guardrails of LiteLLM's own, with anything in them.
fn guardrails() -> impl Strategy<Value = Value> {
    let entry = prop::collection::vec((prop::sample::select(&GUARDS[1..]), leaf()), 0..4);
    let entry = entry.prop_map(|members| members.into_iter().collect::<Value>());
    let list = prop::collection::vec(prop_oneof![entry, leaf()], 0..3).prop_map(Value::from);
    let member = (
        prop::sample::select(&GUARDS[..]),
        prop_oneof![3 => list, 1 => tree()],
    );
    let params = prop::collection::vec(member, 0..4);
    let guardrail = (leaf(), params).prop_map(|(name, members)| {
        let mut params = json!({"guardrail": "litellm_content_filter", "default_on": true});
        for (key, value) in members {
            params[key] = value;
        }
        json!({"guardrail_name": name, "litellm_params": params})
    });
    prop::collection::vec(guardrail, 0..3).prop_map(Value::from)
}

/// What has LiteLLM's shape, with anything in it.
fn shaped() -> impl Strategy<Value = Value> {
    let entry = (leaf(), params(), tree()).prop_map(|(name, params, info)| {
        json!({"model_name": name, "litellm_params": params, "model_info": info})
    });
    let pairs = prop::collection::vec(
        (
            prop::sample::select(&KEYS[40..44]),
            prop::collection::vec(leaf(), 0..3),
        ),
        0..4,
    );
    let pairs = pairs.prop_map(|pairs| {
        let items = pairs
            .into_iter()
            .map(|(group, names)| json!({group: names}));
        items.collect::<Value>()
    });
    let setting = prop_oneof![
        prop::sample::select(&KEYS[29..40]),
        prop::sample::select(&SETTINGS[..])
    ];
    let settings = prop::collection::vec((setting, tree()), 0..6);
    let list = prop::collection::vec(entry, 0..5);
    (list, pairs, settings, guardrails(), leaf()).prop_map(
        |(list, pairs, settings, guardrails, key)| {
            let mut router = json!({});
            for (key, value) in settings {
                router[key] = value;
            }
            router["fallbacks"] = pairs;
            json!({"model_list": list, "router_settings": router, "guardrails": guardrails,
            "general_settings": {"master_key": key, "allowed_ips": router["allowed_ips"]}})
        },
    )
}

/// Imports it; what came out.
fn native(text: &str) -> Option<String> {
    let imported = import(text).ok()?;
    let _ = imported.report();
    Some(imported.text())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        native(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn trees_never_panic(tree in tree()) {
        native(&tree.to_string());
        native(&json!({"model_list": tree, "general_settings": tree}).to_string());
        native(&json!({"claude-api-key": tree, "api-keys": tree, "retry": tree}).to_string());
        native(&json!({"models": {"a": {"providers": tree, "model_name": tree}}, "server": tree}).to_string());
        native(&json!({"providers": tree, "models": tree}).to_string());
    }

    #[test]
    fn what_has_litellms_shape_loads(file in shaped()) {
        if let Ok(imported) = import(&file.to_string()) {
            let problems = imported.problems(&Environment::default());
            prop_assert!(problems.is_empty(), "{:?}\n{}", problems, imported.text());
        }
    }
}
