//! From files, variables and flags to the one canonical configuration.
//!
//! A file is recognised by its keys ([`Dialect`]) and lowered into [`Config`]; values come from flags, then the environment,
//! then `.env`, then the file, then defaults. All problems are told together.

mod ai_proxy;
mod check;
mod cloak;
mod condition;
pub mod database;
pub mod documents;
pub mod env;
mod headers;
mod jsonl;
pub(crate) mod later;
mod names;
mod native;
pub mod objects;
mod overrides;
mod payload;
mod pieces;
mod pool;
mod problem;
mod reader;
mod summary;
mod telemetry;
pub(crate) mod values;
pub(crate) mod yaml;
mod zero;

use std::path::{Path, PathBuf};

use polygate_core::Secret;
use polygate_engine::Config;
use polygate_engine::config::Server;

use database::Storage;
use env::Environment;
use names::{Named, Names};
use reader::{Reading, Section, Spot};

pub use problem::{Findings, Problem, Report};
pub use summary::summary;
pub use yaml::Place;

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
    pub storage: Storage,
    /// The file's text, to see whether it changed.
    pub text: String,
    /// What the file names.
    names: Names,
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

    /// Whose keys these are.
    pub(crate) fn of(top: &yaml::Node) -> Self {
        if ai_proxy::is(top) {
            Dialect::AiProxy
        } else if pool::is(top) {
            Dialect::Pool
        } else if native::is_llm_proxy(top) {
            Dialect::LlmProxy
        } else {
            Dialect::Native
        }
    }
}

/// The configuration that flags, variables and files make together.
pub fn load(flags: &Flags, environment: &Environment, directory: &Path) -> Result<Loaded, Report> {
    let (path, mut parsed, text) = read(flags, environment, directory);
    let absolute = path.as_ref().map(|path| directory.join(path));
    let findings = &mut parsed.findings;
    overrides::apply(flags, environment, &mut parsed.config, findings);
    let admin_key = overrides::admin_key(environment, findings);
    let storage = database::read(environment, directory, findings);
    let without_redis = native::cache::without_redis(&parsed.config, storage.redis.is_some());
    findings.errors.extend(without_redis);
    if let Some(complaint) = environment.complaint() {
        findings.warn("", complaint);
    }
    if !findings.errors.is_empty() {
        return Err(Report::new(path, std::mem::take(&mut findings.errors)));
    }
    let mut warnings = std::mem::take(&mut findings.warnings);
    warnings.sort_by_key(|warning| warning.place);
    Ok(Loaded {
        config: parsed.config,
        dialect: parsed.dialect,
        path: absolute,
        warnings,
        admin_key,
        storage,
        text,
        names: parsed.names,
    })
}

/// Where a gateway listens that flags, variables and files make together. Anything else may be wrong with them: a gateway that
/// was started with others, or keeps serving by older ones, listens there all the same.
pub fn listening(
    flags: &Flags,
    environment: &Environment,
    directory: &Path,
) -> Result<Server, Report> {
    /// The file as a whole, and the keys that say where; those that a dialect has at its top too.
    const WHERE: [&str; 5] = ["", "server", "host", "port", "tls"];
    let (path, parsed, _) = read(flags, environment, directory);
    let mut server = parsed.config.server;
    let mut findings = Findings::default();
    overrides::address(flags, environment, &mut server, &mut findings);
    let is_where =
        |problem: &Problem| WHERE.contains(&problem.path.split('.').next().unwrap_or_default());
    let errors = parsed.findings.errors.into_iter().filter(is_where);
    findings.errors.extend(errors);
    if findings.errors.is_empty() {
        Ok(server)
    } else {
        Err(Report::new(path, findings.errors))
    }
}

/// The file, as it was named, and what it says.
fn read(
    flags: &Flags,
    environment: &Environment,
    directory: &Path,
) -> (Option<PathBuf>, Parsed, String) {
    let Some(path) = find(flags, environment).or_else(|| here(directory)) else {
        return (None, zero(environment), String::new());
    };
    let (parsed, text) = match std::fs::read_to_string(directory.join(&path)) {
        Ok(text) => (parse(&text, environment), text),
        Err(error) => (unreadable(&error), String::new()),
    };
    (Some(path), parsed, text)
}

/// The file that flag, argument or variables name.
fn find(flags: &Flags, environment: &Environment) -> Option<PathBuf> {
    const VARIABLES: [&str; 3] = ["POLYGATE_CONFIG", "AI_PROXY_CONFIG", "CONFIG_PATH"];
    let named = || Some(PathBuf::from(environment.first(&VARIABLES)?.1.trim()));
    flags.config.clone().or_else(named)
}

/// `./config.yaml`, if anything of that name is there.
fn here(directory: &Path) -> Option<PathBuf> {
    const NAME: &str = "config.yaml";
    let is_there = directory.join(NAME).symlink_metadata().is_ok();
    is_there.then(|| PathBuf::from(NAME))
}

/// What reading comes to. The configuration is good for something only where there are no errors.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// Whose keys the file has.
    pub dialect: Dialect,
    /// What was found.
    pub findings: Findings,
    names: Names,
}

/// Reads a file's text.
pub fn parse(text: &str, environment: &Environment) -> Parsed {
    let node = match yaml::parse(text) {
        Ok(node) => node,
        Err(error) => {
            let problem = Problem {
                place: error.place,
                ..Problem::general("", error.message)
            };
            return failed(problem);
        }
    };
    if crate::import::is_litellm(&node) {
        let message =
            "this is a configuration of LiteLLM: `polygate import FILE` makes a native file of it";
        return failed(Problem::general("", message));
    }
    let dialect = Dialect::of(&node);
    let mut reading = Reading::new(environment);
    if matches!(dialect, Dialect::Native | Dialect::LlmProxy) {
        reading.aliases = &native::ALIASES;
    }
    let top = Section::top(&reading, &node);
    let mut config = match dialect {
        Dialect::AiProxy => ai_proxy::read(top),
        Dialect::Pool => pool::read(top),
        Dialect::Native | Dialect::LlmProxy | Dialect::Zero => native::read(top, dialect),
    };
    let names = reading.names.into_inner();
    let mut findings = reading.findings.into_inner();
    check::check(&mut config, &names, &mut findings);
    Parsed {
        config,
        dialect,
        findings,
        names,
    }
}

fn zero(environment: &Environment) -> Parsed {
    let config = zero::read(environment, polygate_providers::table());
    let providers = config.providers.iter();
    let named = providers.map(|provider| Named::new(&provider.name, &Spot::default()));
    let names = Names {
        providers: named.collect(),
        ..Names::default()
    };
    Parsed {
        config,
        dialect: Dialect::Zero,
        findings: Findings::default(),
        names,
    }
}

fn unreadable(error: &std::io::Error) -> Parsed {
    failed(Problem::general("", format!("cannot be read: {error}")))
}

fn failed(problem: Problem) -> Parsed {
    let findings = Findings {
        errors: vec![problem],
        ..Findings::default()
    };
    Parsed {
        config: Config::default(),
        dialect: Dialect::Native,
        findings,
        names: Names::default(),
    }
}
