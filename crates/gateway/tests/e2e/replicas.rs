//! Three replicas on one PostgreSQL under load, while it is frozen and killed and one of them is killed: no request fails that somebody
//! could answer, a revoked key ends everywhere, and what the ledger says is what the provider served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use polygate_core::Secret;
use polygate_mock_provider::{Behaviour, Entry, Mock, Options, Rule};
use polygate_store::Sealer;
use polygate_store::config::Kind;
use polygate_store::usage::{CallFilter, CallPage, CallRow, State, UsageStore};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;
use serde_json::json;
use tokio::time::sleep;

use crate::support::{Gate, signal, write_document};

const SECRET_KEY: &str = "a secret key of some length";
const REPLICAS: usize = 3;
const CLIENTS: usize = 18;
const PAUSE: Duration = Duration::from_millis(20);
/// What the contract gives a change to be everywhere, and what a busy machine may add.
const EVERYWHERE: Duration = Duration::from_millis(1000 + 500);

/// What clients meet, and what they saw.
#[derive(Default)]
struct Load {
    urls: [Mutex<String>; REPLICAS],
    /// Who is being killed: what fails there may.
    is_dying: [AtomicBool; REPLICAS],
    is_over: AtomicBool,
    asked: AtomicUsize,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

type Http = Client<HttpConnector, Full<Bytes>>;

impl Load {
    fn url(&self, at: usize) -> String {
        let url = self.urls[at].lock();
        url.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn move_to(&self, at: usize, url: &str) {
        let mut known = self.urls[at].lock().unwrap_or_else(PoisonError::into_inner);
        url.clone_into(&mut known);
    }

    fn start(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let clients = 0..CLIENTS;
        clients
            .map(|number| tokio::spawn(self.clone().client(number)))
            .collect()
    }

    /// Asks one replica after another until it is over.
    async fn client(self: Arc<Self>, number: usize) {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        for count in number.. {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let at = count % REPLICAS;
            if !self.is_dying[at].load(Ordering::SeqCst) {
                self.call(&client, at, count % 2 == 0).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn call(&self, client: &Http, at: usize, is_stream: bool) {
        let id = format!("load-{}", self.asked.fetch_add(1, Ordering::Relaxed));
        match ask(client, &self.url(at), "sk-load", &id, is_stream).await {
            Ok(_) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) if self.is_dying[at].load(Ordering::SeqCst) => {}
            Err(problem) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push(format!("replica {at}, {id}: {problem}"));
            }
        }
    }
}

/// One call, to its end; its text, or what is wrong with it.
async fn ask(
    client: &Http,
    url: &str,
    key: &str,
    id: &str,
    is_stream: bool,
) -> Result<String, String> {
    let messages = json!([{"role": "user", "content": format!("Say something of {id}.")}]);
    let body = json!({"model": "m", "stream": is_stream, "messages": messages});
    let request = Request::post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"))
        .header("x-request-id", id)
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await;
    let (head, body) = answer.map_err(|error| error.to_string())?.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let end = if is_stream { "data: [DONE]\n\n" } else { "}" };
    if head.status == 200 && text.ends_with(end) {
        Ok(text)
    } else {
        Err(format!("{} {text}", head.status))
    }
}

/// Waits until a key works at every replica, or at none; how long that took.
async fn until_everywhere(load: &Load, key: &str, works: bool) -> Duration {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let start = Instant::now();
    for at in 0..REPLICAS {
        while ask(&client, &load.url(at), key, "probe", false)
            .await
            .is_ok()
            != works
        {
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(10), "{key} at {at}: {works}");
            sleep(Duration::from_millis(10)).await;
        }
    }
    start.elapsed()
}

/// All calls that the store has, by the request's id.
async fn rows(store: &SqlStore) -> HashMap<String, Vec<CallRow>> {
    let mut all: HashMap<String, Vec<CallRow>> = HashMap::new();
    let mut page = CallPage {
        limit: 1000,
        ..CallPage::default()
    };
    loop {
        let found = store.calls(&CallFilter::default(), page).await;
        let calls = found.expect("read").calls;
        if calls.is_empty() {
            return all;
        }
        page.offset += 1000;
        for call in calls {
            all.entry(call.request_id.clone()).or_default().push(call);
        }
    }
}

/// What is asked, as far as the provider can tell.
fn id_of(entry: &Entry) -> String {
    let body = String::from_utf8_lossy(entry.body.as_deref().unwrap_or_default()).into_owned();
    let rest = body.split("Say something of ").nth(1).unwrap_or_default();
    rest.split('.').next().unwrap_or_default().to_owned()
}

/// Where the ledger says something else than the provider.
fn differences(served: &[Entry], rows: &HashMap<String, Vec<CallRow>>) -> Vec<String> {
    let served = served.iter().filter(|entry| !entry.model.is_empty());
    let difference = |entry: &Entry| {
        let id = id_of(entry);
        let row = match rows.get(&id).map(Vec::as_slice) {
            // Probes share a name.
            _ if id == "probe" => return None,
            Some([row]) => row,
            Some(more) => return Some(format!("{id}: {} rows", more.len())),
            None => return Some(format!("{id}: no row of what was {:?}", entry.outcome)),
        };
        let (tokens, of_provider) = (
            (row.usage.input, row.usage.output),
            (entry.input_tokens, entry.output_tokens),
        );
        let is_right = match row.state {
            // A provider may not have noticed its answer's end before the replica was killed that had all of it.
            State::Reported => tokens == of_provider,
            State::Aborted => tokens.0 > 0,
            State::Estimated | State::Failed => false,
        };
        (!is_right).then(|| format!("{id}: {row:?} of {entry:?}"))
    };
    served.filter_map(difference).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_dies() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let mock = Mock::start(Options {
        models: vec!["m".to_owned()],
        keep_bodies: true,
        ..Options::default()
    });
    let mock = mock.await.expect("a mock");
    mock.script(Rule {
        then: Behaviour {
            token_ms: 5,
            tokens: Some(12),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let config = format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k}}]\nmaster_keys: [{{name: load, key: sk-load}}]\nhealth_check: {{enabled: false}}\nserver: {{max_concurrent_requests: 500}}\n",
        mock.url()
    );
    let url = postgres.url();
    let variables = [("DB_URL", &*url), ("POLYGATE_SECRET_KEY", SECRET_KEY)];
    let mut gates: Vec<Gate> = (0..REPLICAS)
        .map(|_| Gate::start_with(&config, &variables))
        .collect();
    let load = Arc::new(Load::default());
    for (at, gate) in gates.iter().enumerate() {
        load.move_to(at, &gate.url);
    }
    let store = SqlStore::new(&url).expect("a store");
    let sealer = Sealer::new(&Secret::new(SECRET_KEY)).expect("a sealer");
    let key = json!({"key_hash": sealer.hash("sk-guest")});
    let clients = load.start();

    // A key comes and goes under load.
    write_document(&store, Kind::Key, "guest", Some(key.clone())).await;
    let came = until_everywhere(&load, "sk-guest", true).await;
    write_document(&store, Kind::Key, "guest", None).await;
    let gone = until_everywhere(&load, "sk-guest", false).await;
    assert!(came < EVERYWHERE && gone < EVERYWHERE, "{came:?} {gone:?}");

    postgres.freeze();
    sleep(Duration::from_secs(2)).await;
    postgres.thaw();
    sleep(Duration::from_millis(500)).await;
    postgres.crash();
    sleep(Duration::from_secs(1)).await;

    // While the database is away, a replica dies too, and starts from what it knew.
    load.is_dying[1].store(true, Ordering::SeqCst);
    signal(gates[1].pid(), "KILL");
    gates[1].start_again(&variables);
    load.move_to(1, &gates[1].url);
    sleep(Duration::from_millis(300)).await;
    load.is_dying[1].store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(1)).await;

    postgres.restart();
    write_document(&store, Kind::Key, "guest", Some(key)).await;
    until_everywhere(&load, "sk-guest", true).await;
    load.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client ends");
    }
    let answered = load.answered.load(Ordering::Relaxed);
    let failed = std::mem::take(&mut *load.failed.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(
        failed.is_empty(),
        "{} failed beside {answered}: {:?}",
        failed.len(),
        failed.first()
    );
    assert!(answered > 500, "{answered}");

    let served = mock.ledger();
    let start = Instant::now();
    loop {
        let rows = rows(&store).await;
        let differences = differences(&served, &rows);
        if differences.is_empty() {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} differences: {:?}",
            differences.len(),
            differences.first()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// A database that takes connections, and says nothing for ever.
async fn silence() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a socket");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            taken.push(socket);
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_answers_is_never_waited_for() {
    let mock = crate::support::mock("p").await;
    let config = format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k}}]\nmaster_keys: [{{name: load, key: sk-load, limits: {{requests_per_day: 100000, tokens_per_minute: 100000000}}}}]\nhealth_check: {{enabled: false}}\n",
        mock.url()
    );
    let url = format!("postgres://user:password@{}/db", silence().await);
    let variables = [("DB_URL", &*url), ("POLYGATE_SECRET_KEY", SECRET_KEY)];
    let gate = Gate::start_with(&config, &variables);
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut slow = 0;
    for count in 0..300 {
        let start = Instant::now();
        let id = format!("load-{count}");
        let answer = ask(&client, &gate.url, "sk-load", &id, count % 2 == 0).await;
        answer.unwrap_or_else(|problem| panic!("{id}: {problem}"));
        slow += usize::from(start.elapsed() > Duration::from_millis(90));
    }
    // Once for each limit, the contract allows, where replicas share them; the rest is for a busy machine.
    assert!(slow <= 5, "{slow} of 300 calls waited");
}
