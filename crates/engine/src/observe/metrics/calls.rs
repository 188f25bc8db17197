//! What is counted of calls when they are over, and of requests that were refused before they became calls.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::ProviderLabel;
use super::table::register;
use crate::observe::attempt::AttemptRecord;
use crate::observe::log::printable;
use crate::observe::record::CallRecord;
use crate::observe::refused::{Refused, word};

/// Seconds; fit for models that think.
const DURATIONS: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// Seconds until something comes.
const FIRST: [f64; 16] = [
    0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 120.0,
];

/// Tokens a second.
const SPEEDS: [f64; 14] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0,
];

/// Nobody, in labels.
const NONE: &str = "none";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All of it. Written by the pump only, never on the request path.
pub(super) struct Calls {
    requests: Family<RequestLabels, Counter>,
    durations: Histograms<DurationLabels>,
    tokens: Family<TokenLabels, Counter>,
    charged: Family<ChargedLabels, Counter>,
    cost: Family<TargetLabels, Counter>,
    unpriced: Family<ModelLabel, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    latency: Histograms<ProviderLabel>,
    first: Histograms<SourceLabels>,
    speed: Histograms<SourceLabels>,
    failovers: Family<FailoverLabels, Counter>,
    hedges: Family<HedgeLabels, Counter>,
    losses: Family<TargetLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    gone: Family<ModelLabel, Counter>,
    cached: Family<CachedLabels, Counter>,
    saved: Family<SavedLabels, Counter>,
    shadows: Family<ShadowLabels, Counter>,
    guards: Family<GuardLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    endpoint: &'static str,
    model: Arc<str>,
    provider: Arc<str>,
    status_code: u16,
    api_key_name: Arc<str>,
    client: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    method: &'static str,
    endpoint: &'static str,
    model: Arc<str>,
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    model: Arc<str>,
    provider: Arc<str>,
    token_type: &'static str,
    api_key_name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChargedLabels {
    model: Arc<str>,
    provider: Arc<str>,
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    model: Arc<str>,
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
    model: Arc<str>,
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailoverLabels {
    provider: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HedgeLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    endpoint: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CachedLabels {
    model: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SavedLabels {
    model: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    model: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabels {
    guard: Arc<str>,
    action: &'static str,
    side: &'static str,
}

fn histograms<L: Clone + std::hash::Hash + Eq>(of: fn() -> Histogram) -> Histograms<L> {
    Family::new_with_constructor(of)
}

impl Calls {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let durations = histograms(|| Histogram::new(DURATIONS));
        let latency = histograms(|| Histogram::new(DURATIONS));
        let (first, speed) = (
            histograms(|| Histogram::new(FIRST)),
            histograms(|| Histogram::new(SPEEDS)),
        );
        Self {
            requests: register(registry, "llm_proxy_requests", Family::default()),
            durations: register(registry, "llm_proxy_request_duration_seconds", durations),
            tokens: register(registry, "llm_proxy_tokens", Family::default()),
            latency: register(registry, "llm_proxy_provider_latency_seconds", latency),
            first: register(registry, "llm_proxy_ttft_seconds", first),
            speed: register(registry, "llm_proxy_tokens_per_second", speed),
            gone: register(registry, "llm_proxy_client_disconnects", Family::default()),
            refused: register(registry, "polygate_requests_refused", Family::default()),
            attempts: register(registry, "polygate_attempts", Family::default()),
            failovers: register(registry, "polygate_failovers", Family::default()),
            hedges: register(registry, "polygate_hedges", Family::default()),
            charged: register(registry, "polygate_charged_tokens", Family::default()),
            cost: register(registry, "polygate_cost_micro_usd", Family::default()),
            unpriced: register(registry, "polygate_unpriced_calls", Family::default()),
            losses: register(registry, "polygate_losses", Family::default()),
            cached: register(registry, "polygate_cache_requests", Family::default()),
            saved: register(registry, "polygate_cache_saved_tokens", Family::default()),
            shadows: register(registry, "polygate_shadow_calls", Family::default()),
            guards: register(registry, "polygate_guard_matches", Family::default()),
        }
    }

    /// Counts one call that ended.
    pub(super) fn observe(&self, record: &CallRecord) {
        let method = word(&record.method);
        self.durations
            .get_or_create(&DurationLabels {
                method,
                endpoint: record.endpoint,
                model: record.label.clone(),
                provider: record.provider.clone(),
            })
            .observe(record.duration.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels {
                method,
                endpoint: record.endpoint,
                model: record.label.clone(),
                provider: record.provider.clone(),
                status_code: record.status,
                api_key_name: record.key.clone(),
                client: record.program(),
            })
            .inc();
        self.observe_tokens(record);
        self.observe_speed(record);
        self.observe_end(record);
        self.observe_cache(record);
        for acted in &record.guards {
            let labels = GuardLabels {
                guard: acted.guard.clone(),
                action: acted.action.name(),
                side: acted.side.name(),
            };
            self.guards.get_or_create(&labels).inc_by(acted.count);
        }
        self.observe_attempts(record);
    }

    /// Counts a shadow call that ended: its attempts are as all are, and cost as much.
    pub(super) fn observe_shadow(&self, record: &CallRecord) {
        self.count_shadow(&record.label, record.outcome.name());
        self.observe_attempts(record);
    }

    /// Counts what became of a shadow call.
    pub(super) fn count_shadow(&self, model: &Arc<str>, outcome: &'static str) {
        let labels = ShadowLabels {
            model: model.clone(),
            outcome,
        };
        self.shadows.get_or_create(&labels).inc();
    }

    fn observe_attempts(&self, record: &CallRecord) {
        let mut attempts = record.attempts.iter().peekable();
        while let Some(attempt) = attempts.next() {
            self.observe_attempt(record, attempt);
            if let Some(next) = attempts.peek() {
                self.observe_failover(attempt, next);
            }
        }
    }

    /// Counts a request that became no call: among requests too, by names that no caller chooses.
    pub(super) fn refused(&self, refused: &Refused) {
        let none: Arc<str> = NONE.into();
        self.requests
            .get_or_create(&RequestLabels {
                method: refused.method,
                endpoint: refused.endpoint,
                model: none.clone(),
                provider: none,
                status_code: refused.status,
                api_key_name: refused.key.clone(),
                client: "unknown",
            })
            .inc();
        self.count_refusal(refused.endpoint, refused.reason);
    }

    fn count_refusal(&self, endpoint: &'static str, reason: &'static str) {
        let labels = RefusedLabels { endpoint, reason };
        self.refused.get_or_create(&labels).inc();
    }

    fn observe_cache(&self, record: &CallRecord) {
        let Some(looked) = record.looked else { return };
        let labels = CachedLabels {
            model: record.label.clone(),
            result: looked.name(),
        };
        self.cached.get_or_create(&labels).inc();
        let saved = record.saved.unwrap_or_default();
        for (kind, count) in [("input", saved.input), ("output", saved.output)] {
            if count > 0 {
                let labels = SavedLabels {
                    model: record.label.clone(),
                    kind,
                };
                self.saved.get_or_create(&labels).inc_by(count);
            }
        }
    }

    fn observe_tokens(&self, record: &CallRecord) {
        for answer in record.answers() {
            let usage = answer.charge.usage;
            let counts = [
                ("prompt_tokens", usage.input),
                ("completion_tokens", usage.output),
                ("total_tokens", usage.total()),
            ];
            for (token_type, count) in counts.into_iter().filter(|_| usage.total() > 0) {
                let labels = TokenLabels {
                    model: record.label.clone(),
                    provider: answer.provider.clone(),
                    token_type,
                    api_key_name: record.key.clone(),
                };
                self.tokens.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// Of streams: only there something comes first.
    fn observe_speed(&self, record: &CallRecord) {
        let Some(first) = record.first_event.filter(|_| record.stream) else {
            return;
        };
        // Others may have gone on with it.
        let answer = record.answers().next();
        let labels = |source| SourceLabels {
            source,
            model: record.label.clone(),
            provider: answer.map_or(&record.provider, |one| &one.provider).clone(),
        };
        self.first
            .get_or_create(&labels("gateway"))
            .observe(first.as_secs_f64());
        if let Some(answer) = answer {
            self.first
                .get_or_create(&labels("provider"))
                .observe(answer.duration.as_secs_f64());
        }
        let wrote = record.duration.saturating_sub(first).as_secs_f64();
        let output = record
            .answers()
            .map(|one| one.charge.usage.output)
            .sum::<u64>();
        if output > 0 && wrote > 0.0 {
            self.speed
                .get_or_create(&labels("provider"))
                .observe(output as f64 / wrote);
        }
    }

    fn observe_end(&self, record: &CallRecord) {
        use crate::observe::Outcome;
        let nobody_asked = record.attempts.is_empty() && !record.is_replayed();
        if let (Some(reason), true) = (record.error, nobody_asked) {
            self.count_refusal(record.endpoint, reason);
        }
        if record.outcome == Outcome::ClientGone {
            self.gone.get_or_create(&model(record)).inc();
        }
        if !record.transformed.losses.is_empty() {
            self.losses
                .get_or_create(&target(record, &record.provider))
                .inc_by(record.transformed.losses.len() as u64);
        }
        // Said once for each label.
        if record.unpriced && self.unpriced.get_or_create(&model(record)).inc() == 0 {
            tracing::warn!(
                model = &*record.label,
                provider = &*record.provider,
                upstream_model = &*printable(&record.upstream_model),
                "nobody knows what calls of this model cost: they are kept without a price; 'price_overrides' in the configuration sets one"
            );
        }
    }

    fn observe_attempt(&self, record: &CallRecord, attempt: &AttemptRecord) {
        let provider = ProviderLabel {
            provider: attempt.provider.clone(),
        };
        self.latency
            .get_or_create(&provider)
            .observe(attempt.duration.as_secs_f64());
        self.attempts
            .get_or_create(&AttemptLabels {
                provider: attempt.provider.clone(),
                outcome: attempt.outcome,
            })
            .inc();
        if attempt.is_hedge {
            self.hedges
                .get_or_create(&HedgeLabels {
                    provider: attempt.provider.clone(),
                    outcome: attempt.hedge_outcome(),
                })
                .inc();
        }
        let cost = u64::try_from(attempt.charge.cost).unwrap_or_default();
        self.cost
            .get_or_create(&target(record, &attempt.provider))
            .inc_by(cost);
        self.observe_charge(record, attempt);
    }

    /// Counts a call that went on to another provider or key: asking the same one again is none, nor is one that was asked beside.
    fn observe_failover(&self, attempt: &AttemptRecord, next: &AttemptRecord) {
        let is_other = attempt.provider != next.provider || attempt.credential != next.credential;
        if attempt.has_failed() && is_other && !next.is_hedge {
            let labels = FailoverLabels {
                provider: attempt.provider.clone(),
                reason: attempt.outcome,
            };
            self.failovers.get_or_create(&labels).inc();
        }
    }

    fn observe_charge(&self, record: &CallRecord, attempt: &AttemptRecord) {
        let usage = attempt.charge.usage;
        let counts = [
            ("input", usage.input),
            ("output", usage.output),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("cache_write_1h", usage.cache_write_1h),
            ("reasoning", usage.reasoning),
        ];
        for (kind, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = ChargedLabels {
                model: record.label.clone(),
                provider: attempt.provider.clone(),
                kind,
                state: attempt.charge.state.as_str(),
            };
            self.charged.get_or_create(&labels).inc_by(count);
        }
    }
}

fn model(record: &CallRecord) -> ModelLabel {
    ModelLabel {
        model: record.label.clone(),
    }
}

fn target(record: &CallRecord, provider: &Arc<str>) -> TargetLabels {
    TargetLabels {
        model: record.label.clone(),
        provider: provider.clone(),
    }
}
