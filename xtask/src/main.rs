//! `cargo run -p xtask` checks what Cargo cannot see: boundaries inside crates, file sizes. `./test` runs it as a test.
//! `cargo run -p xtask -- prices FILE DATE SOURCE` makes the catalogue of prices.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

mod prices;
mod tidy;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let problems = match arguments[..] {
        [] => tidy::problems(root),
        ["prices", file, date, source] => prices::make(root, Path::new(file), date, source)
            .err()
            .into_iter()
            .collect(),
        _ => vec!["there are: nothing (checks), and: prices FILE DATE SOURCE".to_owned()],
    };
    for problem in &problems {
        let _ = writeln!(std::io::stderr(), "{problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
