//! What a call would meet if it came now, as data: understood, admitted and routed by the code that serves calls, and nothing taken.

mod cached;
mod candidate;
mod line;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use polygate_core::{Failure, Kind, moment};
use serde::Serialize;

use crate::admit::Caller;
use crate::affinity;
use crate::call::{Call, Inbound};
use crate::choose::{self, Looked};
use crate::config::Role;
use crate::engine::{Engine, Limiting, full, way};
use crate::expect::{Expected, needs};
use crate::guard::Guarded;
use crate::hops;
use crate::plan::taking::Taking;
use crate::quota::Quota;
use crate::route::{Looking, Route};
use crate::snapshot::Snapshot;

pub use cached::Cached;
use candidate::Sent;
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
    /// What was made of the routes of the models that it goes through.
    pub routes: Vec<Looked>,
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
    /// Guards that are for it.
    pub guards: Vec<Watching>,
    /// Those that would be asked in their order, then the others.
    pub candidates: Vec<Explained>,
    /// So many more there are.
    pub candidates_left_out: usize,
}

/// So many candidates are explained: to operators, and to callers beside their answers.
const TO_OPERATORS: usize = 256;
const TO_CALLERS: usize = 16;

/// What a caller is told that asks for the explanation of its call.
#[derive(Clone, Debug)]
pub enum Told {
    /// It.
    Explained(Box<Explanation>),
    /// Why nobody is asked.
    Refused(Refusal),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// A guard that looks at a call.
#[derive(Clone, Debug, Serialize)]
pub struct Watching {
    /// Its name.
    pub guard: Arc<str>,
    /// What it does where it finds something; `None`: it asks a webhook.
    pub action: Option<&'static str>,
    /// At what it looks: `request`, `answer`.
    pub on: Vec<&'static str>,
    /// How often it finds something in the request, and never what. `None`: nobody has looked.
    pub found: Option<u64>,
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
    pub async fn explain(&self, inbound: Inbound) -> Result<Explanation, Failure> {
        hops::check(&inbound.headers)?;
        if let Some(recalling) = self.kept().recalling(&inbound) {
            recalling.await;
        }
        let snapshot = self.snapshot();
        let (mut call, _) = Call::read(&snapshot, inbound)?;
        let moment = self.moment();
        let admitted = self.admitted(&call, moment);
        let route = way(&snapshot, &mut call);
        let ready = match &route {
            Ok(route) => {
                let ready = self.make_ready(&snapshot, &mut call, route);
                has_seat(route).and(ready)
            }
            Err(_) => Ok(()),
        };
        let mut explanation = Explanation::of(&call, moment);
        let mut refused = admitted.err();
        match route {
            Ok(route) => {
                refused = refused.or(ready.err());
                let of = (&*snapshot, &call, &*route);
                self.routed(&mut explanation, of, moment, TO_OPERATORS);
            }
            Err(failure) => refused = refused.or(Some(failure)),
        }
        if let Some(failure) = refused.or_else(|| self.wants_key(&call)) {
            explanation.refusal = Some(Refusal::of(failure));
        }
        Ok(explanation)
    }

    /// The explanation of a call that is about to be made, where it asks for one.
    pub(crate) fn asked_for(
        &self,
        snapshot: &Snapshot,
        call: &Call,
        route: &Route,
    ) -> Option<Told> {
        if !is_wanted(&call.inbound.headers) {
            return None;
        }
        if !self.may_explain(&call.inbound.caller) {
            return Some(Told::Forbidden(call.inbound.caller.name()));
        }
        let moment = self.moment();
        let mut explanation = Explanation::of(call, moment);
        self.routed(
            &mut explanation,
            (snapshot, call, route),
            moment,
            TO_CALLERS,
        );
        Some(Told::Explained(Box::new(explanation)))
    }

    /// Who wants to know of a call why nobody is asked, should that be so, and may.
    pub(crate) fn curious(&self, inbound: &Inbound) -> bool {
        is_wanted(&inbound.headers) && self.may_explain(&inbound.caller)
    }

    /// Whether the call's key is good, and lets it call.
    fn admitted(&self, call: &Call, moment: Moment) -> Result<(), Failure> {
        let caller = &call.inbound.caller;
        caller.in_force(moment.seconds)?;
        caller.look(&call.model, moment.now)
    }

    /// Nobody may call without a key, and none is named.
    fn wants_key(&self, call: &Call) -> Option<Failure> {
        let is_missing = call.inbound.caller.key.is_none() && self.keys().needs_key();
        let message = "calls need a key, and none is named";
        is_missing.then(|| Failure::new(Kind::Unauthenticated, message))
    }

    /// Whether a caller may see whom the gateway knows. Where no keys are configured: whoever is at home.
    fn may_explain(&self, caller: &Caller) -> bool {
        match &caller.key {
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
        (snapshot, call, route): (&Snapshot, &Call, &Route),
        moment: Moment,
        most: usize,
    ) {
        let Moment { now, seconds } = moment;
        let guarded = explanation.guarded(snapshot, call);
        let call = guarded.as_ref().unwrap_or(call);
        let expected = Expected::of(call);
        let limiting = Limiting { call, route };
        if let (None, Err(failure)) = (&explanation.refusal, limiting.look(expected, seconds)) {
            explanation.refusal = Some(Refusal::of(failure));
        }
        let key = affinity::key(call, route.affinity);
        let taking = Taking::new(expected, seconds, now);
        explanation.label = Some(route.label.clone());
        explanation.strict = call.strict;
        explanation.routes = choose::looked(snapshot, call, route);
        explanation.has_affinity = key.is_some();
        match self.cached(snapshot, call, route) {
            Ok(cached) => explanation.cache = cached,
            Err(failure) => explanation.refusal = Some(Refusal::of(failure)),
        }
        explanation
            .limits
            .extend(limits(route.quotas.iter(), seconds));
        let looking = Looking {
            key,
            taking,
            attempts: snapshot.config.retry.attempts(call.stream),
            needs: needs(snapshot, call),
        };
        let seen = route.look(now, looking);
        explanation.candidates_left_out = seen.len().saturating_sub(most);
        // Keys of a provider are sent the same.
        let mut known: HashMap<[&str; 3], Sent> = HashMap::new();
        for one in seen.iter().take(most) {
            let (candidate, asked_as) = (one.candidate, route.asked_as(one.place));
            let sent = known
                .entry([&candidate.upstream.name, &candidate.model, asked_as])
                .or_insert_with(|| self.sent(call, (candidate, asked_as), moment));
            let explained = self.explained(one, sent.clone(), (call, route), moment);
            explanation.candidates.push(explained);
        }
    }
}

/// As other switches among headers are read.
fn is_wanted(headers: &HeaderMap) -> bool {
    let header = headers.get(HEADER);
    header.is_some_and(|value| matches!(value.as_bytes(), b"true" | b"1"))
}

/// Whether another call of the model may be made.
fn has_seat(route: &Route) -> Result<(), Failure> {
    match route.seats.iter().find(|limit| !limit.has_room()) {
        Some(limit) => Err(full(limit.most)),
        None => Ok(()),
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
            routes: Vec::new(),
            has_affinity: false,
            input_tokens: expected.input,
            output_tokens: expected.output,
            cache: None,
            refusal: None,
            limits: limits(caller.quotas(), moment.seconds),
            guards: Vec::new(),
            candidates: Vec::new(),
            candidates_left_out: 0,
        }
    }
}

impl Explanation {
    /// What guards would do to what is asked, and the call as it is behind them; `None`: there are none. No webhook is asked.
    fn guarded(&mut self, snapshot: &Snapshot, call: &Call) -> Option<Call> {
        let guards = snapshot.guards.of(call);
        if guards.is_empty() {
            return None;
        }
        let (mut call, is_read) = (call.again(), call.object.is_some());
        let maker = snapshot.guards.maker();
        let (doings, result) = Guarded::request(&guards, maker, &mut call, &mut Bytes::new());
        if let Err(failure) = result {
            self.refusal = Some(Refusal::of(failure));
        }
        self.guards = guards
            .iter()
            .map(|guard| guard.watching(&doings, is_read))
            .collect();
        Some(call)
    }
}

impl Refusal {
    pub(crate) fn of(failure: Failure) -> Self {
        Self {
            code: failure.kind.name(),
            retry_after_seconds: failure.retry_after.map(|wait| wait.as_secs()),
            message: failure.message,
        }
    }
}

/// How these stand now.
pub(crate) fn limits<'a>(quotas: impl Iterator<Item = &'a Arc<Quota>>, seconds: u64) -> Vec<Limit> {
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
