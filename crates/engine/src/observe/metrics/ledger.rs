//! The ledger as it is when metrics are read.

use std::sync::atomic::{AtomicU64, Ordering};

use polygate_ledger::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::table::register;

/// All of it.
pub(super) struct Ledger {
    taken: Gauge,
    waiting: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    bytes: Gauge,
    most_bytes: Gauge,
    full: Gauge,
    shipped: Counter,
    quarantined: Counter,
    aborted: Counter,
    damaged: Counter,
    passed_over: Counter,
}

impl Ledger {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            taken: register(registry, "polygate_ledger_slots_taken", Default::default()),
            waiting: register(registry, "polygate_ledger_waiting", Default::default()),
            oldest: register(
                registry,
                "polygate_ledger_oldest_waiting_seconds",
                Default::default(),
            ),
            bytes: register(registry, "polygate_ledger_bytes", Default::default()),
            most_bytes: register(registry, "polygate_ledger_max_bytes", Default::default()),
            full: register(registry, "polygate_ledger_full", Default::default()),
            shipped: register(registry, "polygate_ledger_shipped", Default::default()),
            quarantined: register(registry, "polygate_ledger_quarantined", Default::default()),
            aborted: register(registry, "polygate_ledger_aborted", Default::default()),
            damaged: register(registry, "polygate_ledger_damaged", Default::default()),
            passed_over: register(registry, "polygate_ledger_passed_over", Default::default()),
        }
    }

    /// As it is at this moment; microseconds since 1970.
    pub(super) fn set(&self, stats: &Stats, now: i64) {
        let gauge = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.taken, stats.slots_taken as u64);
        gauge(&self.waiting, stats.waiting);
        gauge(&self.bytes, stats.bytes);
        gauge(&self.most_bytes, stats.most_bytes);
        gauge(&self.full, u64::from(stats.full));
        let since = |ended: i64| now.saturating_sub(ended).max(0) as f64 / 1e6;
        self.oldest.set(stats.oldest_unshipped.map_or(0.0, since));
        for (counter, value) in [
            (&self.shipped, stats.shipped),
            (&self.quarantined, stats.quarantined),
            (&self.aborted, stats.aborted),
            (&self.damaged, stats.damaged),
            (&self.passed_over, stats.passed_over),
        ] {
            counter.inner().store(value, Ordering::Relaxed);
        }
    }
}
