//! `config.example.yaml` is true: it loads, it has every key, and its values are the defaults.

use polygate::config::env::Environment;
use polygate::config::{Dialect, parse, summary};
use polygate_engine::Config;

use crate::{good, warnings};

const EXAMPLE: &str = include_str!("../../../../config.example.yaml");

#[test]
fn the_example_loads_without_a_word() {
    let loaded = good(EXAMPLE);
    assert_eq!(loaded.dialect, Dialect::Native);
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn every_key_that_is_read_is_in_the_example() {
    let parsed = parse(EXAMPLE, &Environment::default());
    let missing: Vec<&String> = parsed
        .findings
        .known
        .iter()
        .filter(|path| {
            let key = path.rsplit('.').next().unwrap_or_default();
            !EXAMPLE
                .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
                .any(|word| word == key)
        })
        .collect();
    assert!(
        missing.is_empty(),
        "not in config.example.yaml: {missing:?}"
    );
    assert!(parsed.findings.known.contains("models.*.targets[].weight"));
    assert!(
        parsed
            .findings
            .known
            .contains("providers[].api_keys[].weight")
    );
    assert!(
        parsed
            .findings
            .known
            .contains("master_keys[].rate_limit.burst_size")
    );
}

#[test]
fn numbers_in_the_example_are_the_defaults() {
    let config = good(EXAMPLE).config;
    let default = Config::default();
    assert_eq!(
        format!("{:?}", config.server),
        format!("{:?}", default.server)
    );
    assert_eq!(
        format!("{:?}", config.timeouts),
        format!("{:?}", default.timeouts)
    );
    assert_eq!(
        format!("{:?}", config.health_check),
        format!("{:?}", default.health_check)
    );
    let mut retry = config.retry;
    assert_eq!(
        retry.max_retries,
        Some(3),
        "it has no default, nor has that of streams"
    );
    retry.max_retries = None;
    retry.stream_retries = None;
    assert_eq!(format!("{retry:?}"), format!("{:?}", default.retry));
    assert_eq!(config.metrics_open, default.metrics_open);
    assert_eq!(config.verify_ssl, default.verify_ssl);
    assert_eq!(
        config.access.allow_anonymous,
        default.access.allow_anonymous
    );
}

#[test]
fn the_summary_says_what_it_resolved_to_and_no_secret() {
    let text = "
providers:
  - {name: openai, api_key: sk-secret-one, api_base: 'https://api.openai.com/v1?key=sk-secret-two', headers: {x-token: sk-secret-three}}
  - {name: off, type: anthropic, api_keys: [{key: sk-secret-four, name: big, weight: 3}], disabled: true, health_check: {model: c}}
health_check: {probe_models: true}
models: {best: {targets: [{provider: openai, model: g, weight: 2}, {provider: off}], fallbacks: [x], strategy: fill-first}}
master_keys: [{key: sk-secret-five, name: alice}, {key: sk-secret-six, name: bob, enabled: false}]
verify_ssl: false
";
    let summary = summary(&good(text));
    for said in [
        "dialect    polygate\n",
        "listens    127.0.0.1:8080, ",
        "openai (openai) https://api.openai.com/v1, 1 key(s), weight 1, headers x-token: every model\n",
        "off (anthropic) https://api.anthropic.com, 1 key(s): big ×3, weight 1, checked by chats with c, disabled: every model\n",
        "health     every 30s, within 10s, by chats with every model named\n",
        "best -> openai/g ×2, off/best, fill-first, else x\n",
        "1 key(s): alice, 1 disabled\n",
        "warning    providers' certificates are NOT checked",
    ] {
        assert!(summary.contains(said), "{said:?} in {summary}");
    }
    assert!(!summary.contains("secret"), "{summary}");
}
