//! The table of metrics: what the page says of each, and `docs/metrics.md`, comes from here.

use prometheus_client::registry::{Metric, Registry};

/// A metric.
pub struct Described {
    /// Its name; of counters without `_total`, with which they are written.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// What metrics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The word on the page.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

const PROVIDER: &[&str] = &["provider"];
const TARGET: &[&str] = &["model", "provider"];

const fn row(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    Described {
        name,
        kind,
        labels,
        help,
    }
}

use Kind::{Counter, Gauge, Histogram};

/// Every metric.
#[rustfmt::skip]
pub const TABLE: &[Described] = &[
    row("llm_proxy_requests", Counter, &["method", "endpoint", "model", "provider", "status_code", "api_key_name", "client"], "Calls that ended, and requests refused before they became calls (model and provider none)"),
    row("llm_proxy_request_duration_seconds", Histogram, &["method", "endpoint", "model", "provider"], "Time from a call's start to its end"),
    row("llm_proxy_active_requests", Gauge, &["endpoint"], "Calls that have not ended"),
    row("llm_proxy_tokens", Counter, &["model", "provider", "token_type", "api_key_name"], "Tokens of answers, as providers reported them and else as they are estimated: prompt_tokens, completion_tokens, total_tokens"),
    row("llm_proxy_provider_health", Gauge, PROVIDER, "1 where a provider can be asked, 0 where it rests"),
    row("llm_proxy_provider_latency_seconds", Histogram, PROVIDER, "Time of one attempt until it is decided"),
    row("llm_proxy_ttft_seconds", Histogram, &["source", "model", "provider"], "Time to a stream's first good event: of the attempt (source provider), of the call with all that came before (source gateway)"),
    row("llm_proxy_tokens_per_second", Histogram, &["source", "model", "provider"], "Output tokens of a stream a second, from its first good event on"),
    row("llm_proxy_client_disconnects", Counter, &["model"], "Calls whose client went before their end"),
    row("polygate_requests_refused", Counter, &["endpoint", "reason"], "Requests for which no provider was asked, by the error's code: no key, no such model, a limit, no room, everything rests"),
    row("polygate_attempts", Counter, &["provider", "outcome"], "Attempts at providers: ok, continued, hedge_lost, given_up (the call ended first), or the failure's code, of a stream that broke off too"),
    row("polygate_failovers", Counter, &["provider", "reason"], "Attempts that failed at a provider and after which another, or another key, was asked"),
    row("polygate_hedges", Counter, &["provider", "outcome"], "Second attempts beside a slow first one: won, lost or failed"),
    row("polygate_charged_tokens", Counter, &["model", "provider", "kind", "state"], "Tokens that attempts are charged, as in the ledger: kind input, output, cache_read, cache_write, cache_write_1h or reasoning (parts of the first two); state reported, estimated, aborted or failed"),
    row("polygate_cost_micro_usd", Counter, TARGET, "What attempts cost, in millionths of a dollar"),
    row("polygate_unpriced_calls", Counter, &["model"], "Calls of which nobody knows what they cost"),
    row("polygate_losses", Counter, TARGET, "Members of requests that translation could not carry"),
    row("polygate_cache_requests", Counter, &["model", "result"], "Calls that a rule of the cache is for: hit, shared (the answer of another that asked the same at the same time), miss, bypass (not looked up)"),
    row("polygate_cache_saved_tokens", Counter, &["model", "kind"], "Tokens of answers that were kept and given again, by kind input and output: they are in no other metric, and in no sum of the ledger"),
    row("polygate_cache_entries", Gauge, &[], "Answers that are kept in memory"),
    row("polygate_cache_bytes", Gauge, &[], "Bytes of these"),
    row("polygate_cache_failures", Counter, &[], "Times that Redis was asked for a kept answer, or given one to keep, in vain: it was away, or too slow, or too much was waiting"),
    row("polygate_shadow_calls", Counter, &["model", "outcome"], "Shadow calls, which no client waits for: completed, failed, client_gone (the gateway ended first), dropped (as many under way as there may be; model is then the one that has the shadow)"),
    row("polygate_guard_matches", Counter, &["guard", "action", "side"], "What guards found: action block, redact, restore or flag; side request or answer"),
    row("polygate_records_dropped", Counter, &[], "Call records lost to a full queue: missing in metrics and log, never in the ledger"),
    row("polygate_provider_breaker_state", Gauge, &["provider", "state"], "1 for the state that a provider's breaker is in: closed, open, half_open"),
    row("polygate_provider_breaker_opened", Counter, PROVIDER, "Times that a provider's breaker opened"),
    row("polygate_credential_resting", Gauge, &["provider", "credential"], "1 where a provider's key rests (is in cooldown)"),
    row("polygate_provider_models_resting", Gauge, PROVIDER, "Models that rest (are in cooldown) at a provider"),
    row("polygate_provider_calls", Gauge, PROVIDER, "Calls under way at a provider"),
    row("polygate_provider_retries", Counter, PROVIDER, "Attempts at a provider after another one of the same call failed"),
    row("polygate_provider_retries_refused", Counter, PROVIDER, "Such that the budget of retries did not allow"),
    row("polygate_provider_retry_budget", Gauge, PROVIDER, "Retries at a provider that may fail now"),
    row("polygate_upstream_connections_open", Gauge, PROVIDER, "Open connections to a provider"),
    row("polygate_upstream_connections_idle", Gauge, PROVIDER, "Of these, such that have no request"),
    row("polygate_upstream_connects", Counter, PROVIDER, "Connections opened to a provider"),
    row("polygate_upstream_reuses", Counter, PROVIDER, "Requests on connections that were open already"),
    row("polygate_upstream_waiting", Gauge, PROVIDER, "Requests that wait for a connection, there being as many as there may be"),
    row("polygate_upstream_full", Counter, PROVIDER, "Such that waited in vain"),
    row("polygate_calls", Gauge, &[], "Model calls that the gateway has room for and that are under way, their uploads included"),
    row("polygate_calls_max", Gauge, &[], "How many there may be: those beyond are refused"),
    row("polygate_limiter_mode", Gauge, &["mode"], "How limits are kept, 1 for the way of now: alone, written, leased, share (the store is away: each replica takes its part)"),
    row("polygate_limiter_replicas", Gauge, &[], "How many replicas share limits, as this one knows"),
    row("polygate_limits", Gauge, &["measure", "period"], "Limits of keys, teams and models that were taken of or are configured"),
    row("polygate_limits_nearly_spent", Gauge, &["measure", "period"], "Of these, such that have less than a fifth left in the window of now"),
    row("polygate_limits_spent", Gauge, &["measure", "period"], "Of these, such that have nothing left"),
    row("polygate_health_signals", Counter, &["fate"], "What replicas tell one another of rests: told, dropped (not told, for want of room or of a connection), heard, ignored (names nothing here)"),
    row("polygate_telemetry_calls", Counter, &["destination", "fate"], "Calls that others are told of: sent, dropped (no room in the queue), refused (not taken, or never reached)"),
    row("polygate_telemetry_contents_dropped", Counter, &["destination"], "Of these, such that are told without what was said in them, for want of room in the queue"),
    row("polygate_ledger_slots_taken", Gauge, &[], "Calls under way that have a slot in the ledger"),
    row("polygate_ledger_waiting", Gauge, &[], "Calls in the local log that the store does not have yet"),
    row("polygate_ledger_oldest_waiting_seconds", Gauge, &[], "How long ago about the oldest of these ended"),
    row("polygate_ledger_bytes", Gauge, &[], "Size of the local log"),
    row("polygate_ledger_max_bytes", Gauge, &[], "The size at which no further call is taken"),
    row("polygate_ledger_full", Gauge, &[], "1 where the local log cannot be written, and no call is taken"),
    row("polygate_ledger_shipped", Counter, &[], "Calls that the store has"),
    row("polygate_ledger_quarantined", Counter, &[], "Calls that the store refused, which are in quarantine.log"),
    row("polygate_ledger_aborted", Counter, &[], "Calls that nobody ended, charged by their estimates"),
    row("polygate_ledger_damaged", Counter, &[], "Damaged stretches of the local log"),
    row("polygate_ledger_passed_over", Counter, &[], "Refused calls that were not written, there being too many of them"),
    row("polygate_config_generation", Gauge, &[], "How often the configuration was swapped since the start"),
    row("polygate_config_version", Gauge, &[], "The version of the database's documents that is followed; 0 where there are none"),
    row("polygate_config_refused", Gauge, &["source"], "1 where the file, or what the database says, was refused as it is now: an older configuration is in force"),
    row("polygate_config_left_out", Gauge, &[], "Documents of the database that are not served"),
    row("polygate_store_up", Gauge, &[], "1 where the store answered when it was last asked"),
    row("polygate_build_info", Gauge, &["version", "commit"], "Always 1; version and commit are labels"),
    row("polygate_tasks", Gauge, &[], "Tasks of the process: one a connection of a client or to a provider, one an HTTP/2 stream, and a few"),
    row("process_cpu_seconds", Counter, &[], "Processor time that the process took"),
    row("process_start_time_seconds", Gauge, &[], "When the process started; seconds since 1970"),
    row("process_resident_memory_bytes", Gauge, &[], "Memory of the process"),
    row("process_open_fds", Gauge, &[], "Open file descriptors"),
    row("process_max_fds", Gauge, &[], "How many there may be"),
    row("process_threads", Gauge, &[], "Threads of the process"),
];

/// What the table says of a metric; a test holds it to knowing all.
pub(super) fn described(name: &str) -> Option<&'static Described> {
    TABLE.iter().find(|row| row.name == name)
}

/// Puts a metric on the page, in the table's words.
pub(super) fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, metric: M) -> M {
    let help = described(name).map_or("", |row| row.help);
    registry.register(name, help, metric.clone());
    metric
}
