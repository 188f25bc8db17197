//! One client's connection, from the handshake to its end: its deadlines, and how it goes when the gateway does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use polygate_engine::config::Patience;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, Busy, Verdict};
use crate::answer::AnswerBody;
use crate::life::Phase;
use crate::stream::{Socket, Stream};
use crate::{State, ingress};
use polygate_engine::seats::Seat;

/// How long a connection without a request stays when the gateway goes: its client may just be sending one, for the last answer did
/// not say that it is the last.
const LINGER: Duration = Duration::from_millis(250);

/// How long the last bytes may take on a connection that goes.
const LEAVE: Duration = Duration::from_millis(500);

/// How long a client may take to read the error that ends what is cut off.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// What a connection needs of the server.
pub struct Connection {
    /// What handlers reach.
    pub state: State,
    /// The pages.
    pub pages: axum::Router,
    /// The client.
    pub peer: SocketAddr,
    /// Its deadlines.
    pub patience: Patience,
    /// TLS, where it is spoken.
    pub tls: Option<TlsAcceptor>,
    /// One of those kept free for health, metrics and admin: it carries one request, and no call.
    pub is_reserved: bool,
    /// Its place among the connections.
    pub place: Option<Seat>,
    /// What becomes of the gateway.
    pub phase: watch::Receiver<Phase>,
}

/// The largest head of a request, and what is held of what a client sends or takes on HTTP/1.1.
const HEAD: usize = 64 * 1024;

/// How far a connection is on its way out.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Open,
    /// The gateway goes; the next answer says so, if something is asked in time.
    Lingering,
    /// It ends after what is being answered on it.
    Leaving(Instant),
}

impl Connection {
    /// Serves it to its end. A client that leaves or breaks the protocol is no news.
    pub async fn serve(mut self, socket: TcpStream) {
        // Two small writes would meet the client's delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let socket = match self.tls.take() {
            None => Socket::Plain(socket),
            Some(tls) => match timeout(self.patience.handshake, tls.accept(socket)).await {
                Ok(Ok(socket)) => Socket::Tls(Box::new(socket)),
                _ => return,
            },
        };
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(Stream::new(
            socket,
            activity.clone(),
            self.state.engine.clone(),
        ));
        let builder = builder(&self.phase);
        let _place = self.place.take();
        let shared = Arc::new((self.state, self.pages));
        let (peer, is_reserved) = (self.peer.ip(), self.is_reserved);
        let service = {
            let activity = activity.clone();
            service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let version = request.version();
                let busy = activity.call(version == Version::HTTP_2);
                let shared = shared.clone();
                async move {
                    let (state, pages) = &*shared;
                    let answer = ingress::handle(state, pages, peer, is_reserved, request).await;
                    let goes = is_reserved || !state.life.is_ready();
                    let mut answer = answer.map(|body| Tracked { body, busy });
                    if goes && version <= Version::HTTP_11 {
                        say_close(&mut answer);
                    }
                    Ok::<_, Infallible>(answer)
                }
            })
        };
        let connection = builder.serve_connection(io, service);
        let connection = std::pin::pin!(connection);
        let timer = std::pin::pin!(sleep_until(Instant::now()));
        Guide {
            activity: &activity,
            patience: self.patience,
            stage: Stage::Open,
            end: None,
        }
        .lead(connection, timer, &mut self.phase)
        .await;
    }
}

fn say_close<B>(answer: &mut Response<B>) {
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Leads a connection to its end.
struct Guide<'a> {
    activity: &'a Activity,
    patience: Patience,
    stage: Stage,
    /// When it ends, whatever its client takes: what is cut off has a record that is still to be written.
    end: Option<Instant>,
}

impl Guide<'_> {
    async fn lead<C: hyper_util::server::graceful::GracefulConnection>(
        mut self,
        mut connection: Pin<&mut C>,
        mut timer: Pin<&mut Sleep>,
        phase: &mut watch::Receiver<Phase>,
    ) {
        let mut is_told = true;
        if *phase.borrow_and_update() >= Phase::Closing {
            self.close(connection.as_mut());
        }
        timer
            .as_mut()
            .reset(self.due().unwrap_or_else(|_| Instant::now()));
        loop {
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                changed = phase.changed(), if is_told => {
                    is_told = changed.is_ok();
                    match *phase.borrow_and_update() {
                        Phase::Serving | Phase::Unready => {}
                        Phase::Closing => self.close(connection.as_mut()),
                        // Bodies and handlers see it by themselves when they are polled, which is next.
                        Phase::Cut => {
                            self.leave(connection.as_mut());
                            self.end = Some(Instant::now() + LAST_BYTES);
                        }
                    }
                }
                () = timer.as_mut() => {
                    if self.stage == Stage::Lingering && self.activity.is_quiet_for(LINGER) {
                        self.leave(connection.as_mut());
                    }
                }
            }
            match self.due() {
                Ok(due) => timer.as_mut().reset(due),
                Err(Verdict::Idle) => {
                    self.leave(connection.as_mut());
                    timer.as_mut().reset(Instant::now() + LEAVE);
                }
                Err(_) => return,
            }
        }
    }

    /// The gateway goes. HTTP/2 says so in a frame of its own, HTTP/1.1 only in an answer.
    fn close<C: hyper_util::server::graceful::GracefulConnection>(
        &mut self,
        connection: Pin<&mut C>,
    ) {
        if self.activity.is_multiplexed() {
            self.leave(connection);
        } else if self.stage == Stage::Open {
            self.stage = Stage::Lingering;
        }
    }

    fn leave<C: hyper_util::server::graceful::GracefulConnection>(
        &mut self,
        connection: Pin<&mut C>,
    ) {
        if !matches!(self.stage, Stage::Leaving(_)) {
            self.stage = Stage::Leaving(Instant::now());
            connection.graceful_shutdown();
        }
    }

    /// When to look again, or what is to be done now.
    fn due(&self) -> Result<Instant, Verdict> {
        if self.end.is_some_and(|end| end <= Instant::now()) {
            return Err(Verdict::TooSlow);
        }
        let due = match self.activity.verdict(&self.patience) {
            Verdict::Bearable(due) => due,
            Verdict::Idle if self.stage == Stage::Open => return Err(Verdict::Idle),
            Verdict::Idle => Instant::now() + LEAVE,
            Verdict::TooSlow => return Err(Verdict::TooSlow),
        };
        let is_at_rest = !self.activity.is_busy() && !self.activity.is_blocked();
        match self.stage {
            Stage::Lingering => Ok(due.min(Instant::now() + LINGER)),
            Stage::Leaving(since) if is_at_rest => {
                let end = since + LEAVE;
                if end <= Instant::now() {
                    return Err(Verdict::TooSlow);
                }
                Ok(due.min(end))
            }
            // What is answered when it goes may end at any moment.
            Stage::Leaving(_) => Ok(due.min(Instant::now() + LEAVE)),
            Stage::Open => Ok(due),
        }
    }
}

fn builder(phase: &watch::Receiver<Phase>) -> Builder<Streams> {
    let mut builder = Builder::new(Streams(phase.clone()));
    builder
        .http1()
        // Ours begins with the first byte, and does not end connections that wait for their next request.
        .header_read_timeout(None)
        .max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_header_list_size(HEAD as u32)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Runs the streams of an HTTP/2 connection, and wakes them when the gateway's phase changes: their connection cannot.
#[derive(Clone)]
struct Streams(watch::Receiver<Phase>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut phase = self.0.clone();
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            loop {
                tokio::select! {
                    () = stream.as_mut() => return,
                    changed = phase.changed() => if changed.is_err() {
                        return stream.await;
                    },
                }
            }
        });
    }
}

/// An answer's body; its connection counts as busy until it is gone.
struct Tracked {
    body: AnswerBody,
    busy: Busy,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Tracked { body, busy } = self.get_mut();
        busy.asked();
        let piece = Pin::new(body).poll_frame(cx);
        if matches!(piece, Poll::Ready(Some(Ok(_)))) {
            busy.gave();
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
