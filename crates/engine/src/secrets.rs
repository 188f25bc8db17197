//! What only we and a provider know, taken out of what it says: some echo it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use polygate_core::{Failure, Secret};

use crate::guard::placeholder::replaced;

/// A provider's key, and headers of the operator's that show one.
#[derive(Clone)]
pub struct Secrets(Arc<[Secret]>);

/// Parts of the names of headers whose values are secret.
const TELLING: [&str; 7] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "token",
];

/// Shorter ones are in harmless words too.
const SHORTEST: usize = 6;

const MASK: &str = "***";

impl Secrets {
    /// Of a key, and of headers that go with it.
    pub fn new<'a>(
        key: &Secret,
        headers: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
    ) -> Self {
        let is_telling = |name: &str| {
            let name = name.to_ascii_lowercase();
            TELLING.iter().any(|part| name.contains(part))
        };
        let headers = headers.into_iter().flatten();
        let values = headers
            .filter(|(name, _)| is_telling(name))
            .flat_map(|(_, value)| [Some(&**value), value.split_once(' ').map(|(_, bare)| bare)])
            .flatten()
            .map(|value| Secret::new(value.trim()));
        let all = std::iter::once(key.clone()).chain(values);
        let mut all: Vec<Secret> = all
            .filter(|secret| secret.reveal().len() >= SHORTEST)
            .collect();
        // What is part of something longer comes after that.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
        Self(all.into())
    }

    /// Whether one of them stands here.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        self.0
            .iter()
            .any(|secret| memmem::find(bytes, secret.reveal().as_bytes()).is_some())
    }

    /// Takes them out of what an upstream said.
    pub fn redact(&self, failure: &mut Failure) {
        for secret in &*self.0 {
            if failure.message.contains(secret.reveal()) {
                failure.message = failure.message.replace(secret.reveal(), MASK);
            }
        }
        if failure.body.as_ref().is_some_and(|body| self.are_in(body)) {
            failure.body = None;
        }
    }

    /// A text without them; `None`: there are none in it.
    pub fn masked(&self, text: &[u8]) -> Option<Bytes> {
        if !self.are_in(text) {
            return None;
        }
        let mut masked = text.to_vec();
        for secret in &*self.0 {
            masked = replaced(&masked, secret.reveal().as_bytes(), MASK.as_bytes());
        }
        Some(masked.into())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use polygate_core::Kind;

    use super::*;

    fn secrets() -> Secrets {
        let headers = [
            ("Authorization", "Bearer hand-written"),
            ("X-Relay-Token", "relay-1"),
            ("x-team", "harmless"),
            ("x-key", "short"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Secrets::new(&Secret::new("sk-the-key"), [&headers.into()])
    }

    #[test]
    fn keys_of_the_operator_are_secret_wherever_they_are_written() {
        let text = b"sk-the-key, hand-written, Bearer hand-written, relay-1, harmless, short";
        let masked = secrets().masked(text).expect("secrets");
        assert_eq!(masked, "***, ***, ***, ***, harmless, short");
        assert_eq!(secrets().masked(b"harmless"), None);
    }

    #[test]
    fn a_failure_shows_none() {
        let mut failure = Failure::new(Kind::UpstreamAuth, "bad key hand-written");
        failure.body = Some(Bytes::from_static(b"{\"error\":\"relay-1\"}"));
        secrets().redact(&mut failure);
        assert_eq!((&*failure.message, failure.body), ("bad key ***", None));
    }
}
