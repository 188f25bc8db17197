//! A price list that is fetched: in force without a restart, refused where it is broken, kept for the next start.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::support::{Gate, chat, mock};

/// What stands at an address.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<String>>);

impl Page {
    async fn start(&self) -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a socket");
        let address = listener.local_addr().expect("its address");
        let page = self.clone();
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let page = page.clone();
                let service = service_fn(move |_| {
                    let text = page.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let body = Full::new(Bytes::from(text.clone()));
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
            }
        });
        (format!("http://{address}/prices?token=sesame"), serving)
    }

    fn says(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// The list that is built in, with this price of one model.
fn list(date: &str, price: &str) -> String {
    let built_in = polygate_providers::Catalogue::built_in();
    let is_of_openai = |row: &str| row == "[openai]";
    let mut row = String::new();
    let lines = built_in.text().lines().map(|line| {
        if line.starts_with('[') {
            row = line.to_owned();
        }
        if line.starts_with("# Date: ") {
            format!("# Date: {date}\n")
        } else if is_of_openai(&row) && line.starts_with("gpt-4o ") {
            format!("gpt-4o ; {price}\n")
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

/// By which line the newest call was charged.
async fn charged(gate: &Gate) -> Value {
    let reply = gate
        .post("/v1/chat/completions", &chat("gpt-4o", false))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let id = reply.header("x-request-id").to_owned();
    let start = Instant::now();
    loop {
        let row = gate.admin(&format!("/admin/v1/logs/{id}")).await;
        if row.status == 200 {
            let price = row.json()["price"].clone();
            return match price {
                Value::String(text) => serde_json::from_str(&text).expect("a line"),
                other => other,
            };
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{}", row.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_dated(gate: &Gate, date: &str) -> Value {
    let start = Instant::now();
    loop {
        let line = charged(gate).await;
        if line["date"] == date {
            return line;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{line}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_in_force_once_it_is_fetched_and_a_broken_one_never() {
    let (mock, page) = (mock("p").await, Page::default());
    page.says(list("2027-01", "in=5 out=20"));
    let (url, serving) = page.start().await;
    let config = format!(
        "providers: [{{name: p, type: openai, api_base: '{}/v1', api_key: k}}]
health_check: {{enabled: false}}
price_list: {{url: '{url}', refresh: 1}}
",
        mock.url()
    );
    let mut gate = Gate::start(&config);
    let line = until_dated(&gate, "2027-01").await;
    assert_eq!(line["source"], "fetched");
    assert_eq!(
        (&line["input"], &line["output"]),
        (&5_000_000.into(), &20_000_000.into())
    );
    // What is broken changes nothing.
    page.says("<html>503</html>".to_owned());
    crate::support::until("the log says so", || {
        gate.log().contains("the price list is not taken")
    })
    .await;
    assert_eq!(charged(&gate).await["date"], "2027-01");
    let log = gate.log();
    assert!(!log.contains("sesame"), "{log}");
    // The next start has the last good one, though nobody serves it.
    serving.abort();
    gate.signal("TERM");
    gate.wait();
    gate.start_again(&[]);
    assert_eq!(charged(&gate).await["date"], "2027-01");
}
