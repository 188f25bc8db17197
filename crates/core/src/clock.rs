//! Time as a parameter: the engine never asks the operating system itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest time that means anything; longer ones overflow clocks.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Monotonic time since the clock was made, and the wall's time for humans.
pub trait Clock: Send + Sync {
    /// Monotonic; never goes back.
    fn now(&self) -> Duration;
    /// Microseconds since 1970, for the ledger.
    fn unix_micros(&self) -> i64;
    /// Seconds since 1970, for `created` members and dates.
    fn unix_seconds(&self) -> u64 {
        u64::try_from(self.unix_micros() / 1_000_000).unwrap_or_default()
    }
}

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, micros)
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct FixedClock {
    nanos: AtomicU64,
}

impl FixedClock {
    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> i64 {
        micros(self.now())
    }
}

/// A time in microseconds.
pub fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A number of seconds, or a number with `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Option<Duration> {
    duration_in(text, 1.0)
}

/// The same where a bare number is of milliseconds.
pub fn duration_ms(text: &str) -> Option<Duration> {
    duration_in(text, 0.001)
}

fn duration_in(text: &str, bare: f64) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit = |(unit, scale): &(&str, f64)| Some((text.strip_suffix(unit)?, *scale));
    let (number, scale) = UNITS.iter().find_map(with_unit).unwrap_or((text, bare));
    let seconds = number.trim().parse::<f64>().ok()? * scale;
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    (duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs_f64());
        for (text, expected) in [
            ("30", Some(30.0)),
            ("0.5", Some(0.5)),
            ("500ms", Some(0.5)),
            ("5 m", Some(300.0)),
            ("1h", Some(3600.0)),
            ("0", Some(0.0)),
            ("-1", None),
            ("inf", None),
            ("nan", None),
            ("1e18", None),
            ("soon", None),
            ("", None),
            ("s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(duration_ms("200"), Some(Duration::from_millis(200)));
        assert_eq!(duration_ms("2s"), Some(Duration::from_secs(2)));
    }
}
