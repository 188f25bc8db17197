//! One candidate, one try. `Ok`: committed, the body is the client's. `Err`: nothing was sent, another candidate may be asked.

mod estimated;
mod read;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use polygate_core::{Clock, Failure, Kind, Origin, Scope, Why};
use polygate_providers::{Answer, Outbound};
use polygate_wire::raw::path::Path;
use polygate_wire::{Format, RawObject, dialect};
use tokio::runtime::RuntimeFlavor;
use tokio::time::{Instant, timeout_at};

use crate::body::{Passing, Relay, RelayParts, ReplyBody};
use crate::call::Call;
use crate::cloak::Cloak;
use crate::config::Deadlines;
use crate::guard::Guarded;
use crate::hops;
use crate::kept::Kept;
use crate::lane::{self, Lane, Making, StreamLane};
use crate::observe::{NOTED, Trace, Transformed};
use crate::passthrough::picked;
use crate::payload::{Done, Rule};
use crate::route::Candidate;
use crate::shape::Shape;
use crate::snapshot::Snapshot;
use crate::transport::{AnswerBody, UpstreamBody};

pub(crate) use estimated::estimated;
pub(crate) use read::{Read, read_capped, read_error};

/// The most of a whole answer that is held to be checked before it is sent.
pub(crate) const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// What an attempt works with.
pub struct Attempt<'a> {
    /// The configuration the call began with.
    pub snapshot: &'a Arc<Snapshot>,
    /// The call.
    pub call: &'a Call,
    /// Whom to ask.
    pub candidate: &'a Candidate,
    /// The model that leads there, as the request says it.
    pub asked_as: &'a str,
    /// Where answers are kept for later calls.
    pub kept: &'a Kept,
    /// Time.
    pub clock: &'a Arc<dyn Clock>,
    /// When the call's own time is over.
    pub until: Option<Instant>,
    /// Its place in a trace: the call's, and its own number there.
    pub trace: Option<(Trace, usize)>,
    /// What became of the request, once that is known.
    pub transformed: OnceLock<Transformed>,
    /// Headers of the answer that pass to the client, once there is one.
    pub passed: OnceLock<HeaderMap>,
    /// How long the gateway itself was at work in it, in nanoseconds.
    pub own: AtomicU64,
    /// A prompt that is not let through is a failure, though it comes as an answer: another model is there for it.
    pub redirects_blocked: bool,
}

/// What comes of an attempt, some time.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>;

/// Answers attempts instead of the network: the upstreams of a simulation.
pub trait StandIn: Send + Sync {
    /// Answers this one.
    fn answer<'a>(&'a self, attempt: &'a Attempt<'a>) -> Answering<'a>;
}

/// An answer for the client.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers that come from the answer.
    pub headers: HeaderMap,
    /// Body.
    pub body: ReplyBody,
    /// What it passes on its way to the client.
    pub guarded: Option<Arc<Guarded>>,
    /// The provider's failure that it is, where that passes as it is: nobody else is left to ask.
    pub failure: Option<Box<Failure>>,
}

impl Attempt<'_> {
    /// Asks.
    pub async fn run(&self) -> Result<Reply, Failure> {
        let Some(object) = &self.call.object else {
            return Err(Failure::new(
                Kind::Internal,
                "a call without a body came to a lane",
            ));
        };
        match self.ask(object).await {
            Err(failure) if self.call.inbound.endpoint.counts() && has_no_count(&failure) => {
                let target = (self.candidate, self.asked_as);
                estimated(self.snapshot, self.call, target).await
            }
            other => other,
        }
    }

    async fn ask(&self, object: &RawObject) -> Result<Reply, Failure> {
        let provider = &self.candidate.upstream.provider;
        let created = self.clock.unix_seconds();
        let making = Making {
            call: self.call,
            object,
            provider: provider.as_ref(),
            model: &self.candidate.model,
            created,
            strict: self.call.strict,
            kept: self.kept,
        };
        let mut rules = Vec::new();
        let mut tell = |rule: &Rule, path: &Path, done| self.tell(rule, path, done, &mut rules);
        let shape = self.shape();
        let prepare = || shape.prepare(&making, &mut tell);
        let prepared = self.working(|| aside(object.bytes().len(), prepare))?;
        let is_native = matches!(prepared.lane, Lane::Native(_));
        let _ = self.transformed.set(Transformed {
            translated: (!is_native).then(|| prepared.lane.upstream_format()),
            altered: prepared.altered,
            rules,
            losses: prepared.losses,
        });
        let started = Instant::now();
        let answer = self.send(&prepared.lane, prepared.body, started).await?;
        let format = prepared.lane.upstream_format();
        if !answer.status().is_success() {
            return Err(self.refused(answer, format).await);
        }
        if answer
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding != "identity")
        {
            return Err(junk(
                "the provider's answer is compressed, though nobody asked for it",
            ));
        }
        if self.call.stream {
            return self.stream(answer, prepared.lane, started).await;
        }
        self.whole(answer, &prepared.lane, started).await
    }

    /// What shapes the body.
    pub(crate) fn shape(&self) -> Shape<'_> {
        Shape::of(self.snapshot, self.call, (self.candidate, self.asked_as))
    }

    /// Notes what became of a rule of the operator's, and tells whoever looks for it that one did nothing.
    pub(crate) fn tell(&self, rule: &Rule, path: &Path, done: Done, noted: &mut Vec<String>) {
        if let Some(words) = done.words().filter(|_| noted.len() < NOTED) {
            noted.push(format!("{rule} {path}{words}"));
        }
        if done == Done::Blocked {
            let request_id = &*self.call.inbound.request_id;
            tracing::debug!(request_id, %rule, %path, "a payload rule finds no way to its place");
        }
    }

    /// Work of the gateway's own, timed.
    fn working<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = self.clock.now();
        let made = work();
        let took = self.clock.now().saturating_sub(began).as_nanos();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.own.fetch_add(took, Ordering::Relaxed);
        made
    }

    async fn send(
        &self,
        lane: &Lane,
        body: Bytes,
        started: Instant,
    ) -> Result<Response<AnswerBody>, Failure> {
        let provider = &self.candidate.upstream.provider;
        let cloak = self.shape().cloak;
        let outbound = Outbound {
            operation: lane.operation(self.call),
            model: &self.candidate.model,
            client_headers: &Cloak::pass(cloak, &self.call.inbound.headers),
            body,
        };
        let mut request = provider.request(&outbound)?;
        if let Some(cloak) = cloak {
            cloak.head(request.headers_mut());
        }
        let key = &self.candidate.credential;
        key.authorize(provider.as_ref(), &mut request).await?;
        self.exchange(request.map(UpstreamBody::from), started)
            .await
    }

    /// Sends and waits for the head of the answer.
    pub(crate) async fn exchange(
        &self,
        mut request: Request<UpstreamBody>,
        started: Instant,
    ) -> Result<Response<AnswerBody>, Failure> {
        let client = &self.call.inbound.headers;
        hops::count(client, request.headers_mut());
        if let Some((trace, number)) = self.trace {
            trace.tell(number, client, request.headers_mut());
        }
        let sent = timeout_at(
            started + self.patience(),
            self.candidate.credential.transport.send(request),
        );
        let answer = sent.await.unwrap_or_else(|_| {
            Err(Failure::new(Kind::Timeout, "the provider did not answer in time").ambiguous())
        })?;
        self.pass(answer.headers());
        Ok(answer)
    }

    /// Keeps what passes of an answer's headers, where anything does.
    fn pass(&self, headers: &HeaderMap) {
        let names = &self.candidate.upstream.passthrough;
        if !names.is_empty() {
            let secrets = &self.candidate.credential.secrets;
            let _ = self.passed.set(picked(names, headers, secrets));
        }
    }

    /// From sending to the first good event, or to the end of a whole answer.
    fn patience(&self) -> Duration {
        let (own, all) = (self.deadlines(), &self.snapshot.config.timeouts);
        if self.call.stream {
            own.first_event.unwrap_or(all.first_event)
        } else {
            own.request.unwrap_or(all.request)
        }
    }

    /// Between bytes of the answer.
    pub(crate) fn idle(&self) -> Duration {
        let all = self.snapshot.config.timeouts.idle;
        self.deadlines().idle.unwrap_or(all)
    }

    fn deadlines(&self) -> Deadlines {
        self.call.deadlines.or(self.candidate.upstream.timeouts)
    }

    async fn refused(&self, answer: Response<AnswerBody>, format: Format) -> Failure {
        let (head, body) = answer.into_parts();
        let body = read_error(body).await;
        let answer = Answer {
            format,
            status: head.status,
            headers: head.headers,
            body,
            now: SystemTime::now(),
        };
        let mut failure = self.candidate.upstream.provider.classify(&answer);
        // The upstream's own words pass only to clients of the same format.
        if format != self.call.inbound.endpoint.format() {
            failure.body = None;
        }
        self.candidate.credential.secrets.redact(&mut failure);
        failure
    }

    async fn stream(
        &self,
        answer: Response<AnswerBody>,
        lane: Lane,
        started: Instant,
    ) -> Result<Reply, Failure> {
        let deadline = started + self.patience();
        let format = lane.upstream_format();
        if content_type(answer.headers()).starts_with("text/html") {
            return Err(junk(
                "the provider answered with a web page instead of a stream",
            ));
        }
        let stream_lane = StreamLane::new(lane, &self.call.inbound.endpoint)?;
        let says_json = is_json(answer.headers());
        let wants_array = stream_lane.reads_array();
        let mut body = answer.into_body();
        let mut first = Bytes::new();
        if says_json {
            // Some upstreams call their streams JSON, and a stream may be a JSON array: the first byte tells.
            first = self.first_piece(&mut body, deadline).await?;
            if first
                .trim_ascii_start()
                .first()
                .is_none_or(|byte| *byte == b'{' || (*byte == b'[' && !wants_array))
            {
                return Err(self.json_instead(first, body, format, deadline).await);
            }
        }
        let parts = RelayParts {
            client: self.call.inbound.endpoint.format(),
            request_id: self.call.inbound.request_id.clone(),
            candidate: self.candidate.clone(),
            snapshot: self.snapshot.clone(),
            clock: self.clock.clone(),
            idle: self.idle(),
            until: self.until,
        };
        let mut relay = Relay::new(body, first, stream_lane, parts);
        relay.commit(deadline).await.map_err(|mut failure| {
            self.candidate.credential.secrets.redact(&mut failure);
            failure
        })?;
        if self.redirects_blocked && relay.is_blocked() {
            return Err(blocked());
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(relay.content_type()));
        headers.insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        );
        // Tells buffering proxies in front of us to pass pieces as they come.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(Reply {
            status: StatusCode::OK,
            headers,
            body: ReplyBody::Stream(Box::new(relay)),
            guarded: self.call.guarded.clone(),
            failure: None,
        })
    }

    async fn first_piece(
        &self,
        body: &mut AnswerBody,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        loop {
            match timeout_at(deadline, body.frame()).await {
                Err(_) => {
                    return Err(
                        Failure::new(Kind::Timeout, "the provider sent nothing in time")
                            .ambiguous(),
                    );
                }
                Ok(Some(Err(_))) => return Err(broken_answer()),
                Ok(None) => return Ok(Bytes::new()),
                Ok(Some(Ok(frame))) => {
                    let piece = frame.into_data().unwrap_or_default();
                    if !piece.trim_ascii_start().is_empty() {
                        return Ok(piece);
                    }
                }
            }
        }
    }

    /// A stream was asked for, JSON came: an error inside 200, or an upstream that does not stream.
    async fn json_instead(
        &self,
        first: Bytes,
        body: AnswerBody,
        format: Format,
        deadline: Instant,
    ) -> Failure {
        match self.read(body, deadline).await {
            Ok(Read::Whole(rest)) => {
                let body = [first, rest].concat();
                let checked = dialect(format).check_answer(&body);
                checked.err().unwrap_or_else(|| {
                    junk("the provider answered with one piece of JSON instead of a stream")
                })
            }
            Ok(Read::Over { .. }) => junk("the provider answered with JSON instead of a stream"),
            Err(failure) => failure,
        }
    }

    async fn whole(
        &self,
        answer: Response<AnswerBody>,
        lane: &Lane,
        started: Instant,
    ) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let deadline = started + self.patience();
        let read = self.read(answer.into_body(), deadline).await?;
        let body = match read {
            Read::Whole(body) if self.redirects_blocked && lane::is_blocked(lane, &body) => {
                return Err(blocked());
            }
            Read::Whole(body) => {
                let size = body.len();
                let checked = self.working(|| aside(size, || lane::whole_answer(lane, body)));
                let checked = checked.map_err(|mut failure| {
                    self.candidate.credential.secrets.redact(&mut failure);
                    failure
                });
                let (body, usage) = checked?;
                ReplyBody::whole(body, usage)
            }
            Read::Over { head, rest } if matches!(lane, Lane::Native(_)) => {
                ReplyBody::Passing(Box::new(Passing::new(head, rest, self.idle())))
            }
            Read::Over { .. } => {
                return Err(junk("the provider's answer is too long to translate"));
            }
        };
        Ok(Reply {
            status: StatusCode::OK,
            headers,
            body,
            guarded: self.call.guarded.clone(),
            failure: None,
        })
    }

    async fn read(&self, body: AnswerBody, deadline: Instant) -> Result<Read, Failure> {
        read_capped(body, ANSWER_LIMIT, self.idle(), deadline).await
    }
}

/// A body of this size is read where that holds up nobody else.
const LARGE: usize = 256 * 1024;

/// Work on so many bytes: on those that take long, the other calls of this thread go to another one first.
pub(crate) fn aside<T>(size: usize, work: impl FnOnce() -> T) -> T {
    let is_shared = || {
        let runtime = tokio::runtime::Handle::try_current();
        runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    match size >= LARGE && is_shared() {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

/// The upstream knows no such question. That it lacks the model is something else.
fn has_no_count(failure: &Failure) -> bool {
    match failure.status {
        404 | 405 => failure.scope == Scope::Request,
        status => status == 501,
    }
}

fn blocked() -> Failure {
    let message = "the provider did not let the prompt through";
    let mut failure = Failure::new(Kind::InvalidRequest, message);
    failure.origin = Origin::Upstream;
    failure.why = Some(Why::ContentPolicy);
    failure
}

fn junk(message: &str) -> Failure {
    Failure::new(Kind::UpstreamJunk, message).ambiguous()
}

fn broken_answer() -> Failure {
    Failure::new(
        Kind::Broken,
        "the connection to the provider broke in its answer",
    )
    .ambiguous()
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with("application/json")
}
