//! Variables in values: replaced, typed again, and what happens where they are not set.

use polygate::config::env::Environment;
use polygate_providers::{Settings, build, table};

use crate::{good_with, lines, load_in, report_with, warnings};

#[test]
fn values_are_typed_after_variables_are_replaced() {
    let text = "
server: {port: '${PORT_OF_MINE:-9000}', host: \"${BIND:localhost}\"}
providers: [{name: openai, api_key: 'a$$b${KEY}', weight: ${WEIGHT:-3}, enabled: ${ON:-true}}]
";
    let text = text
        .replace("${WEIGHT:-3}", "'${WEIGHT:-3}'")
        .replace("${ON:-true}", "'${ON:-true}'");
    let loaded = good_with(&text, &[("KEY", "-key"), ("WEIGHT", "5")]);
    assert_eq!(loaded.config.server.port, 9000);
    assert_eq!(loaded.config.server.host.to_string(), "127.0.0.1");
    assert_eq!(loaded.config.providers[0].weight, 5);
    assert_eq!(lines(&loaded), ["openai  - [a$b-key]"]);
    let plain = good_with("server:\n  port: ${P:-8081}\n", &[]);
    assert_eq!(plain.config.server.port, 8081);
}

#[test]
fn a_provider_whose_variable_is_not_set_is_left_out_with_its_targets() {
    let loaded = good_with(
        "
providers:
  - {name: openai, api_key: '${OPENAI_API_KEY}'}
  - {name: anthropic, api_key: '${ANTHROPIC_API_KEY:?make one in the console}'}
models:
  best:
    targets: [{provider: anthropic, model: c}, {provider: openai, model: g}]
    fallbacks: [of-anthropic]
",
        &[("OPENAI_API_KEY", "k")],
    );
    assert_eq!(lines(&loaded), ["openai  - [k]"]);
    assert_eq!(
        warnings(&loaded),
        [
            "4:5: providers[1]: 'anthropic' is left out: the variable ANTHROPIC_API_KEY is not set: make one in the console"
        ]
    );
    let targets = &loaded.config.models[0].targets;
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].provider, "openai");
}

#[test]
fn of_several_keys_only_those_without_a_variable_are_left_out() {
    let text = "
providers:
  - name: openai
    api_keys: ['${A}', {key: '${B}', name: b}, '${C}']
";
    let loaded = good_with(text, &[("B", "kb"), ("C", "")]);
    assert_eq!(lines(&loaded), ["openai  - [kb]"]);
    assert_eq!(loaded.config.providers[0].credentials[0].name, "b");
    assert_eq!(warnings(&loaded).len(), 2);
    let loaded = good_with(text, &[]);
    assert!(loaded.config.providers.is_empty());
    assert_eq!(
        warnings(&loaded)[0],
        "4:5: providers[0].api_keys: 'openai' is left out: it has no key left"
    );
}

#[test]
fn anywhere_else_a_variable_that_is_not_set_is_an_error() {
    assert_eq!(
        report_with(
            "server: {port: '${P}'}\nmaster_keys: [{name: a, key: '${ALICE_KEY:?ask Alice}'}]",
            &[]
        ),
        "config.yaml:1:10: server.port: the variable P is not set
config.yaml:2:25: master_keys[0].key: the variable ALICE_KEY is not set: ask Alice"
    );
}

#[test]
fn what_a_variable_says_is_never_shown() {
    let report = report_with("server: {port: '${P}'}", &[("P", "sk-very-secret")]);
    assert_eq!(
        report,
        "config.yaml:1:10: server.port: must be a whole number in range, not what a variable says"
    );
}

#[test]
fn the_nearest_dotenv_counts_and_its_bad_lines_are_told_but_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let below = dir.path().join("a/b");
    std::fs::create_dir_all(&below).expect("made");
    let text = "POLYGATE_TEST_ONE=1\nPOLYGATE_TEST_TWO='two words' # note\nsk-secret without a name\n\nexport POLYGATE_TEST_THREE=3\nPATH=nowhere\n";
    std::fs::write(dir.path().join(".env"), text).expect("written");
    let environment = Environment::of_process(&below);
    assert_eq!(environment.get("POLYGATE_TEST_ONE"), Some("1"));
    assert_eq!(environment.get("POLYGATE_TEST_TWO"), Some("two words"));
    assert_eq!(environment.get("POLYGATE_TEST_THREE"), Some("3"));
    assert_ne!(environment.get("PATH"), Some("nowhere"), "the process wins");
    let complaint = environment.complaint().expect("a complaint");
    assert!(
        complaint.ends_with(".env: 1 line(s) cannot be read and have no effect"),
        "{complaint}"
    );
}

#[test]
fn without_a_file_every_key_starts_the_one_provider_that_it_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = |variables: &[(&str, &str)]| {
        let loaded = load_in(dir.path(), variables).expect("a configuration");
        let providers = loaded.config.providers.into_iter();
        providers.map(|provider| provider.name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&[
            ("XAI_API_KEY", "k"),
            ("MOONSHOT_API_KEY", "k"),
            ("OPENAI_API_KEY", "k")
        ]),
        ["openai", "xai", "moonshot"],
        "in the table's order, once each"
    );
    for shared in [
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "WANDB_API_KEY",
        "CLOUDFLARE_API_KEY",
    ] {
        let started = names(&[(shared, "k")]);
        assert!(
            started.iter().all(|name| name == "demo" || name == "mock"),
            "{shared}: {started:?}"
        );
    }
    let all: Vec<(&str, &str)> = table()
        .iter()
        .flat_map(|row| &row.env)
        .map(|variable| (variable.as_str(), "k"))
        .collect();
    let started = names(&all);
    assert!(started.len() > 40, "{started:?}");
    for name in started {
        let settings = Settings {
            kind: name.clone(),
            name: name.clone(),
            ..Settings::default()
        };
        let built = build(&settings).map(|_| ());
        assert_eq!(built, Ok(()), "{name}");
    }
}
