//! Recorded traffic of OpenAI Responses: everything that was answered is read.

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
    let format = Format::OpenaiResponses;
    let mut sweep = Sweep::default();
    let mut count = 0;
    for group in ["openai-responses", "compatible-responses"] {
        let Some(records) = corpus::records(group, 1) else {
            return;
        };
        count += records.len();
        for record in records
            .iter()
            .filter(|record| record.path.contains("/responses"))
        {
            sweep.take(
                record,
                dialect(format),
                egress(format).expect("upstreams speak it"),
            );
        }
    }
    let Sweep {
        whole,
        streams,
        errors,
        silent,
        refused,
        wrong,
        ..
    } = sweep;
    corpus::report(&format!(
        "responses: {count} records, {whole} answers, {streams} streams, {errors} errors read; {} say nothing, {} refused",
        silent.len(),
        refused.len(),
    ));
    for (id, why) in &refused {
        corpus::report(&format!("  refused {id}: {why}"));
    }
    for why in &wrong {
        corpus::report(&format!("  odd {why}"));
    }
    // Recorded oddities: a call that was cut off by its token limit, an error in a shape of its own.
    assert!(
        wrong.len() * 100 < count,
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(refused.len() * 50 < count, "too many refused");
}
