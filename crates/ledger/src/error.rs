//! Why the log could not be opened or written.

use std::io;
use std::path::{Path, PathBuf};

/// What the ledger answers.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// Why the log could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The folder cannot be used.
    #[error("the ledger's log at {path}: cannot {doing}: {source}")]
    Folder {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing more can be written: the call may not be made.
    #[error("the ledger's log takes no more: {0}")]
    Full(String),
    /// A thread cannot be started.
    #[error("the ledger's {what} cannot be started: {source}")]
    Start {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl LedgerError {
    /// For `map_err`.
    pub(crate) fn folder(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| LedgerError::Folder {
            doing,
            path,
            source,
        }
    }
}
