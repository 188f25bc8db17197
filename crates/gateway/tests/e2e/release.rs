//! What is released: the packing alone, twice, of the binary that these tests run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The project's folder.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.join("../..").canonicalize().expect("the folder")
}

/// What a command says that must succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Packs into a folder from a shell of these habits; returns the archive's bytes.
fn packed(out: &Path, umask: &str, zone: &str) -> (PathBuf, Vec<u8>) {
    let script = format!("umask {umask} && exec \"$0\" --pack \"$1\"");
    let output = run(Command::new("bash")
        .args(["-c", &script])
        .arg(root().join("deploy/release"))
        .arg(env!("CARGO_BIN_EXE_polygate"))
        .current_dir(out)
        .env("OUT", out)
        .env("TARGET", "some-target")
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .env("TZ", zone));
    let archive = String::from_utf8(output.stdout).expect("text");
    let archive = PathBuf::from(archive.trim());
    let bytes = std::fs::read(&archive).expect("the archive");
    (archive, bytes)
}

#[test]
fn packing_twice_makes_the_same_bytes_and_all_is_in_there() {
    let (one, other) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (archive, first) = packed(one.path(), "022", "UTC");
    let (_, second) = packed(other.path(), "077", "Asia/Tokyo");
    assert!(first == second, "the archives differ");
    let name = format!("polygate-{}-some-target", env!("CARGO_PKG_VERSION"));
    assert_eq!(archive, one.path().join(format!("{name}.tar.gz")));
    run(Command::new("sha256sum")
        .args(["--check", &format!("{name}.tar.gz.sha256")])
        .current_dir(one.path()));
    run(Command::new("tar")
        .args(["-xzf"])
        .arg(&archive)
        .current_dir(other.path()));
    let inside = other.path().join(&name);
    let version = run(Command::new(inside.join("polygate")).arg("-V")).stdout;
    assert_eq!(
        String::from_utf8_lossy(&version),
        format!("polygate {}\n", env!("CARGO_PKG_VERSION"))
    );
    for file in ["LICENSE", "config.example.yaml"] {
        let of = |folder: &Path| std::fs::read(folder.join(file)).expect(file);
        assert!(of(&inside) == of(&root()), "{file}");
    }
    let lost = lost_links(&inside);
    assert!(lost.is_empty(), "{lost:?}");
    let readme = std::fs::read_to_string(inside.join("README.md")).expect("README.md");
    let version = env!("CARGO_PKG_VERSION");
    let elsewhere =
        format!("](https://github.com/polygate/polygate/blob/v{version}/ARCHITECTURE.md)");
    assert!(
        readme.contains(&elsewhere) && readme.contains("](docs/"),
        "{readme}"
    );
    let completions = std::fs::read_dir(inside.join("completions")).expect("completions");
    let sizes = completions.map(|file| file.expect("a file").metadata().expect("its size").len());
    let sizes: Vec<u64> = sizes.collect();
    assert!(
        sizes.len() == 5 && sizes.iter().all(|size| *size > 1000),
        "{sizes:?}"
    );
}

/// Links of its documents that lead to nothing in there.
fn lost_links(inside: &Path) -> Vec<String> {
    let files = [inside.to_owned(), inside.join("docs")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path());
    let documents = files.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let lost = documents.flat_map(|path| {
        let text = std::fs::read_to_string(&path).expect("a document");
        let folder = path.parent().expect("a folder").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| {
            let target = rest.split([')', '#']).next()?;
            let is_here = !target.is_empty() && !target.contains(':');
            let is_lost = is_here && !folder.join(target).exists();
            is_lost.then(|| format!("{}: {target}", path.display()))
        });
        links.collect::<Vec<_>>()
    });
    lost.collect()
}

#[test]
fn archives_go_where_the_caller_says_from_where_it_is() {
    let out = tempfile::tempdir().expect("a directory");
    let said = run(Command::new(root().join("deploy/release"))
        .arg("--pack")
        .arg(env!("CARGO_BIN_EXE_polygate"))
        .current_dir(out.path())
        .env("OUT", "here/below")
        .env("TARGET", "some-target")
        .env("SOURCE_DATE_EPOCH", "1767225600"));
    let archive = String::from_utf8(said.stdout).expect("text");
    let archive = Path::new(archive.trim());
    assert!(
        archive.starts_with(out.path().join("here/below")),
        "{archive:?}"
    );
    assert!(archive.is_file());
}

#[test]
fn the_changelog_of_a_release_has_what_waited_for_it() {
    let out = tempfile::tempdir().expect("a directory");
    let (archive, _) = packed(out.path(), "022", "UTC");
    let text = run(Command::new("tar")
        .args(["-xzOf"])
        .arg(&archive)
        .args(["--wildcards", "*/CHANGELOG.md"]))
    .stdout;
    let text = String::from_utf8(text).expect("text");
    let heading = format!("## {}, 2026-01-01", env!("CARGO_PKG_VERSION"));
    assert!(
        text.starts_with(&format!("# Changelog\n\n{heading}\n\n- ")),
        "{text}"
    );
    assert!(!text.contains("Unreleased"));
    let before = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("the changelog");
    let fragments = std::fs::read_dir(root().join("changelog.d")).expect("fragments");
    let fragments = fragments.map(|entry| entry.expect("an entry").path());
    let fragments = fragments.filter(|path| !path.ends_with("README.md"));
    let waiting = fragments.map(|path| std::fs::read_to_string(path).expect("a fragment"));
    let lines: BTreeSet<String> = waiting
        .chain([before])
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let here: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let lost: Vec<_> = lines.difference(&here).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
