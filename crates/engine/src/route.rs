//! From a model's name to the candidates that may serve it, in groups: the next group is asked when the one before has nobody left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::Strategy;
use crate::health::{Reason, Rest, Resters};
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::snapshot::{Credential, Snapshot, Upstream};

/// How deep fallbacks of fallbacks go.
const FALLBACK_DEPTH: usize = 8;

/// The longest model name that is remembered, and how many are.
const NAME_LIMIT: usize = 256;
const REMEMBERED: usize = 2048;

/// Where calls of one model name may go.
#[derive(Debug)]
pub struct Route {
    /// What metrics call the model: the configured name or pattern that matched, else a catalogue name, else `other`.
    pub label: Arc<str>,
    /// What translation would lose is refused.
    pub strict: bool,
    groups: Vec<Group>,
}

/// Candidates of equal standing.
#[derive(Debug)]
struct Group {
    candidates: Vec<Candidate>,
    policy: Policy,
}

/// One way to serve a call: a provider, one of its keys, and the model's name there.
#[derive(Clone)]
pub struct Candidate {
    /// The provider.
    pub upstream: Arc<Upstream>,
    /// The key.
    pub credential: Arc<Credential>,
    /// The model's name there.
    pub model: Arc<str>,
    weight: u32,
    model_rest: Arc<Rest>,
}

/// A candidate's place in its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    group: usize,
    at: usize,
}

impl Candidate {
    fn new(
        upstream: &Arc<Upstream>,
        credential: &Arc<Credential>,
        model: &str,
        weight: u32,
    ) -> Self {
        let model_rest = upstream.model_rests.cell(model);
        Self {
            upstream: upstream.clone(),
            credential: credential.clone(),
            model: model.into(),
            weight,
            model_rest,
        }
    }

    /// Why it must not be used now and how long still; the longest of its rests.
    pub fn resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        let rests = [&self.upstream.rest, &self.credential.rest, &self.model_rest];
        rests
            .into_iter()
            .filter_map(|rest| rest.resting(now))
            .max_by_key(|(_, wait)| *wait)
    }

    /// What a failure of this candidate lets rest.
    pub fn resters(&self) -> Resters<'_> {
        Resters {
            credential: &self.credential.rest,
            model: &self.model_rest,
            provider: &self.upstream.rest,
        }
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{} as {}",
            self.upstream.name, self.credential.name, self.model
        )
    }
}

impl Route {
    /// Finds the candidates of a name; `None` where nobody has it.
    pub fn build(snapshot: &Snapshot, requested: &str) -> Option<Route> {
        let mut groups = Vec::new();
        let mut label = None;
        let mut seen = Vec::new();
        collect(snapshot, requested, &mut groups, &mut label, &mut seen);
        if groups.is_empty() {
            return None;
        }
        Some(Route {
            label: label.unwrap_or_else(|| "other".into()),
            strict: snapshot
                .config
                .models
                .iter()
                .any(|model| model.strict && model.name == requested),
            groups,
        })
    }

    /// How many candidates there are in all.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.candidates.len()).sum()
    }

    /// Whether there are none: never, for a route that was built.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The candidate at a place.
    pub fn candidate(&self, place: Place) -> Option<&Candidate> {
        self.groups.get(place.group)?.candidates.get(place.at)
    }

    /// The first group's choice among candidates that do not rest and are not excluded, else the next group's.
    pub fn pick(&self, now: Duration, excluded: &[Place]) -> Option<Place> {
        for (group_at, group) in self.groups.iter().enumerate() {
            let is_free = |at: &usize| {
                !excluded.contains(&Place {
                    group: group_at,
                    at: *at,
                })
            };
            let usable = |at: &usize| {
                is_free(at)
                    && group
                        .candidates
                        .get(*at)
                        .is_some_and(|one| one.resting(now).is_none())
            };
            let available: Vec<usize> = (0..group.candidates.len()).filter(usable).collect();
            if available.is_empty() {
                continue;
            }
            return group.policy.pick(&available).map(|at| Place {
                group: group_at,
                at,
            });
        }
        None
    }

    /// All candidates in order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.groups.iter().flat_map(|group| &group.candidates)
    }
}

fn collect(
    snapshot: &Snapshot,
    requested: &str,
    groups: &mut Vec<Group>,
    label: &mut Option<Arc<str>>,
    seen: &mut Vec<String>,
) {
    if seen.len() >= FALLBACK_DEPTH || seen.iter().any(|name| name == requested) {
        return;
    }
    seen.push(requested.to_owned());
    let Some(model) = snapshot.models.get(requested) else {
        return offered(snapshot, requested, groups, label);
    };
    label.get_or_insert_with(|| requested.into());
    let targets = model.targets.iter().filter_map(|target| {
        let upstream = snapshot.upstreams.get(target.upstream)?;
        Some((
            upstream,
            target.model.as_deref().unwrap_or(requested),
            target.weight,
        ))
    });
    push_groups(groups, model.strategy, targets.collect());
    for fallback in &model.fallbacks {
        collect(snapshot, fallback, groups, label, seen);
    }
}

/// What providers themselves offer under this name: those that mean it first, then vendors that surely call their models otherwise.
fn offered(
    snapshot: &Snapshot,
    requested: &str,
    groups: &mut Vec<Group>,
    label: &mut Option<Arc<str>>,
) {
    let routing = &snapshot.config.routing;
    let (mut own, mut strangers) = (Vec::new(), Vec::new());
    for upstream in &snapshot.upstreams {
        let Some(bare) = upstream.unprefixed(requested, routing.force_model_prefix) else {
            continue;
        };
        let Some(model) = upstream.upstream_model(bare) else {
            continue;
        };
        if upstream.is_stranger_to(bare) && bare == requested {
            strangers.push((upstream, model, upstream.weight));
        } else {
            own.push((upstream, model, upstream.weight));
        }
        if let Some(matched) = matched_label(upstream, bare) {
            label.get_or_insert(matched);
        }
    }
    push_groups(groups, routing.strategy, own);
    push_groups(groups, routing.strategy, strangers);
}

/// The configured name or pattern, or the catalogue's, that this name matched.
fn matched_label(upstream: &Upstream, bare: &str) -> Option<Arc<str>> {
    let mapped = upstream
        .mappings
        .iter()
        .find(|mapping| mapping.pattern.matches(bare))
        .map(|mapping| mapping.pattern.source());
    let is_discovered = || {
        upstream
            .discovered
            .load()
            .iter()
            .any(|name| name == bare)
            .then_some(bare)
    };
    let claimed = || {
        upstream
            .claims
            .iter()
            .find(|claim| claim.matches(bare))
            .map(Pattern::source)
    };
    mapped
        .or_else(is_discovered)
        .or_else(claimed)
        .map(Arc::from)
}

/// A group of those with a share, then one of the drained, who serve only when all others are out.
fn push_groups(
    groups: &mut Vec<Group>,
    strategy: Strategy,
    targets: Vec<(&Arc<Upstream>, &str, u32)>,
) {
    let (sharing, drained): (Vec<_>, Vec<_>) =
        targets.into_iter().partition(|(_, _, weight)| *weight > 0);
    for targets in [sharing, drained] {
        // A provider's share is its own however many keys it has.
        let keys = targets
            .iter()
            .map(|(upstream, ..)| upstream.credentials.len() as u32)
            .fold(1, lcm);
        let mut candidates = Vec::new();
        for (upstream, model, weight) in targets {
            let total: u32 = upstream
                .credentials
                .iter()
                .map(|credential| credential.weight)
                .sum();
            for credential in &upstream.credentials {
                let share = weight
                    .max(1)
                    .saturating_mul(keys)
                    .saturating_mul(credential.weight)
                    / total.max(1);
                candidates.push(Candidate::new(upstream, credential, model, share.max(1)));
            }
        }
        if !candidates.is_empty() {
            let weights: Vec<u32> = candidates
                .iter()
                .map(|candidate| candidate.weight)
                .collect();
            groups.push(Group {
                policy: Policy::new(strategy, &weights),
                candidates,
            });
        }
    }
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b.max(1)).min(5040)
}

/// Routes by name. Bounded: names are a caller's text.
#[derive(Debug, Default)]
pub(crate) struct RouteCache(ArcSwap<HashMap<Box<str>, Arc<Route>>>);

impl RouteCache {
    pub(crate) fn get_or_build(
        &self,
        name: &str,
        build: impl FnOnce() -> Option<Route>,
    ) -> Option<Arc<Route>> {
        if let Some(route) = self.0.load().get(name) {
            return Some(route.clone());
        }
        let route = Arc::new(build()?);
        if name.len() > NAME_LIMIT || self.0.load().len() >= REMEMBERED {
            return Some(route);
        }
        self.0.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.entry(name.into()).or_insert_with(|| route.clone());
            known
        });
        // Another call may have been first: all share one policy state.
        self.0.load().get(name).cloned().or(Some(route))
    }
}
