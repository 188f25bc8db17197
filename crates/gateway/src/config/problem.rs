//! What is wrong, where, and what to do about it. Values never appear here where they may be secrets.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::yaml::Place;

/// Something wrong, or worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file; line 0 where it is not about a place in it.
    pub place: Place,
    /// Which value: `providers[0].weight`; or which variable or flag.
    pub path: String,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// About the file as a whole, or about something outside of it.
    pub fn general(path: &str, message: impl Into<String>) -> Self {
        Self {
            place: Place::default(),
            path: path.to_owned(),
            message: message.into(),
            hint: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.line > 0 {
            write!(f, "{}:{}: ", self.place.line, self.place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// What reading finds.
#[derive(Debug, Default)]
pub struct Findings {
    /// The configuration cannot be used.
    pub errors: Vec<Problem>,
    /// It can, but someone should know.
    pub warnings: Vec<Problem>,
    /// Every key that was asked for, in its place: `providers[].weight`, `models.*.targets[].model`.
    pub known: BTreeSet<String>,
}

impl Findings {
    /// Notes an error that is not about a place in the file.
    pub fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(Problem::general(path, message));
    }

    /// Notes a warning that is not about a place in the file.
    pub fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.warnings.push(Problem::general(path, message));
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub struct Report {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// Everything that is wrong, by line.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Of these problems, in the order of their places.
    pub fn new(file: Option<PathBuf>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        Self { file, problems }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            let is_about_file = problem.place.line > 0 || problem.path.is_empty();
            match &self.file {
                Some(file) if problem.place.line > 0 => write!(f, "{}:", file.display())?,
                Some(file) if is_about_file => write!(f, "{}: ", file.display())?,
                _ => {}
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
