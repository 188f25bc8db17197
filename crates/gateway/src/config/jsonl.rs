//! The request log: `jsonl_log` of the file, and the published variables over it.

use std::path::PathBuf;

use polygate_engine::config::{Jsonl, Telemetry};

use super::overrides::Variables;
use super::pieces::set;
use super::reader::Section;

/// Bytes of a megabyte.
const MEGA: u64 = 1 << 20;

/// `jsonl_log`.
pub fn read(section: Section<'_>, telemetry: &mut Telemetry) {
    let mut own = Jsonl::default();
    let is_on = section.boolean("enabled") != Some(false);
    set(&mut own.path, section.text("path").map(PathBuf::from));
    set(&mut own.queue, count(&section, "buffer_size"));
    set(&mut own.content, section.boolean("content"));
    let megabytes = count(&section, "max_size_mb");
    let bytes = megabytes.map(|size: u64| size.saturating_mul(MEGA));
    set(&mut own.most_bytes, bytes);
    set(
        &mut own.older,
        section.item("max_files").and_then(|item| {
            item.parsed("must be a number from 0 to 100", |text| {
                text.trim().parse().ok().filter(|older| *older <= 100)
            })
        }),
    );
    section.finish();
    telemetry.jsonl = Some(own).filter(|_| is_on);
}

fn count<T: std::str::FromStr + PartialOrd + From<u8>>(
    section: &Section<'_>,
    key: &'static str,
) -> Option<T> {
    section.item(key)?.parsed(COUNT, above_zero)
}

const COUNT: &str = "must be a number above zero";

fn above_zero<T: std::str::FromStr + PartialOrd + From<u8>>(text: &str) -> Option<T> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number >= T::from(1))
}

/// What variables say over the file.
pub fn variables(variables: &mut Variables<'_>, telemetry: &mut Telemetry) {
    const ENABLED: &str = "JSONL_LOG_ENABLED";
    let is_on = variables.boolean(ENABLED);
    let path = variables.variable("JSONL_LOG_PATH", "must be a path", |text| {
        Some(PathBuf::from(text))
    });
    let queue = variables.variable("JSONL_LOG_BUFFER_SIZE", COUNT, above_zero);
    let content = variables.boolean("JSONL_LOG_CONTENT");
    match is_on {
        Some(false) => telemetry.jsonl = None,
        Some(true) => {
            telemetry.jsonl.get_or_insert_default();
        }
        None if telemetry.jsonl.is_none() => variables.without_effect("JSONL_LOG_", ENABLED),
        None => {}
    }
    let Some(own) = &mut telemetry.jsonl else {
        return;
    };
    set(&mut own.path, path);
    set(&mut own.queue, queue);
    set(&mut own.content, content);
}
