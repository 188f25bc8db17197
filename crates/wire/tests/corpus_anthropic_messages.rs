//! Recorded traffic of AnthropicMessages: everything that was answered is read.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/sweep.rs"]
mod sweep;

use polygate_wire::{Format, dialect, egress};
use sweep::Sweep;

#[test]
fn every_recorded_answer_is_read() {
    let Some(records) = corpus::records("anthropic", 1) else {
        return;
    };
    let format = Format::AnthropicMessages;
    let mut sweep = Sweep::default();
    for record in &records {
        sweep.take(
            record,
            dialect(format),
            egress(format).expect("upstreams speak it"),
        );
    }
    let Sweep {
        whole,
        streams,
        errors,
        counted,
        silent,
        refused,
        wrong,
    } = sweep;
    corpus::report(&format!(
        "anthropic: {} records, {whole} answers, {streams} streams, {errors} errors, {counted} counts read; {} say nothing, {} refused",
        records.len(),
        silent.len(),
        refused.len(),
    ));
    for (id, why) in &refused {
        let path = records
            .iter()
            .find(|record| record.id == *id)
            .map(|record| &record.path);
        corpus::report(&format!("  refused {id} {path:?}: {why}"));
    }
    corpus::report(&format!("  silent: {silent:?}"));
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(refused.len() * 50 < records.len(), "too many refused");
}
