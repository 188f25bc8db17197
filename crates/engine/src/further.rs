//! Further models that a request names itself (`models`, `fallbacks`): tried in order after its own.

use std::borrow::Cow;
use std::sync::Arc;

use polygate_core::{Failure, Kind};
use polygate_wire::RawObject;
use polygate_wire::raw::Edit;

use crate::admit::Caller;
use crate::call::Call;
use crate::choose;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::unread::{Mentioned, named_in};

/// Where they are named.
const MEMBERS: [&str; 2] = ["models", "fallbacks"];

/// What several providers know: it passes where they alone are asked.
const PASSING: &str = "models";

/// How many one member may name.
const MOST: usize = 16;

/// What one member names.
#[derive(Clone, Debug)]
pub struct Further {
    member: &'static str,
    /// As the client means them: `PROVIDER_SUFFIX` stripped.
    names: Vec<String>,
    /// Nothing was stripped.
    as_said: bool,
}

impl Further {
    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The lists of a request. Each name must be allowed, or the key's list would mean nothing.
pub fn read(
    snapshot: &Snapshot,
    object: &RawObject,
    caller: &Caller,
) -> Result<Vec<Further>, Failure> {
    let lists = MEMBERS.iter().filter_map(|member| {
        let text = object.get(member)?;
        list(snapshot, member, text, caller).transpose()
    });
    lists.collect()
}

/// What they name in another shape than a list, which passes to upstreams as it is.
pub fn mentioned(object: &RawObject) -> Mentioned {
    let texts = MEMBERS.iter().filter_map(|member| object.get(member));
    let odd = texts.filter(|text| serde_json::from_str::<Vec<Cow<'_, str>>>(text).is_err());
    Mentioned {
        names: odd.flat_map(named_in).collect(),
        is_unseen: false,
    }
}

/// The model of a request that names nothing but a list of them.
pub fn first(object: &RawObject) -> Option<Cow<'_, str>> {
    let names: Vec<Cow<'_, str>> = serde_json::from_str(object.get(PASSING)?).ok()?;
    names.into_iter().next().filter(|name| !name.is_empty())
}

/// The route of the call's model, then those of its further ones. Their members are ours, and no upstream sees them.
pub fn extend(
    snapshot: &Snapshot,
    call: &mut Call,
    route: Arc<Route>,
) -> Result<Arc<Route>, Failure> {
    let passes = |further: &Further| {
        further.member == PASSING
            && further.as_said
            && route
                .candidates()
                .all(|one| one.upstream.said.further_models)
    };
    let ours: Vec<&Further> = call.further.iter().filter(|one| !passes(one)).collect();
    let Some(object) = call.object.as_ref().filter(|_| !ours.is_empty()) else {
        return Ok(route);
    };
    let edits: Vec<Edit<'_>> = ours
        .iter()
        .map(|further| Edit::Remove(further.member))
        .collect();
    let object = RawObject::parse(object.edit(&edits))?;
    call.object = Some(object);
    let mut names = vec![call.model.as_str()];
    let mut routes = Vec::new();
    for further in &ours {
        let mut unknown = Vec::new();
        for name in &further.names {
            match choose::route(snapshot, call, name) {
                Some(_) if names.contains(&name.as_str()) => {}
                Some(found) => {
                    names.push(name);
                    routes.push(found);
                }
                None => unknown.push(name.as_str()),
            }
        }
        if !unknown.is_empty() {
            return Err(nobody_has(further.member, &unknown));
        }
    }
    Ok(if routes.is_empty() {
        route
    } else {
        Arc::new(route.then(&routes))
    })
}

fn list(
    snapshot: &Snapshot,
    member: &'static str,
    text: &str,
    caller: &Caller,
) -> Result<Option<Further>, Failure> {
    let Ok(said) = serde_json::from_str::<Vec<Cow<'_, str>>>(text) else {
        // Other shapes are the upstream's business.
        if caller.has_model_list() {
            let message =
                format!("'{member}' must be a list of model names for a key with allowed models");
            return Err(Failure::new(Kind::Forbidden, message).param(member));
        }
        return Ok(None);
    };
    if said.len() > MOST {
        let message = format!(
            "'{member}' names {} models; {MOST} are the most",
            said.len()
        );
        return Err(Failure::new(Kind::InvalidRequest, message).param(member));
    }
    let names: Vec<String> = said
        .iter()
        .map(|name| snapshot.strip(name).to_owned())
        .collect();
    if let Some(name) = names.iter().find(|name| !caller.may_use(name)) {
        let message = format!("this key may not use model '{}'", shown(name));
        return Err(Failure::new(Kind::Forbidden, message).param(member));
    }
    let as_said = names.iter().zip(&said).all(|(name, said)| name == said);
    Ok(Some(Further {
        member,
        names,
        as_said,
    }))
}

fn nobody_has(member: &str, unknown: &[&str]) -> Failure {
    let names: Vec<String> = unknown
        .iter()
        .map(|name| format!("'{}'", shown(name)))
        .collect();
    let message = format!(
        "'{member}' names models that no provider here has: {}; GET /v1/models lists what there is",
        names.join(", ")
    );
    Failure::new(Kind::InvalidRequest, message).param(member)
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}
