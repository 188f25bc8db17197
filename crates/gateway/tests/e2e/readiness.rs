//! `polygate health`, as container runtimes run it: one line, an exit code, and no patience.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::support::{Gate, until};

/// What it says, and whether that is that the gateway is ready. It has none of the gateway's variables.
pub fn health(directory: &Path, words: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_polygate"))
        .arg("health")
        .args(words)
        .current_dir(directory)
        .env_clear()
        .output()
        .expect("it runs");
    let code = output.status.code();
    let line = String::from_utf8(output.stdout).expect("text");
    assert!(matches!(code, Some(0 | 1)), "{code:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(output.stderr.is_empty(), "{:?}", output.stderr);
    (line, code == Some(0))
}

const CONFIG: &str = "
server: {host: 0.0.0.0, shutdown_delay: 60}
providers: [{name: openai, api_key: '${ITS_KEY}'}]
health_check: {enabled: false}";

#[tokio::test]
async fn a_gateway_is_ready_until_it_stops() {
    let mut gate = Gate::start_with(CONFIG, &[("ITS_KEY", "sk-secret")]);
    let port = gate
        .address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let file = elsewhere.path().join("config.yaml");
    std::fs::write(
        &file,
        CONFIG.replace("{host", &format!("{{port: {port}, host")),
    )
    .expect("written");
    let ask = || health(elsewhere.path(), &[]);
    let page = format!("http://127.0.0.1:{port}/health/ready: ");
    assert_eq!(ask(), (format!("{page}ready\n"), true));
    let url = gate.url.clone();
    let by_url = || health(gate.dir(), &["--url", &url]).1;
    assert!(by_url());
    gate.signal("TERM");
    until("it says that it stops", || !ask().1).await;
    let said = format!("{page}not ready (503 Service Unavailable)\n");
    assert_eq!(ask(), (said, false));
    assert!(!by_url());
    gate.signal("TERM");
    gate.wait();
    let said = format!("{page}cannot be reached (connection refused)\n");
    assert_eq!(ask(), (said, false));
    let left: Vec<_> = std::fs::read_dir(elsewhere.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(left, [file], "nothing is written");
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let dir = tempfile::tempdir().expect("a directory");
    let start = Instant::now();
    let (line, is_ready) = health(dir.path(), &["--url", &url, "--timeout", "200ms"]);
    assert!(
        !is_ready && line.ends_with("no answer within 200ms\n"),
        "{line}"
    );
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_file_that_does_not_say_where_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.yaml"), "server: {port: many}").expect("written");
    let (line, is_ready) = health(dir.path(), &[]);
    assert!(
        !is_ready && line.contains("--url") && line.contains("server.port"),
        "{line}"
    );
}
