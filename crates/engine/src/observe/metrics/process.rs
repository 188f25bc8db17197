//! The process as the system sees it when metrics are read, under the names that every Prometheus client has.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::table::register;

/// Ticks a second: what Linux has told programs on every processor since long ago.
const TICKS: f64 = 100.0;

/// The gauges. What the system does not tell stays at zero.
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    started: Gauge<f64, AtomicU64>,
    resident: Gauge,
    open: Gauge,
    most_open: Gauge,
    threads: Gauge,
    tasks: Gauge,
}

impl Process {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            cpu: register(registry, "process_cpu_seconds", Counter::default()),
            started: register(registry, "process_start_time_seconds", Gauge::default()),
            resident: register(registry, "process_resident_memory_bytes", Gauge::default()),
            open: register(registry, "process_open_fds", Gauge::default()),
            most_open: register(registry, "process_max_fds", Gauge::default()),
            threads: register(registry, "process_threads", Gauge::default()),
            tasks: register(registry, "polygate_tasks", Gauge::default()),
        }
    }

    pub(super) fn look(&self) {
        // A unit test has no runtime, and no tasks.
        let tasks = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        if let Some(stat) = Stat::read() {
            use std::sync::atomic::Ordering::Relaxed;
            self.cpu.inner().store(stat.cpu.to_bits(), Relaxed);
            self.started.set(stat.started);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kilobytes) = number_after(&status, "VmRSS:") {
            self.resident.set(kilobytes.saturating_mul(1024));
        }
        if let Some(threads) = number_after(&status, "Threads:") {
            self.threads.set(threads);
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(most) = number_after(&limits, "Max open files") {
            self.most_open.set(most);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is for looking.
            let open = open.count().saturating_sub(1);
            self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
    }
}

/// What `/proc/self/stat` says of time.
struct Stat {
    cpu: f64,
    /// Seconds since 1970.
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let booted = number_after(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
        Self::parse(&stat, booted)
    }

    /// The program's name may hold anything, but it is followed by the last closing bracket.
    fn parse(stat: &str, booted: i64) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |number: usize| Some(fields.get(number)?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            cpu: seconds(11)? + seconds(12)?,
            started: booted as f64 + seconds(19)?,
        })
    }
}

/// The number that follows a line's first words.
fn number_after(text: &str, words: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(words))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_whatever_the_program_is_called() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194560 2 0 0 0 250 50 0 0 20 0 3 0 1000 1 2 3";
        let stat = Stat::parse(stat, 1_000_000).expect("it is one");
        assert_eq!((stat.cpu, stat.started), (3.0, 1_000_010.0));
        assert!(Stat::parse("7 (a) S 1", 0).is_none());
        assert_eq!(
            number_after("VmRSS:\t  12 kB\nThreads: 3\n", "Threads:"),
            Some(3)
        );
    }
}
