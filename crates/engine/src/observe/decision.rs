//! Why a call went where it went, for those who ask later: what it was held to, what its first choice was between, and what became
//! of its request.

use std::sync::Arc;

use polygate_wire::{Format, Loss};
use serde::Serialize;
use serde_json::{Value, json};

use super::looked::Looked;
use super::record::CallRecord;
use crate::explain::Scores;
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

/// What there is to say of a call, as JSON: an empty object where nothing limited, changed or measured it.
pub(super) fn text(record: &CallRecord) -> String {
    let transformed = &record.transformed;
    let altered: Vec<String> = transformed
        .altered
        .iter()
        .map(|name| format!("/{name}"))
        .collect();
    let guards: Vec<Value> = record.guards.iter().map(acted).collect();
    let members = [
        ("routes", json!(record.choices)),
        ("limits", json!(record.limits)),
        ("considered", json!(record.considered)),
        (
            "translated",
            json!(transformed.translated.map(Format::name)),
        ),
        ("altered", json!(altered)),
        ("rules", json!(transformed.rules)),
        ("cache", json!(record.looked.map(Looked::name))),
        ("guards", guards.into()),
    ];
    let is_said =
        |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let said = members.into_iter().filter(|(_, value)| is_said(value));
    let said = said.map(|(name, value)| (name.to_owned(), value));
    Value::Object(said.collect()).to_string()
}

fn acted(acted: &Acted) -> Value {
    json!({
        "guard": acted.guard,
        "action": acted.action.name(),
        "side": acted.side.name(),
        "count": acted.count,
    })
}
