//! Hours of mixed traffic: memory, descriptors and tasks are back where they were when it is over.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use polygate_mock_provider::{Behaviour, Fault, Mock, Options, Rule};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Gate, Reply};
use crate::wall::UPSTREAMS;
use crate::wall::clients::{CLIENTS, Client as Format};

/// Seconds of traffic after the warming up. An hour is run by hand.
const LENGTH: &str = "POLYGATE_SOAK";
const SHORT: u64 = 8;

/// Clients at a time, and how long each waits before it comes again.
const CLIENTS_AT_A_TIME: usize = 24;
const PAUSE: Duration = Duration::from_millis(150);

/// What an allocator may keep of memory that was given back to it, in megabytes.
const SLACK: u64 = 24;

/// Connections by which one look at rest may differ from another. A leak at one call in a hundred is more.
const FEW: usize = 3;

/// What a provider does to models whose names begin so. The last are what it does well.
fn behaviours() -> Vec<(&'static str, Behaviour)> {
    let faults = [
        ("refuse", Fault::Refuse),
        ("reset", Fault::Reset),
        ("stall", Fault::Stall),
        ("silent", Fault::StallAfter(2)),
        ("torn", Fault::ResetAfter(3)),
        ("cut", Fault::CutAfter(4)),
        ("half", Fault::HalfAfter(3)),
        ("early", Fault::EndAfter(3)),
        ("error", Fault::ErrorAfter(2)),
        ("junk", Fault::Junk),
        ("html", Fault::Html),
        ("empty", Fault::Empty),
        ("pieces", Fault::Pieces(7)),
        ("hints", Fault::EarlyHints),
        ("closes", Fault::CloseDelimited),
    ];
    let with = |fault| Behaviour {
        fault: Some(fault),
        ..Behaviour::default()
    };
    let status = |status| Behaviour {
        status: Some(status),
        ..Behaviour::default()
    };
    let slow = Behaviour {
        token_ms: 20,
        tokens: Some(100),
        ..Behaviour::default()
    };
    let late = Behaviour {
        latency_ms: 250,
        ..Behaviour::default()
    };
    let mut all: Vec<_> = faults.map(|(name, fault)| (name, with(fault))).into();
    all.extend([
        ("busy", status(503)),
        ("broken", status(500)),
        ("refused", status(400)),
        ("late", late),
        ("slow", slow),
    ]);
    all
}

/// Two providers of each format: the first does what models' names say, the second is well.
fn config(odd: &Mock, well: &Mock, version: u64) -> String {
    let mut config = "providers:\n".to_owned();
    for (format, kind) in UPSTREAMS {
        for (name, mock) in [("odd", odd), ("well", well)] {
            let url = mock.url();
            let _ = writeln!(
                config,
                "  - {{name: {name}-{format}, type: {kind}, api_base: '{url}', api_key: key-of-it, model_mapping: ['*-at-{format}']}}"
            );
        }
    }
    // Another time for connections is another pool: every reload gives up those that were there.
    let idle = 1000 + version % 2;
    let _ = writeln!(
        config,
        "
server: {{idle_timeout: 1}}
routing: {{strategy: fill-first}}
timeouts: {{first_event: 1, idle: 1, request: 5, hold: 200ms, keepalive: 100ms, connection_idle: {idle}ms}}
retry: {{initial_backoff: 10ms, max_backoff: 50ms, breaker_threshold: 1000000, cooldown_network: 1ms, cooldown_error: 1ms}}
hedge: {{after: 150ms, max_percent: 20}}
health_check: {{enabled: false}}"
    );
    config
}

async fn provider(name: &str) -> Mock {
    let options = Options {
        name: Some(name.to_owned()),
        ..Options::default()
    };
    let mock = Mock::start(options).await.expect("a mock");
    for (model, then) in behaviours() {
        let is_well = matches!(model, "late" | "slow");
        if is_well || name == "odd" {
            mock.script(Rule {
                model: Some(format!("{model}-*")),
                then,
                ..Rule::default()
            });
        }
    }
    mock
}

/// What a leak shows in.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    megabytes: u64,
    descriptors: usize,
    tasks: usize,
    /// Calls, and connections to providers, that are still there.
    open: usize,
}

impl Figures {
    async fn of(gate: &Gate) -> Figures {
        let page = page(gate, "/metrics").await;
        let sum = |name: &str| {
            let lines = page.lines().filter(|line| line.starts_with(name));
            let numbers = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
            numbers.sum::<usize>()
        };
        let pid = gate.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Figures {
            megabytes: kilobytes.expect("a number") / 1024,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("its descriptors")
                .count(),
            tasks: sum("polygate_tasks "),
            open: sum("llm_proxy_active_requests") + sum("polygate_upstream_connections_open"),
        }
    }

    /// When nothing is open any more, and nothing has gone down for longer than idle connections live. The lowest of each: the one
    /// who looks comes over connections too, and may still see the one before.
    async fn at_rest(gate: &Gate) -> Figures {
        let began = Instant::now();
        let (mut lowest, mut same) = (Figures::of(gate).await, 0);
        while same < 35 || lowest.open > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "no rest: {lowest:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = Figures::of(gate).await;
            let lower = Figures {
                megabytes: now.megabytes,
                descriptors: lowest.descriptors.min(now.descriptors),
                tasks: lowest.tasks.min(now.tasks),
                open: lowest.open.min(now.open),
            };
            let is_same = (lower.descriptors, lower.tasks) == (lowest.descriptors, lowest.tasks);
            same = if is_same { same + 1 } else { 0 };
            lowest = lower;
        }
        lowest
    }
}

/// A page over a connection of its own.
async fn page(gate: &Gate, path: &str) -> String {
    let mut socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    socket.read_to_string(&mut text).await.expect("an answer");
    text
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// What happened.
#[derive(Default)]
struct Tally {
    sound: AtomicUsize,
    faulty: AtomicUsize,
    left: AtomicUsize,
    odd: AtomicUsize,
    wrong: std::sync::Mutex<Vec<String>>,
}

/// One of the clients.
struct Visitor {
    address: String,
    http1: Http,
    http2: Http,
    tally: Arc<Tally>,
}

/// One question of a format.
struct Question {
    format: &'static Format,
    model: String,
    stream: bool,
}

impl Question {
    /// To a model whose provider does this.
    fn draw(does: &str) -> Question {
        let mut random = rand::rng();
        let (upstream, _) = UPSTREAMS[random.random_range(0..UPSTREAMS.len())];
        Question {
            format: &CLIENTS[random.random_range(0..CLIENTS.len())],
            model: format!("{does}-at-{upstream}"),
            stream: random.random(),
        }
    }

    fn path(&self) -> String {
        (self.format.path)(&self.model, self.stream)
    }

    fn body(&self) -> String {
        let mut body: Value = (self.format.ask)(&self.model, self.stream);
        if self.format.name == "openai-responses" {
            // What is kept for clients that go on from it has a bound of its own, far above these.
            body["store"] = json!(false);
        }
        body.to_string()
    }
}

impl Visitor {
    fn of(gate: &Gate, tally: &Arc<Tally>) -> Visitor {
        let client = |is_http2| {
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_millis(300))
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .http2_only(is_http2)
                .build(HttpConnector::new())
        };
        Visitor {
            address: gate.address().to_owned(),
            http1: client(false),
            http2: client(true),
            tally: tally.clone(),
        }
    }

    /// Comes once, for something that is drawn.
    async fn come(&self) {
        let faults = behaviours();
        let fault = faults[rand::rng().random_range(0..faults.len())].0;
        let drawn = rand::rng().random_range(0..10);
        match drawn {
            0..4 => self.ask(Question::draw("plain")).await,
            4..6 => self.meet(Question::draw(fault)).await,
            6..9 => self.leave(Question::draw("slow")).await,
            _ => self.err().await,
        }
    }

    async fn send(&self, path: &str, body: String) -> Option<http::Response<Incoming>> {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let is_http2: bool = rand::rng().random();
        let client = if is_http2 { &self.http2 } else { &self.http1 };
        client.request(request).await.ok()
    }

    /// A question that must be answered.
    async fn ask(&self, question: Question) {
        self.tally.sound.fetch_add(1, Ordering::Relaxed);
        let mut said = "no answer".to_owned();
        if let Some(answer) = self.send(&question.path(), question.body()).await {
            let (head, body) = answer.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes);
            let reply = Reply {
                status: head.status,
                headers: head.headers,
                body: body.unwrap_or_default(),
            };
            if reply.status == 200 && (question.format.is_complete)(&reply, question.stream) {
                return;
            }
            said = format!("{} {}", reply.status, reply.text());
        }
        let mut wrong = self.tally.wrong.lock().expect("a list");
        wrong.push(format!("{} {said}", question.path()));
    }

    /// A question that meets a fault: whatever comes of it ends.
    async fn meet(&self, question: Question) {
        self.tally.faulty.fetch_add(1, Ordering::Relaxed);
        let path = question.path();
        let answer = self.send(&path, question.body());
        let all = async { answer.await?.into_body().collect().await.ok() };
        let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
        if ended.is_err() {
            let mut wrong = self.tally.wrong.lock().expect("a list");
            wrong.push(format!("{} {} has no end", question.path(), question.model));
        }
    }

    /// A client that does not stay: it goes with its question half said, unanswered, or in the middle of the answer.
    async fn leave(&self, mut question: Question) {
        self.tally.left.fetch_add(1, Ordering::Relaxed);
        question.stream |= rand::rng().random::<bool>();
        let patience = Duration::from_millis(rand::rng().random_range(0..400));
        if rand::rng().random() {
            let body = question.body();
            let call = async {
                let answer = self.send(&question.path(), body).await?;
                answer.into_body().collect().await.ok()
            };
            let _ = tokio::time::timeout(patience, call).await;
            return;
        }
        let Ok(mut socket) = TcpStream::connect(&self.address).await else {
            return;
        };
        let body = question.body();
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            question.path(),
            body.len()
        );
        let said = match rand::rng().random_range(0..3) {
            0 => rand::rng().random_range(0..request.len()),
            _ => request.len(),
        };
        let _ = socket.write_all(&request.as_bytes()[..said]).await;
        let mut unread = [0; 256];
        let _ = tokio::time::timeout(patience, socket.read(&mut unread)).await;
    }

    /// What is not a call, or no good one.
    async fn err(&self) {
        self.tally.odd.fetch_add(1, Ordering::Relaxed);
        let random: u32 = rand::rng().random();
        let nobody = json!({"model": format!("nobody-{random}"), "messages": [{"role": "user", "content": "Hi"}]});
        let count =
            json!({"model": "plain-at-gemini", "messages": [{"role": "user", "content": "Hi"}]});
        let (path, body) = match random % 6 {
            0 => ("/v1/chat/completions", nobody.to_string()),
            1 => ("/v1/messages", "{\"model\": ".to_owned()),
            2 => ("/no/such/page", String::new()),
            3 => ("/v1/messages/count_tokens", count.to_string()),
            4 => ("/v1/responses", "x".repeat(100_000)),
            _ => ("/health", String::new()),
        };
        if let Some(answer) = self.send(path, body).await {
            let _ = answer.into_body().collect().await;
        }
    }
}

/// This much traffic, with reloads; says how it goes.
#[expect(clippy::print_stderr, reason = "the figures are the point")]
async fn traffic(gate: &Gate, mocks: (&Mock, &Mock), length: Duration, tally: &Arc<Tally>) {
    let enough = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..CLIENTS_AT_A_TIME)
        .map(|_| {
            let (visitor, enough) = (Visitor::of(gate, tally), enough.clone());
            tokio::spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    visitor.come().await;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        })
        .collect();
    let began = Instant::now();
    let (reload_every, say_every) = (Duration::from_secs(1).max(length / 400), length / 60);
    let (mut reloads, mut said) = (0_u64, 0);
    while began.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if began.elapsed() > reload_every * u32::try_from(reloads + 1).unwrap_or(u32::MAX) {
            reloads += 1;
            reload(gate, &config(mocks.0, mocks.1, reloads));
        }
        if began.elapsed() > say_every * (said + 1) {
            said += 1;
            let figures = Figures::of(gate).await;
            eprintln!("{:>5} s {figures:?}", began.elapsed().as_secs());
        }
    }
    enough.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.expect("it ran");
    }
}

/// A new configuration in its place, and the word to read it.
fn reload(gate: &Gate, config: &str) {
    let new = gate.dir().join("new");
    std::fs::write(&new, config).expect("written");
    std::fs::rename(new, gate.config_path()).expect("renamed");
    gate.signal("HUP");
}

/// Every provider has been asked on the configuration in force: pools are made at the first call, and each has a task.
async fn ask_all(gate: &Gate) {
    let model = |does: &str, upstream: &str| format!("{does}-at-{upstream}");
    for (upstream, _) in UPSTREAMS {
        for does in ["plain", "busy"] {
            let answer = gate
                .post(
                    "/v1/chat/completions",
                    &(CLIENTS[0].ask)(&model(does, upstream), false),
                )
                .await;
            assert_eq!(answer.status, 200, "{upstream} {}", answer.text());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the figures are the point")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_descriptors_and_tasks_are_back_after_a_soak() {
    let length = std::env::var(LENGTH).ok();
    let length = length.map_or(SHORT, |length| length.parse().expect("seconds"));
    let (odd, well) = (provider("odd").await, provider("well").await);
    let gate = Gate::start(&config(&odd, &well, 0));
    let tally = Arc::new(Tally::default());
    let warm = Duration::from_secs((length / 2).min(300));
    traffic(&gate, (&odd, &well), warm, &tally).await;
    ask_all(&gate).await;
    let before = Figures::at_rest(&gate).await;
    eprintln!("before: {before:?}");
    traffic(&gate, (&odd, &well), Duration::from_secs(length), &tally).await;
    ask_all(&gate).await;
    let after = Figures::at_rest(&gate).await;
    let counts = [&tally.sound, &tally.faulty, &tally.left, &tally.odd];
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    eprintln!("after: {after:?} (sound, faulty, left, odd: {counts:?})");
    let wrong = tally.wrong.lock().expect("a list");
    assert!(
        wrong.is_empty(),
        "{} wrong: {:?}",
        wrong.len(),
        wrong.first()
    );
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    assert!(
        after.descriptors <= before.descriptors + FEW && after.tasks <= before.tasks + FEW,
        "{before:?} -> {after:?}"
    );
    assert!(
        after.megabytes <= before.megabytes + SLACK,
        "{before:?} -> {after:?}"
    );
    assert!(!gate.log().contains("panicked"));
}
