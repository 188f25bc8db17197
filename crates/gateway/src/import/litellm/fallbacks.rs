//! Fallbacks by cause, without circles: LiteLLM counts its way round, Polygate refuses a way that leads back.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::text;
use crate::import::{At, Notes};

/// Causes, as LiteLLM's keys and ours.
pub const CAUSES: [(&str, &str); 3] = [
    ("fallbacks", "any"),
    ("context_window_fallbacks", "context_length"),
    ("content_policy_fallbacks", "content_policy"),
];

/// Where failed calls of a group go on: its lists by cause.
#[derive(Debug, Default)]
pub struct Fallbacks(BTreeMap<String, Vec<(&'static str, Vec<String>)>>);

impl Fallbacks {
    /// Those of a group in native words; `None` where it has none.
    pub fn of(&self, group: &str) -> Option<Value> {
        let lists = self.0.get(group)?;
        if let [("any", names)] = lists.as_slice() {
            return Some(names.iter().map(String::as_str).collect());
        }
        let lists = lists.iter().map(|(cause, names)| {
            let names = names.iter().map(String::as_str).collect();
            ((*cause).to_owned(), names)
        });
        let lists: Map<String, Value> = lists.collect();
        (!lists.is_empty()).then_some(Value::Object(lists))
    }

    /// Whether a group has some for this cause.
    pub fn has(&self, group: &str, cause: &str) -> bool {
        let lists = self.0.get(group);
        lists.is_some_and(|lists| lists.iter().any(|(known, _)| *known == cause))
    }

    /// Adds one; whether that leads nowhere back.
    pub fn add(&mut self, group: &str, cause: &'static str, name: &str) -> bool {
        if self.leads(name, group) {
            return false;
        }
        let lists = self.0.entry(group.to_owned()).or_default();
        let at = lists.iter().position(|(known, _)| *known == cause);
        let at = at.unwrap_or_else(|| {
            lists.push((cause, Vec::new()));
            lists.len() - 1
        });
        if let Some((_, names)) = lists.get_mut(at)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
        true
    }

    /// The same for another name of the group.
    pub fn copy(&mut self, alias: &str, group: &str) {
        let lists = self.0.get(group).cloned();
        for (cause, names) in lists.into_iter().flatten() {
            for name in names {
                self.add(alias, cause, &name);
            }
        }
    }

    /// Whether fallbacks lead from one group to another.
    fn leads(&self, from: &str, to: &str) -> bool {
        from == to || self.behind(from).contains(&to)
    }

    /// The fallbacks of a group, and theirs.
    pub fn behind(&self, group: &str) -> Vec<&str> {
        let of = |group: &str| {
            let lists = self.0.get(group).into_iter().flatten();
            lists.flat_map(|(_, names)| names).map(String::as_str)
        };
        let mut open: Vec<&str> = of(group).collect();
        let mut seen = Vec::new();
        while let Some(group) = open.pop() {
            if !seen.contains(&group) {
                seen.push(group);
                open.extend(of(group));
            }
        }
        seen
    }
}

/// One list of LiteLLM's: `[{group: [names]}]`, in a list or not.
pub fn pairs<'a>(section: &At<'a>, notes: &mut Notes) -> Vec<(&'a str, Vec<(String, At<'a>)>)> {
    let mut pairs = Vec::new();
    for item in section.items() {
        if item.node.members().is_empty() {
            notes.missing(&item, "no group with a list of names");
        }
        for (group, names) in item.entries() {
            let names = names.items().into_iter().filter_map(|at| {
                // With parameters of its own, which are not carried.
                let said = at.get("model");
                if said.is_some() {
                    notes.changed(&at, "the name alone is carried");
                }
                let name = text(said.as_ref().unwrap_or(&at));
                if name.is_none() {
                    notes.missing(&at, "no name of a model");
                }
                Some((name?, at))
            });
            pairs.push((group, names.collect()));
        }
    }
    pairs
}
