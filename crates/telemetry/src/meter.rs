//! What OpenTelemetry's conventions measure of calls: how long they took, how many tokens they were, how soon the first came.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::attributes::{self, Attributes, operation, vendor};
use crate::export::{Book, Page, What};
use crate::waiting::Waiting;

/// The bounds that the conventions ask for.
const SECONDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// More combinations than this are not kept apart: the configuration's names are fewer.
const MOST: usize = 2_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Measure {
    Duration,
    Tokens,
    FirstToken,
}

impl Measure {
    const ALL: [Measure; 3] = [Measure::Duration, Measure::Tokens, Measure::FirstToken];

    /// Name, unit, meaning and bounds.
    fn said(self) -> (&'static str, &'static str, &'static str, &'static [f64]) {
        match self {
            Measure::Duration => (
                "gen_ai.client.operation.duration",
                "s",
                "How long calls took",
                &SECONDS,
            ),
            Measure::Tokens => (
                "gen_ai.client.token.usage",
                "{token}",
                "Tokens of calls, by whether they were input or output",
                &TOKENS,
            ),
            Measure::FirstToken => (
                "gen_ai.server.time_to_first_token",
                "s",
                "From a call's begin to its answer's first good event",
                &SECONDS,
            ),
        }
    }
}

/// Of what: only names that callers cannot make up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    operation: &'static str,
    vendor: String,
    model: String,
    error: Option<&'static str>,
    token: Option<&'static str>,
}

/// How often, how much in all, and how often up to each bound.
#[derive(Clone, Debug, Default)]
struct Counted {
    count: u64,
    sum: f64,
    buckets: [u64; 15],
}

/// Measurements since the start.
pub(crate) struct Meter {
    resource: Resource,
    began: u64,
    counted: HashMap<(Measure, Labels), Counted>,
    calls: u64,
}

impl Meter {
    /// Of this process.
    pub(crate) fn new(resource: Resource) -> Self {
        Self {
            resource,
            began: now(),
            counted: HashMap::new(),
            calls: 0,
        }
    }

    fn count(&mut self, measure: Measure, labels: Labels, amount: f64) {
        let key = (measure, labels);
        if self.counted.len() >= MOST && !self.counted.contains_key(&key) {
            return;
        }
        let counted = self.counted.entry(key).or_default();
        counted.count += 1;
        counted.sum += amount;
        let (.., bounds) = measure.said();
        let at = bounds.partition_point(|bound| *bound < amount);
        if let Some(bucket) = counted.buckets.get_mut(at) {
            *bucket += 1;
        }
    }
}

impl Book for Meter {
    fn note(&mut self, call: Waiting) {
        let record = &*call.record;
        // No client waited for it.
        if record.shadow_of.is_some() {
            return;
        }
        self.calls += 1;
        let labels = Labels {
            operation: operation(record.endpoint),
            vendor: record
                .attempts
                .last()
                .map_or("none", |attempt| vendor(attempt.row))
                .to_owned(),
            model: record.label.to_string(),
            error: record.error,
            token: None,
        };
        let took = record.duration.as_secs_f64();
        self.count(Measure::Duration, labels.clone(), took);
        if let Some(first) = record.first_event {
            self.count(Measure::FirstToken, labels.clone(), first.as_secs_f64());
        }
        let usage = record.charge.usage;
        for (token, count) in [("input", usage.input), ("output", usage.output)] {
            if count > 0 {
                let labels = Labels {
                    token: Some(token),
                    error: None,
                    ..labels.clone()
                };
                self.count(Measure::Tokens, labels, count as f64);
            }
        }
    }

    /// It is not in a hurry.
    fn is_full(&self) -> bool {
        false
    }

    fn page(&mut self) -> Option<Page> {
        if self.counted.is_empty() {
            return None;
        }
        let now = now();
        let metrics = Measure::ALL.into_iter().filter_map(|measure| {
            let (name, unit, description, bounds) = measure.said();
            let of_it = self.counted.iter().filter(|((of, _), _)| *of == measure);
            let points: Vec<_> = of_it
                .map(|((_, labels), counted)| HistogramDataPoint {
                    attributes: labels.attributes().into_vec(),
                    start_time_unix_nano: self.began,
                    time_unix_nano: now,
                    count: counted.count,
                    sum: Some(counted.sum),
                    bucket_counts: counted.buckets.to_vec(),
                    explicit_bounds: bounds.to_vec(),
                    ..HistogramDataPoint::default()
                })
                .collect();
            let histogram = Histogram {
                data_points: points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            };
            (!histogram.data_points.is_empty()).then(|| Metric {
                name: name.to_owned(),
                description: description.to_owned(),
                unit: unit.to_owned(),
                data: Some(Data::Histogram(histogram)),
                ..Metric::default()
            })
        });
        let scope_metrics = vec![ScopeMetrics {
            scope: Some(attributes::scope()),
            metrics: metrics.collect(),
            schema_url: attributes::SCHEMA.to_owned(),
        }];
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics,
            schema_url: attributes::SCHEMA.to_owned(),
        }];
        let what = What::Metrics(ExportMetricsServiceRequest { resource_metrics });
        let calls = std::mem::take(&mut self.calls);
        // What it adds up keeps no call.
        let held = Vec::new();
        Some(Page { what, calls, held })
    }
}

impl Labels {
    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.text(attributes::OPERATION, self.operation);
        attributes.text(attributes::PROVIDER, self.vendor.as_str());
        attributes.text(attributes::REQUEST_MODEL, self.model.as_str());
        if let Some(error) = self.error {
            attributes.text(attributes::ERROR, error);
        }
        if let Some(token) = self.token {
            attributes.text(attributes::TOKEN_TYPE, token);
        }
        attributes
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since: Duration = since.unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
