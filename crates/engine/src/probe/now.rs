//! A check that somebody asked for: lists of models, which cost no tokens, or chats with the models that were named.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use polygate_core::Failure;

use super::{chat, check};
use crate::engine::Engine;
use crate::snapshot::{Snapshot, Upstream};

/// What is to be checked, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The models to chat with, as clients say them or by their names there; none: no chat, no tokens.
    pub models: Vec<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many providers are asked at a time.
    pub at_once: usize,
    /// How many models of a provider are.
    pub models_at_once: usize,
}

/// How a check of a provider came out.
pub struct Checked {
    /// The provider.
    pub upstream: Arc<Upstream>,
    /// How long it took.
    pub took: Duration,
    /// What its list of models said: `None` where models were chatted with instead.
    pub list: Option<Result<(), Failure>>,
    /// The models that were chatted with.
    pub models: Vec<CheckedModel>,
}

/// How a chat with a model came out.
#[derive(Debug)]
pub struct CheckedModel {
    /// The model as it was asked for.
    pub model: String,
    /// How long it took.
    pub took: Duration,
    /// Whether it answered.
    pub result: Result<(), Failure>,
}

impl Checked {
    /// The provider answered, or one of its models did.
    pub fn is_healthy(&self) -> bool {
        let list = self.list.as_ref().is_some_and(Result::is_ok);
        list || self.models.iter().any(|model| model.result.is_ok())
    }
}

/// Checks these providers. What is found counts as what calls find does.
pub async fn check_now(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    upstreams: Vec<Arc<Upstream>>,
    wanted: &Wanted,
) -> Vec<Checked> {
    let checks = upstreams
        .into_iter()
        .map(|upstream| one(engine, snapshot, upstream, wanted));
    stream::iter(checks)
        .buffered(wanted.at_once.max(1))
        .collect()
        .await
}

async fn one(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    upstream: Arc<Upstream>,
    wanted: &Wanted,
) -> Checked {
    let started = engine.clock().now();
    let mut chats = Vec::new();
    for model in &wanted.models {
        chats.push(chatted(engine, snapshot, &upstream, model, wanted.timeout));
    }
    let models = stream::iter(chats)
        .buffered(wanted.models_at_once.max(1))
        .collect()
        .await;
    let list = match wanted.models.is_empty() {
        true => Some(check(engine, snapshot, &upstream, wanted.timeout).await),
        false => None,
    };
    Checked {
        took: engine.clock().now().saturating_sub(started),
        upstream,
        list,
        models,
    }
}

/// Asks whatever rests: who asks for a check wants to know now. Only where a trial is due can it close a breaker.
async fn chatted(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    upstream: &Arc<Upstream>,
    model: &str,
    patience: Duration,
) -> CheckedModel {
    let started = engine.clock().now();
    let subject = chat::subject(snapshot, upstream, model);
    let mut candidates: Vec<_> = chat::candidates(snapshot, upstream, &subject).collect();
    candidates.sort_by_key(|candidate| candidate.resting(started).map(|(_, wait)| wait));
    let _turn = upstream.health.breaker.turn(started);
    let result = match (candidates.first(), chat::seat(upstream)) {
        (Some(candidate), Some(seat)) => {
            chat::chat(engine, snapshot, candidate, &subject, seat, patience).await
        }
        _ => Err(chat::is_full()),
    };
    CheckedModel {
        model: model.to_owned(),
        took: engine.clock().now().saturating_sub(started),
        result,
    }
}
