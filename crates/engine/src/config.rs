//! The one canonical configuration: what every file dialect, the environment and the admin API are lowered into.
//!
//! Plain data with every default explicit. References are checked by who builds it; [`crate::snapshot`] compiles it.

mod access;
mod audit;
mod cache;
mod cloak;
mod credential;
mod guard;
mod headers;
mod health;
mod hedge;
mod ledger;
mod model;
mod patience;
mod price;
mod retry;
mod telemetry;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use polygate_core::Secret;
use polygate_providers::{Catalogue, Price};

use crate::pattern::Pattern;
use crate::payload::Rule;
pub use crate::transport::Proxy;
pub use access::{Access, Allowance, Bounds, Key, Network, Previous, RateLimit, Role, Team};
pub use audit::Audit;
pub use cache::{Cache, CacheRule, CacheStore, Share};
pub use cloak::{Cloak, CloakMode, UserId};
pub use credential::Credential;
pub use guard::{Action, By, Detector, Guard, Guards, Looks, Webhook};
pub use headers::{HeaderPolicy, OwnHeaderPolicy};
pub use health::HealthCheck;
pub use hedge::{Hedge, HedgeAfter};
pub use ledger::{Fsync, Ledger};
pub use model::{Fallbacks, ModelRoute, Percent, Shadow};
pub use patience::Patience;
pub use price::{PriceList, PriceOverride};
pub use retry::Retry;
pub use telemetry::{Encoding, Jsonl, Langfuse, Otlp, Telemetry};

/// Everything a running gateway was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens and how it reads.
    pub server: Server,
    /// Upstreams with their credentials, in order.
    pub providers: Vec<Provider>,
    /// Models that name their targets themselves; they win over what providers offer.
    pub models: Vec<Model>,
    /// Who may call.
    pub access: Access,
    /// How one of several candidates is chosen.
    pub routing: Routing,
    /// How often and how long is tried.
    pub retry: Retry,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// When a second attempt is made beside a slow first one; `None`: never.
    pub hedge: Option<Hedge>,
    /// Where a stream of text breaks, another candidate is asked to go on with it.
    pub continuation: bool,
    /// What is asked in the background.
    pub health_check: HealthCheck,
    /// What models cost, where a target does not say so itself.
    pub price_overrides: Vec<PriceOverride>,
    /// What else is listed of models and prices.
    pub catalogue: Arc<Catalogue>,
    /// Where a newer list is fetched.
    pub price_list: Option<PriceList>,
    /// Which answers are kept for calls that ask the same; `None`: none.
    pub cache: Option<Cache>,
    /// What is changed in the bodies that providers are sent, in the order in which it is.
    pub payload: Vec<Rule>,
    /// How calls are accounted for.
    pub ledger: Ledger,
    /// How long it is kept who changed what.
    pub audit: Audit,
    /// `/metrics` answers without a key.
    pub metrics_open: bool,
    /// Replicas tell one another what rests.
    pub shared_health: bool,
    /// Upstream certificates are checked.
    pub verify_ssl: bool,
    /// Authorities that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The way to upstreams. The environment's proxies are never used.
    pub way: Way,
    /// Which headers pass between clients and providers.
    pub header_policy: HeaderPolicy,
    /// Where replicas lease limits from. Heeded at the start only.
    pub redis_url: Option<Secret>,
    /// Who is told of calls beside metrics and log. Heeded at the start only.
    pub telemetry: Telemetry,
    /// What is looked for in requests and answers.
    pub guards: Guards,
}

/// How upstreams are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Without a proxy.
    #[default]
    Direct,
    /// Through this one.
    Through(Proxy),
}

/// Where the gateway listens and how it reads requests.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address to bind.
    pub host: IpAddr,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// The most bytes a request body may have.
    pub body_limit: usize,
    /// How long streams may go on after SIGTERM.
    pub shutdown_grace: Duration,
    /// How long new connections are still taken after SIGTERM, for load balancers that look.
    pub shutdown_delay: Duration,
    /// How long streams may go on after a new process has taken over.
    pub upgrade_grace: Duration,
    /// How many connections are taken at a time; `None`: what the limit of open files bears.
    pub max_connections: Option<usize>,
    /// How many model calls run at a time; `None`: what the limit of open files bears.
    pub max_concurrent_requests: Option<usize>,
    /// How long clients may take for what they do.
    pub patience: Patience,
    /// Certificate and key; `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// The files of the listening port's certificate. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what leads to its root, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// One upstream: where, what it speaks, with which credentials, and which models it offers.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Unique name: in headers, logs, metrics, admin.
    pub name: String,
    /// Row of the provider table (`openai`, `anthropic`, `azure`, …, `openai-compatible`).
    pub kind: String,
    /// Base address where it is not the row's own.
    pub api_base: Option<String>,
    /// At least one unless disabled; a row that needs none has one with an empty key.
    pub credentials: Vec<Credential>,
    /// Share among providers of the same model; 0 = drained.
    pub weight: u32,
    /// Its tier: lower ones are asked first.
    pub priority: i32,
    /// Never used.
    pub disabled: bool,
    /// What model names for this provider begin with (`teamA/`), stripped before the upstream sees them.
    pub prefix: Option<String>,
    /// Names it serves. Empty = every name passes.
    pub models: Vec<Mapping>,
    /// Names it does not serve, whatever `models` says.
    pub excluded_models: Vec<Pattern>,
    /// Added to every request to it, replacing what stands there.
    pub headers: BTreeMap<String, String>,
    /// What it is told in place of who calls.
    pub cloak: Option<Cloak>,
    /// Which headers pass between clients and it.
    pub header_policy: OwnHeaderPolicy,
    /// One OpenAI interface only.
    pub wire_api: Option<WireApi>,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// AWS's region.
    pub region: Option<String>,
    /// The way to it; that of all unless set.
    pub way: Option<Way>,
    /// Its certificates are checked; as all are unless set.
    pub verify_ssl: Option<bool>,
    /// Authorities that are believed besides the system's; those of all unless set.
    pub ca_file: Option<PathBuf>,
    /// Times of its own.
    pub timeouts: Deadlines,
    /// How many calls it gets at a time; further ones go elsewhere.
    pub max_concurrent: Option<usize>,
    /// How many connections there may be to it, to each of its addresses and through each proxy; `None`: any number.
    pub max_connections: Option<usize>,
    /// The model that health checks chat with.
    pub health_model: Option<String>,
    /// How much it gets in a time; further calls go elsewhere.
    pub limits: Vec<Allowance>,
}

/// A model name or pattern that a provider serves, and what it is called there.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// What clients may say.
    pub pattern: Pattern,
    /// What the upstream is told; `None` = what the client said.
    pub target: Option<String>,
    /// What it costs; the catalogue's price unless set.
    pub price: Option<Price>,
}

/// Restricts an OpenAI-style provider to one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireApi {
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
}

/// A model that names its targets.
#[derive(Clone, Debug)]
pub struct Model {
    /// What clients say.
    pub name: String,
    /// Other models that its calls go to, by what a call is.
    pub routes: Vec<ModelRoute>,
    /// How one of the targets is chosen; the global strategy unless set.
    pub strategy: Option<Strategy>,
    /// What keeps calls together; the global affinity unless set.
    pub affinity: Option<Affinity>,
    /// Where it may go: all calls that no route takes.
    pub targets: Vec<Target>,
    /// Other models that are tried when no target answered.
    pub fallbacks: Fallbacks,
    /// Times of its own.
    pub timeouts: Deadlines,
    /// How many of its calls there are at a time.
    pub max_concurrent: Option<usize>,
    /// Its second attempts; those of all unless set.
    pub hedge: Option<Hedge>,
    /// Whether broken streams of it are gone on with; as all are unless set.
    pub continuation: Option<bool>,
    /// What translation would lose is refused.
    pub strict: bool,
    /// How much of it there is in a time.
    pub limits: Vec<Allowance>,
    /// Who gets its calls too.
    pub shadow: Option<Shadow>,
}

/// What keeps calls together on one candidate, as long as that costs little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Calls of one session, by what the client calls it.
    pub session: bool,
    /// Calls whose prompts begin alike; where both are set, those without a session.
    pub prefix: bool,
}

/// One place a model may go.
#[derive(Clone, Debug)]
pub struct Target {
    /// A provider's name.
    pub provider: String,
    /// The model's name there; the client's own unless set.
    pub model: Option<String>,
    /// Share; the provider's weight unless set.
    pub weight: Option<u32>,
    /// Tier; the provider's unless set.
    pub priority: Option<i32>,
    /// What it costs; the catalogue's price unless set.
    pub price: Option<Price>,
}

/// How one of several candidates is chosen.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Among candidates of a model.
    pub strategy: Strategy,
    /// What keeps calls together.
    pub affinity: Affinity,
    /// Unprefixed model names use only providers without a prefix.
    pub force_model_prefix: bool,
    /// `PROVIDER_SUFFIX`: stripped once from the front of model names (`Proxy` → `Proxy/gpt-4` is `gpt-4`).
    pub provider_suffix: Option<String>,
    /// Models whose context is surely too small for a call are passed over while others are left.
    pub context_aware: bool,
}

/// How one of several candidates is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth weighted round robin.
    Weighted,
    /// Round robin, weights ignored.
    RoundRobin,
    /// The first that does not rest, in order.
    FillFirst,
    /// By chance, in shares by weight.
    Random,
    /// The one with the fewest calls in flight for its weight.
    LeastBusy,
    /// The quicker of two, by time to the first good event and calls in flight.
    LowestLatency,
    /// The one with the lowest price.
    Cheapest,
}

impl Strategy {
    /// Its name in configuration and in what people read.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Weighted => "weighted",
            Strategy::RoundRobin => "round-robin",
            Strategy::FillFirst => "fill-first",
            Strategy::Random => "random",
            Strategy::LeastBusy => "least-busy",
            Strategy::LowestLatency => "lowest-latency",
            Strategy::Cheapest => "cheapest",
        }
    }
}

/// Times that a provider, a model or a call has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// From sending the request to the first good event of a stream.
    pub first_event: Option<Duration>,
    /// Between bytes of an answer.
    pub idle: Option<Duration>,
    /// A whole answer that does not stream.
    pub request: Option<Duration>,
    /// All of a call, with every attempt and to the end of its answer.
    pub total: Option<Duration>,
}

impl Deadlines {
    /// These, and where one is not set, the other's.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            first_event: self.first_event.or(other.first_event),
            idle: self.idle.or(other.idle),
            request: self.request.or(other.request),
            total: self.total.or(other.total),
        }
    }
}

/// How long is waited for an upstream.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Name, TCP, proxy and TLS together.
    pub connect: Duration,
    /// How long a connection is kept that has no request.
    pub connection_idle: Duration,
    /// How long a connection takes new requests, so that changed addresses are followed.
    pub connection_lifetime: Duration,
    /// From sending the request to the first good event of a stream.
    pub first_event: Duration,
    /// Between bytes of an answer.
    pub idle: Duration,
    /// A whole answer that does not stream.
    pub request: Duration,
    /// All of a call, with every attempt and to the end of its answer; `None`: as long as it takes.
    pub total: Option<Duration>,
    /// Silence in a stream after which the client gets a comment line; zero = never.
    pub keepalive: Duration,
    /// The longest that the head of a stream is held back for the first good event; zero = as long as that takes.
    pub hold: Duration,
    /// Silence after which an answer that does not stream gets blanks before it; zero = never.
    pub non_stream_keepalive: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8080,
            body_limit: 32 * 1024 * 1024,
            shutdown_grace: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            upgrade_grace: Duration::from_secs(3600),
            max_connections: None,
            max_concurrent_requests: None,
            patience: Patience::default(),
            tls: None,
        }
    }
}

impl Provider {
    /// A provider of this name and row with every default.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            api_base: None,
            credentials: Vec::new(),
            weight: 1,
            priority: 0,
            disabled: false,
            prefix: None,
            models: Vec::new(),
            excluded_models: Vec::new(),
            headers: BTreeMap::new(),
            cloak: None,
            header_policy: OwnHeaderPolicy::default(),
            wire_api: None,
            api_version: None,
            region: None,
            way: None,
            verify_ssl: None,
            ca_file: None,
            timeouts: Deadlines::default(),
            max_concurrent: None,
            max_connections: None,
            health_model: None,
            limits: Vec::new(),
        }
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            strategy: Strategy::Weighted,
            affinity: Affinity::default(),
            force_model_prefix: false,
            provider_suffix: None,
            context_aware: false,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            connection_idle: Duration::from_secs(20),
            connection_lifetime: Duration::from_secs(300),
            first_event: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            request: Duration::from_secs(600),
            total: None,
            keepalive: Duration::from_secs(15),
            hold: Duration::from_secs(15),
            non_stream_keepalive: Duration::ZERO,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            providers: Vec::new(),
            models: Vec::new(),
            access: Access::default(),
            routing: Routing::default(),
            retry: Retry::default(),
            timeouts: Timeouts::default(),
            hedge: None,
            continuation: false,
            health_check: HealthCheck::default(),
            price_overrides: Vec::new(),
            catalogue: Catalogue::built_in(),
            price_list: None,
            cache: None,
            payload: Vec::new(),
            ledger: Ledger::default(),
            audit: Audit::default(),
            metrics_open: true,
            shared_health: true,
            verify_ssl: true,
            ca_file: None,
            way: Way::Direct,
            header_policy: HeaderPolicy::default(),
            redis_url: None,
            telemetry: Telemetry::default(),
            guards: Guards::default(),
        }
    }
}
