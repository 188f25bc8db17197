//! Stopping, and being replaced: streams finish or end with an error, connections are never refused in between.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Gate, calls, chat, mock, signal, until};

fn config(mock: &Mock, server: &str) -> String {
    format!(
        "server: {{{server}}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}\n",
        mock.url()
    )
}

fn slow(tokens: u32, token_ms: u64) -> Rule {
    Rule {
        then: Behaviour {
            token_ms,
            tokens: Some(tokens),
            ..Behaviour::default()
        },
        ..Rule::default()
    }
}

/// A streaming request of each format.
fn streams() -> [(&'static str, Value); 4] {
    let messages = json!({"model": "m", "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    [
        ("/v1/chat/completions", chat("m", true)),
        ("/v1/messages", messages),
        (
            "/v1/responses",
            json!({"model": "m", "stream": true, "input": "Hi"}),
        ),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            json!({"contents": [{"parts": [{"text": "Hi"}]}]}),
        ),
    ]
}

/// Any mark of a proper end, in any format.
fn is_clean(text: &str) -> bool {
    [
        "[DONE]",
        "message_stop",
        "response.completed",
        "finishReason",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

async fn text(mut body: Incoming) -> String {
    let mut text = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    text
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn stragglers_get_an_error_of_their_format_and_the_process_ends_well() {
    let mock = mock("p").await;
    mock.script(slow(10_000, 20));
    let mut gate = Gate::start(&config(&mock, "shutdown_grace: 300ms"));
    let mut held = Vec::new();
    for (path, body) in streams() {
        let mut answer = gate
            .send(Method::POST, path, &[JSON], body.to_string())
            .await
            .into_body();
        assert!(answer.frame().await.is_some());
        held.push((path, answer));
    }
    mock.clear();
    mock.script(Rule {
        then: Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let address = gate.address().to_owned();
    let waiting = tokio::spawn(async move {
        let socket = TcpStream::connect(address).await.expect("a connection");
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        let request = Request::post("/v1/chat/completions")
            .header("host", "x")
            .header(JSON.0, JSON.1)
            .body(Full::new(Bytes::from(chat("m", false).to_string())));
        send.send_request(request.expect("a request"))
            .await
            .expect("an answer")
            .status()
    });
    until("the fifth call is on its way", || calls(&mock).len() == 5).await;
    gate.signal("TERM");
    for (path, answer) in held {
        let text = text(answer).await;
        assert!(
            text.contains("stopping") && text.contains("error"),
            "{path}: {text}"
        );
        assert!(!is_clean(&text), "{path}: {text}");
    }
    assert_eq!(waiting.await.expect("it ran"), 503);
    assert_eq!(gate.wait().code(), Some(0));
    assert!(gate.log().contains("the grace period is over"));
}

#[tokio::test]
async fn told_twice_it_does_not_wait() {
    let mock = mock("p").await;
    mock.script(slow(10_000, 20));
    let mut gate = Gate::start(&config(&mock, "shutdown_grace: 60"));
    let mut answer = gate
        .send(
            Method::POST,
            "/v1/chat/completions",
            &[JSON],
            chat("m", true).to_string(),
        )
        .await
        .into_body();
    assert!(answer.frame().await.is_some());
    gate.signal("TERM");
    until("it was heard", || {
        gate.log().contains("what is in flight may finish")
    })
    .await;
    let told = Instant::now();
    gate.signal("TERM");
    let text = text(answer).await;
    assert!(text.contains("stopping") && !is_clean(&text), "{text}");
    assert_eq!(gate.wait().code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(3),
        "{:?}",
        told.elapsed()
    );
}

#[tokio::test]
async fn readiness_fails_before_connections_do() {
    let mock = mock("p").await;
    let mut gate = Gate::start(&config(&mock, "shutdown_delay: 1"));
    assert_eq!(gate.get("/health/ready").await.status, 200);
    gate.signal("TERM");
    until("it was heard", || {
        gate.log().contains("what is in flight may finish")
    })
    .await;
    let told = Instant::now();
    loop {
        let ready = gate.get("/health/ready").await;
        if ready.status == 503 {
            assert_eq!(ready.header("connection"), "close");
            break;
        }
        assert!(told.elapsed() < Duration::from_millis(800), "still ready");
    }
    let answer = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(answer.status, 200, "calls are still taken");
    assert_eq!(gate.wait().code(), Some(0));
    assert!(told.elapsed() >= Duration::from_millis(800));
}

#[tokio::test]
async fn http_2_streams_finish_and_stragglers_end_with_an_error() {
    for (grace, tokens) in [("30", 40), ("300ms", 10_000)] {
        let mock = mock("p").await;
        mock.script(slow(tokens, 20));
        let mut gate = Gate::start(&config(&mock, &format!("shutdown_grace: {grace}")));
        let socket = TcpStream::connect(gate.address())
            .await
            .expect("a connection");
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("{}/v1/chat/completions", gate.url))
            .header(JSON.0, JSON.1)
            .body(Full::new(Bytes::from(chat("m", true).to_string())));
        let mut answer = send
            .send_request(request.expect("a request"))
            .await
            .expect("an answer")
            .into_body();
        assert!(answer.frame().await.is_some());
        gate.signal("TERM");
        let text = text(answer).await;
        assert_eq!(is_clean(&text), tokens == 40, "{text}");
        assert_eq!(text.contains("stopping"), tokens != 40, "{text}");
        drop(send);
        let _ = connection.await;
        assert_eq!(gate.wait().code(), Some(0));
    }
}

/// What a load of calls came to.
#[derive(Default)]
struct Tally {
    plain: AtomicUsize,
    streams: AtomicUsize,
    bad: std::sync::Mutex<Vec<String>>,
}

/// Calls without a pause, half of them streams, until told to stop.
struct Load {
    tally: Arc<Tally>,
    enough: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(url: &str) -> Load {
        // What fails is seen: a client that sends again would hide it.
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        let tally = Arc::new(Tally::default());
        let enough = Arc::new(AtomicBool::new(false));
        let tasks = (0..16)
            .map(|number| {
                let (client, tally, enough) = (client.clone(), tally.clone(), enough.clone());
                let url = format!("{url}/v1/chat/completions");
                tokio::spawn(async move {
                    while !enough.load(Ordering::Relaxed) {
                        let stream = number % 2 == 0;
                        match one(&client, &url, stream).await {
                            Ok(()) if stream => tally.streams.fetch_add(1, Ordering::Relaxed),
                            Ok(()) => tally.plain.fetch_add(1, Ordering::Relaxed),
                            Err(what) => {
                                tally.bad.lock().expect("a list").push(what);
                                0
                            }
                        };
                    }
                })
            })
            .collect();
        Load {
            tally,
            enough,
            tasks,
        }
    }

    /// How many plain calls and streams there were.
    fn so_far(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (load(&self.tally.plain), load(&self.tally.streams))
    }

    /// Ends it; nothing may have failed. Returns how many plain calls and streams there were.
    async fn end(mut self) -> (usize, usize) {
        self.enough.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("it ran");
        }
        let bad = self.tally.bad.lock().expect("a list");
        assert!(bad.is_empty(), "{} failed: {:?}", bad.len(), bad.first());
        self.so_far()
    }
}

async fn one(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &str,
    stream: bool,
) -> Result<(), String> {
    let request = Request::post(url)
        .header(JSON.0, JSON.1)
        .body(Full::new(Bytes::from(chat("m", stream).to_string())))
        .map_err(|error| error.to_string())?;
    let answer = client
        .request(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    if answer.status() != 200 {
        return Err(format!("{}", answer.status()));
    }
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| format!("{error:?}"))?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    let is_whole = if stream {
        text.ends_with("data: [DONE]\n\n") && !text.contains("error")
    } else {
        serde_json::from_str::<Value>(&text).is_ok_and(|answer| answer["choices"].is_array())
    };
    is_whole.then_some(()).ok_or_else(|| text.into_owned())
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[expect(clippy::print_stderr, reason = "the counts are the point")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_fail_nothing() {
    let mock = mock("p").await;
    mock.script(slow(15, 10));
    let mut gate = Gate::start(&config(&mock, ""));
    let load = Load::start(&gate.url);
    let mut process = gate.pid();
    for number in 1..=20 {
        let (plain, streams) = load.so_far();
        until("each of them serves some", || {
            let now = load.so_far();
            now.0 > plain + 20 && now.1 > streams + 4
        })
        .await;
        signal(process, "USR2");
        until("the new process serves", || {
            gate.log().matches("a new process serves").count() == number
        })
        .await;
        process = *gate.successors().last().expect("its number");
    }
    let (plain, streams) = load.end().await;
    eprintln!("20 upgrades, {plain} plain calls, {streams} streams");
    assert_eq!(gate.wait().code(), Some(0));
    let processes = gate.successors();
    assert_eq!(processes.len(), 20);
    until("the old ones are gone", || {
        processes[..19].iter().all(|old| !is_running(*old))
    })
    .await;
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        200
    );
    signal(process, "TERM");
    until("the last one goes", || !is_running(process)).await;
}

#[tokio::test]
async fn a_new_process_that_does_not_serve_changes_nothing() {
    let mock = mock("p").await;
    let gate = Gate::start(&config(&mock, ""));
    // At once: a file that is being written is empty for a moment, and an empty one is valid.
    let replace = |text: &str| {
        let new = gate.dir().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, gate.config_path()).expect("renamed");
    };
    replace("providers: [");
    for number in 1..=2 {
        gate.signal("USR2");
        until("it says so", || {
            gate.log().matches("the upgrade failed").count() == number
        })
        .await;
        assert!(gate.log().contains("ended before it served"));
        assert_eq!(
            gate.post("/v1/chat/completions", &chat("m", false))
                .await
                .status,
            200
        );
    }
    replace(&config(&mock, ""));
    gate.signal("USR2");
    until("a good one serves", || {
        gate.log().contains("a new process serves")
    })
    .await;
}

#[tokio::test]
async fn what_stands_at_its_path_takes_over_and_goes_with_it_until_it_serves() {
    let mock = mock("p").await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.yaml"), config(&mock, "")).expect("written");
    let program = dir.path().join("current");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_polygate"), &program).expect("a link");
    let mut command = Command::new(&program);
    command.args(["--port", "0"]).stdin(Stdio::null());
    let mut gate = Gate::start_as(dir, command, &[]);
    let next = gate.dir().join("next");
    let said = gate.dir().join("said");
    let script = "#!/bin/sh\necho \"$@\" >said\nexec /bin/sleep 600\n";
    std::fs::write(&next, script).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&next, executable).expect("executable");
    std::fs::rename(next, program).expect("replaced");
    gate.signal("USR2");
    // The script may have run before the process that started it says so.
    until("the script runs and its number is known", || {
        std::fs::read_to_string(&said).is_ok_and(|said| said == "--port 0\n")
            && !gate.successors().is_empty()
    })
    .await;
    let successor = gate.successors()[0];
    let answer = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(answer.status, 200, "it serves meanwhile");
    gate.signal("TERM");
    assert_eq!(gate.wait().code(), Some(0));
    until("the script ends with it", || !is_running(successor)).await;
}

#[tokio::test]
async fn streams_of_the_old_process_finish_after_an_upgrade() {
    let mock = mock("p").await;
    mock.script(slow(60, 20));
    let mut gate = Gate::start(&config(&mock, ""));
    let mut answer = gate
        .send(
            Method::POST,
            "/v1/chat/completions",
            &[JSON],
            chat("m", true).to_string(),
        )
        .await
        .into_body();
    assert!(answer.frame().await.is_some());
    gate.signal("USR2");
    until("the new process serves", || {
        gate.log().contains("a new process serves")
    })
    .await;
    mock.clear();
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        200
    );
    assert!(is_running(gate.pid()), "it waits for its stream");
    assert!(text(answer).await.ends_with("data: [DONE]\n\n"));
    assert_eq!(gate.wait().code(), Some(0));
}

#[tokio::test]
async fn systemd_gives_the_socket_and_is_told() {
    let mock = mock("p").await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.yaml"), config(&mock, "")).expect("written");
    let manager = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
    manager
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let heard = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).expect("a word");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut command = Command::new("/bin/sh");
    // Descriptor 3 is where systemd puts it, and only for the process that it names.
    command
        .args([
            "-c",
            "export LISTEN_FDS=1 LISTEN_PID=$$ && exec \"$0\" 3<&0 </dev/null",
            env!("CARGO_BIN_EXE_polygate"),
        ])
        .stdin(Stdio::from(OwnedFd::from(listener)));
    let path = dir.path().join("notify");
    let path = path.to_str().expect("a path").to_owned();
    let mut gate = Gate::start_as(dir, command, &[("NOTIFY_SOCKET", &path)]);
    assert_eq!(gate.address(), address.to_string());
    assert_eq!(heard(), format!("READY=1\nMAINPID={}", gate.pid()));
    assert_eq!(
        gate.post("/v1/chat/completions", &chat("m", false))
            .await
            .status,
        200
    );
    gate.signal("HUP");
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(heard().starts_with("READY=1\n"));
    gate.signal("USR2");
    let main = heard();
    let successor = *gate.successors().last().expect("a new process");
    assert_eq!(main, format!("READY=1\nMAINPID={successor}"));
    assert_eq!(gate.wait().code(), Some(0));
    signal(successor, "TERM");
    assert_eq!(heard(), "STOPPING=1");
}

/// Memory of a process, in megabytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("a number") / 1024
}

/// `POLYGATE_RELOADS=10000` for the long run.
#[expect(clippy::print_stderr, reason = "the counts are the point")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_nothing() {
    let count: u64 = std::env::var("POLYGATE_RELOADS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(300);
    let mock = mock("p").await;
    mock.script(slow(15, 10));
    let gate = Gate::start(&config(&mock, ""));
    let generation = async || {
        let answer = gate.admin("/admin/config").await;
        answer.json()["generation"].as_u64().expect("a number")
    };
    let load = Load::start(&gate.url);
    let pid = i32::try_from(gate.pid()).expect("a number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    let mut known = generation().await;
    let mut before = 0;
    let mut number = 0;
    // As many as asked for, and until enough came through between them.
    while number < count || load.so_far().1 <= 20 {
        if number == count / 10 {
            before = memory(gate.pid());
        }
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal");
        let told = Instant::now();
        loop {
            let now = generation().await;
            if now > known {
                known = now;
                break;
            }
            assert!(told.elapsed() < Duration::from_secs(10), "no reload");
        }
        number += 1;
    }
    let (plain, streams) = load.end().await;
    let after = memory(gate.pid());
    eprintln!("{number} reloads, {plain} plain calls, {streams} streams, {before} -> {after} MB");
    assert!(plain > 20, "{plain}");
    assert!(after <= before + 16, "{before} -> {after} MB");
}
