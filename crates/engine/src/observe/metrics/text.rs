//! The page in the older text format, for who does not ask for OpenMetrics.

use super::table::{Kind, described};

/// The same page in Prometheus's text format 0.0.4: there counters are called by their whole names.
pub(super) fn plain(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF") {
        let described_line = ["# HELP ", "# TYPE "]
            .into_iter()
            .find_map(|start| Some((start, line.strip_prefix(start)?.split_once(' ')?)));
        match described_line {
            Some((start, (name, rest))) if is_counter(name) => {
                text.extend([start, name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn is_counter(name: &str) -> bool {
    described(name).is_some_and(|row| row.kind == Kind::Counter)
}
