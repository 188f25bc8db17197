//! What two calls have to have in common to get one answer: everything that has a say in it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderName;

use super::Share;
use crate::call::{Call, Endpoint};

/// Changes with what is hashed and with how entries are written.
const VERSION: &[u8] = b"polygate answers 1";

/// What an answer is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The model's, so that its answers can be found.
    model: [u8; 8],
    /// All of it.
    hash: [u8; 32],
}

/// What is not the call's own.
pub(super) struct Around<'a> {
    /// Who gets the answers of whom.
    pub share: Share,
    /// What of the configuration shapes answers.
    pub shape: &'a [u8; 32],
    /// What it makes of this call by more than its words.
    pub decided: &'a str,
    /// Headers of clients that reach providers.
    pub headers: &'a [HeaderName],
}

/// Parts, each after its length: no two lists of parts are written alike.
struct Parts(Context);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

impl Key {
    /// The key's text, which begins with that of its model.
    pub fn text(&self) -> String {
        format!("{}:{}", Hex(&self.model), Hex(&self.hash))
    }

    /// What the keys of a model's answers begin with.
    pub fn of_model(model: &str) -> String {
        format!("{}:", Hex(&model_hash(model)))
    }

    #[cfg(test)]
    pub(super) fn of_number(number: u8) -> Self {
        Self {
            model: [number; 8],
            hash: [number; 32],
        }
    }

    /// One of some shards.
    pub(super) fn shard(&self, shards: usize) -> usize {
        usize::from(self.hash[0]) % shards
    }
}

/// The key of a call with this body.
///
/// The body counts as it came, byte for byte: whoever reads JSON for what it means has to decide which of two members of one name
/// counts, and whether 1 is 1.0, as each provider does.
pub(super) fn of(call: &Call, body: &[u8], around: &Around<'_>) -> Key {
    let mut parts = Parts(Context::new(&SHA256));
    parts.add(VERSION);
    parts.add(around.shape);
    parts.add(around.decided.as_bytes());
    let caller = &call.inbound.caller;
    let team = caller.team.as_ref().map(|team| &*team.name);
    // A key of no team has none to share with.
    let (space, name) = match (around.share, team) {
        (Share::All, _) => ("all", None),
        (Share::Team, Some(team)) => ("team", Some(team)),
        (Share::Key | Share::Team, _) => ("key", caller.key.as_ref().map(|key| &*key.name)),
    };
    parts.add(space.as_bytes());
    parts.add(&[u8::from(name.is_some())]);
    parts.add(name.unwrap_or_default().as_bytes());
    // Whoever changes teams leaves his answers behind.
    let team = team.filter(|_| around.share != Share::All);
    parts.add(team.unwrap_or_default().as_bytes());
    parts.add(call.inbound.endpoint.label().as_bytes());
    let (is_array, method) = match &call.inbound.endpoint {
        Endpoint::Generate { sse, .. } => (!sse, ""),
        Endpoint::GeminiMethod(method) => (false, &**method),
        _ => (false, ""),
    };
    parts.add(method.as_bytes());
    parts.add(call.model.as_bytes());
    parts.add(&[call.stream, is_array, call.strict, call.continues].map(u8::from));
    for name in around.headers {
        let values = call.inbound.headers.get_all(name);
        parts.add(&values.iter().count().to_be_bytes());
        values.iter().for_each(|value| parts.add(value.as_bytes()));
    }
    parts.add(body);
    // What became of it here.
    let object = call.object.as_ref().map(|object| &**object.bytes());
    let object = object.filter(|object| *object != body);
    parts.add(object.unwrap_or_default());
    Key {
        model: model_hash(&call.model),
        hash: finished(parts),
    }
}

fn model_hash(model: &str) -> [u8; 8] {
    crate::affinity::hash(&[model.as_bytes()]).to_be_bytes()
}

fn finished(parts: Parts) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(parts.0.finish().as_ref());
    hash
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
