//! Makes keys of callers: `sk-pg-<public id>-<secret>`. The public id may be shown; the secret is 165 bits of chance.

use aws_lc_rs::rand;
use polygate_core::Secret;

use crate::error::{Result, StoreError};

/// What all of them begin with.
pub const PREFIX: &str = "sk-pg-";

/// Thirty-two signs that are not taken for one another.
const SIGNS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Signs of the public id, and of the secret: five bits each.
const ID: usize = 8;
const SECRET: usize = 33;

/// A key that was made.
#[derive(Debug)]
pub struct Minted {
    /// The key. It is shown once and never kept.
    pub key: Secret,
    /// What may be shown of it.
    pub preview: String,
}

/// Makes one.
pub fn mint() -> Result<Minted> {
    let signs = signs()?;
    let (id, secret) = signs.split_at(ID.min(signs.len()));
    Ok(Minted {
        key: Secret::new(format!("{PREFIX}{id}-{secret}")),
        preview: format!("{PREFIX}{id}-***"),
    })
}

fn signs() -> Result<String> {
    let mut bytes = [0; ID + SECRET];
    rand::fill(&mut bytes)
        .map_err(|_| StoreError::Refused("the system gives no random numbers".to_owned()))?;
    // Thirty-two divides 256: no sign comes more often than another.
    let sign = |byte: &u8| SIGNS.get(usize::from(byte & 31)).copied();
    Ok(bytes.iter().filter_map(sign).map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_long_plain_and_never_twice_the_same() {
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let minted = mint().expect("a key");
            let key = minted.key.reveal();
            let parts: Vec<&str> = key.strip_prefix(PREFIX).expect("ours").split('-').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [8, 33]
            );
            let mut signs = parts.iter().flat_map(|part| part.bytes());
            assert!(signs.all(|sign| SIGNS.contains(&sign)), "{key}");
            assert_eq!(minted.preview, format!("{PREFIX}{}-***", parts[0]));
            assert!(seen.insert(parts[1].to_owned()) && !format!("{minted:?}").contains(parts[1]));
        }
    }
}
