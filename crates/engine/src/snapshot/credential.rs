//! A provider's key, compiled.

use std::sync::Arc;

use aws_lc_rs::digest;

use super::Credential;
use crate::config;
use crate::health::HealthBook;
use crate::transport::Transport;

/// Its state is found again by its place and itself, whatever it is called.
pub(super) fn compile(
    credential: &config::Credential,
    place: &str,
    book: &HealthBook,
    transport: Arc<Transport>,
) -> Credential {
    let hash = digest::digest(&digest::SHA256, credential.api_key.reveal().as_bytes());
    let key = format!("{place}|{hash:?}");
    let id = hash.as_ref().first_chunk().copied().map(u64::from_be_bytes);
    let place = crate::affinity::hash(&[place.as_bytes()]);
    Credential {
        name: credential.name.as_str().into(),
        secret: credential.api_key.clone(),
        weight: credential.weight,
        priority: credential.priority,
        pulses: book.pulses.of(&key),
        id: id.unwrap_or_default() ^ place,
        rest: book.rests.of(&key),
        transport,
    }
}
