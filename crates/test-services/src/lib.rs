//! Real PostgreSQL, Redis, Prometheus and proxies for tests: each test its own server, on a port of its own, gone with the test.
//!
//! Their programs come from the Python registry (those of Prometheus and the proxies: Debian's): `./test` puts them into `.test`. Where they are absent, a test says so loudly
//! and is not run.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "for tests only: what is not as it should be ends the test"
)]

mod postgres;
mod process;
mod prometheus;
mod proxy;
mod redis;

use std::path::{Path, PathBuf};

pub use postgres::Postgres;
pub use process::Process;
pub use prometheus::{Prometheus, promtool};
pub use proxy::{ForwardProxy, Login};
pub use redis::Redis;

/// A path below the packages that `./test` installed.
fn installed(package: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let pythons = std::fs::read_dir(root.join(".test/venv/lib")).ok()?;
    let found = pythons
        .flatten()
        .map(|python| python.path().join("site-packages").join(package))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "\n*** {package} is not installed: what needs it is NOT tested; ./test installs it ***\n"
        );
    }
    found
}

/// A program of a Debian package that `./test` unpacked into this folder.
fn debian(folder: &str, program: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let path = root
        .join(".test")
        .join(folder)
        .join("usr/bin")
        .join(program);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "\n*** {program} is not installed: what needs it is NOT tested; ./test installs it ***\n"
    );
    None
}
