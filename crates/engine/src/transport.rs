//! Requests to upstreams over connections of our own pool. Redirects are never followed, the environment's proxies never used.

mod answer;
mod connect;
mod pool;
mod proxy;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use polygate_core::{Failure, Kind};
use rustls::ClientConfig;

use answer::Lease;
use connect::{Connector, NoSuchName};
use pool::{Gauge, NoRoom, Pool, Taken};

use crate::config::{Config, Way};
use crate::tls::{Profiles, Trust};

pub use answer::AnswerBody;
pub use pool::Keeping;
pub use proxy::Proxy;

/// How often a request that was surely not processed goes again before it counts as failed.
const RESENDS: usize = 8;

/// When to come again where every connection is in use.
const COME_AGAIN: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a provider is reached. Two transports of the same reach may share connections; others never do.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// Whom its certificate is believed from.
    pub tls: Arc<ClientConfig>,
    /// Name, TCP, proxy and TLS together.
    pub connect: Duration,
    /// How long connections are kept.
    pub keeping: Keeping,
    /// How many there may be to one address; further requests wait for one. `None`: any number.
    pub most: Option<usize>,
}

impl PartialEq for Reach {
    fn eq(&self, other: &Self) -> bool {
        self.proxy == other.proxy
            && Arc::ptr_eq(&self.tls, &other.tls)
            && self.connect == other.connect
            && self.keeping == other.keeping
            && self.most == other.most
    }
}

/// The connections to one provider. Each has its own, so that one that hangs takes nothing from another.
pub struct Transport {
    reach: Reach,
    gauge: Arc<Gauge>,
    /// By scheme and authority. Few: addresses come from the configuration.
    pools: ArcSwap<Vec<(Uri, Arc<Pool>)>>,
}

/// Connections of a transport, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open.
    pub open: i64,
    /// Open, without a request.
    pub idle: i64,
    /// Opened since the start.
    pub connects: u64,
    /// Requests on connections that were open already.
    pub reuses: u64,
    /// Requests that wait for a connection, there being as many as there may be.
    pub waiting: i64,
    /// Such that waited in vain.
    pub refused: u64,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, each| Self {
            open: sum.open + each.open,
            idle: sum.idle + each.idle,
            connects: sum.connects + each.connects,
            reuses: sum.reuses + each.reuses,
            waiting: sum.waiting + each.waiting,
            refused: sum.refused + each.refused,
        })
    }
}

impl Transport {
    /// No connections yet.
    pub fn new(reach: Reach) -> Self {
        Self {
            reach,
            gauge: Arc::default(),
            pools: ArcSwap::default(),
        }
    }

    /// For what the gateway sends beside calls: as this configuration reaches those that have no word of their own on it.
    pub fn beside_calls(config: &Config) -> Result<Self, String> {
        let trust = Trust::new(config.verify_ssl, config.ca_file.as_deref())?;
        let timeouts = &config.timeouts;
        Ok(Self::new(Reach {
            proxy: match &config.way {
                Way::Direct => None,
                Way::Through(proxy) => Some(proxy.clone()),
            },
            tls: Profiles::default().get(trust, None)?,
            connect: timeouts.connect,
            keeping: Keeping {
                idle: timeouts.connection_idle,
                lifetime: timeouts.connection_lifetime,
            },
            most: None,
        }))
    }

    /// How it reaches.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// What is open now, and was.
    pub fn counts(&self) -> Counts {
        let pools = self.pools.load();
        let idle: usize = pools.iter().map(|(_, pool)| pool.idle()).sum();
        Counts {
            open: self.gauge.open.load(Ordering::Relaxed),
            idle: i64::try_from(idle).unwrap_or(i64::MAX),
            connects: self.gauge.connects.load(Ordering::Relaxed),
            reuses: self.gauge.reuses.load(Ordering::Relaxed),
            waiting: self.gauge.waiting.load(Ordering::Relaxed),
            refused: self.gauge.refused.load(Ordering::Relaxed),
        }
    }

    /// Sends; returns when the answer's head is here. What the upstream surely did not process is sent again, unseen.
    pub async fn send(
        &self,
        mut request: Request<UpstreamBody>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let pool = self.pool(request.uri())?;
        let uri = request.uri().clone();
        for attempt in 0..RESENDS {
            let taken = pool
                .take(attempt >= 2)
                .await
                .map_err(|error| untaken(&*error))?;
            *request.uri_mut() = uri.clone();
            let sent = match taken {
                Taken::Single(single) => self.send_single(&pool, single, request).await,
                Taken::Stream(stream) => send_stream(stream, request).await,
            };
            request = match sent {
                Ok(answer) => return Ok(answer),
                Err(Unsent::Again(request)) => *request,
                Err(Unsent::Failed(failure)) => return Err(failure),
            };
        }
        Err(Failure::new(
            Kind::Connect,
            "the provider closes every connection before it takes a request",
        ))
    }

    fn pool(&self, uri: &Uri) -> Result<Arc<Pool>, Failure> {
        let is_it = |known: &&(Uri, Arc<Pool>)| {
            known.0.authority() == uri.authority() && known.0.scheme() == uri.scheme()
        };
        if let Some((_, pool)) = self.pools.load().iter().find(is_it) {
            return Ok(pool.clone());
        }
        let new = self.new_pool(uri)?;
        self.pools.rcu(|known| {
            let mut known = Vec::clone(known);
            if !known.iter().any(|known| is_it(&known)) {
                known.push((uri.clone(), new.clone()));
            }
            known
        });
        let pools = self.pools.load();
        let found = pools.iter().find(is_it).map(|(_, pool)| pool.clone());
        Ok(found.unwrap_or(new))
    }

    fn new_pool(&self, uri: &Uri) -> Result<Arc<Pool>, Failure> {
        let to = with_port(uri)
            .ok_or_else(|| Failure::new(Kind::Internal, "a provider's address has no host"))?;
        let is_tls = uri.scheme_str() == Some("https");
        let Reach {
            proxy,
            tls,
            connect,
            keeping,
            most,
        } = &self.reach;
        let connector = Connector::new(is_tls, proxy.as_ref(), tls, *connect);
        Ok(Pool::new(
            to,
            connector,
            *keeping,
            *connect,
            *most,
            self.gauge.clone(),
        ))
    }

    async fn send_single(
        &self,
        pool: &Arc<Pool>,
        mut single: pool::Single,
        mut request: Request<UpstreamBody>,
    ) -> Result<Response<AnswerBody>, Unsent> {
        self.address(pool, &mut request);
        match single.sender.try_send_request(request).await {
            Ok(answer) => {
                let (head, incoming) = answer.into_parts();
                single.keep_alive = keep_alive(&head.headers).or(single.keep_alive);
                let lease = Lease::Single(single, pool.clone());
                Ok(Response::from_parts(head, AnswerBody::new(incoming, lease)))
            }
            Err(mut error) => {
                if let Some(rested) = single.rested {
                    pool.learn(rested);
                }
                match error.take_message() {
                    Some(request) => Err(Unsent::Again(Box::new(request))),
                    None => Err(Unsent::Failed(broken())),
                }
            }
        }
    }

    /// HTTP/1.1 says the host in a header, and the whole address to forwarding proxies only.
    fn address(&self, pool: &Pool, request: &mut Request<UpstreamBody>) {
        let uri = request.uri();
        if !request.headers().contains_key(HOST)
            && let Some(authority) = uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        if pool.is_forwarded() {
            let authorization = self.reach.proxy.as_ref().and_then(Proxy::authorization);
            if let Some(authorization) = authorization {
                request
                    .headers_mut()
                    .insert(PROXY_AUTHORIZATION, authorization);
            }
            return;
        }
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(path) = Uri::from_parts(parts) {
            *request.uri_mut() = path;
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({:?})", self.counts())
    }
}

/// Why there is no answer.
enum Unsent {
    /// It surely was not processed.
    Again(Box<Request<UpstreamBody>>),
    Failed(Failure),
}

async fn send_stream(
    stream: pool::OneStream,
    mut request: Request<UpstreamBody>,
) -> Result<Response<AnswerBody>, Unsent> {
    request.headers_mut().remove(HOST);
    let spare = spare(&request);
    match stream.sender().try_send_request(request).await {
        Ok(answer) => Ok(answer.map(|body| AnswerBody::new(body, Lease::Stream(stream)))),
        Err(mut error) => {
            if let Some(request) = error.take_message() {
                stream.retire();
                return Err(Unsent::Again(Box::new(request)));
            }
            if !was_refused(error.error()) {
                return Err(Unsent::Failed(broken()));
            }
            stream.retire();
            match spare {
                Some(request) => Err(Unsent::Again(Box::new(request))),
                None => Err(Unsent::Failed(Failure::new(
                    Kind::Connect,
                    "the provider closed its connection before it took the request",
                ))),
            }
        }
    }
}

/// The request once more, unless its body can be sent only once.
fn spare(request: &Request<UpstreamBody>) -> Option<Request<UpstreamBody>> {
    let UpstreamBody::Whole(body) = request.body() else {
        return None;
    };
    let mut spare = Request::new(UpstreamBody::Whole(body.clone()));
    spare.method_mut().clone_from(request.method());
    spare.uri_mut().clone_from(request.uri());
    spare.headers_mut().clone_from(request.headers());
    Some(spare)
}

/// The peer said itself that it did nothing with this stream.
fn was_refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let is_refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_late = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
            return h2.is_remote() && (is_refused || is_late);
        }
        source = cause.source();
    }
    false
}

fn broken() -> Failure {
    Failure::new(
        Kind::Broken,
        "the connection to the provider broke before it answered",
    )
    .ambiguous()
}

/// Why there is no connection.
fn untaken(error: &(dyn std::error::Error + 'static)) -> Failure {
    if error.is::<NoRoom>() {
        let message =
            "the provider has as many connections as it may have, and none came free in time";
        return Failure::new(Kind::Full, message).retry_after(Some(COME_AGAIN));
    }
    Failure::new(
        Kind::Connect,
        format!("the provider cannot be reached ({})", connect_cause(error)),
    )
}

/// `Keep-Alive: timeout=5`: how long the peer keeps the connection.
fn keep_alive(headers: &http::HeaderMap) -> Option<Duration> {
    let said = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = said.split(',').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case("timeout");
        is_it.then(|| value.trim().parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(seconds.into()))
}

/// Connectors want the port said.
fn with_port(uri: &Uri) -> Option<Uri> {
    let scheme = uri.scheme_str()?;
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    format!("{scheme}://{}:{port}/", uri.host()?).parse().ok()
}

/// What stood in the way, in words that name no address.
fn connect_cause(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut source = Some(error);
    while let Some(cause) = source {
        if cause.is::<rustls::Error>() {
            return "TLS handshake failed";
        }
        if cause.is::<NoSuchName>() {
            return "its name does not resolve";
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused => return "connection refused",
                std::io::ErrorKind::TimedOut => return "timed out",
                std::io::ErrorKind::InvalidData => return "TLS handshake failed",
                _ => {}
            }
            // What an io::Error wraps is not its source.
            if let Some(inner) = io.get_ref() {
                return connect_cause(inner);
            }
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
