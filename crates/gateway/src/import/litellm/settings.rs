//! The settings of LiteLLM's three sections that mean something here.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::cache;
use super::callbacks::Callbacks;
use super::fallbacks;
use super::groups::Groups;
use super::{is_on, is_reference, number, text, time};
use crate::import::{At, Notes};

/// LiteLLM's strategies and ours.
const STRATEGIES: [(&str, &str); 7] = [
    ("simple-shuffle", "random"),
    ("least-busy", "least-busy"),
    ("latency-based-routing", "lowest-latency"),
    ("cost-based-routing", "cheapest"),
    ("usage-based-routing", "least-busy"),
    ("usage-based-routing-v2", "least-busy"),
    ("provider-budget-routing", "cheapest"),
];

/// What is read when all else is, where it means something.
const LATER: [&str; 14] = [
    "router_settings.num_retries",
    "litellm_settings.num_retries",
    "router_settings.fallbacks",
    "router_settings.context_window_fallbacks",
    "router_settings.content_policy_fallbacks",
    "router_settings.default_fallbacks",
    "router_settings.model_group_alias",
    "litellm_settings.fallbacks",
    "litellm_settings.context_window_fallbacks",
    "litellm_settings.content_policy_fallbacks",
    "litellm_settings.default_fallbacks",
    "litellm_settings.cache",
    "litellm_settings.cache_params",
    "general_settings.allowed_ips",
];

/// Of what is said twice.
const STRONGER: &str = "router_settings says otherwise, which is stronger";

/// Keys of these sections that have a word of their own.
const WORDS: [(&str, &str); 33] = [
    (
        "database_url",
        "set DB_URL; keys, teams and models that LiteLLM keeps there are not carried: make new ones",
    ),
    ("store_model_in_db", "models are kept where DB_URL says"),
    (
        "database_connection_pool_limit",
        "no request waits for the database",
    ),
    ("allow_requests_on_db_unavailable", "that is always so"),
    (
        "drop_params",
        "what a provider does not take is left out and named in x-polygate-dropped; a model's or key's strict: true refuses it",
    ),
    (
        "modify_params",
        "what a provider does not take is left out and named in x-polygate-dropped",
    ),
    ("set_verbose", "--log-level says what is logged"),
    ("json_logs", "logs are JSON"),
    ("redis_host", "set REDIS_URL"),
    ("redis_port", "set REDIS_URL"),
    ("redis_password", "set REDIS_URL"),
    ("redis_url", "set REDIS_URL"),
    ("service_callback", "see /metrics"),
    ("service_callbacks", "see /metrics"),
    (
        "health_check_interval",
        "set health_check.interval; Polygate's checks cost no tokens unless probe_models is set",
    ),
    (
        "background_health_checks",
        "providers are asked for their lists of models anyway, which costs no tokens",
    ),
    (
        "default_max_parallel_requests",
        "set a provider's max_concurrent, or a model's",
    ),
    (
        "max_parallel_requests",
        "set a provider's max_concurrent, or a model's",
    ),
    (
        "enable_tag_filtering",
        "a model's routes lead calls elsewhere by tags of their keys: when: {tags: […]}",
    ),
    (
        "max_budget",
        "a key, a team, a model and a provider have limits: {usd_per_month: …}",
    ),
    (
        "budget_duration",
        "a key, a team, a model and a provider have limits: {usd_per_month: …}",
    ),
    (
        "cost_discount_config",
        "price_overrides say what models cost",
    ),
    ("cost_margin_config", "price_overrides say what models cost"),
    (
        "forward_client_headers_to_llm_api",
        "a provider's forward_headers name those that reach it (docs/headers.md)",
    ),
    (
        "pass_through_endpoints",
        "any other path of a provider is there as /v1/{model}/…",
    ),
    (
        "disable_cooldowns",
        "a rest is as short as retry.cooldown_… says, and whoever rests is passed over only where others are left",
    ),
    (
        "default_team_settings",
        "teams are those of `teams`, with bounds of their own",
    ),
    (
        "store_prompts_in_spend_logs",
        "prompts and answers are nowhere but in jsonl_log, otlp and langfuse, where content is true",
    ),
    (
        "retry_policy",
        "one number of retries is for all kinds of failures: retry.max_retries",
    ),
    (
        "allowed_fails_policy",
        "one threshold is for all kinds of failures: retry.breaker_threshold",
    ),
    ("completion_model", "clients name a model"),
    ("alerting", "alerts are made of /metrics"),
    (
        "max_fallbacks",
        "each model is asked once, and fallbacks lead to theirs, seven deep at most",
    ),
];

/// The native settings of the whole file.
pub fn read(top: &At<'_>, groups: &mut Groups, notes: &mut Notes) -> Map<String, Value> {
    let mut reader = Reader {
        groups,
        notes,
        out: Map::new(),
        callbacks: Callbacks::default(),
    };
    let section = |key| top.get(key);
    let (general, library, router) = (
        section("general_settings"),
        section("litellm_settings"),
        section("router_settings"),
    );
    fallbacks::read(
        router.as_ref(),
        library.as_ref(),
        reader.groups,
        reader.notes,
    );
    for section in [&router, &library].into_iter().flatten() {
        if let Some(at) = section.get("num_retries") {
            reader.retries(&at);
        }
    }
    // What the router says goes before what the library says.
    let sections = [&router, &library, &general];
    for section in sections.into_iter().flatten() {
        for (key, at) in section.entries() {
            if !at.node.is_null() && !reader.callbacks.read(key, &at, reader.notes) {
                reader.setting(key, &at);
            }
        }
    }
    if let Some(addresses) = general.as_ref().and_then(|at| at.get("allowed_ips")) {
        reader.addresses(&addresses);
    }
    if let Some(library) = &library {
        reader.out.extend(cache::read(library, reader.notes));
    }
    if reader.groups.has_prefixes() {
        reader.put("routing", "force_model_prefix", true.into());
    }
    reader.out.extend(reader.callbacks.finish());
    reader.out
}

struct Reader<'a> {
    groups: &'a mut Groups,
    notes: &'a mut Notes,
    out: Map<String, Value>,
    callbacks: Callbacks,
}

impl Reader<'_> {
    fn setting(&mut self, key: &str, at: &At<'_>) {
        match key {
            _ if LATER.contains(&at.path.as_str()) => {}
            "routing_strategy" => self.strategy(at),
            "allowed_fails" => self.allowed_fails(at),
            "cooldown_time" => self.cooldown(at),
            "retry_after" => self.time(
                at,
                &[("retry", "initial_backoff")],
                "the first wait before the same candidate is asked again",
            ),
            "timeout" | "request_timeout" => self.time(
                at,
                &[("timeouts", "request")],
                "for answers that do not stream",
            ),
            "stream_timeout" => self.time(
                at,
                &[("timeouts", "first_event"), ("timeouts", "idle")],
                "for a stream's first event, and between its bytes",
            ),
            "ssl_verify" => self.ssl(at),
            "master_key" => self.master_key(at),
            "global_max_parallel_requests" => {
                self.number(
                    at,
                    "server",
                    "max_concurrent_requests",
                    "more are refused at once, with 503",
                );
            }
            "enable_pre_call_checks" => self.pre_call_checks(at),
            "max_request_size_mb" => self.body_limit(at),
            "maximum_spend_logs_retention_period" => self.retention(at),
            _ => {
                let word = WORDS.iter().find(|(known, _)| *known == key);
                let message = word.map_or("Polygate has none of this", |(_, message)| message);
                self.notes.missing(at, message);
            }
        }
    }

    /// Whether a section says this already.
    fn is_said(&self, section: &str, key: &str) -> bool {
        let section = self.out.get(section);
        section.is_some_and(|section| section.get(key).is_some())
    }

    /// Puts a value into a section, unless it has one.
    fn put(&mut self, section: &str, key: &str, value: Value) {
        let section = self.out.entry(section).or_insert_with(|| json!({}));
        if let Value::Object(section) = section {
            section.entry(key).or_insert(value);
        }
    }

    fn number(&mut self, at: &At<'_>, section: &str, key: &str, message: &str) {
        let Some(number) = number(at, self.notes) else {
            return;
        };
        if key == "max_concurrent_requests" && number == 0 {
            self.notes.missing(at, "zero is no limit");
            return;
        }
        let place = format!("{section}.{key}");
        match message {
            _ if self.is_said(section, key) => {
                self.notes.missing(at, format!("{place}: {STRONGER}"))
            }
            "" => self.notes.carried(at, place),
            message => self.notes.changed(at, format!("{place}: {message}")),
        }
        self.put(section, key, number);
    }

    fn time(&mut self, at: &At<'_>, places: &[(&str, &str)], message: &str) {
        let Some(time) = time(at, self.notes) else {
            return;
        };
        let names = places
            .iter()
            .map(|(section, key)| format!("{section}.{key}"));
        let names = names.collect::<Vec<_>>().join(", ");
        if places
            .iter()
            .all(|(section, key)| self.is_said(section, key))
        {
            self.notes.missing(at, format!("{names}: {STRONGER}"));
            return;
        }
        self.notes.changed(at, format!("{names}: {message}"));
        for (section, key) in places {
            self.put(section, key, time.clone());
        }
    }

    fn strategy(&mut self, at: &At<'_>) {
        let said = at.text().unwrap_or_default();
        let Some((_, ours)) = STRATEGIES.iter().find(|(theirs, _)| *theirs == said) else {
            self.notes
                .missing(at, "there is no such strategy: see routing.strategy");
            return;
        };
        match said.starts_with("usage-based") || said.starts_with("provider-budget") {
            true => {
                let message = format!("routing.strategy: {ours} is nearest to it");
                self.notes.changed(at, message);
            }
            false => self.notes.carried(at, format!("routing.strategy: {ours}")),
        }
        self.groups.has_strategy = said != "simple-shuffle";
        self.put("routing", "strategy", (*ours).into());
    }

    /// One more than is allowed lets rest.
    fn allowed_fails(&mut self, at: &At<'_>) {
        let number = number(at, self.notes);
        let Some(allowed) = number.as_ref().and_then(Value::as_u64) else {
            if number.is_some() {
                self.notes
                    .missing(at, "set retry.breaker_threshold to a number one higher");
            }
            return;
        };
        let threshold = u32::try_from(allowed + 1).unwrap_or(u32::MAX);
        let message = format!(
            "retry.breaker_threshold is {threshold}: failures in a row, of a provider; a rate limit lets a key rest at once"
        );
        self.notes.changed(at, message);
        self.put("retry", "breaker_threshold", threshold.into());
    }

    fn cooldown(&mut self, at: &At<'_>) {
        let places = ["cooldown_rate_limit", "cooldown_error", "cooldown_network"];
        self.time(
            at,
            &places.map(|key| ("retry", key)),
            "where the provider does not say itself how long",
        );
    }

    fn pre_call_checks(&mut self, at: &At<'_>) {
        let Some(is_on) = is_on(at) else {
            self.notes.missing(at, "no switch");
            return;
        };
        let message = "routing.context_aware: models whose context is surely too small are asked when no others are left";
        self.notes.changed(at, message);
        self.put("routing", "context_aware", is_on.into());
    }

    fn body_limit(&mut self, at: &At<'_>) {
        let Some(number) = number(at, self.notes) else {
            return;
        };
        // A variable says a number without its unit.
        match number.as_u64().filter(|number| *number > 0) {
            Some(number) => {
                self.notes.carried(at, "server.body_limit");
                let limit = format!("{number}MiB");
                self.put("server", "body_limit", limit.into());
            }
            None => self.notes.missing(at, "set server.body_limit"),
        }
    }

    /// Days, of which LiteLLM's words may be parts.
    fn retention(&mut self, at: &At<'_>) {
        const UNITS: [(char, u64); 4] = [('d', 1440), ('h', 60), ('m', 1), ('w', 10080)];
        let said = at.text().unwrap_or_default();
        let minutes = UNITS.iter().find_map(|(unit, minutes)| {
            let number: u64 = said.strip_suffix(*unit)?.trim().parse().ok()?;
            number.checked_mul(*minutes)
        });
        let days = minutes.map(|minutes| minutes.div_ceil(1440));
        let Some(days) = days.filter(|days| (1..=36_500).contains(days)) else {
            self.notes.missing(at, "set ledger.retention_days");
            return;
        };
        self.notes.carried(at, "ledger.retention_days");
        self.put("ledger", "retention_days", days.into());
    }

    /// Of whoever calls: they are bounds of a key.
    fn addresses(&mut self, at: &At<'_>) {
        let items = at.items();
        let addresses: Vec<Value> = items
            .iter()
            .filter_map(|at| Some(at.text()?.parse::<IpAddr>().ok()?.to_string().into()))
            .collect();
        let key = self.out.get_mut("master_keys");
        let key = key.and_then(|keys| keys.get_mut(0));
        match key.filter(|_| addresses.len() == items.len()) {
            Some(key) => {
                self.notes.changed(at, "the master key's allowed_ips");
                key["allowed_ips"] = Value::Array(addresses);
            }
            None => self
                .notes
                .missing(at, "a key has allowed_ips: addresses and networks"),
        }
    }

    fn ssl(&mut self, at: &At<'_>) {
        match is_on(at) {
            Some(verify) => {
                self.notes.carried(at, "verify_ssl");
                self.out.insert("verify_ssl".to_owned(), verify.into());
            }
            None => match text(at) {
                Some(file) => {
                    self.notes
                        .changed(at, "ca_file: believed beside the system's authorities");
                    self.out.insert("ca_file".to_owned(), file.into());
                }
                None => self.notes.missing(at, "no switch and no file"),
            },
        }
    }

    fn master_key(&mut self, at: &At<'_>) {
        let Some(key) = text(at) else {
            self.notes.missing(at, "no key");
            return;
        };
        if key.chars().any(char::is_control) {
            self.notes.missing(
                at,
                "there is a line break or another control character in it",
            );
            return;
        }
        let said = "a key for calls: master_keys; the admin pages have their own, in ADMIN_KEY";
        let warning = match is_reference(&key) {
            true => "",
            false => {
                ". It stands in the file, and in the new one: put it into a variable, and ${NAME} here"
            }
        };
        self.notes.changed(at, format!("{said}{warning}"));
        let keys = json!([{"name": "master", "key": key}]);
        self.out.insert("master_keys".to_owned(), keys);
    }

    /// LiteLLM tries each model on a call's way so often; here one number is for the whole way.
    fn retries(&mut self, at: &At<'_>) {
        let Some(number) = number(at, self.notes) else {
            return;
        };
        if self.is_said("retry", "max_retries") {
            let message = format!("retry.max_retries: {STRONGER}");
            self.notes.missing(at, message);
            return;
        }
        let has_fallbacks = self.groups.fallbacks.longest() > 0;
        let value = match number.as_u64().filter(|_| has_fallbacks) {
            Some(retries) => {
                let most = self.groups.attempts(retries + 1) - 1;
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                let message =
                    format!("retry.max_retries is {most}: fallbacks are paid of it here too");
                self.notes.changed(at, message);
                most.into()
            }
            // What a variable says cannot be made more here.
            None if has_fallbacks => {
                let message = "set retry.max_retries: higher, as fallbacks are paid of it here too";
                self.notes.missing(at, message);
                return;
            }
            None => {
                self.notes.carried(at, "retry.max_retries");
                number
            }
        };
        self.put("retry", "max_retries", value);
    }
}
