//! Moments as people and APIs write them (RFC 3339), as seconds since 1970.

const DAY: i64 = 86_400;

/// A moment, such as `2027-01-31T18:30:00Z`; offsets are taken, fractions of a second are cut off.
pub fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers::<3>(date, '-', &[4, 2, 2])?;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (time, offset) = time.split_at_checked(at)?;
    let time = match time.split_once('.') {
        Some((time, fraction)) if is_number(fraction) => time,
        Some(_) => return None,
        None => time,
    };
    let [hour, minute, second] = numbers::<3>(time, ':', &[2, 2, 2])?;
    let is_date = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day);
    // A leap second is the one before it.
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second.min(59) - seconds_of(offset)?;
    u64::try_from(days_before(year, month, day) * DAY + seconds).ok()
}

/// The same the other way, in UTC.
pub fn text(seconds: u64) -> String {
    let seconds = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .min(253_402_300_799);
    let (days, second) = (seconds / DAY, seconds % DAY);
    // Never too late, and at most a year too early.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_before(year, month + 1, 1) <= days {
        month += 1;
    }
    let day = days - days_before(year, month, 1) + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `Z`, or hours and minutes before or after it.
fn seconds_of(offset: &str) -> Option<i64> {
    if offset.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes] = numbers::<2>(rest, ':', &[2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: &[usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (number, digits) in all.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != *digits || !is_number(part) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to this one.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_the_standard_writes_them() {
        for (said, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-25T17:00:00Z", Some(1_795_626_000)),
            ("2026-11-25t18:00:00.250+01:00", Some(1_795_626_000)),
            ("2026-11-25 11:30:00-05:30", Some(1_795_626_000)),
            ("2024-02-29T23:59:60Z", Some(1_709_251_199)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-25T24:00:00Z", None),
            ("2026-11-25T17:00:00", None),
            ("2026-11-25T17:00:00.Z", None),
            ("2026-11-25", None),
            ("1970-01-01T00:00:00+01:00", None),
            ("2026-11-25T17:00:00+1", None),
            ("+026-11-25T17:00:00Z", None),
            ("2026-11-25T17:00:00ü", None),
            ("", None),
        ] {
            assert_eq!(parse(said), expected, "{said}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for seconds in (0..253_402_300_799).step_by(86_400 * 17 + 3_607) {
            assert_eq!(parse(&text(seconds)), Some(seconds));
        }
        assert_eq!(text(1_795_626_000), "2026-11-25T17:00:00Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
