//! From a model's name to the candidates that may serve it, in groups: the next group is asked when the one before has nobody left.

mod build;
mod look;
mod way;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use polygate_core::{Failure, Scope, Why};

use crate::chance;
use crate::choose::Choices;
use crate::config::{Affinity, Deadlines, Hedge, HedgeAfter, Model, Retry, Strategy};
use crate::health::{Reason, Rest, Resters};
use crate::policy::{Policy, Standing, Turn};
use crate::pulse::{Awaited, Flight, Target};
use crate::quota::Quota;
use crate::seats::{Limit, Seat};
use crate::snapshot::{Credential, Shadow, Snapshot, Upstream};
use crate::tariff::Tariff;

pub use look::{Looking, PassedOver, Seen, Verdict};
use way::Edge;
pub use way::{Cause, Open};

/// The longest model name that is remembered, and how many are.
const NAME_LIMIT: usize = 256;
const REMEMBERED: usize = 2048;

/// Where calls of one model name may go.
#[derive(Clone, Debug)]
pub struct Route {
    /// What metrics call the model: the configured name or pattern that matched, else a catalogue name, else `other`.
    pub label: Arc<str>,
    /// What translation would lose is refused.
    pub strict: bool,
    /// What keeps its calls together.
    pub affinity: Affinity,
    /// Times of the model's own.
    pub timeouts: Deadlines,
    /// How many calls there are at a time: of the model, and of each that it leads to.
    pub seats: Vec<Limit>,
    /// How much there is in a time of the same.
    pub quotas: Vec<Arc<Quota>>,
    /// When a second attempt is made beside the first.
    pub hedge: Option<Hedge>,
    /// Where a stream of text breaks, another candidate goes on with it.
    pub continuation: bool,
    /// Who gets its calls too.
    pub shadow: Option<Arc<Shadow>>,
    /// The routes of models that lead here.
    pub choices: Choices,
    steps: Vec<Step>,
}

/// A group in its place.
#[derive(Clone, Debug)]
struct Step {
    /// The model that leads here, as the request says it.
    asked_as: Arc<str>,
    group: Arc<Group>,
    /// The model, counted in the order they are asked.
    node: usize,
    /// The fallbacks that lead here.
    path: Vec<Edge>,
    /// How much of its models there is in a time, where these are not those that were asked for.
    quotas: Vec<Arc<Quota>>,
}

/// Candidates of equal standing.
#[derive(Debug)]
struct Group {
    candidates: Vec<Candidate>,
    standings: Vec<Standing>,
    strategy: Strategy,
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
    /// What it costs; `None`: nobody knows.
    pub tariff: Option<Arc<Tariff>>,
    /// The tokens that it has room for; `None`: nobody knows, or asks.
    pub context: Option<u64>,
    target: Target,
    model_rest: Arc<Rest>,
}

/// A candidate's place in its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    group: usize,
    at: usize,
}

impl Place {
    /// The number of its group.
    pub fn group(self) -> usize {
        self.group
    }
}

/// Whom a call would have.
struct Wish<'a> {
    excluded: &'a [Place],
    barred: &'a [Place],
    open: &'a Open,
    /// What the call prefers by.
    key: Option<u64>,
    turn: Turn,
}

impl Step {
    /// The same behind so many models.
    fn behind(mut self, nodes: usize) -> Self {
        self.node += nodes;
        for edge in &mut self.path {
            edge.node += nodes;
        }
        self
    }
}

impl Candidate {
    /// A provider's key and a model there.
    pub(crate) fn new(
        upstream: &Arc<Upstream>,
        credential: &Arc<Credential>,
        model: &str,
        tariff: Option<Arc<Tariff>>,
    ) -> Self {
        let model_rest = upstream.model_rests.cell(model);
        Self {
            upstream: upstream.clone(),
            credential: credential.clone(),
            model: model.into(),
            tariff,
            context: None,
            target: credential.pulses.target(model),
            model_rest,
        }
    }

    /// Why it must not be used now and how long still; the longest of its rests.
    pub fn resting(&self, now: Duration) -> Option<(Reason, Duration)> {
        let rests = [
            self.upstream.health.breaker.resting(now),
            self.credential.rest.resting(now),
            self.model_rest.resting(now),
        ];
        rests.into_iter().flatten().max_by_key(|(_, wait)| *wait)
    }

    /// The same, but for what another replica may have been wrong about.
    fn surely_resting(&self, now: Duration) -> bool {
        self.upstream.health.breaker.surely_resting(now).is_some()
            || self.credential.rest.surely(now).is_some()
            || self.model_rest.surely(now).is_some()
    }

    /// Whether its model takes so many tokens, as far as anybody knows.
    pub fn has_room_for(&self, tokens: u64) -> bool {
        self.context.is_none_or(|context| tokens <= context)
    }

    pub(crate) fn model_rest(&self) -> &Rest {
        &self.model_rest
    }

    /// Whether this is the same place, which several models may lead to.
    fn is(&self, other: &Candidate) -> bool {
        Arc::ptr_eq(&self.credential, &other.credential) && self.model == other.model
    }

    /// Whether it rests because of a rate limit or a spent quota.
    fn is_limited(&self, now: Duration) -> bool {
        let rests = [&self.credential.rest, &self.model_rest];
        rests.into_iter().any(|rest| {
            rest.resting(now)
                .is_some_and(|(reason, _)| reason.is_limit())
        })
    }

    /// A call of it is in flight until this is dropped, and keeps its seat so long.
    pub fn begin(&self, seat: Option<Seat>) -> Flight {
        self.target.begin(seat)
    }

    /// How an attempt came out, for those who choose by it. What says nothing of the candidate's speed is not measured.
    pub fn measure(&self, now: Duration, took: Duration, failure: Option<&Failure>) {
        match failure {
            None => self.target.succeeded(now, took),
            Some(failure) if failure.scope == Scope::Provider => self.target.failed(now, took),
            Some(_) => {}
        }
    }

    /// What a call waited for was good, after so long.
    pub fn learn(&self, awaited: Awaited, now: Duration, took: Duration) {
        self.target.learn(awaited, now, took);
    }

    /// What a call waited for was given up after so long, because another was good first.
    pub fn gave_up(&self, awaited: Awaited, now: Duration, took: Duration) {
        self.target.gave_up(awaited, now, took);
    }

    /// How long a first attempt may take until a second is made beside it; `None`: nobody knows yet what is slow.
    pub fn hedge_after(
        &self,
        after: HedgeAfter,
        awaited: Awaited,
        now: Duration,
    ) -> Option<Duration> {
        match after {
            HedgeAfter::Time(time) => Some(time),
            HedgeAfter::P95 => self.target.p95(awaited, now),
        }
    }

    /// It failed: what must rest does, and other replicas hear of it.
    pub fn failed(&self, failure: &Failure, retry: &Retry, now: Duration) {
        self.resters().note(failure, retry, now);
        self.tell_rests(now);
    }

    /// It worked.
    pub fn succeeded(&self, now: Duration) {
        self.resters().succeeded(now);
        self.tell_ends(now);
    }

    /// What a failure of this candidate lets rest.
    pub fn resters(&self) -> Resters<'_> {
        Resters {
            credential: &self.credential.rest,
            model: &self.model_rest,
            provider: &self.upstream.health.breaker,
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
    /// Finds the candidates of a name, by what was chosen among routes of models; `None` where nobody has it. What is said of the
    /// model that was asked for counts before what is said of those that it leads to; limits are those of all.
    pub(crate) fn build(snapshot: &Snapshot, requested: &str, choices: Choices) -> Option<Route> {
        let (steps, label) = build::steps(snapshot, requested, &choices);
        if steps.is_empty() {
            return None;
        }
        let config = &snapshot.config;
        let chain = choices.chain(requested);
        let names = chain.iter();
        let said = names.filter_map(|name| config.models.iter().find(|one| one.name == *name));
        let said: Vec<&Model> = said.collect();
        let compiled = || chain.iter().filter_map(|name| snapshot.models.get(*name));
        let timeouts = said.iter().map(|model| model.timeouts);
        let affinity = said.iter().find_map(|model| model.affinity);
        let continuation = said.iter().find_map(|model| model.continuation);
        Some(Route {
            label: label.unwrap_or_else(|| "other".into()),
            strict: said.iter().any(|model| model.strict),
            affinity: affinity.unwrap_or(config.routing.affinity),
            timeouts: timeouts.fold(Deadlines::default(), Deadlines::or),
            seats: compiled().filter_map(|model| model.seats.clone()).collect(),
            quotas: compiled().filter_map(|model| model.quota.clone()).collect(),
            hedge: said.iter().find_map(|model| model.hedge).or(config.hedge),
            continuation: continuation.unwrap_or(config.continuation),
            shadow: compiled().find_map(|model| model.shadow.clone()),
            steps,
            choices,
        })
    }

    /// This route, then these: further models that the request itself names.
    pub fn then(&self, further: &[Arc<Route>]) -> Route {
        let mut all = self.clone();
        for route in further {
            let nodes = all.steps.iter().map(|step| step.node + 1).max();
            let first = nodes.unwrap_or_default();
            let steps = route.steps.iter().cloned();
            all.steps.extend(steps.map(|mut step| {
                if step.node == 0 {
                    step.quotas.clone_from(&route.quotas);
                }
                step.behind(first)
            }));
        }
        all
    }

    /// How many candidates there are in all.
    pub fn len(&self) -> usize {
        let candidates = self.steps.iter().map(|step| step.group.candidates.len());
        candidates.sum()
    }

    /// Whether there are none: never, for a route that was built.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The candidate at a place.
    pub fn candidate(&self, place: Place) -> Option<&Candidate> {
        let step = self.steps.get(place.group)?;
        step.group.candidates.get(place.at)
    }

    /// The model that leads to a place, as the request says it.
    pub fn asked_as(&self, place: Place) -> &str {
        let step = self.steps.get(place.group);
        step.map_or("", |step| &step.asked_as)
    }

    /// What limits the models and the provider at a place, beside what the call has reserved.
    pub fn quotas_at(&self, place: Place) -> impl Iterator<Item = &Arc<Quota>> {
        let steps = self.steps.get(place.group);
        let models = steps.into_iter().flat_map(|step| &step.quotas);
        let provider = self.candidate(place).map(|one| &one.upstream.quota);
        models.chain(provider.into_iter().flatten())
    }

    /// The first group's choice among candidates that do not rest and are not excluded, nor barred where they stand, else
    /// the next group's. Only groups that are open are asked; a key of affinity says whom the call prefers.
    pub fn pick(
        &self,
        now: Duration,
        excluded: &[Place],
        barred: &[Place],
        open: &Open,
        key: Option<u64>,
    ) -> Option<Place> {
        let wish = Wish {
            excluded,
            barred,
            open,
            key,
            turn: Turn::Taken,
        };
        self.wished(now, &wish)
    }

    fn wished(&self, now: Duration, wish: &Wish<'_>) -> Option<Place> {
        let is_awake = |one: &Candidate| one.resting(now).is_none();
        let may_be = |one: &Candidate| !one.surely_resting(now);
        // Where nobody else is left, hints of others keep nobody back, and after them neither does a context that is too small.
        if wish.open.needs() > 0 {
            let has_room = |one: &Candidate| one.has_room_for(wish.open.needs());
            let picked = self.picked(now, wish, &|one| is_awake(one) && has_room(one));
            let picked =
                picked.or_else(|| self.picked(now, wish, &|one| may_be(one) && has_room(one)));
            if picked.is_some() {
                return picked;
            }
        }
        let picked = self.picked(now, wish, &is_awake);
        picked.or_else(|| self.picked(now, wish, &may_be))
    }

    fn picked(
        &self,
        now: Duration,
        wish: &Wish<'_>,
        is_awake: &dyn Fn(&Candidate) -> bool,
    ) -> Option<Place> {
        let excluded = wish.excluded.iter();
        let excluded: Vec<_> = excluded.map(|place| self.candidate(*place)).collect();
        let is_excluded = |one: &Candidate| excluded.iter().flatten().any(|other| one.is(other));
        for (group_at, step) in self.steps.iter().enumerate() {
            if !self.is_open(step, wish.open, now) {
                continue;
            }
            let group = &step.group;
            let place = |at: usize| Place {
                group: group_at,
                at,
            };
            let usable = |at: &usize| {
                let one = group.candidates.get(*at);
                one.is_some_and(|one| !is_excluded(one) && is_awake(one))
                    && !wish.barred.contains(&place(*at))
            };
            let available: Vec<usize> = (0..group.candidates.len()).filter(usable).collect();
            if available.is_empty() {
                continue;
            }
            let available = match wish.turn {
                Turn::Taken => group.gently(available, now),
                Turn::Foreseen => available,
            };
            let policy = &group.policy;
            return policy
                .pick(&group.standings, &available, wish.key, now, wish.turn)
                .map(place);
        }
        None
    }

    /// What is open after a failure of this candidate that a fallback of its own is meant for; `None` where there is none.
    pub fn redirect(&self, place: Place, why: Why) -> Option<Open> {
        let failed = self.steps.get(place.group)?;
        let cause = Cause::of(why);
        // The model's own fallbacks, then those of the models that it is a fallback of.
        let nodes = failed.path.iter().map(|edge| edge.node);
        let mut nodes = std::iter::once(failed.node).chain(nodes.rev());
        let named = nodes.find_map(|node| {
            let open = Open::within(Edge { node, cause }, failed.node + 1);
            let mut steps = self.steps.iter();
            steps.any(|step| open.leads_to(step)).then_some(open)
        });
        named.or_else(|| self.further(failed))
    }

    /// The next model that the request itself names, for whatever failure.
    fn further(&self, failed: &Step) -> Option<Open> {
        let mut steps = self.steps.iter();
        let is_next = |step: &&Step| step.path.is_empty() && step.node > failed.node;
        steps.find(is_next).map(|step| Open::from(step.node))
    }

    /// The most that a call with a prompt and an answer of so many tokens can come to, whichever of the candidates serves it;
    /// millionths of a dollar. `None`: nobody knows what one of them costs.
    pub fn dearest(&self, input: u64, output_cap: u64) -> Option<u64> {
        let mut dearest = 0;
        for candidate in self.candidates() {
            let tariff = candidate.tariff.as_ref()?;
            dearest = dearest.max(tariff.most(input, output_cap));
        }
        Some(dearest)
    }

    /// All candidates in order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.steps.iter().flat_map(|step| &step.group.candidates)
    }

    /// The same, each with the model that leads to it, as the request says it.
    pub fn named_candidates(&self) -> impl Iterator<Item = (&str, &Candidate)> {
        self.steps.iter().flat_map(|step| {
            let candidates = step.group.candidates.iter();
            candidates.map(|candidate| (&*step.asked_as, candidate))
        })
    }

    /// Those that are open.
    pub fn open_candidates<'a>(
        &'a self,
        open: &'a Open,
        now: Duration,
    ) -> impl Iterator<Item = &'a Candidate> {
        let steps = self.steps.iter();
        steps
            .filter(move |step| self.is_open(step, open, now))
            .flat_map(|step| &step.group.candidates)
    }

    /// Whether this place is among those that are open.
    pub fn is_open_at(&self, place: Place, open: &Open) -> bool {
        self.steps
            .get(place.group)
            .is_some_and(|step| open.leads_to(step))
    }

    /// Notes that a limit of ours keeps this place from being asked: its model's fallbacks for limits are open to the call.
    pub fn note_spent(&self, place: Place, open: &mut Open) {
        if let Some(step) = self.steps.get(place.group) {
            open.note_spent(step.node);
        }
    }

    /// Fallbacks for limits are open while a key of their model rests on one, and to a call that met one of ours there.
    fn is_open(&self, step: &Step, open: &Open, now: Duration) -> bool {
        let is_limited = |node: usize| {
            let mut own = self.steps.iter().filter(|step| step.node == node);
            own.any(|step| {
                let mut candidates = step.group.candidates.iter();
                candidates.any(|one| one.is_limited(now))
            })
        };
        let mut quotas = step.path.iter().filter(|edge| edge.cause == Cause::Quota);
        open.leads_to(step) && quotas.all(|edge| open.is_spent(edge.node) || is_limited(edge.node))
    }
}

impl Group {
    /// Leaves out, by chance, those that came back a moment ago, where others are there.
    fn gently(&self, available: Vec<usize>, now: Duration) -> Vec<usize> {
        if available.len() < 2 {
            return available;
        }
        let takes_part = |at: &usize| {
            self.candidates.get(*at).is_some_and(|one| {
                let share = one.upstream.health.breaker.share(now);
                share >= 1.0 || chance::part() < share
            })
        };
        let part: Vec<usize> = available.iter().copied().filter(takes_part).collect();
        if part.is_empty() { available } else { part }
    }
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
