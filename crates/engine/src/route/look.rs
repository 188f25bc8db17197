//! A route as the next call would find it: whom it would ask, one after the other, and why not the others. Nothing is taken, and
//! the picks are those of calls: only whose turn it is stays.

use std::sync::Arc;
use std::time::Duration;

use polygate_core::{Failure, Kind};
use serde::Serialize;

use super::{Candidate, Cause, Open, Place, Route, Step, Wish};
use crate::config::Strategy;
use crate::explain::Scores;
use crate::health::{Reason, seconds};
use crate::observe::{Considered, NOTED};
use crate::plan::taking::{Barred, Taking};
use crate::policy::{Standing, Turn};

/// A call as far as it matters to whom it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looking {
    /// What keeps it with others.
    pub key: Option<u64>,
    /// What each of its attempts takes of limits.
    pub taking: Taking,
    /// So many attempts it has at most; `None`: enough for all.
    pub attempts: Option<usize>,
    /// The tokens that there has to be room for, where anybody asks.
    pub needs: u64,
}

/// A candidate and what a call would do with it.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Who.
    pub candidate: &'a Candidate,
    /// Where.
    pub place: Place,
    /// By what its group chooses.
    pub strategy: Strategy,
    /// What that goes by.
    pub standing: Option<&'a Standing>,
    /// Asked, or why not.
    pub verdict: Verdict,
    /// It is preferred by what keeps the call with others: its group's strategy alone would ask another first.
    pub is_by_affinity: bool,
    /// Its model has room for so many tokens, surely too few: it is asked where nobody else is left.
    pub too_small: Option<u64>,
}

/// What a call that starts now would do with a candidate.
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
    /// A limit of its provider, or of a fallback's model, leaves too little.
    Spent(String),
    /// It is a fallback for something that did not happen.
    Fallback(Cause),
    /// Its turn would come, but those before it have all attempts that there are.
    NoRetryLeft,
    /// It stands before, with the same provider, key and model.
    Repeated,
}

/// Somebody who was not asked, though it would have been this one's turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// The provider.
    pub provider: Arc<str>,
    /// Its key, by name.
    pub credential: Arc<str>,
    /// The model there.
    pub model: Arc<str>,
    /// The word for why, as [`Verdict::name`] has them; and `retry_budget`, `trial`, `context_window`.
    pub verdict: &'static str,
    /// How long it rested still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rests_for_seconds: Option<u64>,
}

/// So many are noted at most.
const PASSED_OVER: usize = 16;

impl PassedOver {
    /// This one, for this reason.
    pub fn of(candidate: &Candidate, verdict: &'static str, wait: Option<Duration>) -> Self {
        Self {
            provider: candidate.upstream.name.clone(),
            credential: candidate.credential.name.clone(),
            model: candidate.model.clone(),
            verdict,
            rests_for_seconds: wait.and_then(seconds),
        }
    }
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (provider, credential) = (&self.provider, &self.credential);
        write!(
            f,
            "{provider}/{credential} as {}: {}",
            self.model, self.verdict
        )?;
        match self.rests_for_seconds {
            Some(seconds) => write!(f, " for {seconds} s"),
            None => Ok(()),
        }
    }
}

impl Route {
    /// What the next call would find: those that it would ask in their order, then the others.
    pub fn look(&self, now: Duration, looking: Looking) -> Vec<Seen<'_>> {
        let mut far = Far {
            open: Open::needing(looking.needs),
            ..Far::default()
        };
        let mut seen: Vec<Seen<'_>> = Vec::new();
        while let Some(place) = self.foreseen(now, &far, looking.key) {
            let Some(candidate) = self.candidate(place) else {
                break;
            };
            let by_strategy = looking.key.and_then(|_| self.foreseen(now, &far, None));
            let verdict = self.verdict(now, place, candidate, (&looking.taking, &mut far));
            let is_by_affinity = by_strategy.is_some_and(|other| other != place);
            let one = self.seen(place, candidate, verdict, is_by_affinity);
            seen.extend(one.map(|one| one.needing(looking.needs)));
        }
        let asked = seen.iter_mut().filter(|one| one.verdict.is_asked());
        for one in asked.skip(looking.attempts.unwrap_or(usize::MAX)) {
            one.verdict = Verdict::NoRetryLeft;
        }
        // Those that would be asked, were there room, stand with those that are not.
        seen.sort_by_key(|one| !one.verdict.is_asked());
        let is_new = |place: &Place| seen.iter().all(|one| one.place != *place);
        let others: Vec<_> = self.places().filter(|(place, _)| is_new(place)).collect();
        let others = others.into_iter().filter_map(|(place, candidate)| {
            let verdict = self.left_out(place, candidate, &far.open, now);
            let one = self.seen(place, candidate, verdict, false);
            one.map(|one| one.needing(looking.needs))
        });
        seen.extend(others);
        seen
    }

    /// Those whose model is surely too small for so many tokens, where another is not.
    pub fn too_small(&self, needs: u64, now: Duration) -> Vec<PassedOver> {
        let open = Open::needing(needs);
        let (fit, small): (Vec<&Candidate>, Vec<_>) = self
            .open_candidates(&open, now)
            .partition(|one| one.has_room_for(needs));
        let small = small.into_iter().filter(|_| !fit.is_empty());
        let passed = small.map(|one| PassedOver::of(one, "context_window", None));
        passed.take(PASSED_OVER).collect()
    }

    /// Those that the first choice of a call that starts now passes over because they rest: of the groups before its own all, and of
    /// its own those whose turn it may have been.
    pub fn passed_over(&self, now: Duration) -> Vec<PassedOver> {
        let open = Open::default();
        let mut passed = Vec::new();
        for step in self
            .steps
            .iter()
            .filter(|step| self.is_open(step, &open, now))
        {
            let mut is_awake = false;
            for candidate in &step.group.candidates {
                match candidate.resting(now) {
                    None if step.group.strategy == Strategy::FillFirst => return passed,
                    None => is_awake = true,
                    Some((reason, wait)) if passed.len() < PASSED_OVER => {
                        passed.push(PassedOver::of(candidate, reason.name(), Some(wait)));
                    }
                    Some(_) => {}
                }
            }
            if is_awake {
                break;
            }
        }
        passed
    }

    /// Those that the first choice of a call that starts now is between, where it goes by what is measured.
    pub fn considered(&self, now: Duration) -> Vec<Considered> {
        let open = Open::default();
        let is_awake = |one: &Candidate| one.resting(now).is_none();
        let mut steps = self.steps.iter();
        let first = steps.find(|step| {
            self.is_open(step, &open, now) && step.group.candidates.iter().any(is_awake)
        });
        let Some(group) = first.map(|step| &step.group) else {
            return Vec::new();
        };
        let by_measure = matches!(
            group.strategy,
            Strategy::LeastBusy | Strategy::LowestLatency | Strategy::Cheapest
        );
        let awake = group.candidates.iter().zip(&group.standings);
        let awake = awake.filter(|(one, _)| is_awake(one));
        let considered =
            awake.map(|(one, standing)| Considered::of(one, Scores::of(standing, now)));
        match by_measure && group.candidates.len() > 1 {
            true => considered.take(NOTED).collect(),
            false => Vec::new(),
        }
    }

    fn seen<'a>(
        &'a self,
        place: Place,
        candidate: &'a Candidate,
        verdict: Verdict,
        is_by_affinity: bool,
    ) -> Option<Seen<'a>> {
        let group = &self.steps.get(place.group)?.group;
        Some(Seen {
            candidate,
            place,
            strategy: group.strategy,
            standing: group.standings.get(place.at),
            verdict,
            is_by_affinity,
            too_small: None,
        })
    }

    fn foreseen(&self, now: Duration, far: &Far, key: Option<u64>) -> Option<Place> {
        let wish = Wish {
            excluded: &far.asked,
            barred: &far.barred,
            open: &far.open,
            key,
            turn: Turn::Foreseen,
        };
        self.wished(now, &wish)
    }

    /// What the plan of a call would do where this one's turn comes, and how far it is then.
    fn verdict(
        &self,
        now: Duration,
        place: Place,
        candidate: &Candidate,
        (taking, far): (&Taking, &mut Far),
    ) -> Verdict {
        if let Some(Barred::Spent(failure)) = taking.look(self, place, candidate, now) {
            return far.bar(self, place, failure);
        }
        let by_chance = self.is_by_chance(now, place, far);
        far.asked.push(place);
        match has_room(candidate) {
            true => Verdict::Asked { by_chance },
            false => Verdict::Full,
        }
    }

    /// Whether another of its group could as well be asked now: by the policy, or because it came back a moment ago.
    fn is_by_chance(&self, now: Duration, place: Place, far: &Far) -> bool {
        let Some(step) = self.steps.get(place.group) else {
            return false;
        };
        let is_asked = |one: &Candidate| {
            let mut asked = far.asked.iter().filter_map(|place| self.candidate(*place));
            asked.any(|other| one.is(other))
        };
        let group = place.group;
        let candidates = step.group.candidates.iter().enumerate();
        let awake: Vec<_> = candidates
            .filter(|(at, one)| {
                let is_barred = far.barred.contains(&Place { group, at: *at });
                one.resting(now).is_none() && !is_asked(one) && !is_barred
            })
            .collect();
        let came_back =
            |(_, one): &(usize, &Candidate)| one.upstream.health.breaker.share(now) < 1.0;
        let returning = awake.len() > 1 && awake.iter().any(came_back);
        // Who was barred had a turn too.
        let mut before = far.asked.iter().chain(&far.barred);
        let is_first = before.all(|other| other.group != group);
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

    /// All places, in the order of the configuration.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Place, &Candidate)> {
        self.steps.iter().enumerate().flat_map(|(group, step)| {
            let candidates = step.group.candidates.iter().enumerate();
            candidates.map(move |(at, candidate)| (Place { group, at }, candidate))
        })
    }
}

impl Seen<'_> {
    /// The same for a call that needs room for so many tokens.
    fn needing(mut self, tokens: u64) -> Self {
        let context = self.candidate.context;
        self.too_small = context.filter(|_| !self.candidate.has_room_for(tokens));
        self
    }
}

/// How far a call would be.
#[derive(Default)]
struct Far {
    asked: Vec<Place>,
    barred: Vec<Place>,
    open: Open,
}

impl Far {
    /// A limit keeps this one from being asked: its model's fallbacks for limits are open.
    fn bar(&mut self, route: &Route, place: Place, failure: Failure) -> Verdict {
        self.barred.push(place);
        if failure.kind == Kind::AllLimited {
            route.note_spent(place, &mut self.open);
        }
        Verdict::Spent(failure.message)
    }
}

/// Whether its provider takes another call.
fn has_room(candidate: &Candidate) -> bool {
    let upstream = &candidate.upstream;
    let most = upstream.max_concurrent;
    most.is_none_or(|most| upstream.health.seats.has_room(most))
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

    /// More about it.
    pub fn why(&self) -> Option<String> {
        match self {
            Verdict::Spent(why) => Some(why.clone()),
            Verdict::Asked { .. }
            | Verdict::Resting(..)
            | Verdict::Full
            | Verdict::Fallback(_)
            | Verdict::NoRetryLeft
            | Verdict::Repeated => None,
        }
    }

    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Asked { .. } => "asked",
            Verdict::Resting(reason, _) => reason.name(),
            Verdict::Full => "full",
            Verdict::Spent(_) => "limited",
            Verdict::Fallback(_) => "fallback",
            Verdict::NoRetryLeft => "no_retry_left",
            Verdict::Repeated => "repeated",
        }
    }
}

#[cfg(test)]
mod tests;
