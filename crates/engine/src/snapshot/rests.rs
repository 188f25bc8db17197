//! Rests of models that a provider was asked for: bounded, since names are callers' text.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::health::Rest;

/// Rests by model name, bounded: what callers say never grows state without end.
#[derive(Default)]
pub(crate) struct ModelRests(ArcSwap<HashMap<String, Arc<Rest>>>);

const MODEL_RESTS: usize = 512;

impl ModelRests {
    /// The rest of this model, if it was ever asked for.
    pub(crate) fn get(&self, model: &str) -> Option<Arc<Rest>> {
        self.0.load().get(model).cloned()
    }

    /// The same, or a new one unless there are half as many as may be: others than callers of this gateway get no more.
    pub(crate) fn if_room(&self, model: &str) -> Option<Arc<Rest>> {
        let has_room = || self.0.load().len() < MODEL_RESTS / 2;
        self.get(model)
            .or_else(|| has_room().then(|| self.cell(model)))
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Rest>)> {
        let known = self.0.load();
        let mut all: Vec<_> = known
            .iter()
            .map(|(name, rest)| (name.clone(), rest.clone()))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    pub(crate) fn cell(&self, model: &str) -> Arc<Rest> {
        if let Some(cell) = self.0.load().get(model) {
            return cell.clone();
        }
        let cell = Arc::new(Rest::default());
        self.0.rcu(|known| {
            let mut known = if known.len() < MODEL_RESTS {
                HashMap::clone(known)
            } else {
                HashMap::new()
            };
            known
                .entry(model.to_owned())
                .or_insert_with(|| cell.clone());
            known
        });
        self.0.load().get(model).cloned().unwrap_or(cell)
    }
}
