//! The command line.

use clap::Parser;
use polygate::cli::{Cli, Command};

fn parse(line: &str) -> Result<Cli, String> {
    let words = std::iter::once("polygate").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn serving_is_the_default() {
    for line in [
        "my.yaml --host 0.0.0.0 --port 0",
        "-c my.yaml --port 0 --host 0.0.0.0",
        "serve my.yaml --host 0.0.0.0 --port 0",
    ] {
        let cli = parse(line).expect(line);
        let serve = match cli.command {
            Some(Command::Serve(serve)) => serve,
            None => cli.serve,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            serve.config.or(serve.file).as_deref(),
            Some("my.yaml".as_ref()),
            "{line}"
        );
        assert_eq!(
            (serve.host.as_deref(), serve.port),
            (Some("0.0.0.0"), Some(0)),
            "{line}"
        );
    }
    let bare = parse("").expect("nothing is fine");
    assert!(bare.command.is_none() && bare.serve.file.is_none());
    assert_eq!(
        parse("--log-level debug")
            .expect("a level")
            .serve
            .log_level
            .as_deref(),
        Some("debug")
    );
}

#[test]
fn a_file_called_like_a_command_has_a_path() {
    assert!(matches!(
        parse("check x.yaml").expect("a command").command,
        Some(Command::Check { .. })
    ));
    assert!(parse("check").is_err(), "the command wants a file");
    assert_eq!(
        parse("./check").expect("a file").serve.file.as_deref(),
        Some("./check".as_ref())
    );
    assert_eq!(
        parse("-c check").expect("a file").serve.config.as_deref(),
        Some("check".as_ref())
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "a.yaml -c b.yaml",
        "a.yaml b.yaml",
        "--port 65536",
        "--port x",
        "--hots 1",
        "--port 1 check x.yaml",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(parse("--version").is_err_and(|text| text.starts_with("polygate ")));
}

#[test]
fn the_simulated_provider_has_its_settings() {
    let Some(Command::Mock(mock)) =
        parse("mock --port 0 --latency-ms 5 --token-ms 2 --api-key k --model a --model b")
            .expect("a command")
            .command
    else {
        panic!("no mock");
    };
    assert_eq!((mock.port, mock.latency_ms, mock.token_ms), (0, 5, 2));
    assert_eq!((mock.api_key.as_deref(), mock.models.len()), (Some("k"), 2));
    assert!(mock.host.is_loopback());
}
