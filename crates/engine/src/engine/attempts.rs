//! A call's way through its candidates: one attempt after the other, and where it pays, a second beside the first.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::{Either, select};
use polygate_core::{Failure, Why};
use polygate_wire::Loss;

use super::{Begun, Engine, Trail, out_of_time};
use crate::affinity;
use crate::attempt::{Attempt, Reply};
use crate::config::Hedge;
use crate::observe::{AttemptRecord, Recorder};
use crate::plan::{Next, Pass, Plan};
use crate::pulse::Flight;
use crate::route::{Candidate, Place};
use crate::transport::UpstreamBody;

/// A candidate that is being asked.
struct Asked<'a> {
    place: Place,
    candidate: &'a Candidate,
    started: Duration,
    flight: Flight,
    /// Held until it is known how the attempt came out.
    _pass: Pass,
}

/// An attempt that came out.
struct Tried<'a> {
    asked: Asked<'a>,
    result: Result<Reply, Failure>,
    losses: Vec<Loss>,
}

impl Begun {
    /// Whom to ask, in which order.
    pub(super) fn plan(&self) -> Plan<'_> {
        let affinity = affinity::key(&self.call, self.route.affinity);
        let plan = Plan::new(&self.route, &self.snapshot.config.retry).prefer(affinity);
        if self.call.stream {
            plan.streaming()
        } else {
            plan
        }
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
    /// The loop: the one place where a call is tried again.
    pub(super) async fn attempts(
        &self,
        begun: &Begun,
        mut upload: Option<UpstreamBody>,
        plan: &mut Plan<'_>,
        recorder: &mut Recorder,
        trail: &mut Trail,
    ) -> Result<(Place, Reply), Failure> {
        let route = &*begun.route;
        let hedge = route
            .hedge
            .filter(|hedge| hedge.max_percent > 0 && begun.call.object.is_some());
        if let Some(hedge) = &hedge {
            self.hedges.call(hedge);
        }
        loop {
            let (place, pass) = match plan.next(self.clock.now()) {
                Next::Ask(place, pass) => (place, pass),
                Next::Wait(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Next::GiveUp(failure) => return Err(failure),
            };
            let Some(candidate) = route.candidate(place) else {
                continue;
            };
            let asked = self.ask(candidate, place, pass, recorder, trail);
            let tried = match hedge {
                None => {
                    self.attempt(begun, asked, upload.take(), plan.is_last())
                        .await
                }
                Some(hedge) => {
                    let first = std::pin::pin!(self.attempt(begun, asked, None, false));
                    self.beside(first, candidate, hedge, begun, plan, recorder, trail)
                        .await?
                }
            };
            match self.note(tried, begun, recorder, trail) {
                Ok(good) => return Ok(good),
                Err((place, failure)) => plan.failed(place, failure, self.clock.now())?,
            }
        }
    }

    /// Notes who is asked now.
    fn ask<'a>(
        &self,
        candidate: &'a Candidate,
        place: Place,
        mut pass: Pass,
        recorder: &mut Recorder,
        trail: &mut Trail,
    ) -> Asked<'a> {
        trail.attempts += 1;
        trail.name(candidate);
        recorder.update(|record| record.name(candidate));
        Asked {
            place,
            candidate,
            started: self.clock.now(),
            flight: candidate.begin(pass.seat.take()),
            _pass: pass,
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
        let attempt = Attempt {
            snapshot: &begun.snapshot,
            call: &begun.call,
            candidate: asked.candidate,
            kept: &self.kept,
            clock: &self.clock,
            until: begun.until,
            losses: OnceLock::new(),
            redirects_blocked: begun
                .route
                .redirect(asked.place, Why::ContentPolicy)
                .is_some(),
        };
        let result = if begun.call.object.is_some() {
            attempt.run().await
        } else {
            let body = upload.unwrap_or_else(|| begun.body.clone().into());
            attempt.proxy(body, is_last).await
        };
        Tried {
            asked,
            result,
            losses: attempt.losses.into_inner().unwrap_or_default(),
        }
    }

    /// The first attempt, and where it is slow and another may be asked, that one beside it: whichever is good first.
    #[expect(clippy::too_many_arguments, reason = "it stands where the loop stands")]
    async fn beside<'a, F: Future<Output = Tried<'a>>>(
        &self,
        mut first: Pin<&mut F>,
        candidate: &Candidate,
        hedge: Hedge,
        begun: &'a Begun,
        plan: &mut Plan<'_>,
        recorder: &mut Recorder,
        trail: &mut Trail,
    ) -> Result<Tried<'a>, Failure> {
        let started = self.clock.now();
        if let Ok(tried) = tokio::time::timeout(hedge.after, &mut first).await {
            return Ok(tried);
        }
        let second = if self.hedges.take() {
            let next = plan.beside(self.clock.now());
            if next.is_none() {
                self.hedges.give_back();
            }
            next.and_then(|(place, pass)| Some((begun.route.candidate(place)?, place, pass)))
        } else {
            None
        };
        let Some((other, place, pass)) = second else {
            return Ok(first.await);
        };
        let asked = self.ask(other, place, pass, recorder, trail);
        let started_second = self.clock.now();
        let second = std::pin::pin!(self.attempt(begun, asked, None, false));
        let (tried, loser, since, rest) = match select(first, second).await {
            Either::Left((tried, rest)) => (tried, other, started_second, Either::Right(rest)),
            Either::Right((tried, rest)) => (tried, candidate, started, Either::Left(rest)),
        };
        if tried.result.is_ok() {
            // The other is dropped here, which closes its connection at once.
            let took = self.clock.now().saturating_sub(since);
            recorder.update(|record| record.attempts.push(AttemptRecord::lost(loser, took)));
            return Ok(tried);
        }
        if let Err((place, failure)) = self.note(tried, begun, recorder, trail) {
            plan.failed(place, failure, self.clock.now())?;
        }
        Ok(rest.await)
    }

    /// Notes how an attempt came out, wherever that matters.
    fn note(
        &self,
        tried: Tried<'_>,
        begun: &Begun,
        recorder: &mut Recorder,
        trail: &mut Trail,
    ) -> Result<(Place, Reply), (Place, Failure)> {
        let Tried {
            asked,
            result,
            losses,
        } = tried;
        let (candidate, now) = (asked.candidate, self.clock.now());
        let took = now.saturating_sub(asked.started);
        let failure = result.as_ref().err();
        candidate.measure(now, took, failure);
        trail.name(candidate);
        trail.losses.clone_from(&losses);
        let mut attempt = AttemptRecord::of(candidate, failure, took);
        if begun.call.said.is_some() {
            attempt = attempt.continued();
        }
        recorder.update(|record| {
            record.name(candidate);
            record.losses = losses;
            record.attempts.push(attempt);
        });
        match result {
            Ok(reply) => {
                candidate.resters().succeeded(now);
                recorder.hold(asked.flight);
                Ok((asked.place, reply))
            }
            Err(failure) => {
                let retry = &begun.snapshot.config.retry;
                candidate.resters().note(&failure, retry, now);
                let request_id = recorder.record().map(|record| &*record.request_id);
                tracing::debug!(request_id, candidate = ?candidate, failure = %failure, "attempt failed");
                Err((asked.place, failure))
            }
        }
    }
}
