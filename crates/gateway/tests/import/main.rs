//! Import: other systems' files in, a native file and a report out. The cases are text files; UPDATE_GOLDEN=1 writes them anew.

mod database;
mod never_panics;

use std::path::{Path, PathBuf};

use polygate::config::env::Environment;
use polygate::config::parse;
use polygate::import::{Imported, import, read, variables};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/cases")
}

/// The names of all cases.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(cases()).expect("cases");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned()))
        .filter(|name| !name.ends_with(".native"))
        .collect();
    names.sort();
    names
}

fn imported(text: &str) -> Imported {
    let imported = import(text).map_err(|report| report.to_string());
    imported.expect("a file that can be imported")
}

/// Variables that say numbers, in the cases.
const NUMBERS: [&str; 3] = ["WHISPER_TIMEOUT", "RETRIES", "WIDE_TEMPERATURE"];

/// Every variable that it refers to, with a value.
fn environment(imported: &Imported) -> Environment {
    let names: Vec<String> = variables(&imported.document).into_iter().collect();
    let value = |name: &String| match name.contains("BASE") || name == "LANGFUSE_HOST" {
        true => format!(
            "https://{}.example/v1",
            name.to_lowercase().replace('_', "-")
        ),
        false if NUMBERS.contains(&name.as_str()) => "2".to_owned(),
        false => format!("value-of-{name}"),
    };
    let values: Vec<String> = names.iter().map(value).collect();
    let pairs = names
        .iter()
        .zip(&values)
        .filter(|(name, _)| *name != "PORT");
    let pairs: Vec<(&str, &str)> = pairs
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Environment::of(&pairs)
}

/// A configuration, secrets and all.
fn shown(text: &str, environment: &Environment) -> String {
    let parsed = parse(text, environment);
    let errors: Vec<String> = parsed
        .findings
        .errors
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{}\n{text}", errors.join("\n"));
    let providers = parsed.config.providers.iter();
    let secrets: Vec<&str> = providers
        .flat_map(|provider| &provider.credentials)
        .map(|credential| &credential.api_key)
        .chain(
            parsed
                .config
                .access
                .keys
                .iter()
                .flatten()
                .map(|key| &key.key),
        )
        .map(|secret| secret.reveal())
        .collect();
    format!("{:#?}\n{secrets:#?}", parsed.config)
}

fn golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).expect("written");
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{}: UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[test]
fn every_case_becomes_a_native_file_that_loads_and_a_report() {
    for name in names() {
        let text = std::fs::read_to_string(cases().join(format!("{name}.yaml"))).expect("a case");
        let imported = imported(&text);
        golden(
            &cases().join(format!("{name}.native.yaml")),
            &imported.text(),
        );
        golden(
            &cases().join(format!("{name}.report.txt")),
            &imported.report(),
        );
        shown(&imported.text(), &environment(&imported));
        let problems = imported.problems(&Environment::default());
        assert!(problems.is_empty(), "{name}: {problems:?}");
    }
}

#[test]
fn what_was_imported_imports_as_itself() {
    for name in names() {
        let text = std::fs::read_to_string(cases().join(format!("{name}.yaml"))).expect("a case");
        let once = imported(&text);
        assert_eq!(imported(&once.text()).document, once.document, "{name}");
    }
}

/// Files that load as they are mean the same when they are imported.
#[test]
fn the_published_systems_files_mean_the_same() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published");
    let fixtures = ["ai-api-pool", "ai-proxy-readme", "ai-proxy", "llm-proxy"]
        .map(|name| fixtures.join(format!("{name}.yaml")));
    let own = ["ai-proxy", "ai-api-pool", "llm-proxy", "native"]
        .map(|name| cases().join(format!("{name}.yaml")));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.example.yaml");
    for path in fixtures.iter().chain(&own).chain([&example]) {
        let text = std::fs::read_to_string(path).expect("a file");
        let imported = imported(&text);
        let environment = environment(&imported);
        let (before, after) = (
            shown(&text, &environment),
            shown(&imported.text(), &environment),
        );
        for (one, other) in before.lines().zip(after.lines()) {
            assert_eq!(one, other, "{}\n{}", path.display(), imported.text());
        }
        assert_eq!(before.len(), after.len(), "{}", path.display());
    }
}

/// Lists of included files are added, their other keys replace; what cannot be read is told at its place.
#[test]
fn included_files_are_read_from_the_directory_of_the_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/included");
    let imported = read(&directory.join("whole.yaml")).map_err(|report| report.to_string());
    let imported = imported.expect("a file that can be imported");
    golden(&directory.join("whole.native.yaml"), &imported.text());
    golden(&directory.join("whole.report.txt"), &imported.report());
    shown(&imported.text(), &environment(&imported));
    let report = read(&directory.join("torn.yaml")).expect_err("a file that is not there");
    let report = report.to_string();
    assert!(
        report.contains("torn.yaml:1") && report.contains("include: nowhere.yaml: cannot be read"),
        "{report}"
    );
}

#[test]
fn a_file_that_has_to_be_imported_says_so() {
    let text = std::fs::read_to_string(cases().join("small.yaml")).expect("a case");
    let errors = parse(&text, &Environment::default()).findings.errors;
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("`polygate import FILE`"), "{errors:?}");
}

#[test]
fn secrets_are_neither_resolved_nor_reported() {
    let text = std::fs::read_to_string(cases().join("fallbacks.yaml")).expect("a case");
    let imported = imported(&text);
    assert!(
        imported.text().contains("${OPENAI_API_KEY}")
            && imported.text().contains("sk-1234-very-literal")
            && imported.text().contains("redis://:hunter2@cache")
    );
    assert!(!imported.text().contains("sk-in-the-file"));
    for secret in ["hunter2", "sk-in-the-file", "sk-1234"] {
        assert!(!imported.report().contains(secret), "{secret}");
    }
    let guards = std::fs::read_to_string(cases().join("guardrails.yaml")).expect("a case");
    let guards = self::imported(&guards);
    assert!(!guards.report().contains("hunter2") && !guards.text().contains("hunter2"));
    let text = "model_list:\n  - litellm_params: {api_key:sk-lost-its-space}\n  - model_name: m\n    litellm_params: {model: m, api_base: 'sk-in the wrong place'}\n";
    let report = import(text).expect_err("nothing of use").to_string();
    assert!(
        !report.contains("sk-lost") && !report.contains("sk-in"),
        "{report}"
    );
    assert!(
        report.contains("nothing here that can be imported"),
        "{report}"
    );
}

#[test]
fn what_cannot_be_read_is_told_by_line() {
    for (text, expected) in [
        ("a: [", "2:1"),
        ("", "nothing here that can be imported"),
        ("model_list: []\n", "nothing here that can be imported"),
        (
            "model_list:\n  - model_name: x\n",
            "2:5: model_list[0]: no counterpart: it has no litellm_params.model",
        ),
        ("- a\n- b\n", "nothing here that can be imported"),
    ] {
        let report = import(text).expect_err(text).to_string();
        assert!(report.contains(expected), "{text:?}: {report}");
    }
}
