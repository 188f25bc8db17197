//! Why a call went where it went, for those who ask later: what it was held to, what its first choice was between, and what became
//! of its request.

use std::sync::Arc;

use polygate_wire::{Format, Loss};
use serde::Serialize;

use super::looked::Looked;
use super::record::CallRecord;
use crate::choose::Choice;
use crate::explain::{Limit, Scores};
use crate::guard::Acted;
use crate::route::Candidate;

/// One of those that a choice by measured scores was between.
#[derive(Clone, Debug, Serialize)]
pub struct Considered {
    /// Its provider.
    pub provider: Arc<str>,
    /// The provider's key, by name.
    pub credential: Arc<str>,
    /// The model there.
    pub model: Arc<str>,
    /// What the choice went by.
    pub scores: Scores,
}

/// What became of a request on its way to a provider.
#[derive(Clone, Debug, Default)]
pub struct Transformed {
    /// The format that it was translated to; `None`: the client's own words passed.
    pub translated: Option<Format>,
    /// Members that were sent in other words than the client's; of a translated request all were.
    pub altered: Vec<&'static str>,
    /// Payload rules that changed it, and those that could not do what they say.
    pub rules: Vec<String>,
    /// What translation lost.
    pub losses: Vec<Loss>,
}

/// So many candidates and rules are noted at most.
pub(crate) const NOTED: usize = 16;

impl Considered {
    pub(crate) fn of(candidate: &Candidate, scores: Scores) -> Self {
        Self {
            provider: candidate.upstream.name.clone(),
            credential: candidate.credential.name.clone(),
            model: candidate.model.clone(),
            scores,
        }
    }
}

/// What there is to say of a call.
#[derive(Serialize)]
struct Decision<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    routes: &'a [Choice],
    #[serde(skip_serializing_if = "is_empty")]
    limits: &'a [Limit],
    #[serde(skip_serializing_if = "is_empty")]
    considered: &'a [Considered],
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    altered: Vec<String>,
    #[serde(skip_serializing_if = "is_empty")]
    rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    guards: Vec<Guarded<'a>>,
}

/// What a guard did.
#[derive(Serialize)]
struct Guarded<'a> {
    guard: &'a str,
    action: &'static str,
    side: &'static str,
    count: u64,
}

fn is_empty<T>(list: &&[T]) -> bool {
    list.is_empty()
}

/// What there is to say of a call, as JSON: an empty object where nothing limited, changed or measured it.
pub(super) fn text(record: &CallRecord) -> String {
    let transformed = &record.transformed;
    let altered = transformed.altered.iter();
    let decision = Decision {
        routes: &record.choices,
        limits: &record.limits,
        considered: &record.considered,
        translated: transformed.translated.map(Format::name),
        altered: altered.map(|name| format!("/{name}")).collect(),
        rules: &transformed.rules,
        cache: record.looked.map(Looked::name),
        guards: record.guards.iter().map(Guarded::of).collect(),
    };
    serde_json::to_string(&decision).unwrap_or_default()
}

impl<'a> Guarded<'a> {
    fn of(acted: &'a Acted) -> Self {
        Self {
            guard: &acted.guard,
            action: acted.action.name(),
            side: acted.side.name(),
            count: acted.count,
        }
    }
}
