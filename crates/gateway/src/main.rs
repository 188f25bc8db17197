//! Polygate: one gateway between every AI client and every AI provider.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use polygate::boot::{self, Start};
use polygate::cli::{Cli, Command, Explain, Health, Import, Serve};
use polygate::config::database::storage as storage_of;
use polygate::config::env::Environment;
use polygate::config::{Flags, Report, load, summary};
use polygate::export::export;
use polygate::limits::bearable;
use polygate::listen::Given;
use polygate::storage::{Refused, migrate};
use polygate::systemd::Notifier;
use polygate::{explain, health};
use tracing_subscriber::EnvFilter;

/// sysexits' EX_CONFIG: the configuration cannot be used.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
    match cli.command {
        Some(Command::Check { file }) => check(
            Flags {
                config: Some(file),
                ..Flags::default()
            },
            &directory,
        ),
        Some(Command::Import(args)) => import(&args, &directory),
        Some(Command::Export { secrets }) => {
            let environment = Environment::of_process(&directory);
            logs(None, &environment);
            match storage_of(&environment, &directory) {
                Ok(storage) => run(export(&storage, secrets)),
                Err(report) => refuse(&report),
            }
        }
        Some(Command::Migrate { what }) => {
            let environment = Environment::of_process(&directory);
            logs(None, &environment);
            match storage_of(&environment, &directory) {
                Ok(storage) => run(migrate(storage, what)),
                Err(report) => refuse(&report),
            }
        }
        Some(Command::Health(args)) => health(args, &directory),
        Some(Command::Explain(args)) => explain(&args, &directory),
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "polygate", &mut text);
            match std::io::stdout().write_all(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Some(Command::Mock(args)) => {
            logs(None, &Environment::default());
            run(boot::mock(args))
        }
        Some(Command::Serve(args)) => serve(args, &directory),
        None => serve(cli.serve, &directory),
    }
}

fn serve(args: Serve, directory: &Path) -> ExitCode {
    let environment = Environment::of_process(directory);
    logs(args.log_level.as_deref(), &environment);
    let flags = Flags::from(args.source);
    let given = match Given::take(&environment) {
        Ok(given) => given,
        Err(error) => return fail(&error),
    };
    match load(&flags, &environment, directory) {
        Ok(loaded) => {
            let start = Start {
                flags,
                directory: directory.to_path_buf(),
                given,
                notifier: Notifier::of(&environment),
                bearable: bearable(),
            };
            run(boot::serve(loaded, start))
        }
        Err(report) => refuse(&report),
    }
}

fn check(flags: Flags, directory: &Path) -> ExitCode {
    match load(&flags, &Environment::of_process(directory), directory) {
        Ok(loaded) => {
            let _ = std::io::stdout().write_all(summary(&loaded).as_bytes());
            ExitCode::SUCCESS
        }
        Err(report) => refuse(&report),
    }
}

/// Never with another code than 0 and 1: container runtimes know no others.
fn health(args: Health, directory: &Path) -> ExitCode {
    let url = match args.url {
        Some(url) => Ok(url),
        None => health::own_url(&args.source.into(), directory),
    };
    let asked = url.and_then(|url| health::ask(&url, args.timeout));
    let (line, code) = match asked {
        Ok(line) => (line, ExitCode::SUCCESS),
        Err(line) => (line, ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    code
}

fn explain(args: &Explain, directory: &Path) -> ExitCode {
    let flags = Flags {
        config: args.config.clone(),
        ..Flags::default()
    };
    let environment = Environment::of_process(directory);
    let loaded = match load(&flags, &environment, directory) {
        Ok(loaded) => loaded,
        Err(report) => return refuse(&report),
    };
    if args.offline {
        return run(explain::offline(args, loaded));
    }
    let url = match &args.url {
        Some(url) => Ok(url.clone()),
        None => health::own_url(&flags, directory).map_err(anyhow::Error::msg),
    };
    match url.and_then(|url| Ok((url, explain::admin_key(&loaded)?))) {
        Ok((url, key)) => run(async move { explain::online(args, &url, &key).await }),
        Err(error) => fail(&error),
    }
}

fn import(args: &Import, directory: &Path) -> ExitCode {
    let environment = Environment::of_process(directory);
    let imported = match polygate::import::read(&args.file) {
        Ok(imported) => imported,
        Err(report) => return refuse(&report),
    };
    if !args.database {
        let _ = std::io::stdout().write_all(imported.text().as_bytes());
    }
    let _ = std::io::stderr().write_all(imported.report().as_bytes());
    let problems = imported.problems(&environment);
    if !problems.is_empty() {
        let _ = writeln!(std::io::stderr(), "what came of it cannot be served yet:");
        return refuse(&Report::new(None, problems));
    }
    if !args.database {
        return ExitCode::SUCCESS;
    }
    logs(Some("warn"), &environment);
    match storage_of(&environment, directory) {
        Ok(storage) => run(async move {
            polygate::import::write(&imported, &storage, &environment, args.replace).await
        }),
        Err(report) => refuse(&report),
    }
}

fn refuse(report: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{report}");
    ExitCode::from(EX_CONFIG)
}

fn run(future: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(future) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => refuse(refused),
            None => fail(&error),
        },
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "polygate: {error:#}");
    ExitCode::FAILURE
}

/// `RUST_LOG`, then the flag, then the variables, then `info`; in JSON unless `POLYGATE_LOG_FORMAT` is `pretty`.
fn logs(flag: Option<&str>, environment: &Environment) {
    let level = flag.or_else(|| {
        environment
            .first(&["POLYGATE_LOG_LEVEL", "AI_PROXY_LOG_LEVEL"])
            .map(|(_, level)| level)
    });
    let filter = environment.get("RUST_LOG").or(level).unwrap_or("info");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // It tells of every change in the configuration's folder: with the log in there, of its own lines, for ever.
    let filter = match "notify=info".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // What cannot be written would be told there too, which panics.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match environment.get("POLYGATE_LOG_FORMAT").map(str::trim) {
        Some("pretty") => {
            let is_coloured =
                environment.get("NO_COLOR").is_none() && std::io::stderr().is_terminal();
            lines.with_ansi(is_coloured).init();
        }
        _ => lines.json().flatten_event(true).init(),
    }
}
