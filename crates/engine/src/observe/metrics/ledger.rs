//! The ledger as it is when metrics are read.

use std::sync::atomic::{AtomicU64, Ordering};

use polygate_ledger::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// All of it.
pub(super) struct Ledger {
    taken: Gauge,
    waiting: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    bytes: Gauge,
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
            taken: new(
                registry,
                "polygate_ledger_slots_taken",
                "Calls under way that have a slot in the ledger",
            ),
            waiting: new(
                registry,
                "polygate_ledger_waiting",
                "Calls in the local log that the store does not have yet",
            ),
            oldest: new(
                registry,
                "polygate_ledger_oldest_waiting_seconds",
                "How long ago about the oldest of these ended",
            ),
            bytes: new(registry, "polygate_ledger_bytes", "Size of the local log"),
            full: new(
                registry,
                "polygate_ledger_full",
                "1 where the local log cannot be written, and no call is taken",
            ),
            shipped: new(
                registry,
                "polygate_ledger_shipped",
                "Calls that the store has",
            ),
            quarantined: new(
                registry,
                "polygate_ledger_quarantined",
                "Calls that the store refused, which are in quarantine.log",
            ),
            aborted: new(
                registry,
                "polygate_ledger_aborted",
                "Calls that nobody ended, charged by their estimates",
            ),
            damaged: new(
                registry,
                "polygate_ledger_damaged",
                "Damaged stretches of the local log",
            ),
            passed_over: new(
                registry,
                "polygate_ledger_passed_over",
                "Refused calls that were not written, there being too many of them",
            ),
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

fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
