//! Variables: those of the process, then those of `.env`; and `${…}` in values. The only place that reads the environment.

use std::collections::BTreeMap;
use std::path::Path;

/// Variables as configuration sees them.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

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
        for (name, value) in file
            .and_then(|file| dotenvy::from_path_iter(file).ok())
            .into_iter()
            .flatten()
            .flatten()
        {
            variables.entry(name).or_insert(value);
        }
        Self { variables }
    }

    /// These variables and no others.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
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
    pub fn expand(&self, text: &str) -> Result<String, Unset> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            match after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
            {
                Some((inner, after)) if is_reference(inner) => {
                    out.push_str(&self.resolve(inner)?);
                    rest = after;
                }
                _ => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn resolve(&self, inner: &str) -> Result<String, Unset> {
        let (name, modifier) = inner
            .split_once(':')
            .map_or((inner, None), |(name, modifier)| (name, Some(modifier)));
        let unset = |hint: Option<&str>| Unset {
            variable: name.to_owned(),
            hint: hint.map(str::to_owned),
        };
        match (self.get(name), modifier) {
            (Some(value), _) => Ok(value.to_owned()),
            (None, None) => Err(unset(None)),
            (None, Some(modifier)) => match modifier.strip_prefix('?') {
                Some(hint) => Err(unset(Some(hint))),
                None => Ok(modifier.strip_prefix('-').unwrap_or(modifier).to_owned()),
            },
        }
    }
}

fn is_reference(inner: &str) -> bool {
    let name = inner.split(':').next().unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A variable that is needed and not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// Its name.
    pub variable: String,
    /// What the file says about it.
    pub hint: Option<String>,
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
