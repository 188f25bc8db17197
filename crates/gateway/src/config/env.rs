//! Variables: those of the process, then those of `.env`; and `${…}` in values. The only place that reads the environment.
//!
//! A variable that is set to nothing counts as unset.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Variables as configuration sees them.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The `.env` file of which lines could not be read, and how many.
    unread: Option<(PathBuf, usize)>,
}

/// How deep defaults may refer to other variables.
const DEPTH_LIMIT: usize = 8;

impl Environment {
    /// The process's variables, and those of the nearest `.env` from here upwards that the process does not have.
    pub fn of_process(directory: &Path) -> Self {
        let mut variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let file = directory
            .ancestors()
            .map(|parent| parent.join(".env"))
            .find(|path| path.is_file());
        let mut unread = None;
        for (path, line) in file.iter().flat_map(|path| lines(path)) {
            match line {
                Some((name, value)) => {
                    variables.entry(name).or_insert(value);
                }
                None => unread.get_or_insert((path, 0)).1 += 1,
            }
        }
        Self { variables, unread }
    }

    /// These variables and no others.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            unread: None,
        }
    }

    /// What someone should know of the `.env` file. Its lines are not shown: they hold secrets.
    pub fn complaint(&self) -> Option<String> {
        let (path, lines) = self.unread.as_ref()?;
        Some(format!(
            "{}: {lines} line(s) cannot be read and have no effect",
            path.display()
        ))
    }

    /// Names of variables that are set to something and begin like this.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let names = self.variables.keys().map(String::as_str);
        names.filter(move |name| name.starts_with(prefix) && self.get(name).is_some())
    }

    /// A variable that is set, if to nothing.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.trim().is_empty())
    }

    /// The first of these that is set to something, with its name.
    pub fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Replaces `${VAR}`, `${VAR:-default}`, `${VAR:default}` and `${VAR:?hint}`; `$$` is a dollar sign.
    /// Defaults may refer to variables themselves.
    pub fn expand(&self, text: &str) -> Result<String, Unset> {
        self.expand_within(text, 0)
    }

    fn expand_within(&self, text: &str, depth: usize) -> Result<String, Unset> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = after;
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((reference, after)) = reference(after) {
                out.push_str(&self.resolve(reference, depth)?);
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn resolve(&self, reference: Reference<'_>, depth: usize) -> Result<String, Unset> {
        if let Some(value) = self.get(reference.name) {
            return Ok(value.to_owned());
        }
        let unset = |hint: Option<&str>| Unset {
            variable: reference.name.to_owned(),
            hint: hint.filter(|hint| !hint.is_empty()).map(str::to_owned),
        };
        let modifier = reference.modifier.ok_or_else(|| unset(None))?;
        if let Some(hint) = modifier.strip_prefix('?') {
            return Err(unset(Some(hint)));
        }
        let default = modifier.strip_prefix('-').unwrap_or(modifier);
        if depth < DEPTH_LIMIT {
            self.expand_within(default, depth + 1)
        } else {
            Ok(default.to_owned())
        }
    }
}

/// The readable lines of a `.env` file, and `None` for each other one.
fn lines(path: &Path) -> impl Iterator<Item = (PathBuf, Option<(String, String)>)> {
    let path = path.to_path_buf();
    let lines: Vec<_> = match dotenvy::from_path_iter(&path) {
        Ok(lines) => lines.map(Result::ok).collect(),
        Err(_) => vec![None],
    };
    lines.into_iter().map(move |line| (path.clone(), line))
}

/// What stands between `${` and `}`.
#[derive(Clone, Copy)]
struct Reference<'a> {
    name: &'a str,
    modifier: Option<&'a str>,
}

/// A reference and what follows it, from behind its dollar sign.
fn reference(text: &str) -> Option<(Reference<'_>, &str)> {
    let text = text.strip_prefix('{')?;
    let end = closing_brace(text)?;
    let (inner, rest) = (text.get(..end)?, text.get(end + 1..)?);
    let (name, modifier) = match inner.split_once(':') {
        Some((name, modifier)) => (name, Some(modifier)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((Reference { name, modifier }, rest))
}

/// Where the brace closes, past references within.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
        before = c;
    }
    None
}

/// A variable that is needed and not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// Its name.
    pub variable: String,
    /// What the file says about it.
    pub hint: Option<String>,
}

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable {} is not set", self.variable)?;
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_in_all_their_forms() {
        let environment = Environment::of(&[("A", "1"), ("EMPTY", "")]);
        let cases = [
            ("${A}", Ok("1")),
            ("x${A}y${A}", Ok("x1y1")),
            ("${B:-d}", Ok("d")),
            ("${B:d}", Ok("d")),
            ("${EMPTY:-d}", Ok("d")),
            ("${B:-}", Ok("")),
            ("$${A}", Ok("${A}")),
            ("100$", Ok("100$")),
            ("${not a name}", Ok("${not a name}")),
            ("${A", Ok("${A")),
            ("${B}", Err("B")),
            ("${B:?set it}", Err("B")),
            ("${B:-${A}}", Ok("1")),
            ("${B:-${C:-${A}}}!", Ok("1!")),
            ("${B:-${C}}", Err("C")),
            ("${EMPTY}", Err("EMPTY")),
            ("ä${A}ö$", Ok("ä1ö$")),
        ];
        for (text, expected) in cases {
            let got = environment.expand(text);
            assert_eq!(
                got.as_deref().map_err(|unset| unset.variable.as_str()),
                expected,
                "{text}"
            );
        }
    }
}
