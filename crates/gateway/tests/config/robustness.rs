//! Whatever a file holds, reading it ends, and never in a panic.

use polygate::config::env::Environment;
use polygate::config::parse;
use proptest::prelude::*;

/// Pieces that files are made of, and that break them.
const PIECES: [&str; 40] = [
    "providers",
    "models",
    "server",
    "master_keys",
    "api-keys",
    "claude-api-key",
    "openai-compatibility",
    "retry",
    "timeouts",
    "name",
    "api_key",
    "api_keys",
    "model_mapping",
    "targets",
    "fallbacks",
    "provider",
    "<<",
    "&a",
    "*a",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "'",
    "\"",
    "#",
    "| ",
    "> ",
    "? ",
    "---\n",
    "${A:-${",
    "}",
    "1e99",
    "ü",
];

fn read(text: &str) {
    let parsed = parse(text, &Environment::of(&[("A", "1")]));
    for problem in parsed
        .findings
        .errors
        .iter()
        .chain(&parsed.findings.warnings)
    {
        let _ = problem.to_string();
    }
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn texts_never_panic(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn pieces_never_panic(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        read(&pieces.concat());
    }

    #[test]
    fn odd_values_never_panic(at in 0_usize..400, with in proptest::sample::select(&["", "~", "[]", "{}", "-1", "9e99", "'", "${X}", "*x", "\u{0}"][..])) {
        let example = include_str!("../../../../config.example.yaml");
        let lines: Vec<&str> = example.lines().collect();
        let at = at % lines.len();
        let changed = lines.iter().enumerate().map(|(number, line)| {
            if number == at {
                let (key, _) = line.split_once(':').unwrap_or((line, ""));
                format!("{key}: {with}\n")
            } else {
                format!("{line}\n")
            }
        });
        read(&changed.collect::<String>());
    }

    #[test]
    fn references_never_panic(text in "[$ {}:?A-]{0,40}") {
        let _ = Environment::of(&[("A", "1")]).expand(&text);
    }
}

#[test]
fn bombs_and_towers_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let one = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![one; 10].join(", ")
        ));
    }
    let merges = format!("{bomb}b:\n  <<: [*a11]\n");
    let tower = "[".repeat(100_000);
    let deep = format!("a: {}1{}", "{a: ".repeat(150), "}".repeat(150));
    for text in [bomb, merges, tower, deep, "a: &a [*a]".to_owned()] {
        let parsed = parse(&text, &Environment::default());
        assert_eq!(parsed.findings.errors.len(), 1);
    }
}

#[test]
fn many_keys_take_no_long_time() {
    let names: String = (0..60_000)
        .map(|number| format!("      model-{number}: x\n"))
        .collect();
    let text = format!("providers:\n  - name: openai\n    api_key: k\n    model_mapping:\n{names}");
    let start = std::time::Instant::now();
    let parsed = parse(&text, &Environment::default());
    assert_eq!(parsed.config.providers[0].models.len(), 60_000);
    // Seconds in a debug build; minutes if every key were compared with every other.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn more_headers_than_a_request_can_have_are_refused() {
    let headers: String = (0..40_000)
        .map(|number| format!("h{number}: x, "))
        .collect();
    let text = format!("providers: [{{name: openai, api_key: k, headers: {{{headers}}}}}]");
    let parsed = parse(&text, &Environment::default());
    assert_eq!(parsed.findings.errors.len(), 1, "and no panic");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let parsed = parse("\u{feff}server:\r\n  port: 81\r\n", &Environment::default());
    assert!(
        parsed.findings.errors.is_empty(),
        "{:?}",
        parsed.findings.errors
    );
    assert_eq!(parsed.config.server.port, 81);
}
