//! Counts of what replicas tell one another.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::table::register;

/// Signals by what became of them.
#[derive(Clone, Debug, Default)]
pub struct SignalCounters(Family<SignalLabel, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabel {
    fate: &'static str,
}

impl SignalCounters {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "polygate_health_signals", self.0.clone());
        for fate in ["told", "dropped", "heard", "ignored"] {
            drop(self.0.get_or_create(&SignalLabel { fate }));
        }
    }

    /// One was put where it is told.
    pub fn told(&self) {
        self.count("told");
    }

    /// One was not told.
    pub fn dropped(&self) {
        self.count("dropped");
    }

    /// One was heard, and heeded.
    pub fn heard(&self) {
        self.count("heard");
    }

    /// One was heard that means nothing here.
    pub fn ignored(&self) {
        self.count("ignored");
    }

    fn count(&self, fate: &'static str) {
        self.0.get_or_create(&SignalLabel { fate }).inc();
    }
}
