//! The gateway as it is when metrics are read: which configuration is in force, whether its store answers, how full it is.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::table::register;
use crate::cache::Size;

/// What is in force, and how full the gateway is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// How often the configuration was swapped since the start.
    pub generation: u64,
    /// The version of the database's documents.
    pub version: i64,
    /// The file as it is now was refused: an older one is in force.
    pub is_file_refused: bool,
    /// The database's documents as they are now were refused.
    pub are_documents_refused: bool,
    /// Documents that are not served.
    pub left_out: usize,
    /// The store answered when it was last asked.
    pub is_store_up: bool,
    /// Model calls under way.
    pub calls: usize,
    /// How many there may be.
    pub most_calls: usize,
    /// What the cache keeps in memory.
    pub cached: Size,
    /// How often the cache of the replicas did not do what it should.
    pub cache_failures: u64,
}

/// The gauges.
pub(super) struct Gauges {
    generation: Gauge,
    version: Gauge,
    refused: Family<Source, Gauge>,
    left_out: Gauge,
    store: Gauge,
    calls: Gauge,
    most_calls: Gauge,
    cached_entries: Gauge,
    cached_bytes: Gauge,
    cache_failures: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

/// What the program was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    /// The release.
    pub version: &'static str,
    /// The commit; with `-dirty`, where what was built is not quite that.
    pub commit: &'static str,
}

impl Build {
    /// Of this commit.
    pub const fn of(commit: &'static str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit,
        }
    }
}

impl Gauges {
    pub(super) fn new(registry: &mut Registry, build: Build) -> Self {
        let builds: Family<Build, Gauge> =
            register(registry, "polygate_build_info", Family::default());
        builds.get_or_create(&build).set(1);
        Self {
            generation: register(registry, "polygate_config_generation", Gauge::default()),
            version: register(registry, "polygate_config_version", Gauge::default()),
            refused: register(registry, "polygate_config_refused", Family::default()),
            left_out: register(registry, "polygate_config_left_out", Gauge::default()),
            store: register(registry, "polygate_store_up", Gauge::default()),
            calls: register(registry, "polygate_calls", Gauge::default()),
            most_calls: register(registry, "polygate_calls_max", Gauge::default()),
            cached_entries: register(registry, "polygate_cache_entries", Gauge::default()),
            cached_bytes: register(registry, "polygate_cache_bytes", Gauge::default()),
            cache_failures: register(registry, "polygate_cache_failures", Counter::default()),
        }
    }

    pub(super) fn set(&self, now: &Standing) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let amount = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let generation = i64::try_from(now.generation).unwrap_or(i64::MAX);
        for (gauge, value) in [
            (&self.generation, generation),
            (&self.version, now.version),
            (&self.left_out, count(now.left_out)),
            (&self.store, i64::from(now.is_store_up)),
            (&self.calls, count(now.calls)),
            (&self.most_calls, count(now.most_calls)),
            (&self.cached_entries, amount(now.cached.entries)),
            (&self.cached_bytes, amount(now.cached.bytes)),
        ] {
            gauge.set(value);
        }
        let failures = self.cache_failures.inner();
        failures.store(now.cache_failures, Ordering::Relaxed);
        for (source, is_refused) in [
            ("file", now.is_file_refused),
            ("database", now.are_documents_refused),
        ] {
            let gauge = self.refused.get_or_create(&Source { source });
            gauge.set(i64::from(is_refused));
        }
    }
}
