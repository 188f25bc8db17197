//! The simulated provider: all four chat formats, legacy completions and embeddings, scriptable faults, and a ledger of what it served.
//!
//! `polygate mock` runs it alone, the zero-configuration demo runs it inside, tests and benchmarks drive it.

mod answer;
mod fault;
mod formats;
mod ledger;
mod raw;
mod reply;
mod route;
mod script;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use ledger::{Entry, Outcome};
pub use route::Endpoint;
pub use script::{Behaviour, Fault, Rule};

use server::Shared;
use tokio::task::JoinHandle;

/// How a mock is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to listen; a free port on loopback unless given.
    pub addr: Option<SocketAddr>,
    /// Shown in answers and in the ledger; `mock` unless given.
    pub name: Option<String>,
    /// What its model lists say; demo models unless given.
    pub models: Vec<String>,
    /// Where given, every request must show it.
    pub api_key: Option<String>,
    /// How long connections are kept that have no request; for ever unless given.
    pub idle: Option<Duration>,
    /// The ledger keeps headers and bodies of requests.
    pub keep_bodies: bool,
}

/// A running mock. Dropping it stops it.
pub struct Mock {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Mock {
    /// Binds and starts serving on the current runtime.
    pub async fn start(options: Options) -> std::io::Result<Mock> {
        let addr = options
            .addr
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = tokio::net::TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let task = tokio::spawn(server::serve(listener, shared.clone()));
        Ok(Mock { addr, shared, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Adds a rule. The first that fits a request and is not spent applies.
    pub fn script(&self, rule: Rule) {
        self.shared.script.add(rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.shared.script.clear();
    }

    /// What was served, in order.
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.ledger.entries()
    }

    /// Serves for ever.
    pub async fn serve(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.stop();
    }
}
