//! `cargo run -p xtask` checks what Cargo cannot see: boundaries inside crates, file sizes. `./test` runs it as a test.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

mod tidy;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let problems = tidy::problems(root);
    for problem in &problems {
        let _ = writeln!(std::io::stderr(), "{problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
