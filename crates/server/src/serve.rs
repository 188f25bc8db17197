//! The accept loop: our own, so that slow clients meet deadlines and a stop lets streams finish.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{State, ingress, pages};

/// How long a client may take for a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    state: State,
}

/// How a server stops.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// New connections are taken for this long still, with readiness already failing.
    pub delay: Duration,
    /// What is in flight may go on for this long.
    pub grace: Duration,
}

impl Server {
    /// A server on a bound listener.
    pub fn new(listener: TcpListener, state: State) -> Self {
        Self { listener, state }
    }

    /// Serves until told to stop, then until nothing is in flight or the grace is over. Returns how many connections were cut.
    pub async fn run(self, mut stop: watch::Receiver<Option<Stop>>) -> usize {
        let Server { listener, state } = self;
        let doors = Doors::new(state);
        let stopped = tokio::select! {
            never = doors.accept(&listener) => match never {},
            stopped = told(&mut stop) => stopped,
        };
        doors.state.ready.store(false, Ordering::Relaxed);
        // Load balancers need time to see that readiness fails.
        let _ = tokio::time::timeout(stopped.delay, doors.accept(&listener)).await;
        drop(listener);
        doors.close(stopped.grace).await
    }
}

/// What every connection needs, and what knows of them all.
struct Doors {
    state: State,
    pages: axum::Router,
    builder: Arc<Builder<TokioExecutor>>,
    connections: GracefulShutdown,
    /// True when connections on which nothing was said yet must go.
    closing: watch::Sender<bool>,
}

impl Doors {
    fn new(state: State) -> Self {
        let pages = pages::router(state.clone());
        let connections = GracefulShutdown::new();
        Self {
            state,
            pages,
            builder: Arc::new(builder()),
            connections,
            closing: watch::Sender::new(false),
        }
    }

    async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.connect(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connect(&self, stream: TcpStream, peer: SocketAddr) {
        // Two small writes would meet the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let inner = Arc::new((self.state.clone(), self.pages.clone()));
        let (builder, watcher) = (self.builder.clone(), self.connections.watcher());
        let mut closing = self.closing.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                spoken = says_something(&stream) => if !spoken { return },
                _ = closing.wait_for(|closing| *closing) => return,
            }
            let service = service_fn(move |request| {
                let inner = inner.clone();
                async move {
                    let (state, pages) = &*inner;
                    Ok::<_, Infallible>(ingress::handle(state, pages, peer.ip(), request).await)
                }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // A client that leaves or breaks the protocol is no news.
            let _ = watcher.watch(connection).await;
        });
    }

    /// Lets what is in flight finish; returns how many connections did not.
    async fn close(self, grace: Duration) -> usize {
        let _ = self.closing.send(true);
        let open = self.connections.count();
        let closed = tokio::time::timeout(grace, self.connections.shutdown()).await;
        if closed.is_ok() { 0 } else { open }
    }
}

/// Whether the first byte comes in time: hyper's own deadline begins with it.
async fn says_something(stream: &TcpStream) -> bool {
    let first = tokio::time::timeout(HEAD_PATIENCE, stream.peek(&mut [0])).await;
    matches!(first, Ok(Ok(1)))
}

async fn told(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if let Some(told) = *stop.borrow_and_update() {
            return told;
        }
        if stop.changed().await.is_err() {
            // Nobody can stop us any more.
            std::future::pending::<()>().await;
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(256 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
