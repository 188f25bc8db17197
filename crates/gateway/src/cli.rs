//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use http::Uri;
use polygate_engine::observe::Build;

use crate::config::{Flags, values};
use crate::export::Secrets;

/// What this program was made of; the build script knows the commit.
pub const BUILD: Build = Build::of(env!("POLYGATE_COMMIT"));

/// What `--version` says; `-V` says the first half.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("POLYGATE_COMMIT"),
    ")"
);

/// One gateway between every AI client and every AI provider.
#[derive(Debug, Parser)]
#[command(
    name = "polygate",
    version,
    long_version = VERSION,
    about,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; serves unless told otherwise.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// Everything but the default.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Serve(Serve),
    /// Read a configuration file and print what it resolves to
    Check {
        /// The file
        file: PathBuf,
    },
    /// Write another system's configuration (LiteLLM, AI API Pool, ai-proxy, llm-proxy) as a native file; a report goes to standard error
    Import(Import),
    /// Print what the database (DB_URL) has as a native file
    Export {
        /// What becomes of secrets
        #[arg(long, value_enum, default_value_t)]
        secrets: Secrets,
    },
    /// Change the tables of the database (DB_URL), which is done at every start too
    Migrate {
        /// What to do
        #[command(subcommand)]
        what: Migrate,
    },
    /// Ask the gateway that the same configuration, variables and flags would serve whether it is ready: exits with 0, or with 1
    Health(Health),
    /// Say why a call would go where it goes, or why one went where it went: of the gateway that the same configuration, variables
    /// and flags would serve
    Explain(Explain),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Run the simulated provider alone
    Mock(Mock),
}

/// What to import, and where to.
#[derive(Args, Clone, Debug)]
pub struct Import {
    /// The file
    pub file: PathBuf,
    /// Write it into the database (DB_URL) instead, with what variables say now
    #[arg(long)]
    pub database: bool,
    /// Write over what the database has by the same names
    #[arg(long, requires = "database")]
    pub replace: bool,
}

/// What is done to the tables.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Migrate {
    /// Bring them up to what this program expects
    Up,
    /// Take them back, with what is in them
    Down {
        /// To this version, 0 for none at all; one step unless given
        version: Option<i64>,
    },
    /// Print the version that is there and the one that is expected
    Version,
}

/// How to serve.
#[derive(Args, Clone, Debug, Default)]
pub struct Serve {
    /// What to serve, and where.
    #[command(flatten)]
    pub source: Source,
    /// error, warn, info, debug or trace; RUST_LOG goes before it
    #[arg(long)]
    pub log_level: Option<String>,
}

/// Which configuration, and what is said over it.
#[derive(Args, Clone, Debug, Default)]
pub struct Source {
    /// Configuration file
    #[arg(value_name = "CONFIG")]
    pub file: Option<PathBuf>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on
    #[arg(long)]
    pub port: Option<u16>,
}

impl From<Source> for Flags {
    fn from(source: Source) -> Self {
        Self {
            config: source.config.or(source.file),
            host: source.host,
            port: source.port,
        }
    }
}

/// Whom to ask whether it is ready.
#[derive(Args, Clone, Debug)]
pub struct Health {
    /// Where it would be.
    #[command(flatten)]
    pub source: Source,
    /// Its address; then nothing else is read
    #[arg(long, conflicts_with = "Source")]
    pub url: Option<Uri>,
    /// How long the answer may take: seconds, or a number with a unit
    #[arg(long, default_value = "3s", value_parser = patience)]
    pub timeout: Duration,
}

/// What is explained, and by whom.
#[derive(Args, Clone, Debug)]
pub struct Explain {
    /// A call that was made: its x-request-id, or its own id
    #[arg(conflicts_with_all = ["model", "body", "key", "headers", "offline"])]
    pub id: Option<String>,
    /// The model of a call that nobody makes
    #[arg(short, long, required_unless_present_any = ["id", "body"])]
    pub model: Option<String>,
    /// A file with the body of such a call; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The path that it would be sent to
    #[arg(short, long, default_value = "/v1/chat/completions")]
    pub endpoint: String,
    /// The name of the key that would call
    #[arg(short, long)]
    pub key: Option<String>,
    /// One of its headers, `name: value`
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// By the configuration alone, without a gateway: nothing rests, and nobody has called
    #[arg(long, conflicts_with = "url")]
    pub offline: bool,
    /// The gateway's address
    #[arg(long)]
    pub url: Option<Uri>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the object
    #[arg(long)]
    pub json: bool,
}

fn patience(text: &str) -> Result<Duration, &'static str> {
    let time = values::duration(text).filter(|time| !time.is_zero());
    time.ok_or("must be a time above zero")
}

/// How to run the simulated provider.
#[derive(Args, Clone, Debug)]
pub struct Mock {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 for a free one
    #[arg(long, default_value_t = 9090)]
    pub port: u16,
    /// Its name, in answers and in its ledger
    #[arg(long, default_value = "mock")]
    pub name: String,
    /// A key that every request must show
    #[arg(long)]
    pub api_key: Option<String>,
    /// Models that its lists name
    #[arg(long = "model")]
    pub models: Vec<String>,
    /// Milliseconds before every answer
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// Milliseconds between events of a stream
    #[arg(long, default_value_t = 0)]
    pub token_ms: u64,
    /// Milliseconds that connections are kept without a request; for ever unless given
    #[arg(long)]
    pub idle_ms: Option<u64>,
    /// Keep headers and bodies of requests in the ledger (GET /_mock/ledger)
    #[arg(long)]
    pub keep_bodies: bool,
}
