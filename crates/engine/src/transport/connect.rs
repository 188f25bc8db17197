//! New connections: name, TCP, proxy, TLS. Which of these a connection takes is settled when its transport is made.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tower::Service;

use super::BoxError;
use super::proxy::{Kind, Proxy};

/// How many questions about one name are open at a time: a resolver that hangs on it takes no thread from others.
const LOOKUPS_OF_A_NAME: usize = 4;

/// Names that are remembered as being asked for; names come from the configuration.
const NAMES: usize = 256;

/// Bytes in both directions.
pub(super) trait Stream: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    /// HTTP/2 was agreed upon.
    pub(super) is_h2: bool,
}

type Tcp = HttpConnector<Resolver>;

/// The way to an upstream.
#[derive(Clone)]
pub(super) enum Connector {
    Direct(HttpsConnector<Tcp>),
    /// Plain HTTP is told the whole address, so the connection ends at the proxy.
    Forward(HttpsConnector<Tcp>, Uri),
    Tunnel(HttpsConnector<Tunnel<HttpsConnector<Tcp>>>),
    Socks(HttpsConnector<SocksV5<Tcp>>),
}

impl Connector {
    /// The way to upstreams of this scheme.
    pub(super) fn new(
        is_tls: bool,
        proxy: Option<&Proxy>,
        tls: &Arc<ClientConfig>,
        patience: Duration,
    ) -> Self {
        let tcp = tcp(patience);
        let Some(proxy) = proxy else {
            return Self::Direct(with_tls(tcp, tls, true));
        };
        match proxy.kind {
            Kind::Http if !is_tls => Self::Forward(with_tls(tcp, tls, false), proxy.uri.clone()),
            Kind::Http => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), with_tls(tcp, tls, false));
                if let Some(authorization) = proxy.authorization() {
                    tunnel = tunnel.with_auth(authorization);
                }
                Self::Tunnel(with_tls(tunnel, tls, true))
            }
            Kind::Socks5 | Kind::Socks5h => {
                let mut socks =
                    SocksV5::new(proxy.uri.clone(), tcp).local_dns(proxy.kind == Kind::Socks5);
                if let Some((user, password)) = proxy.login() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                Self::Socks(with_tls(socks, tls, true))
            }
        }
    }

    /// Opens a connection. The address has its port.
    pub(super) async fn connect(&self, to: Uri) -> Result<Opened, BoxError> {
        match self.clone() {
            Self::Direct(mut connector) => Ok(opened(call(&mut connector, to).await?)),
            Self::Forward(mut connector, proxy) => Ok(opened(call(&mut connector, proxy).await?)),
            Self::Tunnel(mut connector) => Ok(opened(call(&mut connector, to).await?)),
            Self::Socks(mut connector) => Ok(opened(call(&mut connector, to).await?)),
        }
    }
}

async fn call<C: Service<Uri, Error = BoxError>>(
    connector: &mut C,
    to: Uri,
) -> Result<C::Response, BoxError> {
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
    connector.call(to).await
}

fn opened(stream: impl Stream + Connection + 'static) -> Opened {
    let is_h2 = stream.connected().is_negotiated_h2();
    let stream = Box::new(stream);
    Opened { stream, is_h2 }
}

fn tcp(patience: Duration) -> Tcp {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new(|name| {
        std::net::ToSocketAddrs::to_socket_addrs(&(name, 0))
    }));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(patience));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp
}

/// TLS around a connector. A proxy itself is only ever spoken to in HTTP/1.1.
fn with_tls<C>(inner: C, tls: &Arc<ClientConfig>, may_be_h2: bool) -> HttpsConnector<C> {
    let mut tls = ClientConfig::clone(tls);
    tls.alpn_protocols = if may_be_h2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    HttpsConnector::from((inner, tls))
}

type Addresses = std::vec::IntoIter<SocketAddr>;

/// The system's resolver, with a bound on what one name can take of it.
#[derive(Clone)]
pub(super) struct Resolver {
    open: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    /// Blocks until there is an answer.
    ask: fn(&str) -> std::io::Result<Addresses>,
}

impl Resolver {
    fn new(ask: fn(&str) -> std::io::Result<Addresses>) -> Self {
        Self {
            open: Arc::default(),
            ask,
        }
    }

    fn turns(&self, name: &str) -> Arc<Semaphore> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= NAMES {
            open.clear();
        }
        open.entry(name.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(LOOKUPS_OF_A_NAME)))
            .clone()
    }
}

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (turns, ask) = (self.turns(name.as_str()), self.ask);
        Box::pin(async move {
            let turn = turns.acquire_owned().await.map_err(std::io::Error::other)?;
            let lookup = tokio::task::spawn_blocking(move || {
                // Kept until the system answers, not until the caller loses patience.
                let _turn = turn;
                ask(name.as_str()).map_err(|error| std::io::Error::new(error.kind(), NoSuchName))
            });
            lookup.await.map_err(std::io::Error::other)?
        })
    }
}

/// The resolver has no answer for a name.
#[derive(Debug)]
pub(super) struct NoSuchName;

impl std::fmt::Display for NoSuchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name does not resolve")
    }
}

impl std::error::Error for NoSuchName {}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// Knows one name, and has no answer for others until the test is over.
    fn ask(name: &str) -> std::io::Result<Addresses> {
        if name != "quick.example" {
            ASKED.fetch_add(1, Ordering::SeqCst);
            let held = OPEN.0.lock().expect("a lock");
            drop(OPEN.1.wait_while(held, |is_open| !*is_open));
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))].into_iter())
    }

    #[test]
    fn a_resolver_that_hangs_on_one_name_answers_others() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(LOOKUPS_OF_A_NAME + 1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut resolver = Resolver::new(ask);
        let mut look = |name: &str| resolver.call(name.parse().expect("a name"));
        let stuck: Vec<_> = (0..100)
            .map(|_| runtime.spawn(look("stuck.example")))
            .collect();
        while ASKED.load(Ordering::SeqCst) < LOOKUPS_OF_A_NAME {
            std::thread::yield_now();
        }
        // Those who lost patience do not let more of the same in: the system is still asking.
        stuck
            .iter()
            .take(50)
            .for_each(tokio::task::JoinHandle::abort);
        let limit = std::time::Duration::from_secs(10);
        for _ in 0..10 {
            let quick = look("quick.example");
            let found = runtime.block_on(async { tokio::time::timeout(limit, quick).await });
            assert!(matches!(found, Ok(Ok(_))), "it is kept waiting");
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), LOOKUPS_OF_A_NAME);
        *OPEN.0.lock().expect("a lock") = true;
        OPEN.1.notify_all();
    }
}
