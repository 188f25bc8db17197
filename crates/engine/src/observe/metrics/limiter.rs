//! How limits are kept just now.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::table::register;
use crate::quota::{Book, Keeping};

/// The gauges.
pub(super) struct Limiter {
    modes: Family<Mode, Gauge>,
    replicas: Gauge,
    limits: Family<Of, Gauge>,
    nearly_spent: Family<Of, Gauge>,
    spent: Family<Of, Gauge>,
}

/// Limits by what they are of: never by whose, since there may be very many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    measure: &'static str,
    period: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

/// `share`: the store is away, and each replica takes its part of what was left.
const MODES: [&str; 4] = ["alone", "written", "leased", "share"];

impl Limiter {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            modes: register(registry, "polygate_limiter_mode", Family::default()),
            replicas: register(registry, "polygate_limiter_replicas", Gauge::default()),
            limits: register(registry, "polygate_limits", Family::default()),
            nearly_spent: register(registry, "polygate_limits_nearly_spent", Family::default()),
            spent: register(registry, "polygate_limits_spent", Family::default()),
        }
    }

    /// The moment is in seconds since 1970.
    pub(super) fn set(&self, book: &Book, now: u64) {
        let mode_now = match (book.keeping(), book.is_away()) {
            (Keeping::Alone, _) => "alone",
            (Keeping::Written, _) => "written",
            (Keeping::Leased, false) => "leased",
            (Keeping::Leased, true) => "share",
        };
        for mode in MODES {
            let gauge = self.modes.get_or_create(&Mode { mode });
            gauge.set(i64::from(mode == mode_now));
        }
        let replicas = i64::try_from(book.replicas()).unwrap_or(i64::MAX);
        self.replicas.set(replicas);
        self.count(book, now);
    }

    fn count(&self, book: &Book, now: u64) {
        for families in [&self.limits, &self.nearly_spent, &self.spent] {
            families.clear();
        }
        for tally in book.tallies() {
            let id = tally.id();
            let of = Of {
                measure: id.measure.name(),
                period: id.period.name(),
            };
            let left = tally.left(id.period.window(now).number);
            for (family, is_one) in [
                (&self.limits, true),
                (&self.nearly_spent, left == 0 || left < tally.most() / 5),
                (&self.spent, left == 0),
            ] {
                family.get_or_create(&of).inc_by(i64::from(is_one));
            }
        }
    }
}
