//! Tells the program which commit it is made of, and whether of that alone.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set by who builds where there is no repository; goes first.
const GIVEN: &str = "POLYGATE_COMMIT";

/// How much of a commit's name is shown: enough to be the only one.
const DIGITS: usize = 12;

/// What is beside a crate's sources and not in the program.
const BESIDE: [&str; 3] = ["benches", "target", "tests"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={GIVEN}");
    let given = std::env::var(GIVEN).ok();
    let given = given.as_deref().map(str::trim).filter(|it| !it.is_empty());
    let commit = match given {
        Some(given) => Some(given.to_owned()),
        None => of_repository(),
    };
    // It becomes a label, a member and a line: nothing in there that needs quotes.
    let commit = commit.filter(|it| it.bytes().all(is_plain));
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo:rustc-env={GIVEN}={commit}");
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._+".contains(&byte)
}

/// The commit that is checked out, with `-dirty` where what is built is not quite that. None without git, or where the
/// sources stand in somebody else's repository.
fn of_repository() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?;
    if !git(root, &["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let sources = sources(root);
    for path in marks(root).iter().chain(&sources) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let name = git(root, &["rev-parse", "HEAD"])?;
    let name = name.get(..DIGITS)?;
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(sources.iter().filter_map(|path| path.to_str()));
    Some(match git(root, &status)?.as_str() {
        "" => name.to_owned(),
        _ => format!("{name}-dirty"),
    })
}

/// What git changes when another commit is checked out: `HEAD`, the branch that it names, and its log. In a worktree these
/// are in different places, which git knows. Only what is there: cargo takes what is not for changed.
fn marks(root: &Path) -> Vec<PathBuf> {
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let marks = ["HEAD", "logs/HEAD", "packed-refs"].map(str::to_owned);
    let marks = marks.into_iter().chain(branch);
    let paths = marks.filter_map(|mark| git(root, &["rev-parse", "--git-path", &mark]));
    let paths = paths.map(|path| root.join(path));
    paths.filter(|path| path.exists()).collect()
}

/// What the program is made of. Tests and pages may change without its being another one.
fn sources(root: &Path) -> Vec<PathBuf> {
    let manifests = ["Cargo.toml", "Cargo.lock"].map(|name| root.join(name));
    let inside = |path: &PathBuf| {
        path.file_name()
            .is_none_or(|name| !BESIDE.iter().any(|beside| name == *beside))
    };
    let crates = entries(&root.join("crates")).into_iter();
    let parts = crates.flat_map(|path| entries(&path)).filter(inside);
    let mut sources: Vec<PathBuf> = manifests.into_iter().chain(parts).collect();
    sources.sort();
    sources
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// What git says; `None` where there is none, or it does not like the question.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
