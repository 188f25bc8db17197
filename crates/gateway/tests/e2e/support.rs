//! A gateway process, a client, and waiting without sleeping blindly.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use polygate_mock_provider::{Mock, Options};
use polygate_store::config::{ConfigStore, Expect, Kind, Put, Write};
use polygate_store_sql::SqlStore;
use serde_json::Value;
use tempfile::TempDir;

/// A running gateway. Dropping it kills it.
pub struct Gate {
    child: Child,
    pub url: String,
    dir: TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub const ADMIN_KEY: &str = "pg-admin-for-tests-0123456789";

impl Gate {
    /// Starts the binary on a free port with this configuration.
    pub fn start(config: &str) -> Gate {
        Self::start_with(config, &[])
    }

    /// The same with variables.
    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Gate {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.yaml"), config)
            .expect("the configuration is written");
        Self::start_in(dir, &["--port", "0"], variables)
    }

    /// The same with what is in a directory.
    pub fn start_in(dir: TempDir, args: &[&str], variables: &[(&str, &str)]) -> Gate {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polygate"));
        command.args(args).stdin(Stdio::null());
        Self::start_as(dir, command, variables)
    }

    /// The same in a shell that first does something.
    pub fn start_after(config: &str, preparation: &str) -> Gate {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.yaml"), config)
            .expect("the configuration is written");
        let mut command = Command::new("/bin/sh");
        let script = format!("{preparation} && exec \"$0\" --port 0");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_polygate")])
            .stdin(Stdio::null());
        Self::start_as(dir, command, &[])
    }

    /// Starts it again in its directory, once it has ended.
    pub fn start_again(&mut self, variables: &[(&str, &str)]) {
        self.wait();
        let nowhere = tempfile::tempdir().expect("a directory");
        let dir = std::mem::replace(&mut self.dir, nowhere);
        *self = Self::start_in(dir, &["--port", "0"], variables);
    }

    /// The same with a command that becomes the gateway.
    pub fn start_as(dir: TempDir, mut command: Command, variables: &[(&str, &str)]) -> Gate {
        let log = std::fs::File::create(dir.path().join("gate.log")).expect("a log");
        let mut child = command
            .current_dir(dir.path())
            .env_clear()
            .env("ADMIN_KEY", ADMIN_KEY)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let url = lines.find_map(|line| {
            let line = line.ok()?;
            let url = line
                .strip_prefix("Polygate listens on ")?
                .split([' ', '.'])
                .next()?
                .to_owned();
            let rest = line.strip_prefix("Polygate listens on ")?;
            let end = rest
                .find(". Try")
                .or_else(|| rest.find(" ("))
                .unwrap_or(url.len());
            Some(rest[..end].split(" (").next()?.to_owned())
        });
        let Some(url) = url else {
            let _ = child.wait();
            panic!(
                "the gateway did not start: {}",
                std::fs::read_to_string(dir.path().join("gate.log")).unwrap_or_default()
            );
        };
        // Nobody reads the rest.
        std::thread::spawn(move || lines.for_each(drop));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Gate {
            child,
            url,
            dir,
            client,
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("gate.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The processes that were started to take over, in order.
    pub fn successors(&self) -> Vec<u32> {
        self.log()
            .lines()
            .filter(|line| line.contains("a new process was started"))
            .filter_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                u32::try_from(line["process"].as_u64()?).ok()
            })
            .collect()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.url
            .split_once("://")
            .map_or(&*self.url, |(_, address)| address)
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it ends")
    }

    /// A request; the answer's body is still to be read.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .expect("a valid request");
        self.client.request(request).await.expect("an answer")
    }

    /// A request and its whole answer. A body that breaks off ends where it broke.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let (head, mut body) = self.send(method, path, headers, body).await.into_parts();
        let mut all = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            all.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        }
        Reply {
            status: head.status,
            headers: head.headers,
            body: all.into(),
        }
    }

    /// A JSON request.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], "").await
    }

    pub async fn admin(&self, path: &str) -> Reply {
        self.ask(
            Method::GET,
            path,
            &[("authorization", &format!("Bearer {ADMIN_KEY}"))],
            "",
        )
        .await
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let dir = self.dir.path().canonicalize().unwrap_or_default();
        for pid in self.successors() {
            // A number may be somebody else's by now; the directory is ours alone.
            if std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir) {
                signal(pid, "KILL");
            }
        }
    }
}

/// Sends a signal by name to a process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The data of a stream's events.
    pub fn events(&self) -> Vec<String> {
        // Google ends its lines in its own way.
        let text = self.text().replace("\r\n", "\n");
        text.split("\n\n")
            .filter_map(|frame| {
                frame
                    .lines()
                    .find_map(|line| line.strip_prefix("data: "))
                    .map(str::to_owned)
            })
            .collect()
    }
}

/// A mock of this name.
pub async fn mock(name: &str) -> Mock {
    let options = Options {
        name: Some(name.to_owned()),
        models: vec!["m".to_owned()],
        keep_bodies: true,
        ..Options::default()
    };
    Mock::start(options).await.expect("a mock")
}

/// Calls that reached a model, health checks aside.
pub fn calls(mock: &Mock) -> Vec<polygate_mock_provider::Entry> {
    mock.ledger()
        .into_iter()
        .filter(|entry| entry.endpoint != polygate_mock_provider::Endpoint::Models)
        .collect()
}

/// Waits for something to become true; fails when it does not in ten seconds.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A chat question.
pub fn chat(model: &str, stream: bool) -> Value {
    serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello there"}]})
}

/// Writes a document into a store, or deletes it, as another replica would.
pub async fn write_document(store: &SqlStore, kind: Kind, name: &str, body: Option<Value>) {
    let put = Put {
        kind,
        name: name.to_owned(),
        body: body.map(|body| body.to_string()),
        expect: Expect::Anything,
    };
    let write = Write {
        actor: "test".to_owned(),
        action: "test".to_owned(),
        at: 1,
        puts: vec![put],
    };
    store.write(write).await.expect("written");
}
