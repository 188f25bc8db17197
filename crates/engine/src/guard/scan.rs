//! One text on its way past the guards, in whatever pieces it comes: what is replaced in it, what is noted, and how far that is known.

use std::ops::Range;

use super::finder::{Begins, Text};
use super::placeholder::Restores;
use super::{Action, Doings, Watch};

/// A text of which so much is left is skimmed first.
const LONG: usize = 512;

/// A stretch of a text, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where it stands.
    pub range: Range<usize>,
    /// What takes its place.
    pub with: String,
}

/// A text that is looked through. Places are counted from the beginning of the first.
#[derive(Debug, Default)]
pub struct Scan {
    /// What is still of interest: one character that is decided, and all that is not.
    text: String,
    /// Where that begins.
    base: usize,
    /// Nothing before this changes any more.
    at: usize,
    /// Up to here something is replaced.
    taken: usize,
    /// How far each rule is.
    rules: Vec<Progress>,
    /// Bytes that were read, each as often as it was.
    work: u64,
}

/// How far a rule is in a text.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Nothing begins before this.
    clear: usize,
    /// Skimming is of no use before this.
    stroll: usize,
    /// Up to here it is noted.
    noted: usize,
    begins: Option<usize>,
}

impl Scan {
    /// Nothing before this place changes any more.
    pub fn decided(&self) -> usize {
        self.at
    }

    /// Where the text ends, as far as it has come.
    pub fn end(&self) -> usize {
        self.base + self.text.len()
    }

    /// Bytes that were read, each as often as it was.
    #[cfg(test)]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// More of the text.
    pub fn push(&mut self, watch: &Watch, piece: &str, doings: &mut Doings, edits: &mut Vec<Edit>) {
        self.text.push_str(piece);
        self.run(watch, false, doings, edits);
        self.forget();
    }

    /// The text ends: another may begin.
    pub fn finish(&mut self, watch: &Watch, doings: &mut Doings, edits: &mut Vec<Edit>) {
        self.run(watch, true, doings, edits);
        self.base = self.end();
        self.at = self.base;
        self.taken = self.base;
        self.text.clear();
    }

    /// A whole text.
    pub fn whole(&mut self, watch: &Watch, text: &str, doings: &mut Doings) -> Vec<Edit> {
        let mut edits = Vec::new();
        let begins = self.end();
        self.text.push_str(text);
        self.finish(watch, doings, &mut edits);
        for edit in &mut edits {
            edit.range = edit.range.start - begins..edit.range.end - begins;
        }
        edits
    }

    fn run(&mut self, watch: &Watch, is_end: bool, doings: &mut Doings, edits: &mut Vec<Edit>) {
        self.rules.resize(watch.rules.len(), Progress::default());
        let text = std::mem::take(&mut self.text);
        let whole = Text {
            text: &text,
            is_end,
        };
        while let Some(byte) = text.as_bytes().get(self.at - self.base) {
            if !watch.may_begin_with(*byte) {
                self.at += 1;
                continue;
            }
            if text.len() - (self.at - self.base) >= LONG && self.skim(watch, whole) {
                continue;
            }
            if !self.look(watch, whole) {
                break;
            }
            self.note(watch, &text, is_end, doings, edits);
            self.at += 1;
        }
        self.text = text;
    }

    /// Goes on to where it is worth to look; whether that is further on.
    fn skim(&mut self, watch: &Watch, text: Text<'_>) -> bool {
        let (at, base) = (self.at, self.base);
        let restores = !watch.restoring.is_empty();
        let mut next = match restores {
            true => memchr::memchr(
                b'[',
                text.text.as_bytes().get(at - base..).unwrap_or_default(),
            )
            .map_or(base + text.text.len(), |gap| at + gap),
            false => base + text.text.len(),
        };
        for (rule, progress) in watch.rules.iter().zip(&mut self.rules) {
            if progress.clear <= at && progress.stroll <= at {
                progress.clear = base + rule.finder().next(text, at - base, &mut self.work);
                progress.stroll = progress.clear + rule.finder().window();
            }
            next = next.min(progress.clear.max(at));
        }
        self.at = next;
        next > at
    }

    /// Looks what begins at this place. False where that is not known yet.
    fn look(&mut self, watch: &Watch, text: Text<'_>) -> bool {
        let at = self.at;
        for (rule, progress) in watch.rules.iter().zip(&mut self.rules) {
            progress.begins = None;
            let is_over = match rule.action().replaces() {
                true => self.taken > at,
                false => progress.noted > at,
            };
            if progress.clear > at || is_over {
                continue;
            }
            match rule.finder().at(text, at - self.base, &mut self.work) {
                Begins::Nothing => {}
                Begins::Perhaps => return false,
                Begins::Match(end) => progress.begins = Some(self.base + end),
            }
        }
        let restores = watch.restoring.at(text.text, at - self.base, text.is_end);
        self.taken > at || restores != Restores::Perhaps
    }

    /// Does what is to be done about what begins here.
    fn note(
        &mut self,
        watch: &Watch,
        text: &str,
        is_end: bool,
        doings: &mut Doings,
        edits: &mut Vec<Edit>,
    ) {
        let at = self.at;
        if self.taken <= at
            && let Restores::Text(end, with) = watch.restoring.at(text, at - self.base, is_end)
        {
            self.taken = self.base + end;
            edits.push(Edit {
                range: at..self.taken,
                with: with.to_owned(),
            });
        }
        for (rule, progress) in watch.rules.iter().zip(&mut self.rules) {
            let Some(end) = progress.begins else {
                continue;
            };
            let action = rule.action();
            if action.replaces() {
                let found = text.get(at - self.base..end - self.base);
                let Some(found) = found.filter(|_| self.taken <= at) else {
                    continue;
                };
                let is_restored = action == Action::Restore;
                let with = doings.hidden.hide(rule.label(), found, is_restored);
                self.taken = end;
                edits.push(Edit {
                    range: at..end,
                    with,
                });
            }
            progress.noted = end;
            doings.note(rule.guard(), action);
        }
    }

    /// Forgets what is decided, but for the last character: what stands before a place may matter.
    fn forget(&mut self) {
        let mut keep = (self.at - self.base).saturating_sub(1);
        while !self.text.is_char_boundary(keep) {
            keep -= 1;
        }
        if keep > 0 {
            self.text.drain(..keep);
            self.base += keep;
        }
    }
}
