//! A route as the next call would find it: whom it would ask, one after the other, and why not the others. Nothing is taken, and
//! the picks are those of calls: only whose turn it is stays.

use std::time::Duration;

use super::{Candidate, Cause, Open, Place, Route, Step, Wish};
use crate::health::Reason;
use crate::policy::Turn;

/// A candidate and what a call would do with it.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Who.
    pub candidate: &'a Candidate,
    /// Where.
    pub place: Place,
    /// Asked, or why not.
    pub verdict: Verdict,
}

/// What a call that starts now would do with a candidate. What limits of amounts leave is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Asked, if all before it fail.
    Asked {
        /// Whether it is its turn cannot be foreseen: chance has a part in it, or how calls come.
        by_chance: bool,
    },
    /// It rests, and so long still.
    Resting(Reason, Duration),
    /// Its provider has as many calls as it may have at a time.
    Full,
    /// It is a fallback for something that did not happen.
    Fallback(Cause),
    /// It stands before, with the same provider, key and model.
    Repeated,
}

impl Route {
    /// What the next call with this key of affinity would find: those that it would ask in their order, then the others.
    pub fn look(&self, now: Duration, key: Option<u64>) -> Vec<Seen<'_>> {
        let open = Open::default();
        let mut seen: Vec<Seen<'_>> = Vec::new();
        let mut asked = Vec::new();
        while let Some(place) = self.foreseen(now, &asked, &open, key) {
            let Some(candidate) = self.candidate(place) else {
                break;
            };
            let verdict = match has_room(candidate) {
                true => Verdict::Asked {
                    by_chance: self.is_by_chance(now, place, &asked),
                },
                false => Verdict::Full,
            };
            asked.push(place);
            seen.push(Seen {
                candidate,
                place,
                verdict,
            });
        }
        // Those that are full stand with those that are not asked.
        seen.sort_by_key(|one| !one.verdict.is_asked());
        let others = self.places().filter(|(place, _)| !asked.contains(place));
        let others = others.map(|(place, candidate)| Seen {
            candidate,
            place,
            verdict: self.left_out(place, candidate, &open, now),
        });
        seen.extend(others);
        seen
    }

    fn foreseen(
        &self,
        now: Duration,
        asked: &[Place],
        open: &Open,
        key: Option<u64>,
    ) -> Option<Place> {
        let wish = Wish {
            excluded: asked,
            barred: &[],
            open,
            key,
            turn: Turn::Foreseen,
        };
        self.wished(now, &wish)
    }

    /// Whether another of its group could as well be asked now: by the policy, or because it came back a moment ago.
    fn is_by_chance(&self, now: Duration, place: Place, asked: &[Place]) -> bool {
        let Some(step) = self.steps.get(place.group) else {
            return false;
        };
        let is_asked = |one: &Candidate| {
            let mut asked = asked.iter().filter_map(|place| self.candidate(*place));
            asked.any(|other| one.is(other))
        };
        let candidates = step.group.candidates.iter();
        let awake: Vec<_> = candidates
            .filter(|one| one.resting(now).is_none() && !is_asked(one))
            .collect();
        let came_back = |one: &&Candidate| one.upstream.health.breaker.share(now) < 1.0;
        let returning = awake.len() > 1 && awake.iter().any(came_back);
        let is_first = asked.iter().all(|other| other.group != place.group);
        returning || step.group.policy.is_by_chance(awake.len(), is_first)
    }

    fn left_out(&self, place: Place, candidate: &Candidate, open: &Open, now: Duration) -> Verdict {
        let step = self.steps.get(place.group);
        let cause = step
            .filter(|step| !self.is_open(step, open, now))
            .and_then(Step::cause);
        match (cause, candidate.resting(now)) {
            (Some(cause), _) => Verdict::Fallback(cause),
            (None, Some((reason, wait))) => Verdict::Resting(reason, wait),
            (None, None) => Verdict::Repeated,
        }
    }

    fn places(&self) -> impl Iterator<Item = (Place, &Candidate)> {
        self.steps.iter().enumerate().flat_map(|(group, step)| {
            let candidates = step.group.candidates.iter().enumerate();
            candidates.map(move |(at, candidate)| (Place { group, at }, candidate))
        })
    }
}

/// Whether its provider takes another call.
fn has_room(candidate: &Candidate) -> bool {
    let upstream = &candidate.upstream;
    let most = upstream.max_concurrent;
    most.is_none_or(|most| upstream.health.seats.taken() < most)
}

impl Step {
    /// What the last fallback on the way here is for that not every failure opens.
    fn cause(&self) -> Option<Cause> {
        let mut path = self.path.iter().rev().map(|edge| edge.cause);
        path.find(|cause| *cause != Cause::Any)
    }
}

impl Verdict {
    /// Whether a call would ask it.
    pub fn is_asked(&self) -> bool {
        matches!(self, Verdict::Asked { .. })
    }

    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Asked { .. } => "asked",
            Verdict::Resting(reason, _) => reason.name(),
            Verdict::Full => "full",
            Verdict::Fallback(_) => "fallback",
            Verdict::Repeated => "repeated",
        }
    }
}

#[cfg(test)]
mod tests;
