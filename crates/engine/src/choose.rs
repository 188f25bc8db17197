//! Where a call of a model with routes goes: the first of them that is for it, and on through the routes of the model that this
//! leads to. Decided once a call, before anybody is asked.

use std::cell::OnceCell;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;

use crate::affinity;
use crate::attribution::Attribution;
use crate::call::Call;
use crate::chance;
use crate::config::{ModelRoute, Percent};
use crate::route::Route;
use crate::snapshot::Snapshot;

/// How deep routes lead through routes. The configuration is held to it when it is read.
pub const DEPTH: usize = 8;

/// How many models with routes are looked at for a call, those of its fallbacks included.
const MODELS: usize = 64;

/// What was decided for a call, in the order it was met: each model once, those that fallbacks lead to as well.
#[derive(Clone, Debug, Default)]
pub struct Choices(Arc<[Choice]>);

/// What was decided on a model's routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The model.
    pub model: Arc<str>,
    /// The route that is taken, counted from 1; `None`: none was for the call, which goes to the model's own targets.
    pub route: Option<usize>,
    /// The model that it leads to.
    pub to: Option<Arc<str>>,
}

/// What was made of one of a model's routes.
#[derive(Clone, Debug, Serialize)]
pub struct Looked {
    /// The model that has it.
    pub model: Arc<str>,
    /// Its number there, from 1.
    pub route: usize,
    /// The model that it leads to.
    pub to: String,
    /// For which calls it is; empty: for every call.
    pub when: String,
    /// So many of a hundred take it.
    pub percent: Option<String>,
    /// What became of it.
    pub verdict: Look,
    /// Chance had a part in it: the next call may go another way.
    pub by_chance: bool,
}

/// Whether a route is taken, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// It is.
    Taken,
    /// It is for other calls.
    Condition,
    /// Others were drawn.
    Percent,
    /// One before it is.
    Behind,
}

/// Where a call of this name goes; `None` where nobody has it.
pub(crate) fn route(snapshot: &Snapshot, call: &Call, name: &str) -> Option<Arc<Route>> {
    if !snapshot.has_routes {
        return snapshot.route(name);
    }
    let choices = Choices::of(snapshot, call, name);
    if choices.0.is_empty() {
        return snapshot.route(name);
    }
    let build = || Route::build(snapshot, name, choices.clone());
    snapshot.chosen.get_or_build(&choices.key(name), build)
}

/// What was made of the routes of those models that the call itself goes through.
pub(crate) fn looked(snapshot: &Snapshot, call: &Call, route: &Route) -> Vec<Looked> {
    let draw = Draw::new(call);
    let chain = route.choices.chain(&call.model);
    let choices = chain.iter().filter_map(|name| route.choices.get(name));
    let looked = choices.flat_map(|choice| {
        let routes = snapshot.models.get(&*choice.model);
        let routes = routes.into_iter().flat_map(|model| &model.routes);
        let draw = &draw;
        routes
            .enumerate()
            .map(move |(at, route)| Looked::of(choice, (at, route), draw))
    });
    looked.collect()
}

/// Chance, or what a call may be kept by.
struct Draw<'a> {
    call: &'a Call,
    key: OnceCell<Option<u64>>,
}

impl<'a> Draw<'a> {
    fn new(call: &'a Call) -> Self {
        Self {
            call,
            key: OnceCell::new(),
        }
    }

    /// The call's session or else its end user: calls of one go one way. Where neither is named, chance alone decides.
    fn key(&self) -> Option<u64> {
        *self.key.get_or_init(|| {
            let session = affinity::session(self.call);
            session.or_else(|| end_user(self.call))
        })
    }

    /// Whether the call is among so many of those that come to this route.
    fn takes(&self, percent: Percent, model: &str, at: usize) -> bool {
        let drawn = match self.key() {
            // Each route draws by itself, or the second would get none but those that the first left.
            Some(key) => {
                let pieces = [model.as_bytes(), &at.to_le_bytes(), &key.to_le_bytes()];
                chance::mixed(affinity::hash(&pieces))
            }
            None => chance::number(),
        };
        percent.takes(drawn)
    }
}

fn end_user(call: &Call) -> Option<u64> {
    let mut attribution = Attribution::of(&call.inbound.headers);
    if let Some(object) = &call.object {
        attribution.read(object);
    }
    let end_user = attribution.end_user()?;
    Some(affinity::hash(&[end_user.as_bytes()]))
}

impl Choices {
    /// For this name: through routes, and through the fallbacks of all models on the way.
    fn of(snapshot: &Snapshot, call: &Call, name: &str) -> Self {
        let mut made = Vec::new();
        let mut seen = Vec::new();
        visit(snapshot, &Draw::new(call), name, (&mut made, &mut seen));
        Self(made.into())
    }

    /// What was decided on this model's routes.
    fn get(&self, model: &str) -> Option<&Choice> {
        self.0.iter().find(|choice| *choice.model == *model)
    }

    /// The models that a name leads through, itself first; the last is the one that is asked.
    pub(crate) fn chain<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let mut chain = vec![name];
        let mut last = name;
        while let Some(next) = self.get(last).and_then(|choice| choice.to.as_deref()) {
            // Read configurations have no circles: this is for those that nobody read.
            if chain.len() > DEPTH || chain.contains(&next) {
                break;
            }
            chain.push(next);
            last = next;
        }
        chain
    }

    /// Those that the call itself goes through.
    pub(crate) fn taken(&self, name: &str) -> Arc<[Choice]> {
        if self.0.is_empty() {
            return Arc::default();
        }
        let chain = self.chain(name).into_iter();
        let taken = chain.filter_map(|name| self.get(name).cloned());
        taken.collect()
    }

    /// By what the route is remembered: the name, and what was decided, whose order follows from it.
    pub(crate) fn key(&self, name: &str) -> String {
        let mut key = format!("{name}:");
        for choice in &*self.0 {
            // Writing to a string does not fail.
            let _ = write!(key, "{}.", choice.route.unwrap_or_default());
        }
        key
    }
}

fn visit<'a>(
    snapshot: &'a Snapshot,
    draw: &Draw<'_>,
    name: &'a str,
    (made, seen): (&mut Vec<Choice>, &mut Vec<&'a str>),
) {
    if seen.contains(&name) || seen.len() >= MODELS {
        return;
    }
    let Some(model) = snapshot.models.get(name) else {
        return;
    };
    seen.push(name);
    if !model.routes.is_empty() {
        let (choice, to) = choose(name, &model.routes, draw);
        made.push(choice);
        if let Some(to) = to {
            visit(snapshot, draw, to, (made, seen));
        }
    }
    for (_, fallbacks) in model.fallbacks.by_cause() {
        for fallback in fallbacks {
            visit(snapshot, draw, fallback, (made, seen));
        }
    }
}

/// The first route that is for the call.
fn choose<'a>(name: &str, routes: &'a [ModelRoute], draw: &Draw<'_>) -> (Choice, Option<&'a str>) {
    let mut all = routes.iter().enumerate();
    let taken = all.find(|(at, route)| {
        let is_drawn = |percent| draw.takes(percent, name, *at);
        route.when.holds(draw.call) && route.percent.is_none_or(is_drawn)
    });
    let to = taken.map(|(_, route)| route.model.as_str());
    let choice = Choice {
        model: name.into(),
        route: taken.map(|(at, _)| at + 1),
        to: to.map(Arc::from),
    };
    (choice, to)
}

impl Looked {
    fn of(choice: &Choice, (at, route): (usize, &ModelRoute), draw: &Draw<'_>) -> Self {
        let taken = choice.route.unwrap_or(usize::MAX);
        let verdict = match (at + 1).cmp(&taken) {
            std::cmp::Ordering::Equal => Look::Taken,
            std::cmp::Ordering::Greater => Look::Behind,
            std::cmp::Ordering::Less if route.when.holds(draw.call) => Look::Percent,
            std::cmp::Ordering::Less => Look::Condition,
        };
        let is_drawn = route.percent.is_some() && matches!(verdict, Look::Taken | Look::Percent);
        Self {
            model: choice.model.clone(),
            route: at + 1,
            to: route.model.clone(),
            when: route.when.to_string(),
            percent: route.percent.map(|percent| percent.to_string()),
            verdict,
            by_chance: is_drawn && draw.key().is_none(),
        }
    }
}

impl fmt::Display for Choice {
    /// For people: what the log of calls shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.route, &self.to) {
            (Some(route), Some(to)) => write!(f, "{}#{route} -> {to}", self.model),
            _ => write!(f, "{} -> its targets", self.model),
        }
    }
}

#[cfg(test)]
mod tests;
