//! Why a store did not do what it was asked.

use crate::config::Kind;

/// What a store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or does not answer: ask again later.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// A write expected something else than is there.
    #[error("{kind} '{name}' {}", found.map_or_else(|| "does not exist".to_owned(), |found| format!("is of version {found}")))]
    Conflict {
        /// Of what.
        kind: Kind,
        /// Its name.
        name: String,
        /// The version that is there; `None`: there is none.
        found: Option<i64>,
    },
    /// It refuses this very data, and would again.
    #[error("the store refuses this: {0}")]
    Refused(String),
    /// What it holds cannot be understood.
    #[error("the store holds what cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same may work later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}
