//! What operators see of providers, their keys and models, and what they can reset: read from shared atomics when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::health::{Position, Reason, Rest};
use crate::snapshot::{Credential, Snapshot, Upstream};
use crate::transport::Counts;

/// A provider as it is now.
#[derive(Clone, Debug)]
pub struct ProviderStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// It can be asked: neither it nor all of its keys rest.
    pub is_up: bool,
    /// How its breaker stands.
    pub breaker: Position,
    /// How often that opened since it was last closed, and in all.
    pub trips: u32,
    /// How often it opened in all.
    pub opened: u64,
    /// Its budget of retries.
    pub retries: RetryStatus,
    /// Calls under way there.
    pub calls: u32,
    /// How many there may be.
    pub max_calls: Option<usize>,
    /// Its connections.
    pub connections: Counts,
    /// Its keys.
    pub credentials: Vec<CredentialStatus>,
    /// Its models that rest, with why and how long still.
    pub resting_models: Vec<(String, Reason, Duration)>,
    /// The replica that says that it rests, where that was not seen here.
    pub learnt_from: Option<u64>,
}

/// A provider's budget of retries.
#[derive(Clone, Copy, Debug)]
pub struct RetryStatus {
    /// How many may fail now.
    pub left: f64,
    /// How many were tried.
    pub tried: u64,
    /// How many the budget did not allow.
    pub refused: u64,
}

/// A provider's key as it is now.
#[derive(Clone, Debug)]
pub struct CredentialStatus {
    /// Shown instead of the key.
    pub name: Arc<str>,
    /// Why it rests and how long still.
    pub rest: Option<(Reason, Duration)>,
    /// The replica that says so, where that was not seen here.
    pub learnt_from: Option<u64>,
    /// Calls under way with it.
    pub calls: u32,
}

/// A model as calls with one key find it.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// Its name there.
    pub name: String,
    /// Calls under way.
    pub calls: u32,
    /// Time to the first good event: a peak-EWMA. `None`: nobody measured it lately.
    pub latency: Option<Duration>,
}

/// What is to be reset. Nothing named: everything.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// This provider only.
    pub provider: Option<String>,
    /// This key only, by its name.
    pub credential: Option<String>,
    /// This model only: as clients say it, or its name there.
    pub model: Option<String>,
}

/// Something that rested until it was reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The provider.
    pub provider: Arc<str>,
    /// Its key, where that rested.
    pub credential: Option<Arc<str>>,
    /// Its model, where that rested.
    pub model: Option<String>,
    /// Why it rested; `half_open` where a breaker waited for its trial.
    pub reason: &'static str,
}

/// What of a provider a reset is meant for.
struct Meant<'a> {
    upstream: &'a Upstream,
    credentials: Vec<&'a Credential>,
    models: Vec<(String, Arc<Rest>)>,
}

impl ProviderStatus {
    /// This one's.
    pub fn of(upstream: &Upstream, now: Duration) -> Self {
        let health = &upstream.health;
        let credentials: Vec<_> = upstream
            .credentials
            .iter()
            .map(|credential| CredentialStatus {
                name: credential.name.clone(),
                rest: credential.rest.resting(now),
                learnt_from: credential.rest.learnt_from(now),
                calls: credential.pulses.in_flight(),
            })
            .collect();
        let (tried, refused) = health.budget.counts();
        let models = upstream.model_rests.all().into_iter();
        let resting = |(name, rest): (String, Arc<Rest>)| {
            let (reason, wait) = rest.resting(now)?;
            Some((name, reason, wait))
        };
        Self {
            name: upstream.name.clone(),
            is_up: health.breaker.resting(now).is_none()
                && credentials.iter().any(|key| key.rest.is_none()),
            breaker: health.breaker.position(now),
            trips: health.breaker.trips(),
            opened: health.breaker.opened(),
            retries: RetryStatus {
                left: health.budget.left(now),
                tried,
                refused,
            },
            calls: credentials.iter().map(|key| key.calls).sum(),
            max_calls: upstream.max_concurrent,
            connections: upstream.connections(),
            credentials,
            resting_models: models.filter_map(resting).collect(),
            learnt_from: health.breaker.rest_cell().learnt_from(now),
        }
    }
}

/// Every provider's.
pub fn providers(snapshot: &Snapshot, now: Duration) -> Vec<ProviderStatus> {
    let upstreams = snapshot.upstreams.iter();
    upstreams
        .map(|upstream| ProviderStatus::of(upstream, now))
        .collect()
}

/// The models that were asked for with this key.
pub fn models(credential: &Credential, now: Duration) -> Vec<ModelStatus> {
    let targets = credential.pulses.targets().into_iter();
    targets
        .map(|(name, target)| ModelStatus {
            name,
            calls: target.load(),
            latency: target.decayed(now),
        })
        .collect()
}

/// Ends rests, closes breakers and fills budgets. `Err`: nobody has a name like this, and nothing was changed.
pub fn reset(engine: &Engine, which: &Which) -> Result<Vec<Ended>, String> {
    let (snapshot, now) = (engine.snapshot(), engine.clock().now());
    let meant = meant(&snapshot, which)?;
    let is_whole = which.credential.is_none() && which.model.is_none();
    let mut ended = Vec::new();
    for one in meant {
        if is_whole {
            ended.extend(reset_provider(one.upstream, now));
        }
        ended.extend(reset_parts(&one, now));
    }
    for one in &ended {
        tracing::info!(
            provider = &*one.provider,
            credential = one.credential.as_deref(),
            model = one.model.as_deref(),
            reason = one.reason,
            "a rest was ended by the admin"
        );
    }
    tracing::info!(
        provider = which.provider,
        credential = which.credential,
        model = which.model,
        ended = ended.len(),
        "health was reset by the admin"
    );
    Ok(ended)
}

fn meant<'a>(snapshot: &'a Snapshot, which: &Which) -> Result<Vec<Meant<'a>>, String> {
    let is_whole = which.credential.is_none() && which.model.is_none();
    let is_named = |wanted: &Option<String>, name: &str| {
        let wanted = wanted.as_deref();
        wanted.is_none_or(|wanted| wanted == name)
    };
    let all = snapshot.upstreams.iter().map(|upstream| &**upstream);
    let mut found: Vec<&'a Upstream> = all
        .filter(|upstream| is_named(&which.provider, &upstream.name))
        .collect();
    if let Some(name) = which.provider.as_deref().filter(|_| found.is_empty()) {
        return Err(format!("there is no provider '{}'", shown(name)));
    }
    if let Some(name) = which.credential.as_deref() {
        found.retain(|one| one.credentials.iter().any(|key| *key.name == *name));
        if found.is_empty() {
            return Err(format!("there is no credential '{}' here", shown(name)));
        }
    }
    let mut meant = Vec::new();
    for upstream in found {
        let keys = upstream.credentials.iter().map(|key| &**key);
        let is_meant = |key: &&Credential| {
            is_whole || which.credential.is_some() && is_named(&which.credential, &key.name)
        };
        let models = match &which.model {
            Some(name) => match rests_of(snapshot, upstream, name) {
                Some(models) => models,
                None => continue,
            },
            None if is_whole => upstream.model_rests.all(),
            None => Vec::new(),
        };
        meant.push(Meant {
            upstream,
            credentials: keys.filter(is_meant).collect(),
            models,
        });
    }
    if let Some(name) = which.model.as_deref().filter(|_| meant.is_empty()) {
        return Err(format!("there is no model '{}' here", shown(name)));
    }
    Ok(meant)
}

/// Rests of a model at a provider, whether it is called as clients do or as it is called there; `None` where that does not serve it.
fn rests_of(
    snapshot: &Snapshot,
    upstream: &Upstream,
    name: &str,
) -> Option<Vec<(String, Arc<Rest>)>> {
    let own = upstream.model_rests.get(name).map(|_| name);
    let mut names = snapshot.names_at(upstream, name);
    names.extend(own);
    names.sort_unstable();
    names.dedup();
    let rests = names.iter().filter_map(|name| {
        let rest = upstream.model_rests.get(name)?;
        Some(((*name).to_owned(), rest))
    });
    (!names.is_empty()).then(|| rests.collect())
}

fn reset_provider(upstream: &Upstream, now: Duration) -> Option<Ended> {
    let health = &upstream.health;
    let reason = match health.breaker.position(now) {
        Position::Closed => None,
        Position::Open(reason, _) => Some(reason.name()),
        half_open => Some(half_open.name()),
    };
    health.breaker.reset();
    health.budget.refill(now);
    reason.map(|reason| Ended {
        provider: upstream.name.clone(),
        credential: None,
        model: None,
        reason,
    })
}

fn reset_parts(meant: &Meant<'_>, now: Duration) -> Vec<Ended> {
    let end = |rest: &Rest| {
        let resting = rest.resting(now);
        rest.reset();
        resting.map(|(reason, _)| reason.name())
    };
    let provider = &meant.upstream.name;
    let credentials = meant.credentials.iter().filter_map(|key| {
        Some(Ended {
            provider: provider.clone(),
            credential: Some(key.name.clone()),
            model: None,
            reason: end(&key.rest)?,
        })
    });
    let models = meant.models.iter().filter_map(|(name, rest)| {
        Some(Ended {
            provider: provider.clone(),
            credential: None,
            model: Some(name.clone()),
            reason: end(rest)?,
        })
    });
    credentials.chain(models).collect()
}

/// A caller's text, as much of it as is worth repeating.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
pub(crate) mod tests;
