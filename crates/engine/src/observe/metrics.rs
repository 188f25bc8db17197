//! Prometheus metrics under their published names.

mod calls;
mod ledger;
mod limiter;
mod process;
mod providers;
mod signals;
mod standing;
mod summary;
mod table;
mod text;
mod told;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use polygate_ledger::Stats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::record::CallRecord;
use super::refused::Refused;
use crate::quota::Book;
use crate::status::ProviderStatus;
use calls::Calls;
use ledger::Ledger;
use limiter::Limiter;
use process::Process;
use providers::Providers;
use standing::Gauges;
use summary::Summary;
use table::register;
use told::TellingCounters;

pub use signals::SignalCounters;
pub use standing::{Build, Standing};
pub use summary::{Breakdown, Totals};
pub use table::{Described, Kind, TABLE};
pub use told::Told;

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    calls: Calls,
    summary: Summary,
    active: Family<EndpointLabel, Gauge>,
    active_now: [(&'static str, AtomicI64); crate::call::ENDPOINTS],
    dropped: Counter,
    signals: SignalCounters,
    told: TellingCounters,
    limiter: Limiter,
    /// Providers as they are when somebody reads: one reader at a time.
    providers: Mutex<Providers>,
    ledger: Ledger,
    build: Build,
    standing: Gauges,
    process: Process,
}

/// What is only looked at when somebody reads.
pub struct Now<'a> {
    /// Providers.
    pub providers: &'a [ProviderStatus],
    /// The ledger, where there is one.
    pub ledger: Option<&'a Stats>,
    /// What is taken of limits.
    pub limits: &'a Book,
    /// The gateway itself.
    pub standing: Standing,
    /// The moment; microseconds since 1970.
    pub micros: i64,
}

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Plain,
}

impl Format {
    /// What a reader who accepts this can read. Who does not ask for OpenMetrics gets what everything reads.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Format::OpenMetrics
        } else {
            Format::Plain
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabel {
    provider: Arc<str>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh metrics, all at zero, of a program of which nobody says what it was made of.
    pub fn new() -> Self {
        Self::of(Build::of("unknown"))
    }

    /// Fresh metrics, all at zero.
    pub fn of(build: Build) -> Self {
        let mut registry = Registry::default();
        let page = &mut registry;
        let signals = SignalCounters::default();
        signals.register(page);
        let told = TellingCounters::default();
        told.register(page);
        Self {
            calls: Calls::new(page),
            summary: Summary::default(),
            active: register(page, "llm_proxy_active_requests", Family::default()),
            active_now: crate::call::Endpoint::LABELS.map(|label| (label, AtomicI64::new(0))),
            dropped: register(page, "polygate_records_dropped", Counter::default()),
            signals,
            told,
            limiter: Limiter::new(page),
            providers: Mutex::new(Providers::new(page)),
            ledger: Ledger::new(page),
            build,
            standing: Gauges::new(page, build),
            process: Process::new(page),
            registry,
        }
    }

    /// What the program was made of.
    pub fn build(&self) -> Build {
        self.build
    }

    /// Counts of those who are told of calls beside metrics and log.
    pub fn told(&self, destination: &'static str) -> Told {
        self.told.of(destination)
    }

    /// Of what replicas tell one another.
    pub fn signals(&self) -> &SignalCounters {
        &self.signals
    }

    pub(super) fn call_started(&self, record: &CallRecord) {
        self.add_active(record, 1);
    }

    pub(super) fn call_ended(&self, record: &CallRecord) {
        self.add_active(record, -1);
    }

    /// A call's shadow was not begun: there were as many as there may be.
    pub(crate) fn shadow_dropped(&self, model: &Arc<str>) {
        self.calls.count_shadow(model, "dropped");
    }

    /// On the request path, so an array of atomics instead of a family behind a lock.
    fn add_active(&self, record: &CallRecord, by: i64) {
        let is_it = |(label, _): &&(&str, AtomicI64)| *label == record.endpoint;
        let count = self.active_now.iter().find(is_it);
        if let Some((_, count)) = count.filter(|_| record.shadow_of.is_none()) {
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
        if record.shadow_of.is_some() {
            return self.calls.observe_shadow(record);
        }
        self.calls.observe(record);
        self.summary.observe(record);
    }

    /// Counts a request that became no call.
    pub(super) fn refused(&self, refused: &Refused) {
        self.calls.refused(refused);
    }

    /// Counts by kind since the start.
    pub fn breakdown(&self) -> Breakdown {
        self.summary.breakdown()
    }

    /// Sums since the start.
    pub fn totals(&self) -> &Totals {
        &self.summary.totals
    }

    /// The text that Prometheus scrapes, with all that is only looked at now.
    pub fn render(&self, now: &Now<'_>, format: Format) -> String {
        let shown = &self.providers;
        let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.set(now.providers);
        if let Some(stats) = now.ledger {
            self.ledger.set(stats, now.micros);
        }
        let seconds = u64::try_from(now.micros / 1_000_000).unwrap_or_default();
        self.limiter.set(now.limits, seconds);
        self.standing.set(&now.standing);
        self.process.look();
        for (endpoint, count) in &self.active_now {
            self.active
                .get_or_create(&EndpointLabel { endpoint })
                .set(count.load(Ordering::Relaxed));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Plain => text::plain(&text),
        }
    }
}

#[cfg(test)]
mod tests;
