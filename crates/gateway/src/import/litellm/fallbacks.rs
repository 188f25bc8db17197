//! Fallbacks by cause, and other names of groups, which may have them too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::groups::Groups;
use super::text;
use crate::import::{At, Notes};

/// Causes, as LiteLLM's keys and ours.
const CAUSES: [(&str, &str); 3] = [
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
    fn has(&self, group: &str, cause: &str) -> bool {
        let lists = self.0.get(group);
        lists.is_some_and(|lists| lists.iter().any(|(known, _)| *known == cause))
    }

    /// Adds one; whether it is another than the group.
    fn add(&mut self, group: &str, cause: &'static str, name: &str) -> bool {
        if name == group {
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

    /// The same for another name of the group, where that has none of its own.
    fn copy(&mut self, alias: &str, group: &str) {
        let lists = self.0.get(group).cloned().unwrap_or_default();
        let own: Vec<_> = CAUSES
            .iter()
            .filter(|(_, cause)| self.has(alias, cause))
            .collect();
        for (cause, names) in lists {
            let is_own = own.iter().any(|(_, known)| *known == cause);
            for name in names.iter().filter(|_| !is_own) {
                self.add(alias, cause, name);
            }
        }
    }

    /// How many the longest list has.
    pub fn longest(&self) -> u64 {
        let lists = self.0.values().flatten();
        lists
            .map(|(_, names)| names.len() as u64)
            .max()
            .unwrap_or_default()
    }

    /// The fallbacks of a group, and theirs, without itself.
    pub fn behind(&self, group: &str) -> Vec<&str> {
        let of = |group: &str| {
            let lists = self.0.get(group).into_iter().flatten();
            lists.flat_map(|(_, names)| names).map(String::as_str)
        };
        let mut open: Vec<&str> = of(group).collect();
        let mut seen = Vec::new();
        while let Some(name) = open.pop() {
            if name != group && !seen.contains(&name) {
                seen.push(name);
                open.extend(of(name));
            }
        }
        seen
    }
}

/// Reads other names of groups, and then the fallbacks of both sections, which may name those too.
pub fn read(
    router: Option<&At<'_>>,
    library: Option<&At<'_>>,
    groups: &mut Groups,
    notes: &mut Notes,
) {
    let aliases = router.and_then(|at| at.get("model_group_alias"));
    let aliases = aliases.map(|at| read_aliases(&at, groups, notes));
    let mut defaults: Vec<(String, At<'_>)> = Vec::new();
    for section in [router, library].into_iter().flatten() {
        for (theirs, cause) in CAUSES {
            let Some(list) = section.get(theirs) else {
                continue;
            };
            for (group, names) in pairs(&list, notes) {
                if group == "*" {
                    defaults.extend(names);
                } else {
                    of_group(group, cause, names, &list, groups, notes);
                }
            }
        }
        if let Some(list) = section.get("default_fallbacks") {
            let names = list.items().into_iter();
            defaults.extend(names.filter_map(|at| Some((text(&at)?, at))));
        }
    }
    for (alias, group) in aliases.into_iter().flatten() {
        groups.fallbacks.copy(&alias, &group);
    }
    of_all(&defaults, groups, notes);
}

fn read_aliases(aliases: &At<'_>, groups: &mut Groups, notes: &mut Notes) -> Vec<(String, String)> {
    let mut read = Vec::new();
    for (alias, at) in aliases.entries() {
        let said = at.get("model");
        let group = text(said.as_ref().unwrap_or(&at)).unwrap_or_default();
        if alias.contains('$') || !groups.alias(alias, &group) {
            notes.missing(
                &at,
                "there is no such group, or one of the alias's own name",
            );
            continue;
        }
        match said {
            Some(_) => notes.changed(&at, format!("as '{group}'; it is in lists of models too")),
            None => notes.carried(&at, format!("as '{group}'")),
        }
        read.push((alias.to_owned(), group));
    }
    read
}

fn of_group(
    group: &str,
    cause: &'static str,
    names: Vec<(String, At<'_>)>,
    list: &At<'_>,
    groups: &mut Groups,
    notes: &mut Notes,
) {
    if !groups.names().iter().any(|known| known == group) {
        let message = "one of its groups is not in model_list by this very name: name it there";
        notes.missing(list, message);
        return;
    }
    for (name, at) in names {
        if !groups.has(&name) {
            notes.missing(&at, "there is no such model, so it is left out");
        } else if groups.fallbacks.add(group, cause, &name) {
            notes.carried(&at, format!("a fallback of '{group}' ({cause})"));
        } else {
            notes.changed(
                &at,
                format!("'{group}' is no fallback of its own, so it is left out"),
            );
        }
    }
}

/// Those of every group that has none of its own.
fn of_all(defaults: &[(String, At<'_>)], groups: &mut Groups, notes: &mut Notes) {
    let names = groups.names().into_iter();
    let without: Vec<String> = names
        .filter(|group| !groups.fallbacks.has(group, "any"))
        .collect();
    for (name, at) in defaults {
        if !groups.has(name) {
            notes.missing(at, "there is no such model, so it is left out");
            continue;
        }
        let added = without
            .iter()
            .filter(|group| groups.fallbacks.add(group, "any", name));
        match added.count() {
            0 => notes.missing(
                at,
                "nobody gets it: every model that model_list names has others, and names that only a pattern means have none here",
            ),
            _ => notes.changed(
                at,
                "a fallback of every model that model_list names and that has no others",
            ),
        }
    }
}

/// One list of LiteLLM's: `[{group: [names]}]`, in a list or not.
fn pairs<'a>(section: &At<'a>, notes: &mut Notes) -> Vec<(&'a str, Vec<(String, At<'a>)>)> {
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
