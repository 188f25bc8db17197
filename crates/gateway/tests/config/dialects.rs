//! Files of four systems, the published ones unchanged, and what each comes to.

use std::time::Duration;

use polygate::config::Dialect;
use polygate_engine::config::{Strategy, WireApi};

use crate::{good, good_with, lines, report, warnings};

const POOL: &str = include_str!("../fixtures/published/ai-api-pool.yaml");
const AI_PROXY: &str = include_str!("../fixtures/published/ai-proxy.yaml");
const AI_PROXY_README: &str = include_str!("../fixtures/published/ai-proxy-readme.yaml");
const LLM_PROXY: &str = include_str!("../fixtures/published/llm-proxy.yaml");

#[test]
fn the_published_pool_runs_with_all_of_its_keys() {
    let keys = [
        ("OPENROUTER_API_KEY", "or"),
        ("AZURE_API_KEY", "az"),
        ("DEEPSEEK_API_KEY", "ds"),
        ("OPENAI_API_KEY", "oa"),
    ];
    let loaded = good_with(POOL, &keys);
    assert_eq!(loaded.dialect, Dialect::Pool);
    assert_eq!(
        lines(&loaded),
        [
            "openrouter  https://openrouter.ai/api/v1 [or] deepseek-r1>",
            "azure  https://your-resource.openai.azure.com [az] deepseek-r1> gpt-4o>",
            "deepseek  https://api.deepseek.com/v1 [ds] deepseek-r1>",
            "openai  https://api.openai.com/v1 [oa] gpt-4o>",
        ]
    );
    assert_eq!(loaded.config.routing.strategy, Strategy::RoundRobin);
    assert!(loaded.config.access.keys.is_none());
    assert_eq!(
        warnings(&loaded),
        ["5:3: server.config_file: has no effect: the file is the one that was named at start"]
    );
}

#[test]
fn the_published_pool_runs_with_one_of_its_keys() {
    let loaded = good_with(POOL, &[("DEEPSEEK_API_KEY", "ds")]);
    assert_eq!(
        lines(&loaded),
        ["deepseek  https://api.deepseek.com/v1 [ds] deepseek-r1>"]
    );
    let left_out = &warnings(&loaded)[1..];
    assert_eq!(left_out.len(), 4);
    assert_eq!(
        left_out[0],
        "11:9: models.deepseek-r1.providers[0]: 'openrouter' is left out: the variable OPENROUTER_API_KEY is not set"
    );
}

#[test]
fn a_pool_joins_what_is_the_same_and_numbers_what_is_not() {
    let loaded = good(
        "
models:
  a:
    model_name: upstream-a
    providers:
      - {name: us-east, api_base: 'https://one.example', api_key: k}
      - {name: us-west, api_base: 'https://one.example', api_key: k}
      - {name: us-east, api_base: 'https://one.example', api_key: other}
  b:
    providers:
      - {name: us-east, api_base: 'https://one.example', api_key: k}
      - {name: us-east, api_base: 'https://two.example', api_key: k, enabled: false}
",
    );
    assert_eq!(
        lines(&loaded),
        [
            "us-east  https://one.example [k] a>upstream-a b>",
            "us-west  https://one.example [k] a>upstream-a",
            "us-east-2  https://one.example [other] a>upstream-a",
            "us-east-3  https://two.example [k] b>",
        ]
    );
    let disabled: Vec<bool> = loaded
        .config
        .providers
        .iter()
        .map(|one| one.disabled)
        .collect();
    assert_eq!(disabled, [false, false, false, true]);
}

#[test]
fn the_published_ai_proxy_file_runs() {
    let loaded = good(AI_PROXY);
    let config = &loaded.config;
    assert_eq!(loaded.dialect, Dialect::AiProxy);
    assert_eq!(
        lines(&loaded),
        [
            "claude-1 anthropic - [sk-ant-your-claude-key]",
            "openai-1 openai - [sk-your-openai-key]",
            "gemini-1 gemini - [your-gemini-key]",
        ]
    );
    assert_eq!(
        (config.server.host.to_string().as_str(), config.server.port),
        ("0.0.0.0", 8317)
    );
    assert_eq!(config.retry.max_retries, Some(3));
    assert_eq!(config.retry.max_wait, Duration::from_secs(30));
    assert_eq!(config.timeouts.connect, Duration::from_secs(30));
    assert_eq!(config.timeouts.request, Duration::from_secs(300));
    assert_eq!(config.timeouts.keepalive, Duration::from_secs(15));
    assert!(config.access.keys.is_none(), "an empty list is no section");
    assert_eq!(warnings(&loaded).len(), 2, "debug and logging-to-file");
}

#[test]
fn the_quick_start_of_ai_proxy_runs() {
    assert_eq!(
        lines(&good(AI_PROXY_README)),
        [
            "claude-1 anthropic - [sk-ant-...] claude-sonnet-4-5>claude-sonnet-4-5-20250929 claude-sonnet-4-5-20250929>",
            "openai-1 openai - [sk-...]",
            "gemini-1 gemini - [...]",
            "compat-1 openai-compatible https://api.deepseek.com [...] deepseek-chat>",
        ]
    );
}

#[test]
fn ai_proxy_details() {
    let loaded = good(
        "
request-retry: 5
retry: {max-retries: 0, max-backoff-secs: 2, cooldown-429-secs: 1.5, cooldown-5xx-secs: 2, cooldown-network-secs: 3}
api-keys: [one-client, two-client]
body-limit-mb: 64
force-model-prefix: true
non-stream-keepalive-secs: 0
proxy-url: ''
streaming: {keepalive-seconds: 0}
openai-api-key:
  - api-key: same
    name: first
    base-url: 'https://first.example/v1/'
    wire-api: responses
    disabled: true
    headers: {X-Team: a}
    models: [{id: 'gpt-*', alias: any}, {id: o3}]
    excluded-models: ['*-preview']
  - {api-key: same, base-url: 'https://second.example'}
",
    );
    let config = &loaded.config;
    assert_eq!(
        lines(&loaded),
        [
            "first openai https://first.example/v1/ [same] any> gpt-*> o3>",
            "openai-2 openai https://second.example [same]",
        ]
    );
    let first = &config.providers[0];
    assert_eq!(first.wire_api, Some(WireApi::Responses));
    assert!(first.disabled && first.headers.contains_key("x-team"));
    assert!(first.excluded_models[0].matches("gpt-5-preview"));
    assert_eq!(config.retry.max_retries, Some(0), "the details win");
    assert_eq!(
        config.retry.cooldown_rate_limit,
        Duration::from_millis(1500)
    );
    assert_eq!(config.timeouts.keepalive, Duration::ZERO);
    assert_eq!(config.server.body_limit, 64 << 20);
    assert!(config.routing.force_model_prefix);
    assert_eq!(config.access.keys.as_ref().map(Vec::len), Some(2));
}

#[test]
fn the_published_llm_proxy_file_runs() {
    let loaded = good_with(
        LLM_PROXY,
        &[("API_BASE_URL", "https://h.example"), ("API_KEY_1", "k")],
    );
    assert_eq!(loaded.dialect, Dialect::LlmProxy);
    assert_eq!(
        lines(&loaded),
        ["Provider-1  https://h.example [k] claude-4.5-sonnet>actual-provider-model"]
    );
    assert_eq!(loaded.config.providers[0].weight, 2);
    assert!(!loaded.config.verify_ssl);
    let keys = loaded.config.access.keys.expect("keys");
    let limit = keys[0].bounds.rate_limit.expect("a limit");
    assert_eq!((limit.requests_per_second, limit.burst_size), (100, 150));
    assert!(keys[1].bounds.rate_limit.is_none());
}

#[test]
fn files_listen_where_their_system_did() {
    let llm_proxy = "
providers: [{name: p, api_base: 'https://h.example', api_key: k}]
master_keys: [{key: some-key, rate_limit: {requests_per_second: 1}}]
";
    for (text, dialect, address) in [
        (llm_proxy, Dialect::LlmProxy, "0.0.0.0:18000"),
        (
            "openai-api-key: [{api-key: k}]",
            Dialect::AiProxy,
            "0.0.0.0:8317",
        ),
        ("port: 1", Dialect::AiProxy, "0.0.0.0:1"),
        (
            "models: {m: {providers: [{name: p, api_base: 'https://h.example', api_key: k}]}}",
            Dialect::Pool,
            "0.0.0.0:8080",
        ),
        (
            "providers: [{name: openai, api_key: k}]",
            Dialect::Native,
            "127.0.0.1:8080",
        ),
        // One key of our own makes a file ours.
        (
            &format!("{llm_proxy}retry: {{}}\n"),
            Dialect::Native,
            "127.0.0.1:8080",
        ),
        (
            "providers: [{name: openai, api_key: k}]\nmaster_keys: [{key: some-key}]",
            Dialect::Native,
            "127.0.0.1:8080",
        ),
        ("", Dialect::Native, "127.0.0.1:8080"),
    ] {
        let loaded = good(text);
        let server = &loaded.config.server;
        assert_eq!(loaded.dialect, dialect, "{text}");
        assert_eq!(
            format!("{}:{}", server.host, server.port),
            address,
            "{text}"
        );
    }
}

#[test]
fn the_smallest_native_file_passes_every_name() {
    let loaded = good("providers: [{name: openai, api_key: k, model_mapping: {}}]");
    assert_eq!(lines(&loaded), ["openai  - [k]"]);
    assert_eq!(loaded.config.routing.strategy, Strategy::Weighted);
    assert!(loaded.config.access.keys.is_none());
    assert!(warnings(&loaded).is_empty());
}

#[test]
fn mappings_have_four_forms() {
    let loaded = good(
        "
providers:
  - name: openai
    api_key: k
    model_mapping:
      a: b
      'gpt-*':
      c: {mapped_model: d, max_tokens: 4096, supports_vision: true, input_cost_per_1k_tokens: 0.1, mode: chat}
  - {name: anthropic, api_key: k, models: [x, 'y-.*']}
",
    );
    assert_eq!(
        lines(&loaded),
        ["openai  - [k] a>b gpt-*> c>d", "anthropic  - [k] x> y-.*>"]
    );
    assert_eq!(
        warnings(&loaded),
        [
            "5:5: providers[0].model_mapping: limits, prices and capabilities of models have no effect yet"
        ]
    );
}

#[test]
fn keys_with_units_in_their_names_are_the_same_keys() {
    let plain = good(
        "retry: {initial_backoff: 300ms, cooldown_rate_limit: 7, max_wait: 1m}\ntimeouts: {first_event: 9}",
    );
    let units = good(
        "retry: {initial_backoff_ms: 300, cooldown_429_secs: 7, max_wait_secs: 60}\ntimeouts: {first_event_secs: 9}",
    );
    for loaded in [plain, units] {
        let (retry, timeouts) = (loaded.config.retry, loaded.config.timeouts);
        assert_eq!(retry.initial_backoff, Duration::from_millis(300));
        assert_eq!(retry.cooldown_rate_limit, Duration::from_secs(7));
        assert_eq!(retry.max_wait, Duration::from_secs(60));
        assert_eq!(timeouts.first_event, Duration::from_secs(9));
    }
}

#[test]
fn anchors_and_merges_work_and_own_keys_win() {
    let loaded = good(
        "
providers:
  - &base {name: one, type: openai, api_key: k, weight: 3}
  - <<: *base
    name: two
  - {name: three, <<: [{weight: 4}, *base]}
",
    );
    let weights: Vec<u32> = loaded
        .config
        .providers
        .iter()
        .map(|one| one.weight)
        .collect();
    assert_eq!(weights, [3, 3, 4]);
    assert_eq!(lines(&loaded)[1], "two openai - [k]");
}

#[test]
fn ai_proxy_files_have_their_own_errors() {
    assert_eq!(
        report(
            "openai-compatibility: [{api-key: k}]\nclaude-api-key: [{api-key: k}, {base-url: 'https://h.example'}]\napi-keys: ['']\nrouting: {strategy: weighted}\nbody-limit-mb: 0\n"
        ),
        "config.yaml:1:24: openai-compatibility[0].base-url: is missing: a compatible provider has no address of its own
config.yaml:2:32: claude-api-key[1].api-key: is missing
config.yaml:3:12: api-keys[0]: is empty
config.yaml:4:11: routing.strategy: must be one of: round-robin, fill-first, not 'weighted'
config.yaml:5:1: body-limit-mb: must be a number of megabytes above zero"
    );
}

#[test]
fn tls_stands_below_server_or_at_the_top_and_ai_proxy_has_it_off_unless_enabled() {
    let tls = |text: &str| {
        let tls = good(text).config.server.tls;
        tls.map(|tls| format!("{} {}", tls.cert.display(), tls.key.display()))
    };
    let pair = Some("a.pem b.pem".to_owned());
    for (text, expected) in [
        ("server: {tls: {cert: a.pem, key: b.pem}}", &pair),
        (
            "server: {tls: {enable: false, cert: a.pem, key: b.pem}}",
            &None,
        ),
        ("tls: {enable: true, cert: a.pem, key: b.pem}", &pair),
        ("tls: {}", &None),
        ("tls:", &None),
        (
            "request-retry: 1\ntls: {enable: true, cert: a.pem, key: b.pem}",
            &pair,
        ),
        ("request-retry: 1\ntls: {cert: a.pem, key: b.pem}", &None),
        ("request-retry: 1\ntls: {enable: false}", &None),
    ] {
        assert_eq!(tls(text), *expected, "{text}");
    }
}
