//! Names that are known by a pattern. LiteLLM takes the longest of those that fit, Polygate every provider that serves the name: a
//! provider of the wider pattern leaves out what a narrower one means.

use polygate_engine::pattern::Pattern;

use super::is_reference;
use super::rules::Asked;
use crate::import::{Fate, Notes};

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
        meet(&self.pattern, &other.pattern)
    }

    /// Whether a rule of this pattern would be for calls of another one that have other parameters. `left_out` is what providers leave
    /// to narrower patterns; of one provider's the narrower goes first anyway.
    pub fn reaches(&self, other: &Self, left_out: &[(usize, String)]) -> bool {
        let is_left = other.length() < self.length()
            && (other.provider == self.provider
                || left_out.contains(&(other.provider, other.sees(self))));
        !is_left
            && self.meets(other)
            && meet(&self.asked.model, &other.asked.model)
            && self.asked.defaults.parts() != other.asked.defaults.parts()
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
}

/// Whether something may fit both patterns, as far as their ends say.
fn meet(one: &str, other: &str) -> bool {
    let ends = |pattern: &str| {
        let (begin, rest) = pattern.split_once('*').unwrap_or((pattern, ""));
        let end = rest.rsplit_once('*').map_or(rest, |(_, end)| end);
        (begin.to_owned(), end.to_owned())
    };
    let ((begin, end), (other_begin, other_end)) = (ends(one), ends(other));
    (begin.starts_with(&other_begin) || other_begin.starts_with(&begin))
        && (end.ends_with(&other_end) || other_end.ends_with(&end))
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
                Some(own) => {
                    let message = format!(
                        "it shares its calls with '{}': the provider of that cannot leave them out and take '{}'",
                        wide.pattern, own.pattern
                    );
                    narrow.asked.note(Fate::NoCounterpart, message, notes);
                }
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
    use crate::config::yaml::{Place, parse};
    use crate::import::At;
    use crate::import::litellm::defaults::{self, Defaults};
    use polygate_wire::Format;

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
    fn a_rule_reaches_calls_of_narrower_patterns_and_of_equal_ones() {
        let with = |mut wild: Wild, model: &str, limit: u32| {
            let node = parse(&format!("temperature: {limit}")).expect("YAML");
            let at = At::top(&node).get("temperature").expect("the key");
            let mut reader = defaults::Reader::new(&[Format::OpenaiChat], false, false);
            reader.read("temperature", &at, &mut Notes::default());
            wild.asked.defaults = reader.finish();
            wild.asked.model = model.to_owned();
            wild
        };
        let all = [
            with(wild(0, "", "*"), "*", 1),
            with(wild(1, "a/", "a/*"), "*", 2),
            with(wild(2, "a/", "a/*"), "*", 2),
            with(wild(3, "a/", "a/*"), "*", 3),
            with(wild(0, "", "b/*"), "b/*", 4),
            with(wild(4, "", "c*"), "c", 5),
            with(wild(5, "", "c*"), "d", 6),
        ];
        let left_out = narrower(&all, &mut Notes::default());
        let reached = all.iter().map(|wild| {
            let others = all.iter().enumerate();
            let others = others.filter(|(_, other)| wild.reaches(other, &left_out));
            others.map(|(at, _)| at).collect::<Vec<_>>()
        });
        let expected: [&[usize]; 7] = [&[1, 2, 3, 4, 5, 6], &[3], &[3], &[1, 2], &[], &[], &[]];
        assert_eq!(reached.collect::<Vec<_>>(), expected);
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
