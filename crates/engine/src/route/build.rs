//! Builds a route: targets into tiers, tiers into groups, fallbacks after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use polygate_providers::Price;

use super::way::{Cause, Edge};
use super::{Candidate, Group, Step};
use crate::choose::Choices;
use crate::config::{Fallbacks, Strategy};
use crate::pattern::Pattern;
use crate::policy::{Policy, Standing};
use crate::quota::Quota;
use crate::snapshot::{Credential, Model, Snapshot, Upstream};
use crate::tariff::Tariff;

/// How deep fallbacks of fallbacks go, and how many models a route has at most.
const FALLBACK_DEPTH: usize = 8;
const MODELS: usize = 64;

/// A provider under the name that the model has there.
struct Place<'a> {
    upstream: &'a Arc<Upstream>,
    /// As it was asked for, without the provider's prefix.
    bare: &'a str,
    model: &'a str,
    weight: u32,
    priority: i32,
    tariff: Option<Arc<Tariff>>,
}

/// One key of a place.
type Seat<'a> = (&'a Place<'a>, &'a Arc<Credential>);

/// Where groups stand in the route.
struct Stand<'p> {
    node: usize,
    path: &'p [Edge],
    /// What limits the models that lead here, where that is not the one that was asked for.
    quotas: Vec<Arc<Quota>>,
}

/// Collects a route.
struct Builder<'a> {
    snapshot: &'a Snapshot,
    asked_as: Arc<str>,
    choices: &'a Choices,
    steps: Vec<Step>,
    label: Option<Arc<str>>,
    /// Models that were seen, each with the fallbacks that lead to it and do not always.
    seen: Vec<(&'a str, Vec<Edge>)>,
    /// The models on the way to this one.
    above: Vec<&'a str>,
}

/// The groups of a name in the order they are asked, and what metrics call it.
pub(super) fn steps(
    snapshot: &Snapshot,
    requested: &str,
    choices: &Choices,
) -> (Vec<Step>, Option<Arc<str>>) {
    let mut builder = Builder {
        snapshot,
        asked_as: requested.into(),
        choices,
        steps: Vec::new(),
        label: None,
        seen: Vec::new(),
        above: Vec::new(),
    };
    builder.model(requested, &[]);
    (builder.steps, builder.label)
}

impl<'a> Builder<'a> {
    fn model(&mut self, requested: &'a str, path: &[Edge]) {
        let conditions: Vec<Edge> = path
            .iter()
            .copied()
            .filter(|edge| edge.cause != Cause::Any)
            .collect();
        let place = (requested, conditions);
        let is_over = path.len() >= FALLBACK_DEPTH || self.seen.len() >= MODELS;
        if is_over || self.above.contains(&requested) || self.seen.contains(&place) {
            return;
        }
        let node = self.seen.len();
        self.seen.push(place);
        if self.snapshot.models.contains_key(requested) {
            self.label.get_or_insert_with(|| requested.into());
        }
        let chain = self.choices.chain(requested);
        let named = chain
            .iter()
            .filter_map(|name| self.snapshot.models.get(*name));
        let mut models: Vec<&'a Model> = named.collect();
        let is_fallback = node > 0;
        let quotas = models.iter().filter_map(|model| model.quota.clone());
        let stand = Stand {
            node,
            path,
            quotas: quotas.filter(|_| is_fallback).collect(),
        };
        let last = chain.last().copied().unwrap_or(requested);
        match self.snapshot.models.get(last) {
            Some(model) => self.targeted(model, last, &stand),
            None => self.offered(last, &stand),
        }
        // The fallbacks of the model that is asked come first, then those of the models that led to it.
        models.reverse();
        let above = self.above.len();
        self.above.extend(chain);
        for (cause, names) in fallbacks(&models) {
            let path = [path, &[Edge { node, cause }]].concat();
            for name in names {
                self.model(name, &path);
            }
        }
        self.above.truncate(above);
    }

    /// The model's own targets.
    fn targeted(&mut self, model: &'a Model, name: &'a str, stand: &Stand<'_>) {
        let targets = model.targets.iter().filter_map(|target| {
            let upstream = self.snapshot.upstreams.get(target.upstream)?;
            let model = target.model.as_deref().unwrap_or(name);
            Some(Place {
                upstream,
                bare: name,
                model,
                weight: target.weight,
                priority: target.priority,
                tariff: tariff(self.snapshot, upstream, model, target.price),
            })
        });
        let targets = targets.collect();
        self.push(model.strategy, targets, stand);
    }

    /// What providers themselves offer under this name: those that mean it first, then vendors that surely call their models
    /// otherwise.
    fn offered(&mut self, requested: &'a str, stand: &Stand<'_>) {
        let snapshot = self.snapshot;
        let routing = &snapshot.config.routing;
        let (mut own, mut strangers) = (Vec::new(), Vec::new());
        for upstream in &snapshot.upstreams {
            let Some(bare) = upstream.unprefixed(requested, routing.force_model_prefix) else {
                continue;
            };
            let Some((model, price)) = upstream.mapped(bare) else {
                continue;
            };
            let place = Place {
                upstream,
                bare,
                model,
                weight: upstream.weight,
                priority: upstream.priority,
                tariff: tariff(snapshot, upstream, model, price),
            };
            if upstream.is_stranger_to(bare) && bare == requested {
                strangers.push(place);
            } else {
                own.push(place);
            }
            if let Some(matched) = matched_label(upstream, bare) {
                self.label.get_or_insert(matched);
            }
        }
        self.push(routing.strategy, own, stand);
        self.push(routing.strategy, strangers, stand);
    }

    /// A group a tier, of those with a share; then the drained, who serve only when all others are out.
    fn push(&mut self, strategy: Strategy, places: Vec<Place<'_>>, stand: &Stand<'_>) {
        let mut tiers: BTreeMap<(bool, i32, i32), Vec<Seat<'_>>> = BTreeMap::new();
        for place in &places {
            let keys = place.upstream.credentials.iter();
            for key in keys.filter(|key| key.serves(place.bare, place.model)) {
                let is_drained = place.weight == 0 || key.weight == 0;
                let tier = tiers.entry((is_drained, place.priority, key.priority));
                tier.or_default().push((place, key));
            }
        }
        for tier in tiers.into_values() {
            self.steps.push(Step {
                asked_as: self.asked_as.clone(),
                group: Arc::new(group(self.snapshot, strategy, &tier)),
                node: stand.node,
                path: stand.path.to_vec(),
                quotas: stand.quotas.clone(),
            });
        }
    }
}

/// The fallbacks of several models, in the order they are tried.
fn fallbacks<'a>(models: &[&'a Model]) -> [(Cause, Vec<&'a String>); 4] {
    type List = fn(&Fallbacks) -> &Vec<String>;
    let lists: [(Cause, List); 4] = [
        (Cause::Quota, |all| &all.quota),
        (Cause::Any, |all| &all.any),
        (Cause::ContextLength, |all| &all.context_length),
        (Cause::ContentPolicy, |all| &all.content_policy),
    ];
    lists.map(|(cause, list)| {
        let names = models.iter().flat_map(|model| list(&model.fallbacks));
        (cause, names.collect())
    })
}

fn group(snapshot: &Snapshot, strategy: Strategy, tier: &[Seat<'_>]) -> Group {
    // A provider's share is its own however many keys it has.
    let keys_of = |place: &Place<'_>| -> Vec<u32> {
        let same = tier.iter().filter(|(other, _)| std::ptr::eq(place, *other));
        same.map(|(_, key)| key.weight).collect()
    };
    let keys = tier
        .iter()
        .map(|(place, _)| u32::try_from(keys_of(place).len()).unwrap_or(u32::MAX))
        .fold(1, lcm);
    let (mut candidates, mut standings) = (Vec::new(), Vec::new());
    for (place, key) in tier {
        let total = keys_of(place).into_iter().fold(0, u32::saturating_add);
        let share = place
            .weight
            .max(1)
            .saturating_mul(keys)
            .saturating_mul(key.weight)
            / total.max(1);
        let tariff = place.tariff.clone();
        let price = tariff.as_ref().map(|tariff| tariff.usual());
        let mut candidate = Candidate::new(place.upstream, key, place.model, tariff);
        candidate.context = context(snapshot, place);
        standings.push(Standing {
            weight: share.max(1),
            price: price.map(Price::blend),
            id: key.id ^ crate::affinity::hash(&[place.model.as_bytes()]),
            target: candidate.target.clone(),
        });
        candidates.push(candidate);
    }
    Group {
        strategy,
        policy: Policy::new(strategy, &standings),
        candidates,
        standings,
    }
}

/// What calls of a model cost at a provider.
fn tariff(
    snapshot: &Snapshot,
    upstream: &Upstream,
    model: &str,
    own: Option<Price>,
) -> Option<Arc<Tariff>> {
    let config = &snapshot.config;
    let lists = (&*config.price_overrides, &*config.catalogue);
    Tariff::of(upstream, model, own, lists).map(Arc::new)
}

/// The tokens that a model has room for at a provider, where anybody asks.
fn context(snapshot: &Snapshot, place: &Place<'_>) -> Option<u64> {
    let config = &snapshot.config;
    if !config.routing.context_aware {
        return None;
    }
    let listing = config.catalogue.listing(place.upstream.said, place.model);
    listing?.context
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b.max(1));
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b.max(1)).min(5040)
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
