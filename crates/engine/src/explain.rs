//! What a call would meet if it came now, as data: understood, allowed and routed by the code that serves calls, and nothing taken.

use std::sync::Arc;
use std::time::Duration;

use polygate_core::Failure;
use serde::Serialize;

use crate::affinity;
use crate::call::{Call, Inbound};
use crate::engine::{Engine, way};
use crate::expect::Expected;
use crate::quota::Quota;
use crate::route::{Cause, Route, Seen, Verdict};

/// The decision on one call.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What is asked of.
    pub endpoint: &'static str,
    /// The model as the client means it.
    pub model: String,
    /// What metrics call it: the configured name or pattern that matched. `None`: nobody has it.
    pub label: Option<Arc<str>>,
    /// The client wants a stream.
    pub stream: bool,
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
    /// Why nobody is asked at all.
    pub refusal: Option<Refusal>,
    /// What limits the key, its team and the model.
    pub limits: Vec<Limit>,
    /// Those that would be asked in their order, then the others.
    pub candidates: Vec<Explained>,
}

/// A call that is refused before anybody is asked.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The code of the error.
    pub code: &'static str,
    /// Its words.
    pub message: String,
}

/// An allowance and what is left of it.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Whose.
    pub of: String,
    /// What is counted.
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

/// One candidate of the call.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Its provider.
    pub provider: Arc<str>,
    /// The provider's key.
    pub credential: Arc<str>,
    /// The model's name there.
    pub model: Arc<str>,
    /// `asked`, or the word for why it is not.
    pub verdict: &'static str,
    /// Whether it is its turn cannot be foreseen.
    pub by_chance: bool,
    /// How long it rests.
    pub rests_for_seconds: Option<u64>,
    /// For what it is a fallback.
    pub fallback_for: Option<&'static str>,
    /// The most that the call can cost there, in millionths of a dollar. `None`: nobody knows.
    pub most_cost: Option<u64>,
    /// What limits the provider, and the fallback's model.
    pub limits: Vec<Limit>,
}

impl Engine {
    /// What would come of this call now. Nothing is asked of anybody, counted, reserved or recorded; the keeper of a leased limit
    /// may be told that somebody looks at it, as by every reader of it. `Err`: the call cannot be understood.
    pub fn explain(&self, inbound: Inbound) -> Result<Explanation, Failure> {
        let snapshot = self.snapshot();
        let (mut call, _) = Call::read(&snapshot, inbound)?;
        let seconds = self.clock().unix_seconds();
        let allowed = call.inbound.caller.allowed(&call.model);
        let mut explanation = Explanation::of(&call, seconds);
        match allowed.and_then(|()| way(&snapshot, &mut call)) {
            Ok(route) => explanation.routed(&call, &route, self.clock().now(), seconds),
            Err(failure) => explanation.refusal = Some(Refusal::of(failure)),
        }
        Ok(explanation)
    }
}

impl Explanation {
    fn of(call: &Call, seconds: u64) -> Self {
        let caller = &call.inbound.caller;
        let expected = Expected::of(call);
        Self {
            endpoint: call.inbound.endpoint.label(),
            model: call.model.clone(),
            label: None,
            stream: call.stream,
            key: caller.name(),
            team: caller.team.as_ref().map(|team| team.name.clone()),
            has_affinity: false,
            input_tokens: expected.input,
            output_tokens: expected.output,
            refusal: None,
            limits: limits(caller.quotas(), seconds),
            candidates: Vec::new(),
        }
    }

    fn routed(&mut self, call: &Call, route: &Route, now: Duration, seconds: u64) {
        let key = affinity::key(call, route.affinity);
        self.label = Some(route.label.clone());
        self.has_affinity = key.is_some();
        self.limits.extend(limits(route.quota.iter(), seconds));
        let tokens = (self.input_tokens, self.output_tokens);
        let seen = route.look(now, key).into_iter();
        let explained = seen.map(|one| Explained::of(&one, tokens, route, seconds));
        self.candidates = explained.collect();
    }
}

impl Explained {
    fn of(seen: &Seen<'_>, (input, output): (u64, u64), route: &Route, seconds: u64) -> Self {
        let candidate = seen.candidate;
        let tariff = candidate.tariff.as_ref();
        Self {
            provider: candidate.upstream.name.clone(),
            credential: candidate.credential.name.clone(),
            model: candidate.model.clone(),
            verdict: seen.verdict.name(),
            by_chance: matches!(seen.verdict, Verdict::Asked { by_chance: true }),
            rests_for_seconds: match seen.verdict {
                Verdict::Resting(_, wait) => Some(wait.as_secs()),
                _ => None,
            },
            fallback_for: match seen.verdict {
                Verdict::Fallback(cause) => Some(Cause::name(cause)),
                _ => None,
            },
            most_cost: tariff.map(|tariff| tariff.most(input, output)),
            limits: limits(route.quotas(seen.place), seconds),
        }
    }
}

impl Refusal {
    fn of(failure: Failure) -> Self {
        Self {
            code: failure.kind.name(),
            message: failure.message,
        }
    }
}

fn limits<'a>(quotas: impl Iterator<Item = &'a Arc<Quota>>, seconds: u64) -> Vec<Limit> {
    let limits = quotas.flat_map(|quota| {
        quota.standings(seconds).map(|standing| Limit {
            of: quota.subject().to_string(),
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
