//! Into the database and out again, by the real binary on SQLite.

use std::path::Path;
use std::process::{Command, Output};

use polygate_store::config::{ConfigStore, Expect, Kind, Put, Write};
use polygate_store_sql::SqlStore;

const NATIVE: &str = r#"
server: {port: 9000}
providers:
  - {name: one, type: openai, api_key: "${ONE}", api_keys: [{key: sk-second, name: second, weight: 2}, "${THREE:-sk-third}"], model_mapping: {x: y}, headers: {x-team: "a $$${ONE}"}}
  - {name: two, type: mock, api_base: "http://127.0.0.1:1", proxy_url: "http://u:hush@127.0.0.1:2"}
models:
  best: {targets: [{provider: one, model: y, weight: 2}], fallbacks: [x]}
price_overrides: [{model: y, price: {input: 1, output: 2}}, {model: y, provider: one, price: {input: 3, output: 4}}]
teams: {blue: {allowed_models: [best]}}
master_keys:
  - {name: team, team: blue, key: sk-callers-own, allowed_models: [best]}
"#;

/// The smallest file of LiteLLM.
const LITELLM: &str =
    "model_list: [{model_name: m, litellm_params: {model: groq/llama, api_key: os.environ/ONE}}]\n";

fn run(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polygate"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().copied())
        .env("DB_URL", "sqlite:own.db")
        .env("POLYGATE_SECRET_KEY", "a secret key of some length")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(output: Output) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    (out, err)
}

async fn stored(dir: &Path) -> (i64, String) {
    let store = SqlStore::sqlite(&dir.join("own.db")).expect("a store");
    let documents = store.documents().await.expect("documents");
    let bodies = documents.documents.iter();
    let bodies: Vec<String> = bodies
        .map(|document| format!("{} {} {}", document.kind, document.name, document.body))
        .collect();
    (documents.version, bodies.join("\n"))
}

#[tokio::test]
async fn what_is_imported_is_exported_and_imports_as_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("native.yaml"), NATIVE).expect("written");
    let one = [("ONE", "sk-$${first}")];

    let (out, err) = ok(run(dir, &["import", "native.yaml", "--database"], &one));
    assert_eq!(out, "");
    assert!(
        err.contains("server: stays in a file") && err.contains("version 1: 7 of 7"),
        "{err}"
    );
    let (version, bodies) = stored(dir).await;
    assert_eq!(version, 1, "all of it is one version");
    for secret in [
        "first",
        "sk-second",
        "sk-third",
        "hush",
        "sk-callers-own",
        "a $",
    ] {
        assert!(!bodies.contains(secret), "{secret} is in {bodies}");
    }

    // Prices as the admin API may write them: called anything, and with nothing around them.
    let body = r#"{"model": "z", "input": 1, "output": 2.5, "date": "2026-11"}"#;
    let put = Put {
        kind: Kind::Price,
        name: "mine".to_owned(),
        body: Some(body.to_owned()),
        expect: Expect::Nothing,
    };
    let write = Write {
        actor: "test".to_owned(),
        action: "test".to_owned(),
        at: 1,
        puts: vec![put],
    };
    let store = SqlStore::sqlite(&dir.join("own.db")).expect("a store");
    store.write(write).await.expect("written");

    // The same again is no change, sealed anew or not.
    let (_, err) = ok(run(dir, &["import", "native.yaml", "--database"], &one));
    assert!(err.contains("version 2: 0 of 7"), "{err}");

    let (plain, _) = ok(run(dir, &["export", "--secrets", "plain"], &[]));
    assert!(
        plain.contains("sk-second") && plain.contains("u:hush@"),
        "{plain}"
    );
    assert!(
        !plain.contains("sk-callers-own"),
        "of a caller's key there is only a hash"
    );
    let (exported, said) = ok(run(dir, &["export"], &[]));
    for secret in ["first", "sk-second", "sk-third", "hush", "a $"] {
        assert!(
            !exported.contains(secret) && !said.contains(secret),
            "{secret}"
        );
    }
    for variable in [
        "ONE_API_KEY",
        "ONE_API_KEY_1",
        "ONE_API_KEY_2",
        "ONE_HEADER_X_TEAM",
        "TWO_PROXY_URL",
    ] {
        assert!(exported.contains(&format!("${{{variable}}}")), "{exported}");
        assert!(said.contains(variable), "{said}");
    }

    // It is a file that can be served.
    let shown = polygate::config::parse(&plain, &polygate::config::env::Environment::default());
    assert!(
        shown.findings.errors.is_empty(),
        "{:?}",
        shown.findings.errors
    );
    let keys = shown.config.access.keys.unwrap_or_default();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].hash.is_some() && keys[0].key.is_empty());

    // Into the same database and into another one: nothing is lost, and nothing made up.
    let secrets = [
        ("ONE_API_KEY", "sk-$${first}"),
        ("ONE_API_KEY_1", "sk-second"),
        ("ONE_API_KEY_2", "sk-third"),
        ("ONE_HEADER_X_TEAM", "a $sk-$${first}"),
        ("TWO_PROXY_URL", "http://u:hush@127.0.0.1:2"),
    ];
    std::fs::write(dir.join("exported.yaml"), &exported).expect("written");
    std::fs::write(dir.join("plain.yaml"), &plain).expect("written");
    let (_, err) = ok(run(
        dir,
        &["import", "exported.yaml", "--database"],
        &secrets,
    ));
    assert!(err.contains("version 2: 0 of 8"), "{err}");
    let (_, err) = ok(run(dir, &["import", "plain.yaml", "--database"], &[]));
    assert!(err.contains("version 2: 0 of 8"), "{err}");
}

#[tokio::test]
async fn nothing_is_written_over_or_half_unless_that_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("litellm.yaml"), LITELLM).expect("written");
    let output = run(dir, &["import", "litellm.yaml", "--database"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("providers[0]: the variable ONE is not set"));

    ok(run(
        dir,
        &["import", "litellm.yaml", "--database"],
        &[("ONE", "a")],
    ));
    let output = run(
        dir,
        &["import", "litellm.yaml", "--database"],
        &[("ONE", "b")],
    );
    assert_eq!(output.status.code(), Some(78));
    let err = text(&output.stderr);
    assert!(
        err.contains("nothing was written: the database has another provider 'groq'"),
        "{err}"
    );
    assert_eq!(stored(dir).await.0, 1);
    let (_, err) = ok(run(
        dir,
        &["import", "litellm.yaml", "--database", "--replace"],
        &[("ONE", "b")],
    ));
    assert!(err.contains("version 2: 1 of 1"), "{err}");
    let (plain, _) = ok(run(dir, &["export", "--secrets", "plain"], &[]));
    assert!(plain.contains("api_key: b\n"), "{plain}");
}

#[test]
fn the_command_says_by_its_status_how_it_went() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("litellm.yaml"), LITELLM).expect("written");
    std::fs::write(dir.join("nothing.yaml"), "model_list: []\n").expect("written");
    let (out, err) = ok(run(dir, &["import", "litellm.yaml"], &[]));
    assert!(
        out.contains("api_key: ${ONE}") && err.contains("LiteLLM: 1 carried"),
        "{out}{err}"
    );
    assert!(!dir.join("own.db").exists(), "no database is asked for");
    for file in ["nothing.yaml", "missing.yaml"] {
        let output = run(dir, &["import", file], &[]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(78), 0),
            "{file}"
        );
        assert!(text(&output.stderr).contains(file), "{file}");
    }
}
