//! From files, variables and flags to the one canonical configuration.
//!
//! A file is recognised by its keys ([`Dialect`]) and lowered into [`Config`]; values come from flags, then the environment,
//! then `.env`, then the file, then defaults. All problems of a file are told together.

mod ai_proxy;
mod check;
pub mod env;
mod native;
mod pool;
pub mod reader;
mod summary;
pub mod yaml;
mod zero;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use polygate_core::Secret;
use polygate_engine::Config;

use env::Environment;
use reader::{Findings, Problem, Reading, Section};

pub use summary::summary;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file.
    pub config: Option<PathBuf>,
    /// `--host`.
    pub host: Option<String>,
    /// `--port`.
    pub port: Option<u16>,
}

/// A configuration with what else was found on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file's dialect.
    pub dialect: Dialect,
    /// The file; `None` with zero configuration.
    pub path: Option<PathBuf>,
    /// What someone should know.
    pub warnings: Vec<Problem>,
    /// `ADMIN_KEY`.
    pub admin_key: Option<Secret>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// The file's text, to see whether it changed.
    pub text: String,
}

/// Whose keys a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Polygate's own.
    Native,
    /// llm-proxy's, which Polygate's extends.
    LlmProxy,
    /// ai-proxy's.
    AiProxy,
    /// AI API Pool's.
    Pool,
    /// No file at all.
    Zero,
}

impl Dialect {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Native => "polygate",
            Dialect::LlmProxy => "llm-proxy",
            Dialect::AiProxy => "ai-proxy",
            Dialect::Pool => "AI API Pool",
            Dialect::Zero => "zero configuration",
        }
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub struct Report {
    /// The file, where it is about one.
    pub file: Option<PathBuf>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self
            .file
            .as_ref()
            .map_or_else(String::new, |file| format!("{}:", file.display()));
        for (at, problem) in self.problems.iter().enumerate() {
            let gap = if problem.place.line > 0 || file.is_empty() {
                ""
            } else {
                " "
            };
            write!(f, "{}{file}{gap}{problem}", if at > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Secrets that every attacker tries first.
const SAMPLES: [&str; 9] = [
    "your-admin-key",
    "admin",
    "changeme",
    "change-me",
    "secret",
    "password",
    "your-secure-admin-key",
    "admin-key",
    "test",
];

/// The configuration that flags, variables and files make together.
pub fn load(flags: &Flags, environment: &Environment, directory: &Path) -> Result<Loaded, Report> {
    let path = find(flags, environment, directory);
    let (text, mut loaded) = match &path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| report(Some(path), "", format!("cannot be read: {error}")))?;
            let loaded = parse(&text, environment).map_err(|problems| Report {
                file: Some(path.clone()),
                problems,
            })?;
            (text, loaded)
        }
        None => {
            let config = zero::read(environment, polygate_providers::table());
            (String::new(), (config, Dialect::Zero, Findings::default()))
        }
    };
    let findings = &mut loaded.2;
    override_by_flags(flags, &mut loaded.0, findings);
    override_by_variables(flags, environment, &mut loaded.0, findings);
    let admin_key = admin_key(environment, findings);
    unsupported(environment, findings);
    if !findings.errors.is_empty() {
        return Err(Report {
            file: None,
            problems: std::mem::take(&mut findings.errors),
        });
    }
    let data_dir = environment
        .get("POLYGATE_DATA_DIR")
        .map_or_else(|| directory.join("polygate-data"), PathBuf::from);
    let warnings = std::mem::take(&mut findings.warnings);
    Ok(Loaded {
        config: loaded.0,
        dialect: loaded.1,
        path,
        warnings,
        admin_key,
        data_dir,
        text,
    })
}

fn report(file: Option<&Path>, path: &str, message: impl Into<String>) -> Report {
    let problem = Problem {
        place: yaml::Place::default(),
        path: path.to_owned(),
        message: message.into(),
    };
    Report {
        file: file.map(Path::to_path_buf),
        problems: vec![problem],
    }
}

/// Flag or argument, then variables, then `./config.yaml`.
fn find(flags: &Flags, environment: &Environment, directory: &Path) -> Option<PathBuf> {
    let named = || {
        environment
            .first(&["POLYGATE_CONFIG", "AI_PROXY_CONFIG", "CONFIG_PATH"])
            .map(|(_, path)| PathBuf::from(path))
    };
    let here = || Some(directory.join("config.yaml")).filter(|path| path.is_file());
    flags.config.clone().or_else(named).or_else(here)
}

/// What reading a file comes to.
pub type Parsed = (Config, Dialect, Findings);

/// Reads a file's text; or everything that is wrong with it.
pub fn parse(text: &str, environment: &Environment) -> Result<Parsed, Vec<Problem>> {
    let node = yaml::parse(text).map_err(|error| {
        vec![Problem {
            place: error.place,
            path: String::new(),
            message: error.message,
        }]
    })?;
    let reading = Reading {
        environment,
        findings: RefCell::default(),
    };
    let (config, dialect) = lower(Section::top(&reading, &node));
    let mut findings = reading.findings.into_inner();
    if findings.errors.is_empty() {
        findings.errors = check::check(&config);
    }
    if findings.errors.is_empty() {
        return Ok((config, dialect, findings));
    }
    findings.errors.sort_by_key(|problem| problem.place);
    Err(findings.errors)
}

fn lower(top: Section<'_>) -> (Config, Dialect) {
    if ai_proxy::is(&top) {
        (ai_proxy::read(top), Dialect::AiProxy)
    } else if pool::is(&top) {
        (pool::read(top), Dialect::Pool)
    } else {
        let dialect = if native::is_llm_proxy(&top) {
            Dialect::LlmProxy
        } else {
            Dialect::Native
        };
        (native::read(top), dialect)
    }
}

fn override_by_flags(flags: &Flags, config: &mut Config, findings: &mut Findings) {
    if let Some(host) = &flags.host {
        host_of("--host", host, config, findings);
    }
    if let Some(port) = flags.port {
        config.server.port = port;
    }
}

fn host_of(name: &str, text: &str, config: &mut Config, findings: &mut Findings) {
    let parsed: Option<IpAddr> = reader::address(text.trim());
    match parsed {
        Some(host) => config.server.host = host,
        None => findings
            .errors
            .push(wrong(name, "must be an IP address or 'localhost'")),
    }
}

fn wrong(name: &str, message: &str) -> Problem {
    Problem {
        place: yaml::Place::default(),
        path: name.to_owned(),
        message: message.to_owned(),
    }
}

fn override_by_variables(
    flags: &Flags,
    environment: &Environment,
    config: &mut Config,
    findings: &mut Findings,
) {
    if let Some((name, host)) = environment
        .first(&["POLYGATE_HOST", "AI_PROXY_HOST", "HOST"])
        .filter(|_| flags.host.is_none())
    {
        host_of(name, host, config, findings);
    }
    let mut parsed =
        |name: &str, value: &str, expected: &str, apply: &mut dyn FnMut(&str) -> Option<()>| {
            if apply(value.trim()).is_none() {
                findings.errors.push(wrong(name, expected));
            }
        };
    if let Some((name, port)) = environment
        .first(&["POLYGATE_PORT", "AI_PROXY_PORT", "PORT"])
        .filter(|_| flags.port.is_none())
    {
        parsed(name, port, "must be a port number", &mut |text| {
            Some(config.server.port = text.parse().ok()?)
        });
    }
    if let Some(value) = environment.get("VERIFY_SSL") {
        parsed("VERIFY_SSL", value, "must be true or false", &mut |text| {
            Some(config.verify_ssl = reader::boolean(text)?)
        });
    }
    if let Some(value) = environment.get("REQUEST_TIMEOUT_SECS") {
        parsed(
            "REQUEST_TIMEOUT_SECS",
            value,
            "must be seconds",
            &mut |text| Some(config.timeouts.request = reader::duration(text)?),
        );
    }
    if let Some(value) = environment.get("TTFT_TIMEOUT_SECS") {
        parsed("TTFT_TIMEOUT_SECS", value, "must be seconds", &mut |text| {
            Some(config.timeouts.first_event = reader::duration(text)?)
        });
    }
    if let Some(prefix) = environment.get("PROVIDER_SUFFIX") {
        config.routing.provider_suffix = Some(prefix.trim().to_owned());
    }
}

/// An admin key that is set to nothing, or to what the documentation says, refuses to start.
fn admin_key(environment: &Environment, findings: &mut Findings) -> Option<Secret> {
    let key = environment.raw("ADMIN_KEY")?.trim();
    if key.is_empty() {
        findings.errors.push(wrong(
            "ADMIN_KEY",
            "is empty: set a real key, or unset it to have one made",
        ));
        return None;
    }
    if SAMPLES.contains(&key.to_ascii_lowercase().as_str()) {
        findings.errors.push(wrong(
            "ADMIN_KEY",
            "is a sample: set a real key, or unset it to have one made",
        ));
        return None;
    }
    Some(Secret::new(key))
}

fn unsupported(environment: &Environment, findings: &mut Findings) {
    if environment.get("DB_URL").is_some_and(|url| url != "none") {
        findings
            .errors
            .push(wrong("DB_URL", "databases are not supported yet: unset it"));
    }
    for name in ["REDIS_URL", "LANGFUSE_PUBLIC_KEY", "JSONL_LOG_ENABLED"] {
        if environment
            .get(name)
            .is_some_and(|value| reader::boolean(value) != Some(false))
        {
            findings
                .warnings
                .push(wrong(name, "is not supported yet and has no effect"));
        }
    }
}
