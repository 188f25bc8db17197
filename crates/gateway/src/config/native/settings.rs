//! Sections of numbers and switches: server, routing, retry, timeouts, health checks.

use polygate_engine::config::{HealthCheck, Retry, Routing, Server, Strategy, Timeouts, Tls};

use crate::config::pieces::{affinity, at_least_one, set};
use crate::config::reader::Section;

/// Names of strategies.
pub const STRATEGIES: [(&str, Strategy); 11] = [
    ("weighted", Strategy::Weighted),
    ("weighted-round-robin", Strategy::Weighted),
    ("round-robin", Strategy::RoundRobin),
    ("fill-first", Strategy::FillFirst),
    // Tiers are asked in order whatever the strategy: within one it is the first.
    ("priority", Strategy::FillFirst),
    ("random", Strategy::Random),
    ("least-busy", Strategy::LeastBusy),
    ("lowest-latency", Strategy::LowestLatency),
    ("latency", Strategy::LowestLatency),
    ("cheapest", Strategy::Cheapest),
    ("cost", Strategy::Cheapest),
];

/// `server`.
pub fn server(section: Section<'_>, server: &mut Server) {
    set(&mut server.host, section.address("host"));
    set(&mut server.port, section.number("port"));
    set(&mut server.body_limit, section.bytes("body_limit"));
    set(
        &mut server.shutdown_grace,
        section.duration("shutdown_grace"),
    );
    set(
        &mut server.shutdown_delay,
        section.duration("shutdown_delay"),
    );
    set(&mut server.upgrade_grace, section.duration("upgrade_grace"));
    server.max_connections = at_least_one(&section, "max_connections");
    server.max_concurrent_requests = at_least_one(&section, "max_concurrent_requests");
    let patience = &mut server.patience;
    for (place, key) in [
        (&mut patience.handshake, "handshake_timeout"),
        (&mut patience.header, "header_timeout"),
        (&mut patience.body, "body_timeout"),
        (&mut patience.write, "write_timeout"),
        (&mut patience.idle, "idle_timeout"),
    ] {
        set(place, section.patience(key));
    }
    if let Some(section) = section.section("tls") {
        server.tls = tls(section, true);
    }
    section.finish();
}

/// `tls`, on its own or below `server`.
pub fn tls(section: Section<'_>, on_by_default: bool) -> Option<Tls> {
    let enable = section.boolean("enable");
    let is_empty = section.item("cert").is_none() && section.item("key").is_none();
    let on = enable.unwrap_or(on_by_default && !is_empty);
    let files = if on {
        [section.required_text("cert"), section.required_text("key")]
    } else {
        [section.text("cert"), section.text("key")]
    };
    section.finish();
    let [Some(cert), Some(key)] = files else {
        return None;
    };
    let (cert, key) = (cert.into(), key.into());
    on.then_some(Tls { cert, key })
}

/// `routing`.
pub fn routing(section: Section<'_>, routing: &mut Routing) {
    set(&mut routing.strategy, section.word("strategy", &STRATEGIES));
    set(&mut routing.affinity, affinity(&section));
    set(
        &mut routing.force_model_prefix,
        section.boolean("force_model_prefix"),
    );
    routing.provider_suffix = section.text("provider_suffix");
    set(&mut routing.context_aware, section.boolean("context_aware"));
    section.finish();
}

/// `retry`.
pub fn retry(section: Section<'_>, retry: &mut Retry) {
    retry.max_retries = section.number("max_retries");
    retry.stream_retries = section.number("stream_retries");
    for (place, key) in [
        (&mut retry.initial_backoff, "initial_backoff"),
        (&mut retry.max_backoff, "max_backoff"),
        (&mut retry.max_wait, "max_wait"),
        (&mut retry.cooldown_rate_limit, "cooldown_rate_limit"),
        (&mut retry.cooldown_quota, "cooldown_quota"),
        (&mut retry.cooldown_error, "cooldown_error"),
        (&mut retry.cooldown_network, "cooldown_network"),
        (&mut retry.max_cooldown, "max_cooldown"),
    ] {
        set(place, section.duration(key));
    }
    set(
        &mut retry.breaker_threshold,
        section.number("breaker_threshold"),
    );
    if retry.breaker_threshold == 0 {
        section.error("breaker_threshold", "must be at least 1");
    }
    section.finish();
}

/// `timeouts`.
pub fn timeouts(section: Section<'_>, timeouts: &mut Timeouts) {
    set(&mut timeouts.connect, section.patience("connect"));
    set(
        &mut timeouts.connection_idle,
        section.patience("connection_idle"),
    );
    set(
        &mut timeouts.connection_lifetime,
        section.patience("connection_lifetime"),
    );
    set(&mut timeouts.first_event, section.patience("first_event"));
    set(&mut timeouts.idle, section.patience("idle"));
    set(&mut timeouts.request, section.patience("request"));
    timeouts.total = section.patience("total");
    set(&mut timeouts.keepalive, section.duration("keepalive"));
    set(&mut timeouts.hold, section.duration("hold"));
    set(
        &mut timeouts.non_stream_keepalive,
        section.duration("non_stream_keepalive"),
    );
    section.finish();
}

/// `health_check`.
pub fn health_check(section: Section<'_>, check: &mut HealthCheck) {
    set(&mut check.enabled, section.boolean("enabled"));
    set(&mut check.interval, section.patience("interval"));
    set(&mut check.timeout, section.patience("timeout"));
    set(&mut check.probe_models, section.boolean("probe_models"));
    section.finish();
}
