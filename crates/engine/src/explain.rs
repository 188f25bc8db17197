//! What a call would meet if it came now, as data: understood, admitted and routed by the code that serves calls, and nothing taken.

mod cached;
mod candidate;
mod line;

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, moment};
use serde::Serialize;

use crate::affinity;
use crate::call::{Call, Inbound};
use crate::config::Role;
use crate::engine::{Engine, Limiting, full, way};
use crate::expect::Expected;
use crate::hops;
use crate::plan::taking::Taking;
use crate::quota::Quota;
use crate::route::{Looking, Route};

pub use cached::Cached;
pub use candidate::{Explained, Lane, Scores};
pub use line::line;

/// The header by which a caller asks for the explanation of a call, and that has it in the answer.
pub const HEADER: &str = "x-polygate-explain";

/// The decision on one call.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// When it was made; RFC 3339.
    pub at: String,
    /// What is asked of.
    pub endpoint: &'static str,
    /// The model as the client means it.
    pub model: String,
    /// What metrics call it: the configured name or pattern that matched. `None`: nobody has it.
    pub label: Option<Arc<str>>,
    /// The client wants a stream.
    pub stream: bool,
    /// What translation would lose is refused.
    pub strict: bool,
    /// The key that calls.
    pub key: Arc<str>,
    /// Its team.
    pub team: Option<Arc<str>>,
    /// Something keeps it with the calls that it belongs to.
    pub has_affinity: bool,
    /// The tokens of its prompt, about.
    pub input_tokens: u64,
    /// The tokens of its answer, at most.
    pub output_tokens: u64,
    /// The rule of the cache that is for it.
    pub cache: Option<Cached>,
    /// Why nobody is asked at all.
    pub refusal: Option<Refusal>,
    /// What limits the key, its team and the model.
    pub limits: Vec<Limit>,
    /// Those that would be asked in their order, then the others.
    pub candidates: Vec<Explained>,
}

/// What a caller is told that asks for the explanation of its call.
#[derive(Clone, Debug)]
pub enum Told {
    /// It.
    Explained(Box<Explanation>),
    /// Its key, that may not see it.
    Forbidden(Arc<str>),
}

/// Why something is not done.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The code of the error.
    pub code: &'static str,
    /// Its words.
    pub message: String,
    /// When it may be asked again.
    pub retry_after_seconds: Option<u64>,
}

/// An allowance and what is left of it.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Of what kind it is: a key's, a team's, a model's, a provider's.
    pub of: &'static str,
    /// Whose.
    pub name: Arc<str>,
    /// What is counted; `usd` in millionths.
    pub measure: &'static str,
    /// In which windows.
    pub period: &'static str,
    /// How much in each.
    pub most: u64,
    /// How much is left now.
    pub left: u64,
    /// When the next window begins.
    pub resets_in_seconds: Option<u64>,
}

/// The moment of a look, by both clocks.
#[derive(Clone, Copy)]
struct Moment {
    now: Duration,
    seconds: u64,
}

impl Engine {
    /// What would come of this call now. Nothing is asked of anybody, counted, reserved or recorded; the keeper of a leased limit
    /// may be told that somebody looks at it, as by every reader of it. `Err`: the call cannot be understood.
    pub fn explain(&self, inbound: Inbound) -> Result<Explanation, Failure> {
        hops::check(&inbound.headers)?;
        let snapshot = self.snapshot();
        let (mut call, _) = Call::read(&snapshot, inbound)?;
        let moment = self.moment();
        let admitted = call.inbound.caller.look(&call.model, moment.now);
        let route = way(&snapshot, &mut call);
        let ready = match &route {
            Ok(route) => has_seat(route).and_then(|()| self.make_ready(&mut call, route)),
            Err(_) => Ok(()),
        };
        let mut explanation = Explanation::of(&call, moment);
        let mut refused = admitted.err();
        match route {
            Ok(route) => {
                refused = refused.or(ready.err());
                self.routed(&mut explanation, (&call, &route), moment);
            }
            Err(failure) => refused = refused.or(Some(failure)),
        }
        if let Some(failure) = refused {
            explanation.refusal = Some(Refusal::of(failure));
        }
        Ok(explanation)
    }

    /// The explanation of a call that is about to be made, where it asks for one.
    pub(crate) fn asked_for(&self, call: &Call, route: &Route) -> Option<Told> {
        let wanted = call.inbound.headers.get(HEADER)?;
        if matches!(wanted.as_bytes(), b"0" | b"false") {
            return None;
        }
        if !self.may_explain(call) {
            return Some(Told::Forbidden(call.inbound.caller.name()));
        }
        let moment = self.moment();
        let mut explanation = Explanation::of(call, moment);
        self.routed(&mut explanation, (call, route), moment);
        Some(Told::Explained(Box::new(explanation)))
    }

    /// Whether its caller may see whom the gateway knows. Where no keys are configured: whoever is at home.
    fn may_explain(&self, call: &Call) -> bool {
        match &call.inbound.caller.key {
            Some(key) => key.explain || matches!(key.role, Some(Role::Admin | Role::ReadOnly)),
            None => !self.snapshot().config.access.allow_anonymous,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock().now(),
            seconds: self.clock().unix_seconds(),
        }
    }

    fn routed(
        &self,
        explanation: &mut Explanation,
        (call, route): (&Call, &Route),
        moment: Moment,
    ) {
        let Moment { now, seconds } = moment;
        let expected = Expected::of(call);
        let limiting = Limiting { call, route };
        if let Err(failure) = limiting.look(expected, seconds) {
            explanation.refusal = Some(Refusal::of(failure));
        }
        let key = affinity::key(call, route.affinity);
        let taking = Taking::new(expected, seconds, now);
        explanation.label = Some(route.label.clone());
        explanation.strict = call.strict;
        explanation.has_affinity = key.is_some();
        match self.cached(call) {
            Ok(cached) => explanation.cache = cached,
            Err(failure) => explanation.refusal = Some(Refusal::of(failure)),
        }
        explanation
            .limits
            .extend(limits(route.quota.iter(), seconds));
        let seen = route.look(now, Looking { key, taking }).into_iter();
        let explained = seen.map(|one| self.explained(&one, (call, route), moment));
        explanation.candidates = explained.collect();
    }
}

/// Whether another call of the model may be made.
fn has_seat(route: &Route) -> Result<(), Failure> {
    match &route.seats {
        Some(limit) if !limit.has_room() => Err(full(limit.most)),
        _ => Ok(()),
    }
}

impl Explanation {
    fn of(call: &Call, moment: Moment) -> Self {
        let caller = &call.inbound.caller;
        let expected = Expected::of(call);
        Self {
            at: moment::text(moment.seconds),
            endpoint: call.inbound.endpoint.label(),
            model: call.model.clone(),
            label: None,
            stream: call.stream,
            strict: call.strict,
            key: caller.name(),
            team: caller.team.as_ref().map(|team| team.name.clone()),
            has_affinity: false,
            input_tokens: expected.input,
            output_tokens: expected.output,
            cache: None,
            refusal: None,
            limits: limits(caller.quotas(), moment.seconds),
            candidates: Vec::new(),
        }
    }
}

impl Refusal {
    fn of(failure: Failure) -> Self {
        Self {
            code: failure.kind.name(),
            retry_after_seconds: failure.retry_after.map(|wait| wait.as_secs()),
            message: failure.message,
        }
    }
}

fn limits<'a>(quotas: impl Iterator<Item = &'a Arc<Quota>>, seconds: u64) -> Vec<Limit> {
    let limits = quotas.flat_map(|quota| {
        quota.standings(seconds).map(|standing| Limit {
            of: quota.subject().kind.name(),
            name: quota.subject().name.clone(),
            measure: standing.allowance.measure.name(),
            period: standing.allowance.period.name(),
            most: standing.allowance.most,
            left: standing.left,
            resets_in_seconds: standing.resets.map(|wait| wait.as_secs()),
        })
    });
    limits.collect()
}

#[cfg(test)]
mod tests;
