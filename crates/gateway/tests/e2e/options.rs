//! Options of providers and keys, in both lanes, streaming or not: what is configured and asked, and what the provider is sent and the
//! client is answered for it. The cases are text files, read by `options/case.rs`; `UPDATE_GOLDEN=1` writes them anew.

mod case;
mod documents;
mod planted;

use std::path::{Path, PathBuf};

use case::Case;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/options");
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    let files = files.map(|file| file.path());
    let mut cases: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    cases.sort();
    cases
}

#[tokio::test]
async fn every_option_does_what_its_case_says() {
    let cases = cases();
    assert!(!cases.is_empty(), "there are no cases");
    let mut wrong = Vec::new();
    for path in cases {
        let text = std::fs::read_to_string(&path).expect("a case");
        let came = Case::read(&text).run().await;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, came).expect("written");
        } else if came != text {
            wrong.push(format!("{}:\n{came}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes them anew:\n{}",
        wrong.join("\n")
    );
}
