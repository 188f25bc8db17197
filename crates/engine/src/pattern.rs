//! Model names and patterns: exact, wildcard, regular expression; always anchored, the most specific wins.

use regex::Regex;

/// What a model name is matched with.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    matcher: Matcher,
    /// How many characters it demands literally; exact names beat any pattern.
    specificity: usize,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    Pattern(Regex),
}

impl Pattern {
    /// The published model mapping's syntax: a regular expression where it has regex signs, else `*` as a wildcard, else an exact name.
    pub fn mapping(source: &str) -> Result<Self, regex::Error> {
        const REGEX_SIGNS: [&str; 9] = [".*", ".+", "[", "(", "|", "^", "$", "\\", "]"];
        if REGEX_SIGNS.iter().any(|sign| source.contains(sign)) {
            let literal = source
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | ':'))
                .count();
            return Ok(Self {
                source: source.to_owned(),
                matcher: Matcher::Pattern(anchored(source)?),
                specificity: literal,
            });
        }
        Self::glob_with(source, &['*'])
    }

    /// A glob: `*` any run, `?` one character, everything else literal.
    pub fn glob(source: &str) -> Result<Self, regex::Error> {
        Self::glob_with(source, &['*', '?'])
    }

    /// This name and no other, whatever signs it has.
    pub fn exact(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            matcher: Matcher::Exact,
            specificity: usize::MAX,
        }
    }

    fn glob_with(source: &str, wild: &[char]) -> Result<Self, regex::Error> {
        if !source.contains(wild) {
            return Ok(Self::exact(source));
        }
        let mut expression = String::with_capacity(source.len() + 8);
        for c in source.chars() {
            match c {
                '*' if wild.contains(&'*') => expression.push_str(".*"),
                '?' if wild.contains(&'?') => expression.push('.'),
                other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        let specificity = source.chars().filter(|c| !wild.contains(c)).count();
        Ok(Self {
            source: source.to_owned(),
            matcher: Matcher::Pattern(anchored(&expression)?),
            specificity,
        })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => self.source == name,
            Matcher::Pattern(regex) => regex.is_match(name),
        }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is one name only.
    pub fn is_exact(&self) -> bool {
        matches!(self.matcher, Matcher::Exact)
    }

    /// Higher wins.
    pub fn specificity(&self) -> usize {
        self.specificity
    }
}

fn anchored(expression: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?s:{expression})$"))
        .size_limit(1 << 20)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(source: &str) -> Pattern {
        Pattern::mapping(source).expect("a valid pattern")
    }

    #[test]
    fn dots_of_a_wildcard_are_literal() {
        assert!(mapping("gpt-3.5-*").matches("gpt-3.5-turbo"));
        assert!(!mapping("gpt-3.5-*").matches("gpt-3x5-turbo"));
    }

    #[test]
    fn patterns_are_anchored() {
        assert!(mapping("claude-opus-4-5-.*").matches("claude-opus-4-5-20251101"));
        assert!(!mapping("claude-opus-4-5-.*").matches("claude-opus-4-5"));
        assert!(!mapping("gpt-4").matches("gpt-4o"));
        assert!(!mapping("a|b").matches("ax"));
    }

    #[test]
    fn longer_literals_are_more_specific_and_exact_names_most() {
        assert!(mapping("gpt-4*").specificity() > mapping("gpt-*").specificity());
        assert!(mapping("gpt-4").specificity() > mapping("gpt-4-turbo-preview-.*").specificity());
    }

    #[test]
    fn globs_know_the_question_mark() {
        let glob = Pattern::glob("o?-mini*").expect("valid");
        assert!(glob.matches("o3-mini-high") && !glob.matches("o-mini"));
    }
}
