//! The command line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use polygate::cli::{BUILD, Cli, Command};

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
            serve.source.config.or(serve.source.file).as_deref(),
            Some("my.yaml".as_ref()),
            "{line}"
        );
        assert_eq!(
            (serve.source.host.as_deref(), serve.source.port),
            (Some("0.0.0.0"), Some(0)),
            "{line}"
        );
    }
    let bare = parse("").expect("nothing is fine");
    assert!(bare.command.is_none() && bare.serve.source.file.is_none());
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
        parse("./check")
            .expect("a file")
            .serve
            .source
            .file
            .as_deref(),
        Some("./check".as_ref())
    );
    assert_eq!(
        parse("-c check")
            .expect("a file")
            .serve
            .source
            .config
            .as_deref(),
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
        "health --timeout 0",
        "health --timeout soon",
        "health --url http://x --port 1",
        "health --url http://x x.yaml",
        "completions",
        "completions cmd",
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

#[test]
fn health_takes_what_serving_takes_or_an_address() {
    let Some(Command::Health(health)) = parse("health my.yaml --host :: --port 7 --timeout 500ms")
        .expect("a command")
        .command
    else {
        panic!("no health");
    };
    let source = &health.source;
    assert_eq!(source.file.as_deref(), Some("my.yaml".as_ref()));
    assert_eq!((source.host.as_deref(), source.port), (Some("::"), Some(7)));
    assert_eq!(health.timeout, Duration::from_millis(500));
    let Some(Command::Health(health)) = parse("health --url https://x:1")
        .expect("a command")
        .command
    else {
        panic!("no health");
    };
    assert_eq!(health.url.expect("an address").port_u16(), Some(1));
    assert_eq!(health.timeout, Duration::from_secs(3));
}

/// What the program prints with these words.
fn printed(words: &[&str]) -> String {
    let output = Process::new(env!("CARGO_BIN_EXE_polygate"))
        .args(words)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_version_says_which_commit_it_is() {
    assert_eq!(printed(&["-V"]), format!("polygate {}\n", BUILD.version));
    assert_eq!(
        printed(&["--version"]),
        format!("polygate {} ({})\n", BUILD.version, BUILD.commit)
    );
    let Ok(head) = Process::new("git").args(["rev-parse", "HEAD"]).output() else {
        return;
    };
    let head = String::from_utf8(head.stdout).expect("text");
    // Not a repository, or one that was told otherwise: nothing to compare with.
    if head.len() > 12 && option_env!("POLYGATE_COMMIT").is_none() {
        let commit = BUILD.commit.trim_end_matches("-dirty");
        assert!(head.starts_with(commit), "{head} is not {commit}");
    }
}

#[test]
fn completions_know_every_command_in_every_shell() {
    let mut cli = Cli::command();
    cli.build();
    for shell in Shell::value_variants() {
        let text = printed(&["completions", &shell.to_string()]);
        for command in commands(&cli) {
            assert!(text.contains(&command), "{shell}: {command}");
        }
        assert!(text.contains("timeout"), "{shell}: options too");
    }
    let mut bash = Process::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let mut script = bash.stdin.take().expect("its input");
    let text = printed(&["completions", "bash"]);
    script.write_all(text.as_bytes()).expect("taken");
    drop(script);
    assert!(bash.wait().expect("it ends").success());
}

/// Names of all commands, and of those below them.
fn commands(of: &clap::Command) -> Vec<String> {
    let below = of.get_subcommands();
    below
        .flat_map(|one| std::iter::once(one.get_name().to_owned()).chain(commands(one)))
        .collect()
}

#[test]
fn where_nothing_can_be_kept_it_serves_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("gate.log");
    let mut child = Process::new(env!("CARGO_BIN_EXE_polygate"))
        .args(["--port", "0"])
        .current_dir(folder.path())
        .env_clear()
        // Nobody may make anything there, whoever it is.
        .env("POLYGATE_DATA_DIR", "/sys/nowhere")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    out.read_line(&mut line).expect("a line");
    let _ = child.kill();
    let _ = child.wait();
    let log = std::fs::read_to_string(&log).expect("the log");
    assert!(line.contains("listens on"), "{line}{log}");
    assert!(log.contains("set ADMIN_KEY"), "{log}");
}
