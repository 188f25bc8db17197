//! Patterns looked for in text that may not be all there yet: what a place begins is known as soon as no further text can change it.
//!
//! Whether a match begins at a place is decided by a window of text behind it, and by nothing further on. So it is the same however the
//! text comes in pieces, no more than a window is ever held back, and the work is linear in the text, whatever the pattern.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// The most that a pattern's automaton takes, in bytes.
const NFA_LIMIT: usize = 1 << 20;

/// What is remembered of its states, in bytes: beyond that they are made again.
const CACHE: usize = 1 << 19;

/// So much of a long text is skimmed at a time.
const STRIDE: usize = 4096;

/// Why such a pattern is not taken.
const WORDS_OF_UNICODE: &str = r"its word boundary is of all of Unicode, which cannot be looked for in text that comes in pieces: write (?-u:\b)";

/// What comes before a place, as far as patterns can tell: nothing, a space, a letter, ends of lines.
const BEFORE: [&[u8]; 5] = [b"", b" ", b"a", b"\n", b"\r"];

type Caches = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>>;

/// Patterns that are looked for together.
pub struct Finder {
    dfa: DFA,
    caches: Caches,
    /// Finds where in a long text it is worth to look.
    skimmer: meta::Regex,
    /// The bytes that a match may begin with.
    first: [bool; 256],
    window: usize,
    check: Option<fn(&str) -> bool>,
}

/// What begins at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// Nothing, whatever follows.
    Nothing,
    /// That depends on what follows.
    Perhaps,
    /// A match that ends here.
    Match(usize),
}

/// Text as far as it has come.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The text, with the character before the first place of interest, where there is one.
    pub text: &'a str,
    /// Nothing follows.
    pub is_end: bool,
}

impl Finder {
    /// For these patterns, whose matches are no longer than the window; earlier ones win over later ones that begin at the same place.
    pub fn new(
        patterns: &[String],
        window: usize,
        check: Option<fn(&str) -> bool>,
    ) -> Result<Self, String> {
        let parse = |pattern: &String| {
            let parsed = syntax::parse(pattern).map_err(|error| reason(&error))?;
            let properties = parsed.properties();
            if properties.minimum_len().is_none_or(|least| least == 0) {
                return Err("it matches where there is nothing".to_owned());
            }
            if properties.look_set().contains_word_unicode() {
                return Err(WORDS_OF_UNICODE.to_owned());
            }
            Ok(parsed)
        };
        let parsed = patterns
            .iter()
            .map(parse)
            .collect::<Result<Vec<_>, String>>()?;
        let too_large = |error: &dyn std::fmt::Display| format!("it is too large: {error}");
        let nfa = NFA::compiler()
            .configure(
                thompson::Config::new()
                    .nfa_size_limit(Some(NFA_LIMIT))
                    .which_captures(WhichCaptures::None),
            )
            .build_many_from_hir(&parsed)
            .map_err(|error| too_large(&error))?;
        let dfa = DFA::builder()
            .configure(
                DFA::config()
                    .cache_capacity(CACHE)
                    .skip_cache_capacity_check(true),
            )
            .build_from_nfa(nfa)
            .map_err(|error| too_large(&error))?;
        let skimmer = meta::Regex::builder()
            .configure(meta::Config::new().nfa_size_limit(Some(NFA_LIMIT)))
            .build_many_from_hir(&parsed)
            .map_err(|error| too_large(&error))?;
        let first = first_bytes(&dfa)?;
        let made = dfa.clone();
        Ok(Self {
            dfa,
            caches: Pool::new(Box::new(move || made.create_cache())),
            skimmer,
            first,
            window,
            check,
        })
    }

    /// Whether a match may begin with this byte.
    pub fn may_begin_with(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte)).copied().unwrap_or(true)
    }

    /// What begins at this place. Of how many bytes that was read is added to `work`.
    pub fn at(&self, text: Text<'_>, at: usize, work: &mut u64) -> Begins {
        let begins = match text.text.as_bytes().get(at) {
            None => return Begins::Nothing,
            Some(byte) if !self.may_begin_with(*byte) => return Begins::Nothing,
            Some(_) => self.walk(text, at, work),
        };
        match (begins, self.check) {
            (Begins::Match(end), _) if end <= at => Begins::Nothing,
            (Begins::Match(end), Some(check)) => match text.text.get(at..end) {
                Some(found) if check(found) => begins,
                _ => Begins::Nothing,
            },
            (begins, _) => begins,
        }
    }

    fn walk(&self, text: Text<'_>, at: usize, work: &mut u64) -> Begins {
        let bytes = text.text.as_bytes();
        let end = bytes.len().min(at.saturating_add(self.window));
        let input = Input::new(bytes).range(at..end).anchored(Anchored::Yes);
        let mut cache = self.caches.get();
        let cache = &mut *cache;
        // Neither fails: nothing here quits, and the cache is never given up.
        let Ok(mut state) = self.dfa.start_state_forward(cache, &input) else {
            return Begins::Nothing;
        };
        let mut found = Begins::Nothing;
        // One byte beyond the window tells what stands behind a match that fills it.
        for (place, byte) in bytes.iter().enumerate().take(end + 1).skip(at) {
            *work += 1;
            let Ok(next) = self.dfa.next_state(cache, state, *byte) else {
                return found;
            };
            state = next;
            if state.is_match() {
                found = Begins::Match(place);
            } else if state.is_dead() || state.is_quit() {
                return found;
            }
        }
        if end < bytes.len() {
            return found;
        }
        if !text.is_end {
            return Begins::Perhaps;
        }
        match self.dfa.next_eoi_state(cache, state) {
            Ok(state) if state.is_match() => Begins::Match(end),
            _ => found,
        }
    }

    /// Where the next match may begin, at or behind this place: nothing begins before. For long texts; it is never far on.
    pub fn next(&self, text: Text<'_>, at: usize, work: &mut u64) -> usize {
        let length = text.text.len();
        let end = length.min(at.saturating_add(STRIDE.max(2 * self.window)));
        let input = Input::new(text.text).range(at..end);
        if let Some(found) = self.skimmer.search(&input) {
            *work += found.end().saturating_sub(at) as u64;
            return found.start();
        }
        *work += end.saturating_sub(at) as u64;
        match text.is_end && end == length {
            true => end,
            // What begins later may end beyond what was looked at.
            false => at.max(end.saturating_sub(self.window)),
        }
    }

    /// How much text behind a place decides what begins there.
    pub fn window(&self) -> usize {
        self.window
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finder(of {} patterns)", self.dfa.pattern_len())
    }
}

/// What is wrong with a pattern, if anything is.
pub fn check(pattern: &str) -> Result<(), String> {
    Finder::new(&[pattern.to_owned()], 1, None).map(drop)
}

/// Without the picture that is drawn first.
fn reason(error: &impl std::fmt::Display) -> String {
    let error = error.to_string();
    let reason = error.lines().last().unwrap_or_default().trim();
    reason.trim_start_matches("error: ").to_owned()
}

fn first_bytes(dfa: &DFA) -> Result<[bool; 256], String> {
    let mut cache = dfa.create_cache();
    let mut first = [false; 256];
    let broken = |error: &dyn std::fmt::Display| error.to_string();
    for before in BEFORE {
        for byte in 0..=u8::MAX {
            let text = [before, &[byte]].concat();
            let input = Input::new(&text)
                .range(before.len()..text.len())
                .anchored(Anchored::Yes);
            let state = dfa
                .start_state_forward(&mut cache, &input)
                .map_err(|error| broken(&error))?;
            let state = dfa
                .next_state(&mut cache, state, byte)
                .map_err(|error| broken(&error))?;
            if let Some(known) = first.get_mut(usize::from(byte)) {
                *known |= !state.is_dead() && !state.is_quit();
            }
        }
    }
    Ok(first)
}
