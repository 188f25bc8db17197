//! Requests to upstreams over pooled connections. Redirects are never followed, the environment's proxies never used.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use polygate_core::{Failure, Kind};
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;

use crate::tls;

/// Shorter than what providers keep idle connections for, so that it is us who close them.
const POOL_IDLE: Duration = Duration::from_secs(20);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Connection = MaybeHttpsStream<TokioIo<tokio::net::TcpStream>>;
type Connector = BoxCloneSyncService<http::Uri, Connection, BoxError>;

/// The one HTTP client.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client<Connector, UpstreamBody>,
}

impl Transport {
    /// A client that connects within this time. Building one reads the system's certificates: share it.
    pub fn new(connect: Duration, verify_ssl: bool) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(connect));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(verify_ssl))
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(1024 * 1024)
            .build(Connector::new(Timeout::new(https, connect * 2)));
        Self { client }
    }

    /// Sends; returns when the answer's head is here.
    pub async fn send(
        &self,
        request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, Failure> {
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                return Failure::new(
                    Kind::Connect,
                    format!("the provider cannot be reached ({})", connect_cause(&error)),
                );
            }
            Failure::new(
                Kind::Broken,
                "the connection to the provider broke before it answered",
            )
            .ambiguous()
        })
    }
}

/// What stood in the way, in words that name no address.
fn connect_cause(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused => return "connection refused",
                std::io::ErrorKind::TimedOut => return "timed out",
                std::io::ErrorKind::InvalidData => return "TLS handshake failed",
                _ => {}
            }
        }
        if cause.is::<tower::timeout::error::Elapsed>() {
            return "timed out";
        }
        let text = cause.to_string();
        if text.contains("dns") || text.contains("lookup address") {
            return "its name does not resolve";
        }
        source = cause.source();
    }
    "connection failed"
}

/// A request body: bytes in hand, or a client's upload passing through.
pub enum UpstreamBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Passing(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send + Sync>>),
}

impl From<Bytes> for UpstreamBody {
    fn from(bytes: Bytes) -> Self {
        UpstreamBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            UpstreamBody::Whole(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            UpstreamBody::Passing(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            UpstreamBody::Whole(bytes) => bytes.is_none(),
            UpstreamBody::Passing(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            UpstreamBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            UpstreamBody::Passing(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UpstreamBody::Whole(_) => "Whole",
            UpstreamBody::Passing(_) => "Passing",
        })
    }
}

/// Shares one transport among configurations that connect alike.
#[derive(Clone, Debug)]
pub struct SharedTransport {
    connect: Duration,
    verify_ssl: bool,
    /// The client.
    pub transport: Arc<Transport>,
}

impl SharedTransport {
    /// The transport of before where nothing about connecting changed, else a new one.
    pub fn renew(before: Option<&SharedTransport>, connect: Duration, verify_ssl: bool) -> Self {
        match before {
            Some(before) if before.connect == connect && before.verify_ssl == verify_ssl => {
                before.clone()
            }
            _ => Self {
                connect,
                verify_ssl,
                transport: Arc::new(Transport::new(connect, verify_ssl)),
            },
        }
    }
}
