//! A string that never shows itself: not in `Debug`, not in `Display`, not in logs.

use std::fmt;
use std::sync::Arc;

/// A credential. Cheap to clone; compared only where a caller means to (`reveal`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl AsRef<str>) -> Self {
        Self(Arc::from(value.as_ref()))
    }

    /// The credential itself. Every use is a place to review.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_says_nothing() {
        assert_eq!(
            format!("{:?}", Secret::new("sk-very-secret")),
            "Secret(***)"
        );
    }
}
