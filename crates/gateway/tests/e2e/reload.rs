//! Hot reload: every way a file changes, bad files refused whole, streams finishing on what they began with.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use http_body_util::BodyExt;
use polygate_mock_provider::{Behaviour, Mock, Rule};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{ADMIN_KEY, Gate, calls, chat, mock, until};

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

pub async fn until_has(gate: &Gate, model: &str) {
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
    let text = "providers:\n  - name: p\n    wieght: 2\n    api_key: k\nservr: {}\ncache: {}\n";
    std::fs::write(dir.path().join("config.yaml"), text).expect("written");
    let (code, out, err) = run(dir.path(), &[], &[]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    for said in [
        "config.yaml:3:5: providers[0].wieght: unknown key; did you mean 'weight'?",
        ":5:1: servr: unknown key; did you mean 'server'?",
        ":6:1: cache.rules: is missing",
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

/// A forwarding proxy to this mock: its address, and how many connections it took.
async fn proxy(to: &Mock) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (count, to) = (Arc::<AtomicUsize>::default(), to.addr());
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut upstream).await
            });
        }
    });
    (url, count)
}

#[tokio::test]
async fn connections_of_another_way_are_not_used_after_a_reload() {
    let (first, second) = (mock("first").await, mock("second").await);
    let (one, through_one) = proxy(&first).await;
    let (other, through_other) = proxy(&first).await;
    let ways = [
        (&first, String::new()),
        (&first, format!("proxy_url: '{one}'")),
        (&first, format!("proxy_url: '{other}'")),
        (&second, String::new()),
        (&first, "verify_ssl: false".to_owned()),
        (&first, "timeouts: {connect: 4}".to_owned()),
    ];
    let file = |at: usize| {
        let (to, more): &(&Mock, String) = &ways[at];
        format!("{}{more}\n", config(to, &format!("m{at}")))
    };
    let gate = Gate::start(&file(0));
    let mut seen = Vec::new();
    for at in 0..ways.len() {
        if at > 0 {
            std::fs::write(gate.config_path(), file(at)).expect("written");
            until_has(&gate, &format!("m{at}")).await;
        }
        // The second finds the connection of the first.
        for _ in 0..2 {
            let question = chat(&format!("m{at}"), false);
            let reply = gate.post("/v1/chat/completions", &question).await;
            assert_eq!(reply.status, 200, "{at}: {}", reply.text());
        }
        seen.push([
            calls(&first).len(),
            calls(&second).len(),
            through_one.load(Ordering::SeqCst),
            through_other.load(Ordering::SeqCst),
        ]);
        let metrics = gate.get("/metrics").await.text();
        for line in ["connections_open", "connects_total", "reuses_total"] {
            let line = format!("polygate_upstream_{line}{{provider=\"p\"}} 1\n");
            assert!(metrics.contains(&line), "{at}: {line} in {metrics}");
        }
    }
    let expected = [
        [2, 0, 0, 0],
        [4, 0, 1, 0],
        [6, 0, 1, 1],
        [6, 2, 1, 1],
        [8, 2, 1, 1],
        [10, 2, 1, 1],
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_an_error_of_the_configuration() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, "m0"));
    let junk = gate.dir().join("junk.pem");
    std::fs::write(&junk, "-----BEGIN CERTIFICATE-----\n!\n").expect("written");
    let empty = gate.dir().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("written");
    let of_provider = |file: &str| {
        config(&mock, "m1").replace("api_key: k", &format!("api_key: k, ca_file: '{file}'"))
    };
    let of_all = |file: &str| format!("{}ca_file: '{file}'\n", config(&mock, "m1"));
    let (junk, empty) = (junk.display().to_string(), empty.display().to_string());
    for (file, said) in [
        (of_provider("none.pem"), "ca_file 'none.pem' cannot be read"),
        (of_all("none.pem"), "ca_file 'none.pem' cannot be read"),
        (of_provider(&junk), "is no PEM file of certificates"),
        (of_all(&empty), "has no certificate in it"),
    ] {
        // At a reload the old one stays.
        let before = gate.log().matches("is refused").count();
        std::fs::write(gate.config_path(), &file).expect("written");
        gate.signal("HUP");
        until("it is refused", || {
            let log = gate.log();
            log.matches("is refused").count() > before && log.contains(said)
        })
        .await;
        assert!(has(&gate, "m0").await && !has(&gate, "m1").await);
        // At the start there is none.
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.yaml"), file).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_polygate"))
            .current_dir(dir.path())
            .env_clear()
            .env("ADMIN_KEY", ADMIN_KEY)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(said), "{text}");
    }
}
