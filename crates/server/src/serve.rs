//! The accept loop: our own, so that slow clients meet deadlines, floods are bounded and a stop lets streams finish.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::life::Phase;
use crate::refusal::stopping;
use crate::{State, pages};
use polygate_engine::seats::Seats;

/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections kept free for health, metrics and admin when all others are taken: so many, but no more than this part of them.
const RESERVE: usize = 64;
const RESERVED_PART: usize = 8;

/// How long the errors that end what is cut off may take to reach their clients.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// A server that listens.
pub struct Server {
    listeners: Vec<TcpListener>,
    state: State,
    tls: Option<TlsAcceptor>,
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
    /// A server on bound listeners.
    pub fn new(listeners: Vec<TcpListener>, tls: Option<TlsAcceptor>, state: State) -> Self {
        Self {
            listeners,
            state,
            tls,
        }
    }

    /// Serves until told to stop, then until nothing is in flight or the grace is over; told again, it hurries. Returns how many
    /// connections and streams were cut.
    pub async fn run(self, mut stop: watch::Receiver<Option<Stop>>) -> usize {
        let mut doors = Doors {
            pages: pages::router(self.state.clone()),
            state: self.state,
            tls: self.tls,
            open: Arc::default(),
            reserved: VecDeque::new(),
        };
        let stopped = tokio::select! {
            never = doors.accept(&self.listeners) => match never {},
            stopped = told(&mut stop) => stopped,
        };
        doors.state.life.enter(Phase::Unready);
        // Seats balancers need time to see that readiness fails.
        let stopped = tokio::select! {
            never = timeout(stopped.delay, doors.accept(&self.listeners)) => match never {
                Ok(never) => match never {},
                Err(_) => stopped,
            },
            sooner = told(&mut stop) => sooner,
        };
        doors.accept_waiting(&self.listeners).await;
        drop(self.listeners);
        doors.close(stopped.grace, &mut stop).await
    }
}

/// What every connection needs, and what counts them.
struct Doors {
    state: State,
    pages: axum::Router,
    tls: Option<TlsAcceptor>,
    open: Arc<Seats>,
    /// Those beyond the limit, the oldest first: it makes room for the next.
    reserved: VecDeque<JoinHandle<()>>,
}

impl Doors {
    async fn accept(&mut self, listeners: &[TcpListener]) -> Infallible {
        let mut is_failing = false;
        loop {
            match next(listeners).await {
                Ok((stream, peer)) => {
                    is_failing = false;
                    self.connect(stream, peer).await;
                }
                Err(error) => {
                    // Once: it may go on for long, and a log that fills helps nobody.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted; trying again until they can");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes those that the system took already: they would be reset with the socket.
    async fn accept_waiting(&mut self, listeners: &[TcpListener]) {
        while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, next(listeners)).await {
            self.connect(stream, peer).await;
        }
    }

    async fn connect(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (limit, patience) = {
            let server = &self.state.engine.snapshot().config.server;
            let limit = server.max_connections.unwrap_or(self.state.bearable);
            (limit, server.patience)
        };
        let place = self.open.take(limit);
        let is_reserved = place.is_none();
        let connection = Connection {
            state: self.state.clone(),
            pages: self.pages.clone(),
            peer,
            patience,
            tls: self.tls.clone(),
            is_reserved,
            place,
            phase: self.state.life.follow(),
        };
        let task = tokio::spawn(connection.serve(stream));
        if is_reserved {
            self.reserve(task, limit).await;
        }
    }

    /// Keeps one more beyond the limit, and lets the oldest of them go. The next is accepted when that has given its descriptor
    /// back: a flood is accepted faster than tasks end.
    async fn reserve(&mut self, connection: JoinHandle<()>, limit: usize) {
        self.reserved.retain(|earlier| !earlier.is_finished());
        self.reserved.push_back(connection);
        while self.reserved.len() > (limit / RESERVED_PART).clamp(1, RESERVE) {
            if let Some(oldest) = self.reserved.pop_front() {
                oldest.abort();
                let _ = oldest.await;
            }
        }
    }

    /// Lets what is in flight finish; returns how much did not.
    async fn close(self, grace: Duration, stop: &mut watch::Receiver<Option<Stop>>) -> usize {
        let life = self.state.life.clone();
        life.enter(Phase::Closing);
        let mut deadline = Instant::now() + grace.min(Duration::from_secs(100 * 365 * 24 * 3600));
        loop {
            tokio::select! {
                biased;
                () = life.deserted() => return 0,
                () = sleep_until(deadline) => break,
                sooner = told(stop) => deadline = deadline.min(Instant::now() + sooner.grace),
            }
        }
        let open = life.followers();
        self.state.engine.cut(stopping());
        life.enter(Phase::Cut);
        let _ = timeout(LAST_WORDS, life.deserted()).await;
        open
    }
}

/// The next connection of any of them.
async fn next(listeners: &[TcpListener]) -> std::io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| {
        let ready = |listener: &TcpListener| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        };
        listeners
            .iter()
            .find_map(ready)
            .map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The next word on stopping.
async fn told(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if stop.changed().await.is_err() {
            // Nobody can stop us any more.
            std::future::pending::<()>().await;
        }
        if let Some(told) = *stop.borrow_and_update() {
            return told;
        }
    }
}
