//! Names that are known by a pattern. LiteLLM takes the longest of those that fit, Polygate every provider that serves the name: a
//! provider of the wider pattern leaves out what a narrower one means.

use polygate_engine::pattern::Pattern;

use super::is_reference;
use super::rules::Asked;
use crate::import::{Fate, Finding, Notes};

/// A pattern of names with its provider.
#[derive(Debug)]
pub struct Wild {
    /// The provider's place in the list of them.
    pub provider: usize,
    /// What clients say before the name there.
    pub prefix: String,
    /// The pattern, as clients say its names.
    pub pattern: String,
    /// What rules want to know of it.
    pub asked: Asked,
}

impl Wild {
    /// Whether some name may be of both patterns.
    pub fn meets(&self, other: &Self) -> bool {
        let ends = |pattern: &str| {
            let (begin, rest) = pattern.split_once('*').unwrap_or((pattern, ""));
            let end = rest.rsplit_once('*').map_or(rest, |(_, end)| end);
            (begin.to_owned(), end.to_owned())
        };
        let ((begin, end), (other_begin, other_end)) = (ends(&self.pattern), ends(&other.pattern));
        (begin.starts_with(&other_begin) || other_begin.starts_with(&begin))
            && (end.ends_with(&other_end) || other_end.ends_with(&end))
    }

    /// How much of a name it says.
    fn length(&self) -> usize {
        self.pattern.chars().filter(|c| *c != '*').count()
    }

    /// Another pattern as this one's provider sees its names.
    fn sees(&self, other: &Self) -> String {
        let (begin, _) = other.pattern.split_once('*').unwrap_or_default();
        match other.pattern.strip_prefix(&self.prefix) {
            Some(bare) => bare.to_owned(),
            // The prefix is a part of what the star stands for.
            None => other
                .pattern
                .get(begin.len()..)
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Says what nobody can carry of it.
    pub fn note(&self, notes: &mut Notes, message: String) {
        notes.0.push(Finding {
            place: self.asked.place,
            path: self.asked.path.clone(),
            fate: Fate::NoCounterpart,
            message,
        });
    }
}

/// What providers leave to narrower patterns of others.
pub fn narrower(all: &[Wild], notes: &mut Notes) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for wide in all {
        let meet = |other: &&Wild| wide.meets(other);
        let others = all
            .iter()
            .filter(|other| other.provider != wide.provider && other.length() > wide.length());
        for narrow in others.filter(meet) {
            let mut own = all.iter().filter(|own| {
                own.provider == wide.provider
                    && own.length() >= narrow.length()
                    && own.meets(narrow)
            });
            match own.next() {
                None => {
                    let left_out = (wide.provider, wide.sees(narrow));
                    if !found.contains(&left_out) {
                        found.push(left_out);
                    }
                }
                // It shares those calls anyway.
                Some(own) if own.pattern == narrow.pattern => {}
                Some(own) => narrow.note(
                    notes,
                    format!(
                        "it shares its calls with '{}': the provider of that cannot leave them out and take '{}'",
                        wide.pattern, own.pattern
                    ),
                ),
            }
        }
    }
    found
}

/// Whether a pattern means the same here: stars, and no other sign.
pub fn is_sound(pattern: &str) -> bool {
    let stars = pattern.matches('*').count();
    !is_reference(pattern)
        && Pattern::mapping(pattern)
            .is_ok_and(|read| read.specificity() + stars == pattern.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::Place;
    use crate::import::litellm::defaults::Defaults;

    fn wild(provider: usize, prefix: &str, pattern: &str) -> Wild {
        Wild {
            provider,
            prefix: prefix.to_owned(),
            pattern: pattern.to_owned(),
            asked: Asked {
                model: "*".to_owned(),
                defaults: Defaults::default(),
                place: Place::default(),
                path: String::new(),
            },
        }
    }

    #[test]
    fn wider_patterns_leave_out_what_narrower_ones_mean() {
        let all = [
            wild(0, "", "*"),
            wild(1, "openai/", "openai/*"),
            wild(2, "", "openai/gpt-5*"),
            wild(2, "", "other-*"),
            wild(3, "", "*-mini-for-our-us"),
            wild(4, "", "openai/*"),
        ];
        let mut notes = Notes::default();
        let mut found = narrower(&all, &mut notes);
        found.sort();
        let expected = [
            (0, "*-mini-for-our-us"),
            (0, "openai/*"),
            (0, "openai/gpt-5*"),
            (0, "other-*"),
            (1, "*-mini-for-our-us"),
            (1, "gpt-5*"),
            (2, "*-mini-for-our-us"),
            (4, "*-mini-for-our-us"),
            (4, "openai/gpt-5*"),
        ];
        let expected = expected.map(|(at, pattern)| (at, pattern.to_owned()));
        assert_eq!(found, expected);
        assert!(notes.0.is_empty());
        let between = [
            wild(0, "", "*"),
            wild(0, "", "gpt-4o-*"),
            wild(1, "", "gpt-4*"),
        ];
        assert_eq!(narrower(&between, &mut notes), [(1, "gpt-4o-*".to_owned())]);
        assert_eq!(notes.0.len(), 1, "what cannot be said is told");
    }

    #[test]
    fn stars_are_the_only_sign_of_a_pattern() {
        for (pattern, expected) in [
            ("*", true),
            ("fo::*:static::*", true),
            ("gpt-3.5*", true),
            ("a.*", false),
            ("a[*", false),
            ("${X}*", false),
        ] {
            assert_eq!(is_sound(pattern), expected, "{pattern}");
        }
    }
}
