//! A call's way through its candidates: one attempt after the other, and where it pays, a second beside the first.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::HeaderMap;
use polygate_core::{Failure, Kind, Why};
use tokio::time::{sleep, timeout};

use super::reserve::Patience;
use super::{Begun, Engine, Trail, out_of_time};
use crate::affinity;
use crate::attempt::{Attempt, Reply, estimated};
use crate::cloak::Cloaked;
use crate::config::Hedge;
use crate::explain::limits;
use crate::observe::{CallRecord, Recorder, Trace, Transformed};
use crate::plan::{Next, Pass, Plan};
use crate::pulse::{Awaited, Flight};
use crate::route::{Candidate, PassedOver, Place};
use crate::transport::UpstreamBody;

/// Where a call stands in its attempts.
struct Attempts<'a, 'm> {
    engine: &'a Engine,
    begun: &'a Begun,
    patience: Patience,
    plan: &'m mut Plan<'a>,
    hedging: Option<Hedging>,
    recorder: &'m mut Recorder,
    trail: &'m mut Trail,
}

/// A call that may have a second attempt beside a slow first one.
#[derive(Clone, Copy)]
struct Hedging {
    hedge: Hedge,
    awaited: Awaited,
}

/// An attempt under way.
struct Asked<'a> {
    entry: Entry<'a>,
    flight: Flight,
    pass: Pass<'a>,
}

/// Which attempt it is: what is still known of one that was given up.
#[derive(Clone, Copy)]
struct Entry<'a> {
    candidate: &'a Candidate,
    started: Duration,
    /// Its number in the record.
    number: usize,
    /// The call's place in a trace.
    trace: Option<Trace>,
}

/// An attempt that came out.
struct Tried<'a> {
    asked: Asked<'a>,
    result: Result<Reply, Failure>,
    transformed: Transformed,
    passed: HeaderMap,
    own: Duration,
    /// The call as it was seen there, where that is not as it is.
    cloaked: Option<Box<Cloaked>>,
}

impl<'a> Tried<'a> {
    /// Nobody was asked.
    fn failed(asked: Asked<'a>, failure: Failure) -> Self {
        Self {
            asked,
            result: Err(failure),
            transformed: Transformed::default(),
            passed: HeaderMap::new(),
            own: Duration::ZERO,
            cloaked: None,
        }
    }
}

impl Begun {
    /// Whom to ask, in which order.
    pub(super) fn plan(&self) -> Plan<'_> {
        let affinity = affinity::key(&self.call, self.route.affinity);
        let plan = Plan::new(&self.route, &self.snapshot.config.retry)
            .prefer(affinity)
            .taking(self.taking)
            .needing(self.needs)
            .barring(self.counted_here());
        if self.call.stream {
            plan.streaming()
        } else {
            plan
        }
    }

    /// Where a call that counts tokens is counted by ourselves.
    fn counted_here(&self) -> Vec<Place> {
        let endpoint = &self.call.inbound.endpoint;
        if !endpoint.counts() {
            return Vec::new();
        }
        let is_here = |one: &Candidate| endpoint.is_estimated_at(one.upstream.provider.as_ref());
        let places = self.route.places();
        let here = places.filter(|(_, candidate)| is_here(candidate));
        here.map(|(place, _)| place).collect()
    }

    /// Who is not asked at first though it may have been their turn: who rests, and whose model is too small.
    pub(super) fn passed_over(&self, now: Duration) -> Vec<PassedOver> {
        let mut passed = self.route.passed_over(now);
        if self.needs > 0 {
            passed.extend(self.route.too_small(self.needs, now));
        }
        passed
    }

    /// Ends attempts when the call's own time is over.
    pub(super) async fn in_time<T>(
        &self,
        attempts: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.until {
            Some(until) => tokio::time::timeout_at(until, attempts)
                .await
                .unwrap_or_else(|_| Err(out_of_time())),
            None => attempts.await,
        }
    }
}

impl Engine {
    /// Asks one candidate after another.
    pub(super) async fn attempts<'a>(
        &'a self,
        begun: &'a Begun,
        upload: Option<UpstreamBody>,
        plan: &mut Plan<'a>,
        recorder: &mut Recorder,
        trail: &mut Trail,
    ) -> Result<(Place, Reply), Failure> {
        let here = begun.counted_here().first().copied();
        let first = begun.route.places().next().map(|(place, _)| place);
        if let Some(place) = here.filter(|place| first == Some(*place)) {
            return begun.count_here(place, recorder).await;
        }
        let hedging = begun.hedging();
        if let Some(Hedging { hedge, .. }) = &hedging {
            self.hedges.call(hedge);
        }
        let attempts = Attempts {
            engine: self,
            begun,
            patience: begun.patience,
            plan,
            hedging,
            recorder: &mut *recorder,
            trail: &mut *trail,
        };
        match (attempts.run(upload).await, here) {
            (Err(failure), Some(place)) if nobody_counts(&failure) => {
                // Whoever was asked before has no part in it.
                recorder.update(CallRecord::name_nobody);
                (trail.provider, trail.model) = (None, None);
                begun.count_here(place, recorder).await
            }
            (result, _) => result,
        }
    }

    /// One attempt.
    async fn attempt<'a>(
        &self,
        begun: &Begun,
        asked: Asked<'a>,
        upload: Option<UpstreamBody>,
        is_last: bool,
    ) -> Tried<'a> {
        let cloaked = match begun.cloaked(asked.entry.candidate, upload.is_some()) {
            Ok(cloaked) => cloaked,
            Err(failure) => return Tried::failed(asked, failure),
        };
        let (call, body) = match &cloaked {
            Some(cloaked) => (&cloaked.call, &cloaked.body),
            None => (&begun.call, &begun.body),
        };
        let attempt = Attempt {
            snapshot: &begun.snapshot,
            call,
            candidate: asked.entry.candidate,
            asked_as: begun.route.asked_as(asked.pass.place()),
            kept: &self.kept,
            clock: &self.clock,
            until: begun.until,
            trace: asked.entry.trace.map(|trace| (trace, asked.entry.number)),
            transformed: OnceLock::new(),
            passed: OnceLock::new(),
            own: AtomicU64::new(0),
            redirects_blocked: begun
                .route
                .redirect(asked.pass.place(), Why::ContentPolicy)
                .is_some(),
        };
        let result = if let Some(stand_in) = &self.stand_in {
            stand_in.answer(&attempt).await
        } else if call.object.is_some() {
            attempt.run().await
        } else {
            let body = upload.unwrap_or_else(|| attempt.unread(body.clone()).into());
            attempt.proxy(body, is_last).await
        };
        Tried {
            asked,
            result,
            transformed: attempt.transformed.into_inner().unwrap_or_default(),
            passed: attempt.passed.into_inner().unwrap_or_default(),
            own: Duration::from_nanos(attempt.own.into_inner()),
            cloaked,
        }
    }
}

/// Nobody who could count did, and the question is not at fault.
fn nobody_counts(failure: &Failure) -> bool {
    failure.try_next() || matches!(failure.kind, Kind::NoCandidate | Kind::AllLimited)
}

impl Begun {
    /// Our own count, which is no attempt: nobody is asked, and whether somebody rests is all the same.
    async fn count_here(
        &self,
        place: Place,
        recorder: &mut Recorder,
    ) -> Result<(Place, Reply), Failure> {
        let candidate = self.route.candidate(place);
        let candidate = candidate.ok_or_else(|| Failure::new(Kind::Internal, "no such place"))?;
        let cloaked = self.cloaked(candidate, false)?;
        if let Some(cloaked) = &cloaked {
            recorder.cloaked(cloaked);
        }
        let call = cloaked.as_ref().map_or(&self.call, |cloaked| &cloaked.call);
        let target = (candidate, self.route.asked_as(place));
        let reply = estimated(&self.snapshot, call, target).await?;
        Ok((place, reply))
    }

    fn hedging(&self) -> Option<Hedging> {
        let hedge = self.route.hedge.filter(|hedge| hedge.max_percent > 0)?;
        let awaited = self.call.awaited()?;
        Some(Hedging { hedge, awaited })
    }
}

impl<'a> Attempts<'a, '_> {
    /// The loop: the one place where a call is tried again.
    async fn run(mut self, mut upload: Option<UpstreamBody>) -> Result<(Place, Reply), Failure> {
        loop {
            let asked = self.next().await?;
            let (engine, begun) = (self.engine, self.begun);
            let tried = match self.hedging {
                Some(hedging) => self.hedged(asked, hedging).await?,
                None => {
                    let is_last = self.plan.is_last();
                    engine.attempt(begun, asked, upload.take(), is_last).await
                }
            };
            if let Some(good) = self.note(tried)? {
                return Ok(good);
            }
        }
    }

    /// Whom the plan names, when it is time.
    async fn next(&mut self) -> Result<Asked<'a>, Failure> {
        loop {
            match self.plan.next(self.engine.clock.now()) {
                Next::Ask(pass) => return self.ask(pass),
                Next::Wait(wait) => sleep(wait).await,
                Next::Lease(tally, wanted) => {
                    // In a box: hardly any call waits.
                    if !Box::pin(self.patience.wait(&tally, wanted)).await {
                        self.plan.wait_no_more();
                    }
                }
                Next::GiveUp(failure) => return Err(failure),
            }
        }
    }

    /// Notes who is asked now. `Err`: nobody may be, since that cannot be noted.
    fn ask(&mut self, mut pass: Pass<'a>) -> Result<Asked<'a>, Failure> {
        let candidate = pass.candidate;
        let number = self.recorder.asks(candidate)?;
        self.trail.attempts += 1;
        self.trail.name(candidate);
        // Another's would be said to be this one's.
        self.trail.passed = HeaderMap::new();
        self.recorder.reserve_for(number, pass.reserved.take());
        let held = self.begun.route.quotas_at(pass.place());
        let now = self.engine.clock.unix_seconds();
        self.recorder
            .update(|record| record.limits.extend(limits(held, now)));
        Ok(Asked {
            entry: Entry {
                candidate,
                started: self.engine.clock.now(),
                number,
                trace: self.recorder.record().and_then(|record| record.trace),
            },
            flight: candidate.begin(pass.seat.take()),
            pass,
        })
    }

    /// An attempt, and where it is slow and another may be asked, that one beside it: whichever is good first.
    async fn hedged(
        &mut self,
        first: Asked<'a>,
        Hedging { hedge, awaited }: Hedging,
    ) -> Result<Tried<'a>, Failure> {
        let (engine, begun) = (self.engine, self.begun);
        let one = first.entry;
        let after = one.candidate.hedge_after(hedge.after, awaited, one.started);
        let mut first = pin!(engine.attempt(begun, first, None, false));
        let Some(after) = after else {
            return Ok(first.await);
        };
        if let Ok(tried) = timeout(after, &mut first).await {
            return Ok(tried);
        }
        let Some(second) = self.beside() else {
            return Ok(first.await);
        };
        let other = second.entry;
        let second = pin!(engine.attempt(begun, second, None, false));
        let (tried, loser, rest) = match select(first, second).await {
            Either::Left((tried, rest)) => (tried, other, Either::Right(rest)),
            Either::Right((tried, rest)) => (tried, one, Either::Left(rest)),
        };
        if tried.result.is_ok() {
            // It is dropped here, which closes its connection at once.
            self.give_up(loser, awaited);
            return Ok(tried);
        }
        self.note(tried)?;
        Ok(rest.await)
    }

    /// Who is asked beside the first, where somebody may be and that is paid for.
    fn beside(&mut self) -> Option<Asked<'a>> {
        let hedges = &self.engine.hedges;
        if !hedges.take() {
            return None;
        }
        let pass = self.plan.beside(self.engine.clock.now());
        let asked = pass.and_then(|pass| self.ask(pass).ok());
        match &asked {
            Some(asked) => self.recorder.hedges(asked.entry.number),
            None => hedges.give_back(),
        }
        asked
    }

    /// Notes that another was good first.
    fn give_up(&mut self, loser: Entry<'a>, awaited: Awaited) {
        let now = self.engine.clock.now();
        let took = now.saturating_sub(loser.started);
        loser.candidate.gave_up(awaited, now, took);
        self.recorder.lost(loser.number);
    }

    /// Notes how an attempt came out, wherever that matters. `None`: another may be asked.
    fn note(&mut self, tried: Tried<'a>) -> Result<Option<(Place, Reply)>, Failure> {
        let Tried {
            asked:
                Asked {
                    entry,
                    flight,
                    pass,
                },
            result,
            transformed,
            passed,
            own,
            cloaked,
        } = tried;
        let (candidate, now) = (entry.candidate, self.engine.clock.now());
        let took = now.saturating_sub(entry.started);
        let failure = result.as_ref().err();
        // What passes as it is was no success all the same.
        let passes = result.as_ref().ok().and_then(|reply| reply.failure.clone());
        candidate.measure(now, took, failure.or(passes.as_deref()));
        self.recorder.came_out(entry.number, failure);
        self.trail.losses.clone_from(&transformed.losses);
        self.recorder.update(|record| {
            record.name(candidate);
            record.transformed = transformed;
            if let Some(attempt) = record.attempts.get_mut(entry.number) {
                attempt.own = own;
            }
        });
        if let Some(cloaked) = cloaked {
            self.recorder.cloaked(&cloaked);
        }
        self.trail.name(candidate);
        self.trail.passed = passed;
        match result {
            Ok(reply) => {
                if self.begun.call.said.is_some() {
                    self.recorder.continues(entry.number);
                }
                if let Some(failure) = &passes {
                    self.recorder.of_answer(|attempt| attempt.broke(failure));
                    let retry = &self.begun.snapshot.config.retry;
                    candidate.failed(failure, retry, now);
                } else {
                    candidate.succeeded(now);
                }
                if let Some(awaited) = self.begun.call.awaited() {
                    candidate.learn(awaited, now, took);
                }
                self.recorder.hold(flight);
                Ok(Some((pass.place(), reply)))
            }
            Err(failure) => {
                let retry = &self.begun.snapshot.config.retry;
                candidate.failed(&failure, retry, now);
                let request_id = self.recorder.record().map(|record| &*record.request_id);
                tracing::debug!(request_id, candidate = ?candidate, failure = failure.logged(), "attempt failed");
                self.plan.failed(pass, failure, now)?;
                Ok(None)
            }
        }
    }
}
