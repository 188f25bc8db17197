//! Connections to providers: kept, counted, through proxies, and lost around the moment that the provider closes them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use polygate_mock_provider::{Behaviour, Fault, Mock, Options, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Gate, calls, chat, mock};

/// A forwarding proxy: the first line of what it was asked, and everything to one place.
struct Forward {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    async fn start(to: &Mock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://u:hush@{}", listener.local_addr().expect("bound"));
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (noted, to) = (lines.clone(), to.addr());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, noted.clone()));
            }
        });
        Self { url, lines }
    }

    fn count(&self) -> usize {
        self.lines.lock().expect("lines").len()
    }
}

async fn forward(
    mut client: TcpStream,
    to: std::net::SocketAddr,
    noted: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&line).trim().to_owned();
    noted.lock().expect("lines").push(text);
    let mut upstream = TcpStream::connect(to).await?;
    upstream.write_all(&line).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

async fn ask(gate: &Gate, model: &str) -> u16 {
    let reply = gate.post("/v1/chat/completions", &chat(model, false)).await;
    reply.status.as_u16()
}

#[tokio::test]
async fn the_nearest_proxy_counts_and_none_is_a_choice_too() {
    let mock = mock("p").await;
    let (all, provider, key) = (
        Forward::start(&mock).await,
        Forward::start(&mock).await,
        Forward::start(&mock).await,
    );
    let base = mock.url();
    let gate = Gate::start_with(
        &format!(
            "
proxy_url: '{}'
health_check: {{enabled: false}}
providers:
  - {{name: a, type: mock, api_base: '{base}', api_key: k, model_mapping: [all]}}
  - {{name: b, type: mock, api_base: '{base}', api_key: k, model_mapping: [own], proxy_url: '{}'}}
  - {{name: c, type: mock, api_base: '{base}', api_keys: [{{key: k, proxy_url: '{}'}}], model_mapping: [key], proxy_url: ''}}
  - {{name: d, type: mock, api_base: '{base}', api_key: k, model_mapping: [direct], proxy_url: ''}}
  - {{name: e, type: mock, api_base: '{base}', api_keys: [{{key: k, proxy_url: ''}}], model_mapping: [keyless]}}
",
            all.url, provider.url, key.url
        ),
        // The environment's are never used.
        &[("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")],
    );
    for (model, expected) in [
        ("all", [1, 0, 0]),
        ("own", [1, 1, 0]),
        ("key", [1, 1, 1]),
        ("direct", [1, 1, 1]),
        ("keyless", [1, 1, 1]),
    ] {
        assert_eq!(ask(&gate, model).await, 200, "{model}: {}", gate.log());
        assert_eq!(
            [all.count(), provider.count(), key.count()],
            expected,
            "{model}"
        );
    }
    let line = all.lines.lock().expect("lines").remove(0);
    assert_eq!(line, format!("POST {base}/v1/chat/completions HTTP/1.1"));
    assert!(!gate.log().contains("hush"), "{}", gate.log());
    assert_eq!(calls(&mock).len(), 5);
}

#[tokio::test]
async fn connections_are_counted_by_provider() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    for _ in 0..3 {
        assert_eq!(ask(&gate, "m").await, 200);
    }
    let metrics = gate.get("/metrics").await.text();
    for line in [
        "polygate_upstream_connections_open{provider=\"p\"} 1\n",
        "polygate_upstream_connections_idle{provider=\"p\"} 1\n",
        "polygate_upstream_connects_total{provider=\"p\"} 1\n",
        "polygate_upstream_reuses_total{provider=\"p\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_provider_that_hangs_slows_no_other() {
    let (hung, well) = (mock("hung").await, mock("well").await);
    hung.script(Rule {
        then: Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Arc::new(Gate::start(&format!(
        "
health_check: {{enabled: false}}
providers:
  - {{name: hung, type: mock, api_base: '{}', api_key: k, model_mapping: [h]}}
  - {{name: well, type: mock, api_base: '{}', api_key: k, model_mapping: [w]}}
",
        hung.url(),
        well.url()
    )));
    let waiting = (0..200).map(|_| {
        let gate = gate.clone();
        tokio::spawn(async move { ask(&gate, "h").await })
    });
    let waiting: Vec<_> = waiting.collect();
    crate::support::until("all of them hang", || calls(&hung).len() == 200).await;
    let start = Instant::now();
    assert_eq!(ask(&gate, "w").await, 200);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A thousand calls, each about when the provider closes the connection it would use: each is answered, and asked once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_closes_idle_connections_soon_costs_no_call() {
    // Half of it is how late a busy machine may be.
    let idle = Duration::from_millis(200);
    let mock = Mock::start(Options {
        models: vec!["m".to_owned()],
        idle: Some(idle),
        ..Options::default()
    })
    .await
    .expect("a mock");
    let gate = Arc::new(Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k}}]\nretry: {{max_retries: 0}}\nhealth_check: {{enabled: false}}",
        mock.url()
    )));
    let workers = (0..50_u32).map(|worker| {
        let gate = gate.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                assert_eq!(ask(&gate, "m").await, 200, "{}", gate.log());
                let part = f64::from((worker * 7 + number * 13) % 30) / 20.0;
                tokio::time::sleep(idle.mul_f64(part)).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("every call is answered");
    }
    assert_eq!(calls(&mock).len(), 1000);
    let metrics = gate.get("/metrics").await.text();
    let count = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().parse::<u32>().ok());
        number.expect("a count")
    };
    // Connections were both closed and used again, or there was nothing to get wrong.
    assert!(count("polygate_upstream_connects_total{provider=\"p\"}") > 20);
    assert!(count("polygate_upstream_reuses_total{provider=\"p\"}") > 100);
}

#[tokio::test]
async fn a_provider_without_a_free_connection_is_passed_over_and_told_of() {
    let (hung, well) = (mock("hung").await, mock("well").await);
    hung.script(Rule {
        then: Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let gate = Arc::new(Gate::start(&format!(
        "
health_check: {{enabled: false}}
routing: {{strategy: fill-first}}
timeouts: {{connect: 300ms}}
providers:
  - {{name: hung, type: mock, api_base: '{}', api_key: k, model_mapping: [m, alone], max_connections: 1}}
  - {{name: well, type: mock, api_base: '{}', api_key: k, model_mapping: [m], max_connections: 1}}
",
        hung.url(),
        well.url()
    )));
    let asked = gate.clone();
    let holds = tokio::spawn(async move { ask(&asked, "m").await });
    crate::support::until("the first hangs", || calls(&hung).len() == 1).await;
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-polygate-provider")),
        (200, "well"),
        "{}",
        reply.text()
    );
    let reply = gate
        .post("/v1/chat/completions", &chat("alone", false))
        .await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("none came free"), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(calls(&hung).len(), 1);
    let metrics = gate.get("/metrics").await.text();
    for line in [
        "polygate_upstream_full_total{provider=\"hung\"} 2\n",
        "polygate_upstream_waiting{provider=\"hung\"} 0\n",
        "polygate_upstream_connections_open{provider=\"hung\"} 1\n",
        "polygate_provider_breaker_state{provider=\"hung\",state=\"closed\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    holds.abort();
}
