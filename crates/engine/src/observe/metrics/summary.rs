//! Sums and counts by kind since the start, for the JSON answer of `/admin/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::record::CallRecord;

/// All of it. Written by the pump only, never on the request path.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) totals: Totals,
    breakdown: Mutex<Breakdown>,
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

/// Sums since the start.
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

impl Summary {
    pub(super) fn observe(&self, record: &CallRecord) {
        let usage = record.usage.unwrap_or_default();
        let totals = &self.totals;
        for (sum, by) in [
            (&totals.requests, 1),
            (&totals.errors, u64::from(record.status >= 400)),
            (&totals.input_tokens, usage.input),
            (&totals.output_tokens, usage.output),
            (&totals.attempts, record.attempts.len() as u64),
        ] {
            sum.fetch_add(by, Ordering::Relaxed);
        }
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
            let provider = attempt.provider.clone();
            *breakdown.by_provider.entry(provider).or_default() += 1;
        }
    }

    pub(super) fn breakdown(&self) -> Breakdown {
        self.breakdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
