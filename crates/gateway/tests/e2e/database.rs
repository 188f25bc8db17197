//! The database: opened at the start, its documents followed by every replica, and none of it missed when it is away.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polygate_core::Secret;
use polygate_mock_provider::Mock;
use polygate_store::config::{ConfigStore, Kind};
use polygate_store::{Sealer, seal};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;
use serde_json::{Value, json};

use crate::support::{Gate, calls, chat, mock, until, write_document};

const KEY: &str = "a secret key of some length";

/// The file of every replica here: it has one provider of its own.
fn file(mock: &Mock) -> String {
    format!(
        "providers: [{{name: own, type: mock, api_base: '{}', api_key: k, model_mapping: [own-model]}}]\nhealth_check: {{enabled: false}}\n",
        mock.url()
    )
}

fn provider(mock: &Mock, model: &str, api_key: &str) -> Value {
    json!({"type": "mock", "api_base": mock.url(), "api_key": api_key, "model_mapping": [model]})
}

fn sealed(name: &str, secret: &str) -> String {
    let sealer = Sealer::new(&Secret::new(KEY)).expect("a sealer");
    sealer
        .seal(&format!("provider/{name}"), secret)
        .expect("sealed")
}

async fn has(gate: &Gate, model: &str) -> bool {
    let listed = gate.get("/v1/models").await.text();
    listed.contains(&format!("\"{model}\""))
}

/// Waits until every replica has a model, or none has; how long that took.
async fn until_all(gates: &[&Gate], model: &str, wanted: bool) -> Duration {
    let start = Instant::now();
    for gate in gates {
        while has(gate, model).await != wanted {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{model}: not {wanted} in time: {}",
                gate.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    start.elapsed()
}

async fn answers(gate: &Gate, model: &str) -> bool {
    let reply = gate.post("/v1/chat/completions", &chat(model, false)).await;
    reply.status == 200
}

/// What holds of either database.
async fn followed(url: &str) {
    let (own, other) = (mock("own").await, mock("other").await);
    let variables = [("DB_URL", url), ("POLYGATE_SECRET_KEY", KEY)];
    let gates = [0, 1].map(|_| Gate::start_with(&file(&own), &variables));
    let gates: Vec<&Gate> = gates.iter().collect();
    let store = SqlStore::new(url).expect("a store");

    let body = provider(&other, "theirs", &sealed("p", "sk-other"));
    write_document(&store, Kind::Provider, "p", Some(body)).await;
    let took = until_all(&gates, "theirs", true).await;
    assert!(
        took < Duration::from_millis(1500),
        "followed after {took:?}"
    );
    for gate in &gates {
        assert!(answers(gate, "theirs").await && answers(gate, "own-model").await);
    }
    let entry = calls(&other).pop().expect("a call");
    assert!(
        format!("{entry:?}").contains("sk-other"),
        "the secret was opened for the provider: {entry:?}"
    );

    // Broken ones of every kind: the rest is served, and a later good one too.
    for (name, body) in [
        ("own", provider(&other, "stolen", "k")),
        ("typo", json!({"type": "mock", "api_bsae": "http://h"})),
        ("kind", json!({"type": "nonsense", "api_key": "k"})),
        ("list", json!([1])),
        ("moved", provider(&other, "moved", &sealed("p", "sk-other"))),
        (
            "pem",
            json!({"type": "mock", "api_base": other.url(), "ca_file": "/nowhere.pem"}),
        ),
    ] {
        write_document(&store, Kind::Provider, name, Some(body)).await;
    }
    let dangling = json!({"targets": [{"provider": "gone", "model": "m"}]});
    write_document(&store, Kind::Model, "dangling", Some(dangling)).await;
    let literal = json!({"targets": [{"provider": "p", "model": "${HOME}"}]});
    write_document(&store, Kind::Model, "literal", Some(literal)).await;
    until_all(&gates, "literal", true).await;
    for gate in &gates {
        assert!(!has(gate, "stolen").await && !has(gate, "dangling").await);
        assert!(answers(gate, "theirs").await && answers(gate, "own-model").await);
        let log = gate.log();
        for (name, why) in [
            ("own", "which wins"),
            ("typo", "unknown key; did you mean 'api_base'"),
            ("kind", "nonsense"),
            ("list", "must be a JSON object"),
            ("moved", "does not open"),
            ("pem", "nowhere.pem"),
            ("dangling", "there is no provider 'gone'"),
        ] {
            let mut lines = log.lines().filter(|line| line.contains("is left out"));
            assert!(
                lines.any(
                    |line| line.contains(&format!("\"name\":\"{name}\"")) && line.contains(why)
                ),
                "{name}: {log}"
            );
        }
        assert!(!log.contains("sk-other"));
    }

    write_document(&store, Kind::Provider, "p", None).await;
    let took = until_all(&gates, "theirs", false).await;
    assert!(took < Duration::from_millis(1500), "gone after {took:?}");
    // The file is read again: what the database says stays.
    write_document(
        &store,
        Kind::Provider,
        "q",
        Some(provider(&other, "again", "k")),
    )
    .await;
    until_all(&gates, "again", true).await;
    let renamed = file(&own).replace("own-model", "own-renamed");
    std::fs::write(gates[0].config_path(), renamed).expect("written");
    until_all(&gates[..1], "own-renamed", true).await;
    assert!(has(gates[0], "again").await);
}

#[tokio::test]
async fn documents_in_sqlite_are_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("shared.db").display());
    followed(&url).await;
}

#[tokio::test]
async fn documents_in_postgresql_are_followed() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    followed(&postgres.url()).await;
}

#[tokio::test]
async fn a_database_that_is_gone_costs_nothing_but_staleness() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let (own, other) = (mock("own").await, mock("other").await);
    let data = tempfile::tempdir().expect("a directory");
    let url = postgres.url();
    let folder = data.path().to_str().expect("text").to_owned();
    let variables = [
        ("DB_URL", &*url),
        ("POLYGATE_SECRET_KEY", KEY),
        ("POLYGATE_DATA_DIR", &*folder),
    ];
    let gate = Gate::start_with(&file(&own), &variables);
    let store = SqlStore::new(&url).expect("a store");
    let body = provider(&other, "theirs", &sealed("p", "sk-other"));
    write_document(&store, Kind::Provider, "p", Some(body)).await;
    until_all(&[&gate], "theirs", true).await;
    let kept = data.path().join("last-good.json");
    let is_kept = || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("theirs"));
    until("the last good documents are kept", is_kept).await;
    let text = std::fs::read_to_string(&kept).expect("kept");
    assert!(!text.contains("sk-other"), "secrets stay sealed");
    let mode = kept.metadata().expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    postgres.crash();
    for _ in 0..20 {
        assert!(answers(&gate, "theirs").await);
    }
    drop(gate);
    let start = Instant::now();
    let gate = Gate::start_with(&file(&own), &variables);
    let took = start.elapsed();
    // Half a second, and what a busy machine takes to start a process.
    assert!(took < Duration::from_secs(3), "started after {took:?}");
    assert!(answers(&gate, "theirs").await && answers(&gate, "own-model").await);
    assert!(gate.log().contains("what was known last is served"));
    // One that never knew anything has its file alone; who may call is not known, so nobody may without a key.
    let nowhere = tempfile::tempdir().expect("a directory");
    let nowhere = nowhere.path().to_str().expect("text").to_owned();
    let fresh = [variables[0], variables[1], ("POLYGATE_DATA_DIR", &*nowhere)];
    let alone = Gate::start_with(&file(&own), &fresh);
    let reply = alone
        .post("/v1/chat/completions", &chat("own-model", false))
        .await;
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert!(alone.log().contains("the file alone is served"));

    postgres.restart();
    until_all(&[&alone, &gate], "theirs", true).await;
    write_document(
        &store,
        Kind::Provider,
        "q",
        Some(provider(&other, "later", "k")),
    )
    .await;
    until_all(&[&alone, &gate], "later", true).await;
    // Frozen, it does not even refuse.
    postgres.freeze();
    for _ in 0..20 {
        assert!(answers(&gate, "later").await);
    }
    postgres.thaw();
}

#[tokio::test]
async fn keys_of_the_database_open_and_close() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("shared.db").display());
    let own = mock("own").await;
    let gate = Gate::start_with(
        &file(&own),
        &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)],
    );
    let store = SqlStore::new(&url).expect("a store");
    let sealer = Sealer::new(&Secret::new(KEY)).expect("a sealer");
    let status = async |key: &str| {
        let headers = [
            ("authorization", &*format!("Bearer {key}")),
            ("content-type", "application/json"),
        ];
        let body = chat("own-model", false).to_string();
        let path = "/v1/chat/completions";
        gate.ask(http::Method::POST, path, &headers, body)
            .await
            .status
            .as_u16()
    };
    let until_both = async |known: u16, unknown: u16| {
        let start = Instant::now();
        while (status("sk-known").await, status("sk-unknown").await) != (known, unknown) {
            assert!(start.elapsed() < Duration::from_secs(10), "{}", gate.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    };
    until_both(200, 200).await;
    let key = |enabled| json!({"key_hash": sealer.hash("sk-known"), "enabled": enabled});
    let mut slowest = Duration::ZERO;
    for (body, known, unknown) in [
        (Some(key(true)), 200, 401),
        (Some(key(false)), 401, 401),
        (Some(key(true)), 200, 401),
        (Some(json!({"key_hash": "short"})), 401, 401),
        (None, 200, 200),
    ] {
        write_document(&store, Kind::Key, "k", body).await;
        slowest = slowest.max(until_both(known, unknown).await);
    }
    assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
    assert!(
        gate.log()
            .contains("database, key 'k'.key_hash: must be a keyed hash")
    );
}

/// Starts a gateway that must not start; how it ended and what it said.
fn refused(
    dir: &std::path::Path,
    variables: &[(&str, &str)],
    args: &[&str],
) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_polygate"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test]
async fn another_secret_key_is_refused_and_overwrites_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shared.db");
    let url = format!("sqlite:{}", path.display());
    let mock = mock("own").await;
    let gate = Gate::start_with(
        &file(&mock),
        &[("DB_URL", &url), ("POLYGATE_SECRET_KEY", KEY)],
    );
    drop(gate);
    let wrong = [
        ("DB_URL", &*url),
        ("POLYGATE_SECRET_KEY", "another key of some length"),
    ];
    let (code, said) = refused(dir.path(), &wrong, &["--port", "0"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("not the one that this database was begun with"),
        "{said}"
    );
    let store = SqlStore::new(&url).expect("a store");
    let note = store.note(seal::CHECK).await.expect("a note");
    let sealer = Sealer::new(&Secret::new(KEY)).expect("a sealer");
    assert_eq!(note.as_deref(), Some(sealer.check()));
    let server = [("DB_URL", "postgres://u:p@127.0.0.1:1/d")];
    let (code, said) = refused(dir.path(), &server, &["--port", "0"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("POLYGATE_SECRET_KEY: is required"), "{said}");
}

#[tokio::test]
async fn an_embedded_store_makes_its_key_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let folder = data.to_str().expect("text").to_owned();
    let variables = [("POLYGATE_DATA_DIR", &*folder)];
    let mock = mock("own").await;
    drop(Gate::start_with(&file(&mock), &variables));
    let path = data.join("secret-key");
    let key = std::fs::read_to_string(&path).expect("a key");
    for name in ["secret-key", "polygate.db"] {
        let mode = data
            .join(name)
            .metadata()
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(Gate::start_with(&file(&mock), &variables));
    assert_eq!(std::fs::read_to_string(&path).expect("a key"), key);
    std::fs::write(&path, "short").expect("written");
    let (code, said) = refused(dir.path(), &variables, &["--port", "0"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("secret-key: is shorter than 16"), "{said}");
}

#[tokio::test]
async fn tables_are_changed_by_hand() {
    let dir = tempfile::tempdir().expect("a directory");
    let variables = [("DB_URL", "sqlite:by-hand.db")];
    let run = |args: &[&str]| refused(dir.path(), &variables, args);
    let (code, first) = run(&["migrate", "up"]);
    assert_eq!(code, Some(0), "{first}");
    assert_eq!(run(&["migrate", "version"]).1, first);
    let (code, none) = run(&["migrate", "down", "0"]);
    assert_eq!(code, Some(0), "{none}");
    assert!(none.starts_with("version 0 "), "{none}");
    assert_eq!(run(&["migrate", "up"]).1, first);
}
