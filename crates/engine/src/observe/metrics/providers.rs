//! Providers and their keys as they are when metrics are read: what is counted is with them, here it is only written down.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ProviderLabel;
use super::table::register;
use crate::health::Position;
use crate::status::ProviderStatus;

type PerProvider<M> = Family<ProviderLabel, M>;
type Fraction = Gauge<f64, AtomicU64>;

/// All of them.
pub(super) struct Providers {
    health: PerProvider<Gauge>,
    breaker: Family<BreakerLabels, Gauge>,
    opened: PerProvider<Counter>,
    resting: Family<CredentialLabels, Gauge>,
    resting_models: PerProvider<Gauge>,
    calls: PerProvider<Gauge>,
    retries: PerProvider<Counter>,
    refused: PerProvider<Counter>,
    budget: PerProvider<Fraction>,
    open: PerProvider<Gauge>,
    idle: PerProvider<Gauge>,
    connects: PerProvider<Counter>,
    reuses: PerProvider<Counter>,
    waiting: PerProvider<Gauge>,
    full: PerProvider<Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    provider: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    provider: Arc<str>,
    credential: Arc<str>,
}

impl Providers {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            health: register(registry, "llm_proxy_provider_health", Default::default()),
            breaker: register(
                registry,
                "polygate_provider_breaker_state",
                Default::default(),
            ),
            opened: register(
                registry,
                "polygate_provider_breaker_opened",
                Default::default(),
            ),
            resting: register(registry, "polygate_credential_resting", Default::default()),
            resting_models: register(
                registry,
                "polygate_provider_models_resting",
                Default::default(),
            ),
            calls: register(registry, "polygate_provider_calls", Default::default()),
            retries: register(registry, "polygate_provider_retries", Default::default()),
            refused: register(
                registry,
                "polygate_provider_retries_refused",
                Default::default(),
            ),
            budget: register(
                registry,
                "polygate_provider_retry_budget",
                Default::default(),
            ),
            open: register(
                registry,
                "polygate_upstream_connections_open",
                Default::default(),
            ),
            idle: register(
                registry,
                "polygate_upstream_connections_idle",
                Default::default(),
            ),
            connects: register(registry, "polygate_upstream_connects", Default::default()),
            reuses: register(registry, "polygate_upstream_reuses", Default::default()),
            waiting: register(registry, "polygate_upstream_waiting", Default::default()),
            full: register(registry, "polygate_upstream_full", Default::default()),
        }
    }

    /// These, and no others: one that left the configuration leaves the metrics.
    pub(super) fn set(&self, providers: &[ProviderStatus]) {
        self.clear();
        for provider in providers {
            self.add(provider);
        }
    }

    fn clear(&self) {
        for gauges in [
            &self.health,
            &self.resting_models,
            &self.calls,
            &self.open,
            &self.idle,
            &self.waiting,
        ] {
            gauges.clear();
        }
        for counters in [
            &self.opened,
            &self.retries,
            &self.refused,
            &self.connects,
            &self.reuses,
            &self.full,
        ] {
            counters.clear();
        }
        self.breaker.clear();
        self.resting.clear();
        self.budget.clear();
    }

    fn add(&self, now: &ProviderStatus) {
        let label = ProviderLabel {
            provider: now.name.clone(),
        };
        for (gauges, value) in [
            (&self.health, i64::from(now.is_up)),
            (&self.resting_models, count(now.resting_models.len())),
            (&self.calls, i64::from(now.calls)),
            (&self.open, now.connections.open),
            (&self.idle, now.connections.idle),
            (&self.waiting, now.connections.waiting),
        ] {
            gauges.get_or_create(&label).set(value);
        }
        for (counters, value) in [
            (&self.opened, now.opened),
            (&self.retries, now.retries.tried),
            (&self.refused, now.retries.refused),
            (&self.connects, now.connections.connects),
            (&self.reuses, now.connections.reuses),
            (&self.full, now.connections.refused),
        ] {
            counters.get_or_create(&label).inc_by(value);
        }
        self.budget.get_or_create(&label).set(now.retries.left);
        for state in Position::NAMES {
            let labels = BreakerLabels {
                provider: now.name.clone(),
                state,
            };
            let is_it = state == now.breaker.name();
            self.breaker.get_or_create(&labels).set(i64::from(is_it));
        }
        for key in &now.credentials {
            let labels = CredentialLabels {
                provider: now.name.clone(),
                credential: key.name.clone(),
            };
            let rests = i64::from(key.rest.is_some());
            self.resting.get_or_create(&labels).set(rests);
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
