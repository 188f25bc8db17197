//! Which file, and whose word counts.

use std::path::Path;

use polygate::config::env::Environment;
use polygate::config::{Dialect, Flags, load};

use crate::{good_with, load_in, load_text, warnings};

fn write(directory: &Path, name: &str, port: u16) {
    let text = format!("server: {{port: {port}}}\n");
    std::fs::write(directory.join(name), text).expect("written");
}

fn port(directory: &Path, flag: Option<&str>, variables: &[(&str, &str)]) -> u16 {
    let flags = Flags {
        config: flag.map(Into::into),
        ..Flags::default()
    };
    let loaded = load(&flags, &Environment::of(variables), directory);
    loaded.expect("a configuration").config.server.port
}

#[test]
fn the_file_is_looked_for_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for (name, port) in [
        ("flag.yaml", 1),
        ("p.yaml", 2),
        ("a.yaml", 3),
        ("c.yaml", 4),
        ("config.yaml", 5),
    ] {
        write(dir, name, port);
    }
    let (p, a, c) = (
        ("POLYGATE_CONFIG", "p.yaml"),
        ("AI_PROXY_CONFIG", "a.yaml"),
        ("CONFIG_PATH", "c.yaml"),
    );
    assert_eq!(port(dir, Some("flag.yaml"), &[p, a, c]), 1);
    assert_eq!(port(dir, None, &[p, a, c]), 2);
    assert_eq!(port(dir, None, &[a, c]), 3);
    assert_eq!(port(dir, None, &[c]), 4);
    assert_eq!(port(dir, None, &[("POLYGATE_CONFIG", " "), c]), 4);
    assert_eq!(port(dir, None, &[]), 5);
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "config.yaml", 5);
    let report = load_in(dir.path(), &[("CONFIG_PATH", "nowhere.yaml")]).expect_err("an error");
    assert!(
        report
            .to_string()
            .starts_with("nowhere.yaml: cannot be read: "),
        "{report}"
    );
    // A link to nowhere is there, and means something.
    std::fs::remove_file(dir.path().join("config.yaml")).expect("removed");
    std::os::unix::fs::symlink("gone", dir.path().join("config.yaml")).expect("linked");
    assert!(load_in(dir.path(), &[]).is_err());
}

#[test]
fn without_a_file_providers_come_from_well_known_variables() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = [
        ("ANTHROPIC_API_KEY", "a"),
        ("DEEPSEEK_API_KEY", "d"),
        ("OPENAI_API_KEY", ""),
    ];
    let loaded = load_in(dir.path(), &keys).expect("a configuration");
    let names: Vec<&str> = loaded
        .config
        .providers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        (loaded.dialect, names),
        (Dialect::Zero, vec!["anthropic", "deepseek"])
    );
    assert_eq!(loaded.path, None);
    assert!(loaded.config.server.host.is_loopback());
    let nothing = load_in(dir.path(), &[]).expect("a configuration");
    assert!(nothing.config.providers.is_empty());
    assert!(load_in(dir.path(), &[("DB_URL", "postgres://h/d")]).is_err());
}

#[test]
fn flags_beat_variables_and_variables_beat_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(
        dir.path().join("config.yaml"),
        "server: {host: 10.0.0.1, port: 1}",
    )
    .expect("written");
    let all = [
        ("POLYGATE_HOST", "10.0.0.2"),
        ("AI_PROXY_HOST", "10.0.0.3"),
        ("HOST", "10.0.0.4"),
        ("POLYGATE_PORT", "2"),
        ("AI_PROXY_PORT", "3"),
        ("PORT", "4"),
        ("HOSTNAME", "counts-for-nothing"),
    ];
    let address = |flags: &Flags, variables: &[(&str, &str)]| {
        let loaded = load(flags, &Environment::of(variables), dir.path()).expect("a configuration");
        let server = loaded.config.server;
        format!("{}:{}", server.host, server.port)
    };
    let flags = Flags {
        host: Some("::1".to_owned()),
        port: Some(9),
        ..Flags::default()
    };
    let none = Flags::default();
    assert_eq!(address(&flags, &all), "::1:9");
    // What is overridden is not even read.
    assert_eq!(
        address(&flags, &[("HOST", "my-laptop"), ("PORT", "x")]),
        "::1:9"
    );
    assert_eq!(address(&none, &all), "10.0.0.2:2");
    assert_eq!(
        address(&none, &[all[1], all[2], all[4], all[5]]),
        "10.0.0.3:3"
    );
    assert_eq!(address(&none, &[all[2], all[5]]), "10.0.0.4:4");
    assert_eq!(address(&none, &[all[6]]), "10.0.0.1:1");
}

#[test]
fn other_variables_override_their_keys() {
    let text =
        "verify_ssl: true\nrouting: {provider_suffix: A}\ntimeouts: {request: 1, first_event: 1}";
    let loaded = good_with(
        text,
        &[
            ("VERIFY_SSL", "off"),
            ("PROVIDER_SUFFIX", "Proxy"),
            ("REQUEST_TIMEOUT_SECS", "300"),
            ("TTFT_TIMEOUT_SECS", "7"),
            ("POLYGATE_DATA_DIR", "/var/lib/polygate"),
            ("ADMIN_KEY", "a-real-admin-key"),
        ],
    );
    let config = &loaded.config;
    assert!(!config.verify_ssl);
    assert_eq!(config.routing.provider_suffix.as_deref(), Some("Proxy"));
    assert_eq!(config.timeouts.request.as_secs(), 300);
    assert_eq!(config.timeouts.first_event.as_secs(), 7);
    assert_eq!(loaded.storage.data_dir, Path::new("/var/lib/polygate"));
    assert_eq!(
        loaded.admin_key.as_ref().map(|key| key.reveal()),
        Some("a-real-admin-key")
    );
}

#[test]
fn variables_without_effect_are_named_once_a_feature() {
    let loaded = good_with(
        "",
        &[
            ("LANGFUSE_PUBLIC_KEY", "pk"),
            ("LANGFUSE_SECRET_KEY", "sk-secret"),
            ("JSONL_LOG_PATH", "x"),
        ],
    );
    assert_eq!(
        warnings(&loaded),
        [
            "LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY: of no effect without LANGFUSE_ENABLED=true",
            "JSONL_LOG_PATH: of no effect without JSONL_LOG_ENABLED=true",
        ]
    );
}

#[test]
fn the_request_log_is_as_its_variables_say_over_the_file() {
    let file = "jsonl_log: {path: a.jsonl, max_size_mb: 7, max_files: 2}\nproviders: []\n";
    for (variables, expected) in [
        (vec![], Some(("a.jsonl", 1000, false))),
        (vec![("JSONL_LOG_ENABLED", "false")], None),
        (
            vec![
                ("JSONL_LOG_PATH", "b.jsonl"),
                ("JSONL_LOG_BUFFER_SIZE", "5"),
                ("JSONL_LOG_CONTENT", "true"),
            ],
            Some(("b.jsonl", 5, true)),
        ),
    ] {
        let loaded = good_with(file, &variables);
        let own = loaded.config.telemetry.jsonl.as_ref();
        let found = own.map(|own| (own.path.to_str().expect("text"), own.queue, own.content));
        assert_eq!(found, expected);
        assert!(own.is_none_or(|own| (own.most_bytes, own.older) == (7 << 20, 2)));
    }
    let loaded = good_with("", &[("JSONL_LOG_ENABLED", "true")]);
    let own = loaded.config.telemetry.jsonl.as_ref().expect("a log");
    assert_eq!(own.path.to_str(), Some("./logs/requests.jsonl"));
    assert!(load_text("", &[("JSONL_LOG_BUFFER_SIZE", "0")]).is_err());
}

#[test]
fn the_address_of_a_redis_is_read_and_never_shown() {
    for (url, is_good) in [
        ("redis://h", true),
        ("rediss://u:hush@h/1", true),
        ("", true),
        ("http://u:hush@h", false),
    ] {
        let loaded = load_text("", &[("REDIS_URL", url)]);
        assert_eq!(loaded.is_ok(), is_good, "{url}");
        if let Err(report) = loaded {
            let report = report.to_string();
            assert!(report.contains("REDIS_URL: must be 'redis://…'") && !report.contains("hush"));
        }
        let text = format!("redis_url: '{url}'\n");
        assert_eq!(
            load_text(&text, &[]).is_ok(),
            is_good && !url.is_empty(),
            "{text}"
        );
    }
}
