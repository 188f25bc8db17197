//! The windows that amounts are limited in: of the calendar, in UTC, so that all replicas agree without talking.

use std::time::Duration;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From each full minute.
    Minute,
    /// From each midnight.
    Day,
    /// From the first of each month.
    Month,
    /// For ever.
    Total,
}

/// A window: which one it is, counted from 1970, and when it began and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its number. No two of the same period that come within 30 years of each other have the same lowest 24 bits.
    pub number: u64,
    /// Seconds since 1970.
    pub began: u64,
    /// Seconds since 1970; `None`: never.
    pub ends: Option<u64>,
}

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

impl Period {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Day => "day",
            Period::Month => "month",
            Period::Total => "total",
        }
    }

    /// How it is said of an amount.
    pub fn phrase(self) -> &'static str {
        match self {
            Period::Minute => "a minute",
            Period::Day => "a day",
            Period::Month => "a month",
            Period::Total => "in all",
        }
    }

    /// The window of this moment; seconds since 1970.
    pub fn window(self, now: u64) -> Window {
        let even = |length: u64| Window {
            number: now / length,
            began: now / length * length,
            ends: Some((now / length + 1) * length),
        };
        match self {
            Period::Minute => even(MINUTE),
            Period::Day => even(DAY),
            Period::Month => {
                let month = month_of(now / DAY);
                Window {
                    number: month,
                    began: first_day(month) * DAY,
                    ends: Some(first_day(month + 1) * DAY),
                }
            }
            Period::Total => Window {
                number: 0,
                began: 0,
                ends: None,
            },
        }
    }
}

impl Window {
    /// How long it still lasts; `None`: for ever.
    pub fn left(&self, now: u64) -> Option<Duration> {
        self.ends
            .map(|ends| Duration::from_secs(ends.saturating_sub(now)))
    }
}

/// Days before the first of a month; months and days are counted from January 1970.
fn first_day(month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let (year, month) = (1970 + month / 12, month % 12);
    // Leap days of all years before this one, counted from year 1.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let before = usize::try_from(month)
        .ok()
        .and_then(|month| BEFORE.get(month));
    days + before.copied().unwrap_or_default() + u64::from(is_leap && month > 1)
}

/// The month that a day is in.
fn month_of(day: u64) -> u64 {
    // Never too many: no month is longer than 31 days. Never short by more than a few: then the next ones are tried.
    let mut month = day / 31;
    while first_day(month + 1) <= day {
        month += 1;
    }
    month
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        for (moment, began, ends) in [
            (0, 0, 2_678_400),
            // 2024-02-29T23:59:59Z, a leap year.
            (1_709_251_199, 1_706_745_600, 1_709_251_200),
            (1_709_251_200, 1_709_251_200, 1_711_929_600),
            // 2026-11-25T17:00:00Z.
            (1_795_626_000, 1_793_491_200, 1_796_083_200),
            // 2100-03-01T00:00:00Z: no leap year.
            (4_107_542_400, 4_107_542_400, 4_110_220_800),
        ] {
            let window = Period::Month.window(moment);
            assert_eq!((window.began, window.ends), (began, Some(ends)), "{moment}");
        }
    }

    #[test]
    fn windows_follow_one_another_without_gaps() {
        for period in [Period::Minute, Period::Day, Period::Month] {
            let mut window = period.window(1_700_000_000);
            for _ in 0..2000 {
                let ends = window.ends.expect("an end");
                assert_eq!(period.window(ends - 1), window);
                let next = period.window(ends);
                assert_eq!((next.began, next.number), (ends, window.number + 1));
                window = next;
            }
        }
        assert_eq!(Period::Total.window(5).left(5), None);
        assert_eq!(
            Period::Minute.window(119).left(119),
            Some(Duration::from_secs(1))
        );
    }
}
