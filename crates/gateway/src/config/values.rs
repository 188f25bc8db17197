//! Texts to values: times, sizes, addresses, yes and no.

use std::net::{IpAddr, Ipv4Addr};

pub use polygate_core::clock::{duration, duration_ms};

/// `true`, `yes`, `on`, `1`, and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// An address; `localhost` is IPv4's.
pub fn address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok()
}

/// A number of bytes, or a number with a unit.
pub fn bytes(text: &str) -> Option<usize> {
    const UNITS: [(&str, usize); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let with_unit = |(unit, scale): &(&str, usize)| Some((text.strip_suffix(unit)?, *scale));
    let (number, scale) = UNITS.iter().find_map(with_unit).unwrap_or((text, 1));
    number.trim().parse::<usize>().ok()?.checked_mul(scale)
}

/// The known word that is most like this one, if any is: spelling errors, hyphens for underscores, capitals.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let scored = known.map(|candidate| {
        (
            strsim::damerau_levenshtein(&word, &plain(candidate)),
            candidate,
        )
    });
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    (distance <= tolerance).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_never_overflow() {
        for (text, expected) in [
            ("10", Some(10)),
            ("32MiB", Some(32 << 20)),
            ("1 KB", Some(1000)),
            ("99999999999GiB", None),
            ("-1", None),
            ("1.5MiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["weight", "api_key", "name", "tls"];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("wieght"), Some("weight"));
        assert_eq!(near("api-key"), Some("api_key"));
        assert_eq!(near("NAME"), Some("name"));
        assert_eq!(near("nmae"), Some("name"));
        assert_eq!(near("colour"), None);
        assert_eq!(near("x"), None);
    }
}
