//! A configuration compiled for calls: immutable, swapped whole, read once a call.

mod credential;
mod rests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use polygate_providers::{Price, Provider, Row, Settings};
use polygate_wire::Format;
use rustls::ClientConfig;

use crate::cache::Cache;
use crate::choose::Choices;
use crate::cloak::Cloak;
use crate::config::{self, Config, Fallbacks, ModelRoute, Percent, Strategy, Way, WireApi};
use crate::guard::Guards;
use crate::health::{Health, HealthBook};
use crate::pattern::Pattern;
use crate::quota::{Quota, Subject, SubjectKind};
use crate::route::{Route, RouteCache};
use crate::seats::Limit;
use crate::signals::Signals;
use crate::tls;
use crate::transport::{Counts, Keeping, Reach, Transport};

pub use credential::Credential;
pub(crate) use rests::ModelRests;

/// Everything a call needs of the configuration.
pub struct Snapshot {
    /// The configuration itself.
    pub config: Config,
    /// Counts configurations since the start.
    pub generation: u64,
    /// Providers that are not disabled, in order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Models that name their targets.
    pub models: HashMap<String, Model>,
    /// Answers that are kept, where any are.
    pub cache: Option<Arc<Cache>>,
    /// One of them leads to others by what a call is.
    pub(crate) has_routes: bool,
    /// What is looked for in requests and answers.
    pub guards: Guards,
    pub(crate) routes: RouteCache,
    /// The same of models that lead to others, by what was chosen.
    pub(crate) chosen: RouteCache,
    trusts: tls::Profiles,
}

/// A provider, compiled.
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The row it is of.
    pub row: &'static str,
    /// What the table says of it.
    pub said: &'static Row,
    /// What speaks to it.
    pub provider: Arc<dyn Provider>,
    /// Its keys.
    pub credentials: Vec<Arc<Credential>>,
    /// Connections to it: one set for all keys that reach it alike.
    transports: Vec<Arc<Transport>>,
    /// What it is told in place of who calls.
    pub cloak: Option<Arc<Cloak>>,
    /// Names of headers of its answers that pass to clients.
    pub passthrough: Vec<Pattern>,
    /// Times of its own.
    pub timeouts: config::Deadlines,
    /// How many calls it gets at a time.
    pub max_concurrent: Option<usize>,
    /// Its breaker and its budget of retries.
    pub health: Arc<Health>,
    /// The model that health checks chat with.
    pub health_model: Option<String>,
    /// How much it gets in a time.
    pub quota: Option<Arc<Quota>>,
    /// Share among providers.
    pub weight: u32,
    /// Its tier: lower ones are asked first.
    pub priority: i32,
    /// What names for it begin with.
    pub prefix: Option<String>,
    /// The names it serves; empty = all.
    pub mappings: Vec<config::Mapping>,
    /// The names it does not.
    pub excluded: Vec<Pattern>,
    /// Names that are surely its vendor's own; empty = it takes any name as well as the next.
    pub claims: Vec<Pattern>,
    /// What its own model list said when last asked.
    pub discovered: ArcSwap<Vec<String>>,
    /// Rests of models that it does not have.
    pub(crate) model_rests: ModelRests,
    /// What replicas tell one another.
    pub(crate) signals: Arc<Signals>,
}

/// A model that names its targets, compiled.
#[derive(Debug)]
pub struct Model {
    /// Other models that its calls go to, by what a call is.
    pub routes: Vec<ModelRoute>,
    /// How one target is chosen.
    pub strategy: Strategy,
    /// Upstream's index, the model's name there, weight.
    pub targets: Vec<ModelTarget>,
    /// Models tried after.
    pub fallbacks: Fallbacks,
    /// How many of its calls there are at a time.
    pub seats: Option<Limit>,
    /// How much of it there is in a time.
    pub quota: Option<Arc<Quota>>,
    /// Who gets its calls too.
    pub shadow: Option<Arc<Shadow>>,
}

/// Shadow traffic of a model, compiled.
#[derive(Debug)]
pub struct Shadow {
    /// The model that gets the calls too.
    pub model: String,
    /// So many of them.
    pub percent: Percent,
    /// How many there are at a time.
    pub seats: Limit,
}

/// One target of a [`Model`].
#[derive(Clone, Debug)]
pub struct ModelTarget {
    /// Index of the upstream.
    pub upstream: usize,
    /// The model's name there; `None` = as asked.
    pub model: Option<String>,
    /// Share.
    pub weight: u32,
    /// Tier.
    pub priority: i32,
    /// What it costs, where the configuration says so.
    pub price: Option<Price>,
}

impl Snapshot {
    /// Compiles a configuration; says everything that is wrong with it.
    pub fn compile(
        config: Config,
        book: &HealthBook,
        before: Option<&Snapshot>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut trusts = tls::Profiles::default();
        let mut upstreams = Vec::new();
        for provider in config
            .providers
            .iter()
            .filter(|provider| !provider.disabled)
        {
            let trust = trust(provider, &config, &mut trusts, before);
            let compiled = trust.and_then(|trust| {
                let reaching = Reaching::new(provider, &config, trust, before);
                compile_upstream(provider, &config.header_policy, book, before, reaching)
            });
            match compiled {
                Ok(upstream) => upstreams.push(Arc::new(upstream)),
                Err(problem) => problems.push(format!("provider '{}': {problem}", provider.name)),
            }
        }
        let guards = Guards::compile(&config).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            Guards::default()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let models: HashMap<String, Model> = config
            .models
            .iter()
            .map(|model| {
                (
                    model.name.clone(),
                    compile_model(model, &config, &upstreams, book),
                )
            })
            .collect();
        let cache = Cache::compile(&config, &upstreams, &book.answers);
        book.answers
            .make_room(cache.as_ref().map_or(0, Cache::room));
        let generation = before.map_or(1, |before| before.generation + 1);
        Ok(Self {
            config,
            generation,
            upstreams,
            has_routes: models.values().any(|model| !model.routes.is_empty()),
            models,
            cache: cache.map(Arc::new),
            guards,
            routes: RouteCache::default(),
            chosen: RouteCache::default(),
            trusts,
        })
    }

    /// Where calls of this name may go that no route of a model takes elsewhere; `None` where nobody has it.
    pub fn route(&self, requested: &str) -> Option<Arc<Route>> {
        self.routes.get_or_build(requested, || {
            Route::build(self, requested, Choices::default())
        })
    }

    /// What a provider calls this model: as the model's targets say, and as the provider itself offers it.
    pub fn names_at<'a>(&'a self, upstream: &'a Upstream, requested: &'a str) -> Vec<&'a str> {
        let offered = upstream
            .unprefixed(requested, self.config.routing.force_model_prefix)
            .and_then(|bare| upstream.upstream_model(bare));
        let targeted = self.targets_at(upstream, requested);
        targeted.chain(offered).collect()
    }

    /// What a provider calls this model as the model's targets say.
    pub fn targets_at<'a>(
        &'a self,
        upstream: &'a Upstream,
        requested: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let model = self.models.get(requested);
        let targets = model.into_iter().flat_map(|model| &model.targets);
        let is_here = |target: &&ModelTarget| {
            let there = self.upstreams.get(target.upstream);
            there.is_some_and(|there| there.name == upstream.name)
        };
        targets
            .filter(is_here)
            .map(move |target| target.model.as_deref().unwrap_or(requested))
    }

    /// The name without the operator's prefix (`PROVIDER_SUFFIX`).
    pub fn strip<'a>(&self, requested: &'a str) -> &'a str {
        let Some(prefix) = self
            .config
            .routing
            .provider_suffix
            .as_deref()
            .filter(|prefix| !prefix.is_empty())
        else {
            return requested;
        };
        let prefix = prefix.trim_end_matches('/');
        requested
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|rest| !rest.is_empty())
            .unwrap_or(requested)
    }
}

impl Upstream {
    /// Its connections, counted.
    pub fn connections(&self) -> Counts {
        self.transports.iter().map(|each| each.counts()).sum()
    }

    /// The name behind this provider's prefix, where calls of the requested name may come here at all.
    pub fn unprefixed<'a>(&self, requested: &'a str, force_prefix: bool) -> Option<&'a str> {
        let Some(prefix) = self.prefix.as_deref() else {
            return Some(requested);
        };
        match requested
            .strip_prefix(prefix)
            .filter(|rest| !rest.is_empty())
        {
            Some(bare) => Some(bare),
            None if force_prefix => None,
            None => Some(requested),
        }
    }

    /// What the upstream calls this model; `None` where it does not serve it.
    pub fn upstream_model<'a>(&'a self, bare: &'a str) -> Option<&'a str> {
        self.mapped(bare).map(|(model, _)| model)
    }

    /// The same with what it costs there, where the configuration says so.
    pub fn mapped<'a>(&'a self, bare: &'a str) -> Option<(&'a str, Option<Price>)> {
        let (model, price) = if self.mappings.is_empty() {
            (bare, None)
        } else {
            let matching = self
                .mappings
                .iter()
                .filter(|mapping| mapping.pattern.matches(bare));
            // Of equals the first: `max_by_key` would take the last.
            let best = matching.reduce(|best, next| {
                if next.pattern.specificity() > best.pattern.specificity() {
                    next
                } else {
                    best
                }
            })?;
            (best.target.as_deref().unwrap_or(bare), best.price)
        };
        let excluded = self
            .excluded
            .iter()
            .any(|pattern| pattern.matches(bare) || pattern.matches(model));
        let is_any_keys = || self.credentials.iter().any(|key| key.serves(bare, model));
        (!excluded && is_any_keys()).then_some((model, price))
    }

    /// A provider that passes every name, but whose vendor surely has other names than this.
    pub fn is_stranger_to(&self, bare: &str) -> bool {
        self.mappings.is_empty()
            && !self.claims.is_empty()
            && !self.claims.iter().any(|pattern| pattern.matches(bare))
    }
}

fn compile_upstream(
    provider: &config::Provider,
    headers: &config::HeaderPolicy,
    book: &HealthBook,
    before: Option<&Snapshot>,
    mut reaching: Reaching<'_>,
) -> Result<Upstream, String> {
    let settings = Settings {
        claude_defaults: headers.claude_defaults.clone(),
        ..settings(provider)
    };
    let row = polygate_providers::registry::row_of(&settings)?;
    let built = polygate_providers::build(&settings)?;
    let place = format!(
        "{}|{}",
        provider.name,
        provider.api_base.as_deref().unwrap_or_default()
    );
    let keys = provider.credentials.iter().filter(|key| !key.disabled);
    let credentials = keys.map(|key| {
        let transport = reaching.transport(key.way.as_ref());
        Credential::compile(key, provider, &place, book, transport).map(Arc::new)
    });
    let credentials = credentials.collect::<Result<Vec<_>, _>>()?;
    if credentials.is_empty() {
        return Err("it has no api_key".to_owned());
    }
    let claims = row
        .models
        .iter()
        .map(|pattern| Pattern::glob(pattern).map_err(|error| error.to_string()));
    let known = before.and_then(|before| {
        before
            .upstreams
            .iter()
            .find(|old| *old.name == *provider.name)
    });
    Ok(Upstream {
        name: provider.name.as_str().into(),
        row: &row.name,
        said: row,
        provider: built,
        credentials,
        transports: reaching.made,
        cloak: Cloak::new(provider.cloak.as_ref(), &book.pseudonyms)?,
        passthrough: provider
            .header_policy
            .passthrough
            .as_ref()
            .unwrap_or(&headers.passthrough)
            .clone(),
        timeouts: provider.timeouts,
        max_concurrent: provider.max_concurrent,
        health: book.providers.of(&place),
        health_model: provider.health_model.clone(),
        quota: Quota::new(
            &Subject::new(SubjectKind::Provider, provider.name.as_str()),
            &provider.limits,
            &book.quotas,
        ),
        weight: provider.weight,
        priority: provider.priority,
        prefix: provider.prefix.clone().filter(|prefix| !prefix.is_empty()),
        mappings: provider.models.clone(),
        excluded: provider.excluded_models.clone(),
        claims: claims.collect::<Result<_, _>>()?,
        discovered: ArcSwap::new(
            known
                .map(|old| old.discovered.load_full())
                .unwrap_or_default(),
        ),
        model_rests: ModelRests::default(),
        signals: book.signals.clone(),
    })
}

fn trust(
    provider: &config::Provider,
    config: &Config,
    trusts: &mut tls::Profiles,
    before: Option<&Snapshot>,
) -> Result<Arc<ClientConfig>, String> {
    let verify_ssl = provider.verify_ssl.unwrap_or(config.verify_ssl);
    let ca_file = provider.ca_file.as_deref().or(config.ca_file.as_deref());
    let trust = tls::Trust::new(verify_ssl, ca_file)?;
    trusts.get(trust, before.map(|before| &before.trusts))
}

/// The ways to one provider: connections are shared by its keys where they reach it alike, and with the configuration of before
/// where also the address is the same.
struct Reaching<'a> {
    way: &'a Way,
    timeouts: &'a config::Timeouts,
    trust: Arc<ClientConfig>,
    most: Option<usize>,
    known: &'a [Arc<Transport>],
    made: Vec<Arc<Transport>>,
}

impl<'a> Reaching<'a> {
    fn new(
        provider: &'a config::Provider,
        config: &'a Config,
        trust: Arc<ClientConfig>,
        before: Option<&'a Snapshot>,
    ) -> Self {
        let is_same = |old: &&config::Provider| {
            old.name == provider.name
                && old.kind == provider.kind
                && old.api_base == provider.api_base
                && old.region == provider.region
        };
        let known = before.and_then(|before| {
            before.config.providers.iter().find(is_same)?;
            let mut upstreams = before.upstreams.iter();
            upstreams.find(|old| *old.name == *provider.name)
        });
        Self {
            way: provider.way.as_ref().unwrap_or(&config.way),
            timeouts: &config.timeouts,
            trust,
            most: provider.max_connections,
            known: known.map_or(&[], |known| &known.transports),
            made: Vec::new(),
        }
    }

    fn transport(&mut self, own: Option<&Way>) -> Arc<Transport> {
        let reach = Reach {
            proxy: match own.unwrap_or(self.way) {
                Way::Direct => None,
                Way::Through(proxy) => Some(proxy.clone()),
            },
            tls: self.trust.clone(),
            connect: self.timeouts.connect,
            keeping: Keeping {
                idle: self.timeouts.connection_idle,
                lifetime: self.timeouts.connection_lifetime,
            },
            most: self.most,
        };
        let is_it = |each: &&Arc<Transport>| *each.reach() == reach;
        if let Some(made) = self.made.iter().find(is_it) {
            return made.clone();
        }
        let known = self.known.iter().find(is_it).cloned();
        let transport = known.unwrap_or_else(|| Arc::new(Transport::new(reach)));
        self.made.push(transport.clone());
        transport
    }
}

/// What the provider table needs to know of a configured provider.
pub fn settings(provider: &config::Provider) -> Settings {
    Settings {
        kind: provider.kind.clone(),
        name: provider.name.clone(),
        api_base: provider.api_base.clone(),
        only: provider.wire_api.map(|wire_api| match wire_api {
            WireApi::Chat => Format::OpenaiChat,
            WireApi::Responses => Format::OpenaiResponses,
        }),
        headers: provider.headers.clone(),
        claude_defaults: BTreeMap::new(),
        forward: provider.header_policy.forward.clone(),
        api_version: provider.api_version.clone(),
        region: provider.region.clone(),
    }
}

fn compile_model(
    model: &config::Model,
    config: &Config,
    upstreams: &[Arc<Upstream>],
    book: &HealthBook,
) -> Model {
    // A target of a disabled provider is no target.
    let targets = model.targets.iter().filter_map(|target| {
        let at = upstreams
            .iter()
            .position(|upstream| *upstream.name == *target.provider)?;
        let weight = target
            .weight
            .unwrap_or_else(|| upstreams.get(at).map_or(1, |upstream| upstream.weight));
        Some(ModelTarget {
            upstream: at,
            model: target.model.clone(),
            weight,
            priority: target
                .priority
                .unwrap_or_else(|| upstreams.get(at).map_or(0, |upstream| upstream.priority)),
            price: target.price,
        })
    });
    Model {
        routes: model.routes.clone(),
        strategy: model.strategy.unwrap_or(config.routing.strategy),
        targets: targets.collect(),
        fallbacks: model.fallbacks.clone(),
        quota: Quota::new(
            &Subject::new(SubjectKind::Model, model.name.as_str()),
            &model.limits,
            &book.quotas,
        ),
        seats: model.max_concurrent.map(|most| Limit {
            seats: book.models.of(&model.name),
            most,
        }),
        shadow: model.shadow.as_ref().map(|shadow| {
            Arc::new(Shadow {
                model: shadow.model.clone(),
                percent: shadow.percent,
                seats: Limit {
                    seats: book.shadows.of(&model.name),
                    most: shadow.max_concurrent,
                },
            })
        }),
    }
}
