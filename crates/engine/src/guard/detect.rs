//! The built-in detectors: one row each.

use super::finder::Finder;

/// What is looked for under a name.
pub struct Detector {
    /// Its name in configuration.
    pub name: &'static str,
    /// What stands in placeholders.
    pub label: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    patterns: &'static [&'static str],
    /// The most bytes that one may have.
    window: usize,
    /// What a match must hold to besides.
    check: Option<fn(&str) -> bool>,
}

/// Every detector.
pub static DETECTORS: [Detector; 6] = [
    Detector {
        name: "email",
        label: "EMAIL",
        what: "e-mail addresses",
        patterns: &[
            r"(?-u:\b)[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}(?-u:\b)",
        ],
        window: 256,
        check: None,
    },
    Detector {
        name: "card",
        label: "CARD",
        what: "card numbers whose checksum is right",
        patterns: &[
            r"(?-u:\b)[2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}(?-u:\b)",
            r"(?-u:\b)3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5}(?-u:\b)",
            r"(?-u:\b)[2-6][0-9]{12,18}(?-u:\b)",
        ],
        window: 32,
        check: Some(is_card),
    },
    Detector {
        name: "iban",
        label: "IBAN",
        what: "bank account numbers (IBAN) whose checksum is right",
        patterns: &[
            r"(?-u:\b)[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}(?-u:\b)",
            r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?(?-u:\b)",
        ],
        window: 48,
        check: Some(is_iban),
    },
    Detector {
        name: "api-key",
        label: "API_KEY",
        what: "API keys and tokens by their beginnings",
        patterns: &[
            r"(?-u:\b)sk-[A-Za-z0-9_-]{20,}",
            r"(?-u:\b)(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
            r"(?-u:\b)gh[pousr]_[A-Za-z0-9]{36,}",
            r"(?-u:\b)github_pat_[A-Za-z0-9_]{22,}",
            r"(?-u:\b)glpat-[A-Za-z0-9_-]{20,}",
            r"(?-u:\b)(?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)",
            r"(?-u:\b)AIza[A-Za-z0-9_-]{35}",
            r"(?-u:\b)xox[abeprs]-[A-Za-z0-9-]{10,}",
            r"(?-u:\b)hf_[A-Za-z0-9]{30,}",
            r"(?-u:\b)gsk_[A-Za-z0-9]{40,}",
            r"(?-u:\b)xai-[A-Za-z0-9]{40,}",
            r"(?-u:\b)npm_[A-Za-z0-9]{36}",
            r"(?-u:\b)pypi-[A-Za-z0-9_-]{50,}",
            r"(?-u:\b)SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
            r"(?-u:\b)pplx-[A-Za-z0-9]{40,}",
            r"(?-u:\b)csk-[A-Za-z0-9]{40,}",
            r"(?-u:\b)fw_[A-Za-z0-9]{20,}",
            r"(?-u:\b)tgp_v1_[A-Za-z0-9_-]{40,}",
            r"(?-u:\b)nvapi-[A-Za-z0-9_-]{40,}",
            r"(?-u:\b)r8_[A-Za-z0-9]{37,}",
            r"(?-u:\b)hvs\.[A-Za-z0-9_-]{24,}",
            r"(?-u:\b)shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}(?-u:\b)",
            r"(?-u:\b)dckr_pat_[A-Za-z0-9_-]{20,}",
            r"(?-u:\b)xapp-[0-9]-[A-Za-z0-9-]{20,}",
            r"(?-u:\b)lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{8,}",
        ],
        window: 512,
        check: None,
    },
    Detector {
        name: "jwt",
        label: "JWT",
        what: "signed tokens (JWT)",
        patterns: &[r"(?-u:\b)eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"],
        window: 4096,
        check: None,
    },
    Detector {
        name: "private-key",
        label: "PRIVATE_KEY",
        what: "private keys in PEM",
        patterns: &[
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,.-]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----",
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,]*",
        ],
        window: 8192,
        check: None,
    },
];

impl Detector {
    /// The detector of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        DETECTORS.iter().find(|one| one.name == name)
    }

    pub(super) fn finder(&self) -> Result<Finder, String> {
        let patterns: Vec<String> = self.patterns.iter().map(|&text| text.into()).collect();
        Finder::new(&patterns, self.window, self.check)
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Luhn's checksum, over as many digits as cards have.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|one| one.to_digit(10)).collect();
    let doubled = |(at, digit): (usize, &u32)| match (at % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    let is_of_one_digit = digits.iter().all(|digit| Some(digit) == digits.first());
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && !is_of_one_digit
}

/// ISO 7064, modulo 97.
fn is_iban(text: &str) -> bool {
    let signs: Vec<char> = text.chars().filter(|one| *one != ' ').collect();
    if !(15..=34).contains(&signs.len()) {
        return false;
    }
    let (country, account) = signs.split_at(4);
    let rest = account.iter().chain(country).try_fold(0, |rest, sign| {
        let value = sign.to_digit(36)?;
        let shifted = if value > 9 { rest * 100 } else { rest * 10 };
        Some((shifted + value) % 97)
    });
    rest == Some(1)
}

#[cfg(test)]
mod tests {
    use super::super::finder::{Begins, Text};
    use super::*;

    fn found<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        let finder = Detector::named(name).expect("a detector").finder();
        let finder = finder.expect("good patterns");
        let whole = Text { text, is_end: true };
        let (mut at, mut found) = (0, Vec::new());
        while at < text.len() {
            match finder.at(whole, at, &mut 0) {
                Begins::Match(end) => {
                    found.extend(text.get(at..end));
                    at = end;
                }
                _ => at += 1,
            }
        }
        found
    }

    #[test]
    fn keys_are_found_by_how_they_begin() {
        for (begin, length) in [
            ("pplx-", 48),
            ("csk-", 48),
            ("fw_", 22),
            ("tgp_v1_", 43),
            ("nvapi-", 64),
            ("r8_", 37),
            ("hvs.", 90),
            ("shpat_", 32),
            ("dckr_pat_", 27),
            ("xapp-1-A0", 40),
        ] {
            let key = format!("{begin}{}", "a1b2c3d4".repeat(12).split_at(length).0);
            let text = format!("my_{key} '{key}', then");
            assert_eq!(found("api-key", &text), [&*key], "{begin}");
        }
        let key = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789";
        assert_eq!(found("api-key", &format!("k={key}.")), [key]);
    }

    #[test]
    fn each_finds_its_own_and_nothing_like_it() {
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----";
        for (name, text, expected) in [
            (
                "email",
                "to ann@x.example.com, and b.c+d@y.de.",
                vec!["ann@x.example.com", "b.c+d@y.de"],
            ),
            ("email", "a@b @c.de x@y.z user@host", vec![]),
            ("email", "写给ann@x.com吧", vec!["ann@x.com"]),
            (
                "card",
                "4111 1111 1111 1111, 4111111111111111; 378282246310005",
                vec!["4111 1111 1111 1111", "4111111111111111", "378282246310005"],
            ),
            (
                "card",
                "4111 1111 1111 1112 0000000000000000 41111111111111110 x4111111111111111",
                vec![],
            ),
            (
                "iban",
                "DE89370400440532013000 or GB82 WEST 1234 5698 7654 32.",
                vec!["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"],
            ),
            ("iban", "DE89370400440532013001 AB12CDEF", vec![]),
            (
                "api-key",
                "key=sk-proj-abcdefghijklmnopqrst, ghp_abcdefghijklmnopqrstuvwxyz0123456789",
                vec![
                    "sk-proj-abcdefghijklmnopqrst",
                    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
                ],
            ),
            (
                "api-key",
                "ask-for-something-that-is-long AKIAIOSFODNN7EXAMPLE sk-short",
                vec!["AKIAIOSFODNN7EXAMPLE"],
            ),
            (
                "api-key",
                "fw_update pplx-small csk-x shpat_ab12 r8_model nvapi-key hvs.short tgp_v1_x lsv2_pt_1 dckr_pat_x xapp-1-x",
                vec![],
            ),
            (
                "jwt",
                "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmno",
                vec!["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmno"],
            ),
            ("private-key", pem, vec![pem]),
        ] {
            assert_eq!(found(name, text), expected, "{name}");
        }
    }
}
