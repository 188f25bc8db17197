//! The mock's sockets: plain hyper over a stream that can be told to reset.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::Options;
use crate::answer::{Answered, Asked, answer};
use crate::fault::Playing;
use crate::ledger::{Ledger, Outcome};
use crate::raw::Raw;
use crate::script::Script;

/// What all connections of a mock share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: Options,
    pub script: Script,
    pub ledger: Ledger,
    stopped: Notify,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Its end is to be a reset.
    pub reset: AtomicBool,
    /// It is to end at once.
    close: Notify,
    /// What is written before that, past HTTP.
    raw: Mutex<Option<Raw>>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            script: Script::default(),
            ledger: Ledger::default(),
            stopped: Notify::new(),
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.notify_waiters();
    }

    pub(crate) fn name(&self) -> &str {
        self.options.name.as_deref().unwrap_or("mock")
    }

    pub(crate) fn models(&self) -> Vec<String> {
        if self.options.models.is_empty() {
            return ["demo", "demo-mini", "demo-embedding"]
                .map(str::to_owned)
                .to_vec();
        }
        self.options.models.clone()
    }

    /// Whether the request shows the key, where one is asked for.
    pub(crate) fn is_known(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        let Some(key) = &self.options.api_key else {
            return true;
        };
        let shown = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = shown("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let bare = ["x-api-key", "x-goog-api-key", "api-key"]
            .into_iter()
            .find_map(shown);
        let in_query =
            || query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
        bearer.or(bare).or_else(in_query) == Some(key.as_str())
    }
}

pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let connection = Arc::new(Connection::default());
    let io = TokioIo::new(Resettable {
        stream,
        connection: connection.clone(),
    });
    let stopping = shared.clone();
    let idle = shared.options.idle;
    let closing = connection.clone();
    let service = service_fn(move |request| handle(request, shared.clone(), connection.clone()));
    let mut served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .serve_connection(io, service);
    tokio::select! {
        _ = &mut served => return,
        () = closing.close.notified() => {}
        () = stopping.stopped.notified() => return,
    }
    let raw = closing
        .raw
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(raw) = raw else {
        return;
    };
    let mut stream = served.into_parts().io.into_inner();
    tokio::select! {
        _ = raw.write(&mut stream) => {}
        () = stopping.stopped.notified() => {}
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    connection: Arc<Connection>,
) -> Result<Response<Playing>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().map(str::to_owned);
    let asked = Asked {
        method: head.method,
        path,
        query,
        headers: head.headers,
        body,
    };
    match answer(asked, &shared, &connection).await {
        Answered::Response(response) => return Ok(*response),
        Answered::Nothing { reset } => {
            connection.reset.store(reset, Ordering::SeqCst);
            connection.close.notify_one();
        }
        Answered::Raw(raw) => {
            *connection
                .raw
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(raw);
            connection.close.notify_one();
        }
        Answered::Never(entry) => {
            // Dropped when the client goes.
            let _gone = Gone { shared, entry };
            return std::future::pending().await;
        }
    }
    // The connection ends before this does, or never.
    std::future::pending().await
}

/// Notes that the client left a request that was never answered.
struct Gone {
    shared: Arc<Shared>,
    entry: usize,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.shared
            .ledger
            .update(self.entry, |entry| entry.outcome = Outcome::ClientGone);
    }
}

/// A stream whose end can be a reset.
struct Resettable {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::SeqCst) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.reset.load(Ordering::SeqCst) {
            // No orderly end before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
