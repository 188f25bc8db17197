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
        let connections = GracefulShutdown::new();
        let builder = Arc::new(builder());
        let router = pages::router(self.state.clone());
        let stopped = loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.connect(stream, peer, &builder, &router, &connections),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                stop = told(&mut stop) => break stop,
            }
        };
        self.state.ready.store(false, Ordering::Relaxed);
        self.linger(stopped.delay, &builder, &router, &connections)
            .await;
        drop(self.listener);
        let open = connections.count();
        match tokio::time::timeout(stopped.grace, connections.shutdown()).await {
            Ok(()) => 0,
            Err(_) => open,
        }
    }

    /// Load balancers need time to see that readiness fails.
    async fn linger(
        &self,
        delay: Duration,
        builder: &Arc<Builder<TokioExecutor>>,
        router: &axum::Router,
        connections: &GracefulShutdown,
    ) {
        let accepting = async {
            while let Ok((stream, peer)) = self.listener.accept().await {
                self.connect(stream, peer, builder, router, connections);
            }
        };
        let _ = tokio::time::timeout(delay, accepting).await;
    }

    fn connect(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        builder: &Arc<Builder<TokioExecutor>>,
        router: &axum::Router,
        connections: &GracefulShutdown,
    ) {
        // Two small writes would meet the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let doors = Arc::new((self.state.clone(), router.clone()));
        let builder = builder.clone();
        let watcher = connections.watcher();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let doors = doors.clone();
                async move {
                    let (state, router) = &*doors;
                    Ok::<_, Infallible>(ingress::handle(state, router, peer.ip(), request).await)
                }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // A client that leaves or breaks the protocol is no news.
            let _ = watcher.watch(connection).await;
        });
    }
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
