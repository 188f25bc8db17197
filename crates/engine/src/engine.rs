//! The story of a call: understand, admit, find a route, ask one candidate after another, answer.

mod attempts;
mod cached;
mod continuation;
mod guarding;
mod recording;
mod reserve;
mod shadow;

use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use polygate_core::{Clock, Failure, Kind, Scope};
use polygate_ledger::Ledger;
use polygate_wire::Loss;
use tokio::time::Instant;

use crate::admit::{KeyRing, SharedKeys};
use crate::attempt::{Reply, StandIn};
use crate::body::ReplyBody;
use crate::cache::Tape;
use crate::call::{Call, Endpoint, Inbound, InboundBody};
use crate::choose;
use crate::cloak::Pseudonyms;
use crate::config::Config;
use crate::expect::{Expected, needs};
use crate::explain::{Refusal, Told};
use crate::further;
use crate::health::HealthBook;
use crate::hedge::Hedges;
use crate::hops;
use crate::kept::{Elsewhere, Kept};
use crate::observe::{CallRecord, Looked, Metrics, Outcome, Recorder, Recorders};
use crate::plan::taking::Taking;
use crate::quota::{self, Quota};
use crate::route::{Candidate, Route};
use crate::seats::{COME_AGAIN, Seat};
use crate::shape;
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use crate::transport::UpstreamBody;
use crate::unread;

use reserve::Patience;
use shadow::Shadows;

pub(crate) use reserve::Limiting;

pub use continuation::{Asking, Continuation, Cut, Further, Lent};

/// The gateway without its doors.
pub struct Engine {
    snapshot: ArcSwap<Snapshot>,
    keys: ArcSwap<KeyRing>,
    book: HealthBook,
    kept: Kept,
    clock: Arc<dyn Clock>,
    recorders: Recorders,
    metrics: Arc<Metrics>,
    hedges: Hedges,
    shadows: Shadows,
    telling: Telling,
    /// Answers instead of the network, in simulations.
    stand_in: Option<Arc<dyn StandIn>>,
    /// Set where calls without an answer must end.
    cut: OnceLock<Failure>,
}

/// What calls keep for those who are told of them.
#[derive(Clone, Copy)]
struct Telling {
    /// So many of the traces that begin here are sampled; `None`: there are none.
    sample: Option<f64>,
    /// So many bytes of a prompt and of an answer; `None`: neither.
    content: Option<usize>,
}

/// How a call came out, with what its headers say of the way.
#[derive(Debug)]
pub struct Answered {
    /// The reply, or why there is none.
    pub result: Result<Reply, Failure>,
    /// The way it went; `None` where the head goes out before that is known.
    pub trail: Option<Trail>,
    /// What limits it.
    pub limits: Vec<Arc<Quota>>,
    /// What it met before anybody was asked, where its caller wants to know.
    pub explanation: Option<Told>,
}

/// The way of a call, for `x-polygate-*` headers.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The provider that was asked last.
    pub provider: Option<Arc<str>>,
    /// The model there.
    pub model: Option<Arc<str>>,
    /// How many were asked.
    pub attempts: u32,
    /// What translation lost.
    pub losses: Vec<Loss>,
    /// Headers of the answer that pass to the client.
    pub passed: http::HeaderMap,
    /// What the caller says of itself and was passed over.
    pub ignored: Vec<&'static str>,
    /// Guards that did something, by name.
    pub guards: Vec<Arc<str>>,
    /// What it cost, in millionths of a dollar; `None` where that is not known yet, or never.
    pub cost: Option<u64>,
    /// The gateway's own time until the head.
    pub overhead: Option<Duration>,
    /// What the cache had, where it was asked.
    pub cache: Option<&'static str>,
    /// How old the answer is that it had.
    pub age: Option<Duration>,
}

/// A call that is understood and admitted.
struct Begun {
    snapshot: Arc<Snapshot>,
    call: Call,
    route: Arc<Route>,
    /// The body, where it can be sent again.
    body: Bytes,
    /// The body, where it passes and is sent but once.
    upload: Option<UpstreamBody>,
    /// When the call's own time is over.
    until: Option<Instant>,
    /// What each attempt may take of its provider's limits.
    taking: Taking,
    /// How long it waits for leases.
    patience: Patience,
    /// Takes its answer down, where that is to be kept.
    tape: Option<Tape>,
    /// The tokens that there has to be room for, where anybody asks.
    needs: u64,
}

impl Trail {
    fn name(&mut self, candidate: &Candidate) {
        self.provider = Some(candidate.upstream.name.clone());
        self.model = Some(candidate.model.clone());
    }

    /// Everybody was asked who is.
    fn end(&mut self, record: Option<&CallRecord>, now: Duration) {
        if let Some(record) = record {
            self.ignored = record.attribution.ignored().to_vec();
            self.overhead = Some(record.overhead(now));
            self.cache = record.looked.map(Looked::name);
            self.guard(record);
        }
    }
}

impl Answered {
    fn failed(failure: Failure, mut recorder: Recorder, mut trail: Trail) -> Self {
        recorder.update(|record| {
            trail.guard(record);
            record.status = failure.status;
            record.outcome = Outcome::Failed;
            record.error = Some(failure.kind.name());
        });
        Self {
            result: Err(failure),
            trail: Some(trail),
            limits: Vec::new(),
            explanation: None,
        }
    }
}

impl Engine {
    /// An engine with this configuration; or everything that is wrong with it.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        recorders: Recorders,
    ) -> Result<Self, Vec<String>> {
        let signals = Signals::counted(metrics.signals().clone());
        signals.switch(config.shared_health);
        let book = HealthBook {
            signals: Arc::new(signals),
            ..HealthBook::default()
        };
        let keys = KeyRing::new(&config.access, None);
        let telling = Telling {
            sample: config.telemetry.sample(),
            content: config.telemetry.content(),
        };
        let snapshot = Snapshot::compile(config, &book, None)?;
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            keys: ArcSwap::from_pointee(keys),
            book,
            kept: Kept::default(),
            clock,
            recorders,
            metrics,
            hedges: Hedges::default(),
            shadows: Shadows::default(),
            telling,
            stand_in: None,
            cut: OnceLock::new(),
        })
    }

    /// The same with somebody who answers instead of the network.
    #[must_use]
    pub fn with(mut self, stand_in: Arc<dyn StandIn>) -> Self {
        self.stand_in = Some(stand_in);
        self
    }

    /// The same with keys that come and go beside the configuration's; all are hashed with this pepper.
    #[must_use]
    pub fn sharing(mut self, pepper: &[u8; 32], shared: Arc<SharedKeys>) -> Self {
        self.book.quotas = shared.book().clone();
        self.book.pseudonyms = Pseudonyms::keyed(pepper);
        let before = self.snapshot();
        let config = before.config.clone();
        let keys = KeyRing::new(&config.access, Some(&KeyRing::of(pepper, shared)));
        // The same once more, with limits in the book that they are kept in.
        if let Ok(mut snapshot) = Snapshot::compile(config, &self.book, Some(&before)) {
            snapshot.generation = before.generation;
            self.snapshot.store(Arc::new(snapshot));
        }
        self.keys.store(Arc::new(keys));
        self
    }

    /// The same with a ledger: what cannot be written there is not asked of anybody.
    #[must_use]
    pub fn recording(mut self, ledger: Arc<Ledger>) -> Self {
        self.recorders = self.recorders.with(ledger);
        self
    }

    /// The ledger.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.recorders.ledger()
    }

    /// The same with answers that are kept for other processes too.
    #[must_use]
    pub fn keeping(mut self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        self.kept.share(elsewhere);
        self
    }

    /// Serves by another configuration from the next call on; calls under way finish by theirs. On an error nothing changes.
    pub fn apply(&self, config: Config) -> Result<u64, Vec<String>> {
        let before = self.snapshot.load_full();
        let keys = KeyRing::new(&config.access, Some(&self.keys.load()));
        let snapshot = Snapshot::compile(config, &self.book, Some(&before))?;
        let generation = snapshot.generation;
        self.book.signals.switch(snapshot.config.shared_health);
        self.keys.store(Arc::new(keys));
        self.snapshot.store(Arc::new(snapshot));
        drop(before);
        self.book.renew();
        Ok(generation)
    }

    /// Everything that is wrong with a configuration. Nothing is changed.
    pub fn check(config: Config) -> Result<(), Vec<String>> {
        Snapshot::compile(config, &HealthBook::default(), None).map(drop)
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<KeyRing> {
        self.keys.load_full()
    }

    /// What replicas tell one another.
    pub fn signals(&self) -> &Signals {
        &self.book.signals
    }

    /// Answers that are kept for later calls.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What is taken of limits.
    pub fn limits(&self) -> &quota::Book {
        &self.book.quotas
    }

    /// Metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Ends calls without an answer with this failure, as soon as they are polled: the gateway can wait for them no longer.
    pub fn cut(&self, failure: Failure) {
        let _ = self.cut.set(failure);
    }

    /// Runs a call to its first good event or its failure, or to where its head can wait no longer.
    pub async fn call(self: &Arc<Self>, inbound: Inbound) -> Answered {
        let mut recorder = self.recorder(&inbound);
        let mut limits: Vec<Arc<Quota>> = inbound.caller.quotas().cloned().collect();
        if let Some(recalling) = self.kept.recalling(&inbound) {
            recalling.await;
        }
        let curious = self.curious(&inbound);
        let mut answered = match self.begin(inbound, &mut recorder) {
            Err(failure) => Answered {
                explanation: curious.then(|| Told::Refused(Refusal::of(failure.clone()))),
                ..Answered::failed(failure, recorder, Trail::default())
            },
            Ok(begun) => {
                limits.extend(begun.route.quotas.iter().cloned());
                let explanation = self.asked_for(&begun.snapshot, &begun.call, &begun.route);
                let answered = self.run(begun, recorder).await;
                Answered {
                    explanation,
                    ..answered
                }
            }
        };
        answered.limits = limits;
        answered
    }

    /// Understands a call, admits it, and finds its route.
    fn begin(&self, inbound: Inbound, recorder: &mut Recorder) -> Result<Begun, Failure> {
        hops::check(&inbound.headers)?;
        let snapshot = self.snapshot.load_full();
        let (call, body) = Call::read(&snapshot, inbound)?;
        recorder.update(|record| {
            record.model = call.model.chars().take(200).collect();
            record.stream = call.stream;
            if let Some(object) = &call.object {
                record.attribution.read(object);
            }
        });
        let seats = call.inbound.caller.admit(&call.model, self.clock.now())?;
        recorder.keep(seats);
        self.find_way(snapshot, (call, body), recorder)
    }

    /// Finds the route of a call that may be made, and takes its seats.
    fn find_way(
        &self,
        snapshot: Arc<Snapshot>,
        (mut call, body): (Call, InboundBody),
        recorder: &mut Recorder,
    ) -> Result<Begun, Failure> {
        let route = way(&snapshot, &mut call)?;
        unread::check(&call, &body, &route)?;
        recorder.update(|record| {
            record.label = route.label.clone();
            record.choices = route.choices.taken(&call.model);
        });
        recorder.keep(seats_of(&route)?);
        self.make_ready(&snapshot, &mut call, &route)?;
        recorder.update(|record| {
            record.expected = Expected::of(&call);
            record.tier = call.tier();
        });
        recorder.asked(&call);
        let total = call.deadlines.total.or(snapshot.config.timeouts.total);
        let (body, upload) = match body {
            InboundBody::Whole(bytes) => (bytes, None),
            InboundBody::Passing(upload, _) => (Bytes::new(), Some(upload)),
        };
        Ok(Begun {
            needs: needs(&snapshot, &call),
            snapshot,
            call,
            route,
            body,
            upload,
            until: total.map(|total| Instant::now() + total),
            taking: Taking::default(),
            patience: Patience::default(),
            tape: None,
        })
    }

    /// Puts into a call what its route and what is kept here make of it.
    pub(crate) fn make_ready(
        &self,
        snapshot: &Snapshot,
        call: &mut Call,
        route: &Route,
    ) -> Result<(), Failure> {
        call.strict |= route.strict;
        call.deadlines = call.deadlines.or(route.timeouts);
        shape::expect(snapshot, call, route);
        call.continues =
            route.continuation && call.stream && call.inbound.endpoint.is_of_messages();
        self.continued(call)
    }

    /// Asks one candidate after another.
    async fn go(self: Arc<Self>, mut begun: Begun, mut recorder: Recorder) -> Answered {
        let mut trail = Trail::default();
        let (upload, tape) = (begun.upload.take(), begun.tape.take());
        let mut plan = begun.plan();
        if upload.is_some() {
            plan = plan.once();
        }
        let passed_over = begun.passed_over(self.clock.now());
        let considered = begun.route.considered(self.clock.now());
        recorder.update(|record| {
            record.passed_over = passed_over;
            record.considered = considered;
        });
        let result = {
            // Pinned here, once: it is large, and every hand that it goes through would hold a copy.
            let attempts =
                std::pin::pin!(self.attempts(&begun, upload, &mut plan, &mut recorder, &mut trail));
            let in_time = begun.in_time(attempts);
            self.unless_cut(in_time).await
        };
        recorder.update(|record| record.passed_over.extend(plan.left_out()));
        let result = match result {
            Ok((place, reply)) => {
                let guarded = self.unless_cut(begun.guarded(reply, &mut recorder)).await;
                guarded.map(|reply| (place, reply))
            }
            failed => failed,
        };
        trail.end(recorder.record(), self.clock.now());
        match result {
            Ok((place, mut reply)) => {
                let tape = tape.and_then(|tape| tape.of(&reply, &begun.call, &trail));
                let showing = tape.as_ref().and_then(Tape::showing);
                recorder.tapes(tape, showing.as_ref().map(|showing| showing.end.clone()));
                trail.cost = reply.body.release(recorder, reply.status);
                let rest = plan.rest();
                if let ReplyBody::Stream(relay) = &mut reply.body
                    && begun.call.continues
                {
                    relay.may_continue(Continuation::new(self, begun, place, rest));
                }
                if let Some(showing) = showing {
                    reply.body = showing.show(reply.body);
                }
                Answered {
                    result: Ok(reply),
                    trail: Some(trail),
                    limits: Vec::new(),
                    explanation: None,
                }
            }
            Err(failure) => Answered::failed(failure, recorder, trail),
        }
    }

    /// What comes of it, unless it is cut off first. Whoever wakes the client's connection when that is so, wakes the call.
    async fn unless_cut<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut call = std::pin::pin!(call);
        std::future::poll_fn(|cx| match self.cut.get() {
            Some(failure) => Poll::Ready(Err(failure.clone())),
            None => call.as_mut().poll(cx),
        })
        .await
    }

    /// Puts what was said before into a call that goes on from what is kept here.
    fn continued(&self, call: &mut Call) -> Result<(), Failure> {
        let Some(object) = &call.object else {
            return Ok(());
        };
        let endpoint = &call.inbound.endpoint;
        let resolved = self.kept.resolve(endpoint, object, &call.inbound.caller)?;
        if let Some((object, continued)) = resolved {
            call.object = Some(object);
            call.continued = continued;
        }
        Ok(())
    }
}

/// Where a call may go: its model's candidates, then those of the models that it names further.
pub(crate) fn way(snapshot: &Snapshot, call: &mut Call) -> Result<Arc<Route>, Failure> {
    let route = choose::route(snapshot, call, &call.model);
    let route = route.ok_or_else(|| unknown_model(call))?;
    further::extend(snapshot, call, route)
}

/// A seat among the calls of each model, where these are counted.
fn seats_of(route: &Route) -> Result<Vec<Option<Seat>>, Failure> {
    let seats = route.seats.iter().map(|limit| {
        let seat = limit.take().ok_or_else(|| full(limit.most));
        seat.map(Some)
    });
    seats.collect()
}

/// Nobody else may call the model now.
pub(crate) fn full(most: usize) -> Failure {
    let message = format!(
        "there are {most} calls of this model under way, as many as there may be at a time"
    );
    Failure::new(Kind::Unavailable, message).retry_after(Some(COME_AGAIN))
}

/// The call's own time is over, whoever was slow.
pub(crate) fn out_of_time() -> Failure {
    let mut failure = Failure::new(
        Kind::Timeout,
        "the call took longer than it may take in all",
    );
    failure.scope = Scope::Request;
    failure
}

fn unknown_model(call: &Call) -> Failure {
    let short = |text: &str| -> String { text.chars().take(100).collect() };
    let model = short(&call.model);
    let message = match &call.inbound.endpoint {
        Endpoint::Proxy(tail) => format!(
            "there is no '/v1/{model}/{}' here: it would be that path of a model '{model}', which no provider here has",
            short(&tail.path)
        ),
        _ => format!("no provider here has a model '{model}'; GET /v1/models lists what there is"),
    };
    Failure::new(Kind::UnknownModel, message).param("model")
}
