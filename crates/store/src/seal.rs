//! Secrets at rest: sealed with AES-256-GCM under a key that is made of the operator's secret, bound to where they stand.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use polygate_core::Secret;

use crate::error::{Result, StoreError};

/// What sealed text begins with: the way it is sealed.
const MARK: &str = "sealed:1:";

/// The note that tells the right key from a wrong one.
pub const CHECK: &str = "secret_key_check";

/// Seals and opens secrets, and hashes callers' keys. Everything here is made of one secret.
pub struct Sealer {
    key: LessSafeKey,
    pepper: [u8; 32],
    check: String,
}

/// A length that is asked of the derivation.
struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// From the operator's secret, of any length; short ones are refused by who reads them.
    pub fn new(secret: &Secret) -> Result<Self> {
        let derived = |purpose: &'static str| -> Result<[u8; 32]> {
            let salt = Salt::new(HKDF_SHA256, b"polygate");
            let material = salt.extract(secret.reveal().as_bytes());
            let mut bytes = [0; 32];
            material
                .expand(&[purpose.as_bytes()], Bytes32)
                .and_then(|derived| derived.fill(&mut bytes))
                .map_err(|_| StoreError::Refused("the secret key is of no use".to_owned()))?;
            Ok(bytes)
        };
        let unbound = UnboundKey::new(&AES_256_GCM, &derived("seal")?)
            .map_err(|_| StoreError::Refused("the secret key is of no use".to_owned()))?;
        let check = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &derived("check")?),
            b"the right key",
        );
        Ok(Self {
            key: LessSafeKey::new(unbound),
            pepper: derived("pepper")?,
            check: hex(check.as_ref()),
        })
    }

    /// What a store keeps to tell whether a key is the one that it was begun with.
    pub fn check(&self) -> &str {
        &self.check
    }

    /// What callers' keys are hashed with.
    pub fn pepper(&self) -> &[u8; 32] {
        &self.pepper
    }

    /// What a caller's key is kept as.
    pub fn hash(&self, key: &str) -> String {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, &self.pepper);
        hex(hmac::sign(&pepper, key.as_bytes()).as_ref())
    }

    /// The same as bytes, from its text.
    pub fn hash_of(text: &str) -> Option<[u8; 32]> {
        unhex(text)?.try_into().ok()
    }

    /// Whether this text is sealed.
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// Seals a text for this place: elsewhere it does not open.
    pub fn seal(&self, place: &str, text: &str) -> Result<String> {
        let mut bytes = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| StoreError::Refused("the system gives no random numbers".to_owned()))?;
        let mut sealed = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(bytes),
                Aad::from(place.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| StoreError::Refused("a secret could not be sealed".to_owned()))?;
        Ok(format!("{MARK}{}{}", hex(&bytes), hex(&sealed)))
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Secret> {
        let corrupt = || StoreError::Corrupt(format!("the secret of {place} does not open"));
        let bytes = sealed
            .strip_prefix(MARK)
            .and_then(unhex)
            .ok_or_else(corrupt)?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or_else(corrupt)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| corrupt())?;
        let mut rest = rest.to_vec();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest)
            .map_err(|_| corrupt())?;
        let text = std::str::from_utf8(opened).map_err(|_| corrupt())?;
        Ok(Secret::new(text))
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(digit(byte >> 4)));
        out.push(char::from(digit(byte & 15)));
    }
    out
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| {
        let value = char::from(digit).to_digit(16)?;
        u8::try_from(value).ok()
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut out = Vec::with_capacity(pairs.len());
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::new(&Secret::new(secret)).expect("a sealer")
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_with_its_key_only() {
        let one = sealer("one secret of some length");
        let sealed = one.seal("provider/a", "sk-1").expect("sealed");
        assert!(Sealer::is_sealed(&sealed) && !sealed.contains("sk-1"));
        let open = |sealer: &Sealer, place| {
            sealer
                .open(place, &sealed)
                .map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(open(&one, "provider/a").expect("opens"), "sk-1");
        assert!(open(&one, "provider/b").is_err());
        assert!(open(&sealer("another"), "provider/a").is_err());
        assert_ne!(one.check(), sealer("another").check());
        assert_eq!(one.check(), sealer("one secret of some length").check());
        assert_ne!(
            sealed,
            one.seal("provider/a", "sk-1").expect("sealed"),
            "never twice the same"
        );
    }

    #[test]
    fn strange_text_does_not_open() {
        let sealer = sealer("one secret");
        for text in [
            "",
            "sk-1",
            "sealed:1:",
            "sealed:1:zz",
            "sealed:1:00ff",
            "sealed:1:é0",
            "sealed:2:00",
        ] {
            assert!(sealer.open("p", text).is_err(), "{text}");
        }
    }
}
