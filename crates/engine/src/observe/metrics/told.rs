//! Counts of calls that others were told of, and of those that were lost on the way.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::table::register;

/// Calls by whom they were to be told to, and what became of that; and those of them that lost what was said.
#[derive(Clone, Debug, Default)]
pub(super) struct TellingCounters {
    calls: Family<ToldLabels, Counter>,
    silenced: Family<DestinationLabel, Counter>,
}

/// The counts of one of them.
#[derive(Clone, Debug)]
pub struct Told {
    sent: Counter,
    dropped: Counter,
    refused: Counter,
    silenced: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToldLabels {
    destination: &'static str,
    fate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabel {
    destination: &'static str,
}

impl TellingCounters {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "polygate_telemetry_calls", self.calls.clone());
        let silenced = self.silenced.clone();
        register(registry, "polygate_telemetry_contents_dropped", silenced);
    }

    /// Of one destination.
    pub(super) fn of(&self, destination: &'static str) -> Told {
        let of = |fate| {
            let labels = ToldLabels { destination, fate };
            self.calls.get_or_create(&labels).clone()
        };
        Told {
            sent: of("sent"),
            dropped: of("dropped"),
            refused: of("refused"),
            silenced: self
                .silenced
                .get_or_create(&DestinationLabel { destination })
                .clone(),
        }
    }
}

impl Told {
    /// So many were told.
    pub fn sent(&self, calls: u64) {
        self.sent.inc_by(calls);
    }

    /// One had no room.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// Of one that is told there was no room for what was said.
    pub fn content_dropped(&self) {
        self.silenced.inc();
    }

    /// So many were not taken.
    pub fn refused(&self, calls: u64) {
        self.refused.inc_by(calls);
    }
}
