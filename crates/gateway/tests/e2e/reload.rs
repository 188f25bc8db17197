//! Hot reload: every way a file changes, bad files refused whole, streams finishing on what they began with.

use std::path::Path;
use std::process::Command;

use http::Method;
use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Mock, Rule};

use crate::support::{ADMIN_KEY, Gate, chat, mock, until};

fn config(mock: &Mock, model: &str) -> String {
    format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [{model}]}}]\nhealth_check: {{enabled: false}}\n",
        mock.url()
    )
}

async fn has(gate: &Gate, model: &str) -> bool {
    gate.get("/v1/models")
        .await
        .text()
        .contains(&format!("\"{model}\""))
}

async fn until_has(gate: &Gate, model: &str) {
    for _ in 0..500 {
        if has(gate, model).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no model {model} after a reload: {}", gate.log());
}

#[tokio::test]
async fn a_file_that_is_written_replaced_or_swapped_is_read_again() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "m0"));
    let path = gate.config_path();
    std::fs::write(&path, config(&mock, "written")).expect("written");
    until_has(&gate, "written").await;
    std::fs::write(gate.dir().join("new"), config(&mock, "renamed")).expect("written");
    std::fs::rename(gate.dir().join("new"), &path).expect("renamed");
    until_has(&gate, "renamed").await;
    // Kubernetes: config.yaml -> ..data/config.yaml, ..data -> a directory that is swapped.
    let swap = |to: &Path| {
        let link = gate.dir().join("..tmp");
        std::os::unix::fs::symlink(to, &link).expect("a link");
        std::fs::rename(&link, gate.dir().join("..data")).expect("swapped");
    };
    for (version, model) in [("v1", "first"), ("v2", "second")] {
        let dir = gate.dir().join(version);
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("config.yaml"), config(&mock, model)).expect("written");
        swap(&dir);
        if version == "v1" {
            std::fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink("..data/config.yaml", &path).expect("a link");
        }
        until_has(&gate, model).await;
    }
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("second", false))
            .await
            .status,
        200
    );
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m0", false))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_bad_file_is_refused_whole_and_the_old_one_keeps_serving() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "m0"));
    for bad in [
        "providers: [",
        "",
        "provders: []",
        "providers: [{name: p}]\nmodels: {x: {targets: [{provider: q}]}}",
    ] {
        let before = gate.log().matches("is refused").count();
        std::fs::write(gate.config_path(), format!("{bad}\n# {before}")).expect("written");
        gate.signal("HUP");
        if bad.is_empty() {
            // An empty file is a valid one, with no provider: said loudly, but what the operator wrote.
            continue;
        }
        until("it is refused", || {
            gate.log().matches("is refused").count() > before
        })
        .await;
    }
    std::fs::write(gate.config_path(), config(&mock, "good")).expect("written");
    until_has(&gate, "good").await;
}

#[tokio::test]
async fn streams_finish_on_the_configuration_they_began_with() {
    let (old, new) = (mock("old").await, mock("new").await);
    old.script(Rule {
        then: Behaviour {
            token_ms: 20,
            tokens: Some(60),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Gate::start(&config(&old, "m"));
    let mut answer = gate
        .send(
            Method::POST,
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            chat("m", true).to_string(),
        )
        .await
        .into_body();
    assert!(answer.frame().await.is_some());
    std::fs::write(gate.config_path(), config(&new, "other")).expect("written");
    until_has(&gate, "other").await;
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        404
    );
    let mut text = String::new();
    while let Some(Ok(frame)) = answer.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

/// Runs the binary to its end.
fn run(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_polygate"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("ADMIN_KEY", ADMIN_KEY)
        .envs(variables.iter().copied())
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn an_invalid_file_at_start_is_reported_and_opens_no_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "providers:\n  - name: p\n    wieght: 2\n    api_key: k\nservr: {}\nguards: {}\n";
    std::fs::write(dir.path().join("config.yaml"), text).expect("written");
    let (code, out, err) = run(dir.path(), &[], &[]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    for said in [
        "config.yaml:3:5: providers[0].wieght: unknown key; did you mean 'weight'?",
        ":5:1: servr: unknown key; did you mean 'server'?",
        ":6:1: guards: 'guards' is not supported yet",
    ] {
        assert!(err.contains(said), "{said} in {err}");
    }
    let (code, _, err) = run(dir.path(), &["-c", "missing.yaml"], &[]);
    assert_eq!(code, Some(78));
    assert!(err.contains("missing.yaml"), "{err}");
    for key in ["", "changeme"] {
        let (code, _, err) = run(dir.path(), &["check", "config.yaml"], &[("ADMIN_KEY", key)]);
        assert_eq!(code, Some(78), "{err}");
    }
}

#[test]
fn check_prints_what_a_file_resolves_to_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "providers:\n  - {name: openai, api_key: \"${KEY:-sk-default-secret}\", model_mapping: {'gpt-*': gpt-4o}}\nmaster_keys: [{name: me, key: sk-mine-secret}]\n";
    std::fs::write(dir.path().join("c.yaml"), text).expect("written");
    let (code, out, err) = run(dir.path(), &["check", "c.yaml"], &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("openai (openai) https://api.openai.com/v1")
            && out.contains("gpt-* -> gpt-4o")
            && out.contains("1 key(s): me"),
        "{out}"
    );
    assert!(!out.contains("secret"), "{out}");
}
