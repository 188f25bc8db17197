//! The document that is made of the table of metrics.

use std::fmt::Write as _;
use std::path::Path;

use polygate_engine::observe::metrics::{Kind, TABLE};

/// `docs/metrics.md` is written by this test, with `UPDATE_GOLDEN=1`.
#[test]
fn the_document_is_the_table() {
    let mut text = String::from(
        "# Metrics\n\n`GET /metrics`, for Prometheus: in OpenMetrics where it is asked for, else in the text format 0.0.4. Open unless\n`metrics.open: false`; then behind the admin key. This page is made of the table in `crates/engine/src/observe/metrics/table.rs`\n(`UPDATE_GOLDEN=1 cargo nextest run -p polygate-engine the_document_is_the_table`).\n\nNo label holds what callers choose: `model` is the configured name or pattern that matched, else a name of the catalogue, else\n`other`; `endpoint`, `method`, `client`, `reason` and `outcome` are words of ours; `api_key_name` and `provider` come from the\nconfiguration. Money is in millionths of a dollar. Histograms are classic ones: native ones exist only in the protobuf format.\n\n| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for row in TABLE {
        let end = if row.kind == Kind::Counter {
            "_total"
        } else {
            ""
        };
        let labels: Vec<String> = row.labels.iter().map(|one| format!("`{one}`")).collect();
        let (name, kind, labels) = (row.name, row.kind.name(), labels.join(", "));
        let _ = writeln!(text, "| `{name}{end}` | {kind} | {labels} | {} |", row.help);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("it is written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, text, "UPDATE_GOLDEN=1 writes it");
}
