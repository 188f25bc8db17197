//! How limits are kept just now.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::quota::{Book, Keeping};

/// The gauges.
pub(super) struct Limiter {
    modes: Family<Mode, Gauge>,
    replicas: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

/// `share`: the store is away, and each replica takes its part of what was left.
const MODES: [&str; 4] = ["alone", "written", "leased", "share"];

impl Limiter {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let limiter = Self {
            modes: Family::default(),
            replicas: Gauge::default(),
        };
        registry.register(
            "polygate_limiter_mode",
            "How limits are kept: 1 for the way of now",
            limiter.modes.clone(),
        );
        registry.register(
            "polygate_limiter_replicas",
            "How many replicas share limits, as this one knows",
            limiter.replicas.clone(),
        );
        limiter
    }

    pub(super) fn set(&self, book: &Book) {
        let now = match (book.keeping(), book.is_away()) {
            (Keeping::Alone, _) => "alone",
            (Keeping::Written, _) => "written",
            (Keeping::Leased, false) => "leased",
            (Keeping::Leased, true) => "share",
        };
        for mode in MODES {
            let gauge = self.modes.get_or_create(&Mode { mode });
            gauge.set(i64::from(mode == now));
        }
        let replicas = i64::try_from(book.replicas()).unwrap_or(i64::MAX);
        self.replicas.set(replicas);
    }
}
