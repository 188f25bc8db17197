//! What flags and variables say over the file.

use polygate_core::Secret;
use polygate_engine::Config;
use polygate_engine::config::Server;

use super::Flags;
use super::check::is_sample;
use super::env::Environment;
use super::jsonl;
use super::problem::Findings;
use super::telemetry;
use super::values;

/// Puts flags and variables in force; notes what is wrong with them.
pub fn apply(
    flags: &Flags,
    environment: &Environment,
    config: &mut Config,
    findings: &mut Findings,
) {
    address(flags, environment, &mut config.server, findings);
    let mut over = Variables {
        environment,
        findings,
    };
    let patience = |text: &str| values::duration(text).filter(|time| !time.is_zero());
    let seconds = "must be a number of seconds above zero";
    let request = over.variable("REQUEST_TIMEOUT_SECS", seconds, patience);
    let first_event = over.variable("TTFT_TIMEOUT_SECS", seconds, patience);
    let verify_ssl = over.boolean("VERIFY_SSL");
    let suffix = over.variable("PROVIDER_SUFFIX", "", |text| Some(text.to_owned()));
    super::pieces::set(&mut config.timeouts.request, request);
    super::pieces::set(&mut config.timeouts.first_event, first_event);
    super::pieces::set(&mut config.verify_ssl, verify_ssl);
    if suffix.is_some() {
        config.routing.provider_suffix = suffix;
    }
    telemetry::variables(&mut over, &mut config.telemetry);
    jsonl::variables(&mut over, &mut config.telemetry);
}

/// The same for where the gateway listens.
pub fn address(
    flags: &Flags,
    environment: &Environment,
    server: &mut Server,
    findings: &mut Findings,
) {
    let mut over = Variables {
        environment,
        findings,
    };
    let host = over.setting(
        ("--host", flags.host.clone()),
        &["POLYGATE_HOST", "AI_PROXY_HOST", "HOST"],
        "must be an IP address or 'localhost'",
        values::address,
    );
    let port = over.setting(
        ("--port", flags.port.map(|port| port.to_string())),
        &["POLYGATE_PORT", "AI_PROXY_PORT", "PORT"],
        "must be a port number",
        |text| text.parse().ok(),
    );
    super::pieces::set(&mut server.host, host);
    super::pieces::set(&mut server.port, port);
}

/// Variables, and what is wrong with them.
pub(super) struct Variables<'a> {
    pub(super) environment: &'a Environment,
    pub(super) findings: &'a mut Findings,
}

impl Variables<'_> {
    /// A flag's value, else that of the first variable that is set.
    fn setting<T>(
        &mut self,
        (flag, said): (&str, Option<String>),
        variables: &[&str],
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let flag = said.as_deref().map(|said| (flag, said));
        let (name, text) = flag.or_else(|| self.environment.first(variables))?;
        let value = parse(text.trim());
        if value.is_none() {
            self.findings.error(name, expected);
        }
        value
    }

    /// A variable's value, where it is set to one.
    pub(super) fn variable<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.setting(("", None), &[name], expected, parse)
    }

    /// Yes or no.
    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.variable(name, "must be true or false", values::boolean)
    }

    /// Says that these have no effect without their switch, where any is set.
    pub(super) fn without_effect(&mut self, prefix: &str, switch: &str) {
        let set: Vec<&str> = self.environment.names(prefix).collect();
        if !set.is_empty() {
            let why = format!("of no effect without {switch}=true");
            self.findings.warn(&set.join(", "), why);
        }
    }
}

/// `ADMIN_KEY`. One that is set to nothing, or to what documentation says, refuses to start.
pub fn admin_key(environment: &Environment, findings: &mut Findings) -> Option<Secret> {
    const NAME: &str = "ADMIN_KEY";
    match environment.raw(NAME).map(str::trim) {
        Some("") => findings.error(
            NAME,
            "is empty: set a real one, or unset it to have one made",
        ),
        Some(key) if is_sample(key) => findings.error(
            NAME,
            "is a sample that everyone knows: set a real one, or unset it to have one made",
        ),
        _ => {}
    }
    environment.get(NAME).map(|key| Secret::new(key.trim()))
}
