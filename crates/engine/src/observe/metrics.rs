//! Prometheus metrics under their published names.

mod ledger;
mod limiter;
mod providers;
mod signals;
mod told;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use polygate_ledger::Stats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::record::CallRecord;
use crate::quota::Book;
use crate::status::ProviderStatus;
use ledger::Ledger;
use limiter::Limiter;
use providers::Providers;

pub use signals::SignalCounters;
use told::TellingCounters;
pub use told::Told;

/// Seconds; fit for models that think.
const BUCKETS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<CostLabels, Counter>,
    unpriced: Family<ModelLabel, Counter>,
    active: Family<EndpointLabel, Gauge>,
    attempts: Family<AttemptLabels, Counter>,
    dropped: Counter,
    tasks: Gauge,
    signals: SignalCounters,
    told: TellingCounters,
    active_now: [(&'static str, AtomicI64); crate::call::ENDPOINTS],
    totals: Totals,
    /// Written by the pump only, never on the request path.
    breakdown: Mutex<Breakdown>,
    latency: Family<ProviderLabel, Histogram>,
    limiter: Limiter,
    /// Providers as they are when somebody reads: one reader at a time.
    providers: Mutex<Providers>,
    ledger: Ledger,
}

/// Counts by kind since the start.
#[derive(Clone, Debug, Default)]
pub struct Breakdown {
    /// Calls by how long they took.
    pub latency_ms: BTreeMap<&'static str, u64>,
    /// Calls by the model's label.
    pub by_model: BTreeMap<Arc<str>, u64>,
    /// Attempts by provider.
    pub by_provider: BTreeMap<Arc<str>, u64>,
}

/// Upper ends of the published latency classes, in milliseconds.
const LATENCIES: [(&str, u128); 6] = [
    ("<100", 100),
    ("100-499", 500),
    ("500-999", 1000),
    ("1000-4999", 5000),
    ("5000-29999", 30_000),
    (">=30000", u128::MAX),
];

/// Sums since the start, for the JSON answer of `/admin/metrics`.
#[derive(Debug, Default)]
pub struct Totals {
    /// Calls that ended.
    pub requests: AtomicU64,
    /// Of these, with status 400 or above.
    pub errors: AtomicU64,
    /// Input tokens reported.
    pub input_tokens: AtomicU64,
    /// Output tokens reported.
    pub output_tokens: AtomicU64,
    /// Attempts at providers.
    pub attempts: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    endpoint: &'static str,
    model: Arc<str>,
    provider: Arc<str>,
    status_code: u16,
    api_key_name: Arc<str>,
    client: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    method: String,
    endpoint: &'static str,
    model: Arc<str>,
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    model: Arc<str>,
    provider: Arc<str>,
    token_type: &'static str,
    api_key_name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    model: Arc<str>,
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabel {
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh metrics, all at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register("llm_proxy_requests", "Calls that ended", requests.clone());
        let durations =
            Family::<DurationLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "llm_proxy_request_duration_seconds",
            "Time from a call's start to its end",
            durations.clone(),
        );
        let active = Family::default();
        registry.register(
            "llm_proxy_active_requests",
            "Calls that have not ended",
            active.clone(),
        );
        let tokens = Family::default();
        registry.register(
            "llm_proxy_tokens",
            "Tokens as providers reported them",
            tokens.clone(),
        );
        let cost = Family::default();
        registry.register(
            "polygate_cost_micro_usd",
            "What attempts cost, in millionths of a dollar",
            cost.clone(),
        );
        let unpriced = Family::default();
        registry.register(
            "polygate_unpriced_calls",
            "Calls of which nobody knows what they cost",
            unpriced.clone(),
        );
        let attempts = Family::default();
        registry.register(
            "polygate_attempts",
            "Tries of candidates, by outcome",
            attempts.clone(),
        );
        let latency =
            Family::<ProviderLabel, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "llm_proxy_provider_latency_seconds",
            "Time of one attempt until it is decided",
            latency.clone(),
        );
        let dropped = Counter::default();
        registry.register(
            "polygate_records_dropped",
            "Call records lost to a full queue",
            dropped.clone(),
        );
        let tasks = Gauge::default();
        registry.register(
            "polygate_tasks",
            "Tasks of the process: one a connection of a client or to a provider, one an HTTP/2 stream, and a few",
            tasks.clone(),
        );
        let signals = SignalCounters::default();
        signals.register(&mut registry);
        let told = TellingCounters::default();
        told.register(&mut registry);
        let providers = Mutex::new(Providers::new(&mut registry));
        let limiter = Limiter::new(&mut registry);
        let ledger = Ledger::new(&mut registry);
        let active_now = crate::call::Endpoint::LABELS.map(|label| (label, AtomicI64::new(0)));
        Self {
            registry,
            requests,
            durations,
            tokens,
            cost,
            unpriced,
            active,
            attempts,
            dropped,
            tasks,
            signals,
            told,
            active_now,
            totals: Totals::default(),
            breakdown: Mutex::default(),
            latency,
            providers,
            limiter,
            ledger,
        }
    }

    /// Counts of those who are told of calls beside metrics and log.
    pub fn told(&self, destination: &'static str) -> Told {
        self.told.of(destination)
    }

    /// Of what replicas tell one another.
    pub fn signals(&self) -> &SignalCounters {
        &self.signals
    }

    pub(super) fn call_started(&self, endpoint: &'static str) {
        self.add_active(endpoint, 1);
    }

    pub(super) fn call_ended(&self, endpoint: &'static str) {
        self.add_active(endpoint, -1);
    }

    /// On the request path, so an array of atomics instead of a family behind a lock.
    fn add_active(&self, endpoint: &'static str, by: i64) {
        if let Some((_, count)) = self.active_now.iter().find(|(label, _)| *label == endpoint) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(super) fn record_dropped(&self) {
        self.dropped.inc();
    }

    /// Calls that have not ended.
    pub fn active(&self) -> i64 {
        self.active_now
            .iter()
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts one call that ended.
    pub(super) fn observe(&self, record: &CallRecord) {
        let method = record.method.as_str().to_owned();
        self.durations
            .get_or_create(&DurationLabels {
                method: method.clone(),
                endpoint: record.endpoint,
                model: record.label.clone(),
                provider: record.provider.clone(),
            })
            .observe(record.duration.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                method,
                endpoint: record.endpoint,
                model: record.label.clone(),
                provider: record.provider.clone(),
                status_code: record.status,
                api_key_name: record.key.clone(),
                client: record.program(),
            })
            .inc();
        for attempt in &record.attempts {
            self.attempts
                .get_or_create(&AttemptLabels {
                    provider: attempt.provider.clone(),
                    outcome: attempt.outcome,
                })
                .inc();
        }
        self.observe_tokens(record);
        self.observe_cost(record);
        self.add_totals(record);
        self.add_breakdown(record);
    }

    fn observe_tokens(&self, record: &CallRecord) {
        let Some(usage) = record.usage else { return };
        let counts = [
            ("prompt_tokens", usage.input),
            ("completion_tokens", usage.output),
            ("total_tokens", usage.total()),
        ];
        for (token_type, count) in counts {
            let labels = TokenLabels {
                model: record.label.clone(),
                provider: record.provider.clone(),
                token_type,
                api_key_name: record.key.clone(),
            };
            self.tokens.get_or_create(&labels).inc_by(count);
        }
    }

    fn observe_cost(&self, record: &CallRecord) {
        for attempt in &record.attempts {
            let labels = CostLabels {
                model: record.label.clone(),
                provider: attempt.provider.clone(),
            };
            let cost = u64::try_from(attempt.charge.cost).unwrap_or_default();
            self.cost.get_or_create(&labels).inc_by(cost);
        }
        let label = || ModelLabel {
            model: record.label.clone(),
        };
        // Said once for each label.
        if record.unpriced && self.unpriced.get_or_create(&label()).inc() == 0 {
            tracing::warn!(
                model = &*record.label,
                provider = &*record.provider,
                upstream_model = &*record.upstream_model,
                "nobody knows what calls of this model cost: they are kept without a price; 'price_overrides' in the configuration sets one"
            );
        }
    }

    fn add_totals(&self, record: &CallRecord) {
        let usage = record.usage.unwrap_or_default();
        self.totals.requests.fetch_add(1, Ordering::Relaxed);
        self.totals
            .errors
            .fetch_add(u64::from(record.status >= 400), Ordering::Relaxed);
        self.totals
            .input_tokens
            .fetch_add(usage.input, Ordering::Relaxed);
        self.totals
            .output_tokens
            .fetch_add(usage.output, Ordering::Relaxed);
        self.totals
            .attempts
            .fetch_add(record.attempts.len() as u64, Ordering::Relaxed);
    }

    fn add_breakdown(&self, record: &CallRecord) {
        let mut breakdown = self
            .breakdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let millis = record.duration.as_millis();
        if let Some((class, _)) = LATENCIES.iter().find(|(_, below)| millis < *below) {
            *breakdown.latency_ms.entry(class).or_default() += 1;
        }
        *breakdown.by_model.entry(record.label.clone()).or_default() += 1;
        for attempt in &record.attempts {
            *breakdown
                .by_provider
                .entry(attempt.provider.clone())
                .or_default() += 1;
            let label = ProviderLabel {
                provider: attempt.provider.clone(),
            };
            self.latency
                .get_or_create(&label)
                .observe(attempt.duration.as_secs_f64());
        }
    }

    /// Counts by kind since the start.
    pub fn breakdown(&self) -> Breakdown {
        self.breakdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sums since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How limits are kept just now.
    pub fn limits(&self, book: &Book) {
        self.limiter.set(book);
    }

    /// The text that Prometheus scrapes, with providers and the ledger as they are now; microseconds since 1970.
    pub fn render(&self, providers: &[ProviderStatus], ledger: Option<&Stats>, now: i64) -> String {
        let shown = &self.providers;
        let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.set(providers);
        if let Some(stats) = ledger {
            self.ledger.set(stats, now);
        }
        // A unit test has no runtime, and no tasks.
        let tasks = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        for (endpoint, count) in &self.active_now {
            self.active
                .get_or_create(&EndpointLabel { endpoint })
                .set(count.load(Ordering::Relaxed));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
