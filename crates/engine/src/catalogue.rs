//! The models that can be named: what providers and models of the configuration offer, and what providers list themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::snapshot::{Snapshot, Upstream};

/// A model of the list.
#[derive(Clone, Debug, Serialize)]
pub struct ListedModel {
    /// What clients say.
    pub id: String,
    /// The row of the first provider that has it.
    pub owned_by: &'static str,
    /// All providers that have it.
    pub providers: Vec<Arc<str>>,
}

/// All models with a name of their own, sorted; patterns are not names.
pub fn list(snapshot: &Snapshot) -> Vec<ListedModel> {
    let mut models: BTreeMap<String, ListedModel> = BTreeMap::new();
    let mut add = |id: String, upstream: &Upstream| {
        let entry = models.entry(id.clone());
        let listed = entry.or_insert_with(|| ListedModel {
            id,
            owned_by: upstream.row,
            providers: Vec::new(),
        });
        if !listed.providers.contains(&upstream.name) {
            listed.providers.push(upstream.name.clone());
        }
    };
    for name in snapshot.models.keys() {
        for upstream in reached(snapshot, name) {
            add(name.clone(), upstream);
        }
    }
    for upstream in &snapshot.upstreams {
        for name in offered(upstream) {
            // Prefixed names are listed as such.
            add(
                format!("{}{name}", upstream.prefix.as_deref().unwrap_or_default()),
                upstream,
            );
        }
    }
    models.into_values().collect()
}

/// The providers that calls of a model may come to: those of its targets, and of the models that its routes lead to.
fn reached<'a>(snapshot: &'a Snapshot, name: &'a str) -> Vec<&'a Arc<Upstream>> {
    let (mut names, mut all) = (vec![name], Vec::new());
    let mut at = 0;
    while let Some(name) = names.get(at).copied() {
        at += 1;
        let Some(model) = snapshot.models.get(name) else {
            let has = |one: &&Arc<Upstream>| !snapshot.names_at(one, name).is_empty();
            all.extend(snapshot.upstreams.iter().filter(has));
            continue;
        };
        let targets = model.targets.iter();
        all.extend(targets.filter_map(|target| snapshot.upstreams.get(target.upstream)));
        for route in &model.routes {
            if !names.contains(&&*route.model) {
                names.push(&route.model);
            }
        }
    }
    all
}

fn offered(upstream: &Upstream) -> Vec<String> {
    let names: Vec<String> = if upstream.mappings.is_empty() {
        upstream.discovered.load().to_vec()
    } else {
        let exact = upstream
            .mappings
            .iter()
            .filter(|mapping| mapping.pattern.is_exact());
        exact
            .map(|mapping| mapping.pattern.source().to_owned())
            .collect()
    };
    names
        .into_iter()
        .filter(|name| upstream.upstream_model(name).is_some())
        .collect()
}

impl Snapshot {
    /// Whether this is a name of the configuration, not merely one that some pattern or open provider would take.
    pub fn is_configured(&self, name: &str) -> bool {
        let name = self.strip(name);
        let has = |upstream: &Arc<Upstream>| {
            let Some(bare) = upstream.unprefixed(name, self.config.routing.force_model_prefix)
            else {
                return false;
            };
            let is_exact = upstream
                .mappings
                .iter()
                .any(|mapping| mapping.pattern.is_exact() && mapping.pattern.matches(bare));
            is_exact || bare != name || upstream.discovered.load().iter().any(|known| known == bare)
        };
        self.models.contains_key(name) || self.upstreams.iter().any(has)
    }
}
