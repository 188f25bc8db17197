//! Deployments put together: those of one provider and key are a provider, those of one name are a model.

use polygate_engine::pattern::Pattern;
use serde_json::{Map, Value, json};

use super::deployment::{self, Deployment};
use super::fallbacks::Fallbacks;
use super::rules::{self, Asked, Name};
use super::shares::{self, One, Share};
use super::wild::{self, Wild};
use super::{is_reference, one};
use crate::import::published::exactly;
use crate::import::{At, Fate, Notes};

/// What `model_list` comes to.
#[derive(Debug, Default)]
pub struct Groups {
    providers: Vec<Served>,
    groups: Vec<Group>,
    wild: Vec<Wild>,
    /// Where failed calls go on.
    pub fallbacks: Fallbacks,
    /// Another strategy is said than that of shares.
    pub has_strategy: bool,
}

/// A provider with what it serves.
#[derive(Debug)]
struct Served {
    name: String,
    /// Everything but its name and what it serves.
    body: Map<String, Value>,
    mapping: Vec<Mapping>,
    /// Names that others mean more closely.
    excluded: Vec<String>,
}

#[derive(Debug)]
struct Mapping {
    pattern: String,
    model: Option<String>,
    price: Option<Value>,
}

/// Deployments of one name.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    targets: Vec<Target>,
}

#[derive(Clone, Debug)]
struct Target {
    provider: usize,
    model: String,
    /// What each entry that it is said in shares calls out by.
    shares: Vec<Share>,
    priority: Option<Value>,
    price: Option<Value>,
    /// What rules want to know of it.
    asked: Asked,
}

impl Groups {
    /// Reads `model_list`.
    pub fn read(&mut self, section: &At<'_>, top: &At<'_>, notes: &mut Notes) {
        for entry in section.items() {
            let Some(deployment) = deployment::read(&entry, top, notes) else {
                continue;
            };
            if deployment.group.contains('*') || deployment.model.contains('*') {
                self.wildcard(deployment, &entry, notes);
            } else {
                self.exact(deployment, &entry, notes);
            }
        }
    }

    /// Whether calls of this name go somewhere.
    pub fn has(&self, name: &str) -> bool {
        // What a variable says is not known.
        let is_known = !is_reference(name);
        is_known
            && (self.group(name).is_some()
                || self.providers.iter().any(|served| served.serves(name)))
    }

    /// The names of groups, in the file's order.
    pub fn names(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.name.clone()).collect()
    }

    /// Another name for a group; whether there is such a group, and none of this name.
    pub fn alias(&mut self, alias: &str, group: &str) -> bool {
        let Some(group) = self.group(group).filter(|_| self.group(alias).is_none()) else {
            return false;
        };
        let group = Group {
            name: alias.to_owned(),
            ..group.clone()
        };
        self.groups.push(group);
        true
    }

    /// How often a call may have to be tried where LiteLLM tries each model so often: of the longest list of fallbacks every one, and
    /// of the longest way every target once.
    pub fn attempts(&self, tries: u64) -> u64 {
        let targets = |name: &str| {
            self.group(name)
                .map_or(1, |group| group.targets.len() as u64)
        };
        let ways = self.groups.iter().filter_map(|group| {
            let behind = self.fallbacks.behind(&group.name);
            let further: u64 = behind.into_iter().map(targets).sum();
            (further > 0).then(|| targets(&group.name) + further)
        });
        let way = ways.max().unwrap_or_default();
        way.max(tries.saturating_mul(1 + self.fallbacks.longest()))
    }

    /// Whether some names are only known by what they begin with.
    pub fn has_prefixes(&self) -> bool {
        self.providers
            .iter()
            .any(|served| served.body.contains_key("prefix"))
    }

    /// `payload.default`: what deployments give to calls that do not say it themselves.
    pub fn rules(&self, notes: &mut Notes) -> Vec<Value> {
        let names = self.groups.iter().map(|group| {
            let further = self.fallbacks.behind(&group.name);
            let further = further.into_iter().filter_map(|name| self.group(name));
            Name {
                name: &group.name,
                own: group.asked().collect(),
                further: further.flat_map(Group::asked).collect(),
            }
        });
        let names: Vec<Name<'_>> = names.collect();
        let mut rules = rules::rules(&names, notes);
        let left_out = wild::narrower(&self.wild, &mut Notes::default());
        for wild in &self.wild {
            let other = self.reached(wild, &names, &left_out);
            let is_carried = other.is_none() || wild.asked.defaults.parts().is_empty();
            wild.asked.tell(is_carried, notes);
            match other.filter(|_| !is_carried) {
                Some(other) => {
                    let message = format!(
                        "its parameters are left out: a rule for '{}' would be for '{other}' too",
                        wild.pattern
                    );
                    wild.asked.note(Fate::NoCounterpart, message, notes);
                }
                None => {
                    for rule in rules::of_pattern(&wild.pattern, &wild.asked) {
                        if !rules.contains(&rule) {
                            rules.push(rule);
                        }
                    }
                }
            }
        }
        rules
    }

    /// Another name whose calls would have a pattern's parameters too, by a rule for it, and have others.
    fn reached<'a>(
        &'a self,
        wild: &Wild,
        names: &[Name<'a>],
        left_out: &[(usize, String)],
    ) -> Option<&'a str> {
        let matches = |pattern: &str, name: &str| {
            Pattern::mapping(pattern).is_ok_and(|pattern| pattern.matches(name))
        };
        let exact = names.iter().filter(|name| {
            let mut there = name.own.iter().chain(&name.further);
            matches(&wild.pattern, name.name)
                && there.any(|asked| {
                    matches(&wild.asked.model, &asked.model)
                        && asked.defaults.parts() != wild.asked.defaults.parts()
                })
        });
        let exact = exact.map(|name| name.name);
        let wilder = self.wild.iter();
        let wilder = wilder.filter(|other| wild.reaches(other, left_out));
        exact.chain(wilder.map(|other| &*other.pattern)).next()
    }

    /// The native sections: `providers` and `models`.
    pub fn finish(mut self, notes: &mut Notes) -> (Vec<Value>, Map<String, Value>) {
        for (provider, pattern) in wild::narrower(&self.wild, notes) {
            if let Some(served) = self.providers.get_mut(provider) {
                served.excluded.push(pattern);
            }
        }
        let models = self.groups.iter().filter_map(|group| {
            let fallbacks = self.fallbacks.of(&group.name);
            let is_plain = group.targets.len() == 1
                && fallbacks.is_none()
                && Pattern::mapping(&group.name).is_ok_and(|pattern| pattern.is_exact())
                && self.is_mapped(group)
                && self.is_alone(group);
            (!is_plain).then(|| (group.name.clone(), self.model(group, fallbacks, notes)))
        });
        let models = models.collect();
        let providers = self.providers.into_iter().map(Served::finish);
        (providers.collect(), models)
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Whether what the provider itself serves by this name is the group's one target.
    fn is_mapped(&self, group: &Group) -> bool {
        let target = group.targets.first();
        let served = target.and_then(|target| self.providers.get(target.provider));
        let found = served.and_then(|served| {
            let mut mapping = served.mapping.iter();
            mapping.find(|mapping| mapping.pattern == group.name)
        });
        found.zip(target).is_some_and(|(mapping, target)| {
            mapping.model.as_ref() == Some(&target.model)
                && mapping.price == target.price
                && target.priority.is_none()
        })
    }

    /// Whether nobody but the provider of its one target serves the name, and that one does: of LiteLLM's an exact name goes before
    /// patterns, here they share its calls unless it is a model.
    fn is_alone(&self, group: &Group) -> bool {
        let own = group.targets.first().map(|target| target.provider);
        let mut served = self.providers.iter().enumerate();
        served.all(|(at, served)| match own == Some(at) {
            true => served.excluded.is_empty(),
            false => !served.serves(&group.name),
        })
    }

    fn model(&self, group: &Group, fallbacks: Option<Value>, notes: &mut Notes) -> Value {
        let seen = group.targets.iter().map(|target| One {
            tier: target.priority.as_ref(),
            entries: &target.shares,
        });
        let shares = shares::of(&seen.collect::<Vec<_>>(), !self.has_strategy);
        for (target, message) in group.targets.iter().zip(&shares.notes) {
            if let Some(message) = message {
                let message = (*message).to_owned();
                target.asked.note(Fate::Changed, message, notes);
            }
        }
        let targets = group
            .targets
            .iter()
            .zip(&shares.weights)
            .filter_map(|(target, weight)| {
                let served = self.providers.get(target.provider)?;
                let mut out = Map::new();
                out.insert("provider".to_owned(), served.name.as_str().into());
                out.insert("model".to_owned(), target.model.as_str().into());
                for (key, value) in [
                    ("weight", weight),
                    ("priority", &target.priority),
                    ("price", &target.price),
                ] {
                    out.extend(value.clone().map(|value| (key.to_owned(), value)));
                }
                Some(Value::Object(out))
            });
        let mut model = one("targets", targets.collect());
        if let (Value::Object(model), Some(fallbacks)) = (&mut model, fallbacks) {
            model.insert("fallbacks".to_owned(), fallbacks);
        }
        model
    }

    fn exact(&mut self, deployment: Deployment, entry: &At<'_>, notes: &mut Notes) {
        let Deployment {
            group,
            word,
            provider,
            model,
            weights,
            priority,
            price,
            defaults,
            ..
        } = deployment;
        let asked = Asked {
            model: model.clone(),
            defaults,
            place: entry.place,
            path: entry.path.clone(),
        };
        let at = self.provider(&word, provider);
        let Some(served) = self.providers.get_mut(at) else {
            return;
        };
        let message = format!("'{group}' is '{model}' of provider '{}'", served.name);
        notes.carried(entry, message);
        served.serve(&exactly(&group), Some(model.clone()), price.clone());
        let target = Target {
            provider: at,
            model,
            shares: vec![weights],
            priority,
            price,
            asked,
        };
        match self.groups.iter_mut().find(|known| known.name == group) {
            Some(group) => group.add(target, entry, notes),
            None => self.groups.push(Group {
                name: group,
                targets: vec![target],
            }),
        }
    }

    /// Names that LiteLLM knows by a pattern: what stands for the stars is passed on, or all go to one model.
    fn wildcard(&mut self, mut deployment: Deployment, entry: &At<'_>, notes: &mut Notes) {
        let Deployment { group, model, .. } = &deployment;
        let is_passed = model.contains('*');
        if !wild::is_sound(group) || (is_passed && !wild::is_sound(model)) {
            let message = "a name with a star, and the name there, may have no other signs of patterns; left out";
            notes.missing(entry, message);
            return;
        }
        let prefix = match is_passed {
            true => group.strip_suffix(model.as_str()),
            false => Some(""),
        };
        let Some(prefix) = prefix.filter(|prefix| !prefix.contains('*')) else {
            notes.missing(entry, "the provider would have to be asked for another name than the client's: name the models; left out");
            return;
        };
        let prefix = prefix.to_owned();
        let (pattern, model) = match is_passed {
            true => (model.clone(), None),
            false => (group.clone(), Some(model.clone())),
        };
        if !prefix.is_empty() {
            let prefix = prefix.as_str().into();
            deployment.provider.insert("prefix".to_owned(), prefix);
        }
        // Those of a pattern are compared with all of its provider's: hundredths are the unit of fractions.
        let weight = deployment.weights.into_iter().flatten().next();
        let weight = weight.map(|weight| match weight.as_f64() {
            Some(share) if weight.is_f64() => ((share * 100.0).round().max(1.0) as u64).into(),
            _ => weight,
        });
        for (key, value) in [("weight", weight), ("priority", deployment.priority)] {
            deployment
                .provider
                .extend(value.map(|value| (key.to_owned(), value)));
        }
        let at = self.provider(&deployment.word, deployment.provider);
        if let Some(served) = self.providers.get_mut(at) {
            let message = format!(
                "'{}' goes to provider '{}'{}",
                deployment.group,
                served.name,
                match (prefix.as_str(), &model) {
                    (_, Some(model)) => format!(", as '{model}'"),
                    ("", _) => String::new(),
                    (prefix, _) => format!(", without '{prefix}'"),
                }
            );
            notes.carried(entry, message);
            served.serve(&pattern, model.clone(), deployment.price);
            self.wild.push(Wild {
                provider: at,
                prefix,
                pattern: deployment.group,
                asked: Asked {
                    model: model.unwrap_or(pattern),
                    defaults: deployment.defaults,
                    place: entry.place,
                    path: entry.path.clone(),
                },
            });
        }
    }

    /// The provider that is like this one, or a new one.
    fn provider(&mut self, word: &str, body: Map<String, Value>) -> usize {
        if let Some(at) = self.providers.iter().position(|known| known.body == body) {
            return at;
        }
        let taken = |name: &str| self.providers.iter().any(|known| known.name == name);
        let mut numbered = (2..).map(|number| format!("{word}-{number}"));
        let name = match taken(word) {
            false => Some(word.to_owned()),
            true => numbered.find(|name| !taken(name)),
        };
        self.providers.push(Served {
            name: name.unwrap_or_default(),
            body,
            mapping: Vec::new(),
            excluded: Vec::new(),
        });
        self.providers.len() - 1
    }
}

impl Group {
    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.targets.iter().map(|target| &target.asked)
    }

    /// One more; the same place twice has both shares.
    fn add(&mut self, target: Target, entry: &At<'_>, notes: &mut Notes) {
        let mut known = self.targets.iter_mut();
        let same =
            known.find(|known| known.provider == target.provider && known.model == target.model);
        let Some(same) = same else {
            self.targets.push(target);
            return;
        };
        notes.changed(
            entry,
            "it is there twice: one target with the share of both",
        );
        same.shares.extend(target.shares);
        let is_same = same.asked.defaults.parts() == target.asked.defaults.parts();
        if is_same {
            let findings = target.asked.defaults.findings;
            same.asked.defaults.findings.extend(findings);
        } else {
            let message = "its parameters are left out: those of the first count";
            notes.missing(entry, message);
            target.asked.tell(false, notes);
        }
    }
}

impl Served {
    /// Whether it takes calls of this name, if others take them too.
    fn serves(&self, name: &str) -> bool {
        let prefix = self.body.get("prefix").and_then(Value::as_str);
        let matches = |pattern: &String, bare: &str| {
            Pattern::mapping(pattern).is_ok_and(|pattern| pattern.matches(bare))
        };
        name.strip_prefix(prefix.unwrap_or_default())
            .is_some_and(|bare| {
                let mut mapping = self.mapping.iter();
                mapping.any(|mapping| matches(&mapping.pattern, bare))
            })
    }

    /// Serves a name; the first one of its pattern counts.
    fn serve(&mut self, pattern: &str, model: Option<String>, price: Option<Value>) {
        if self.mapping.iter().all(|known| known.pattern != pattern) {
            self.mapping.push(Mapping {
                pattern: pattern.to_owned(),
                model,
                price,
            });
        }
    }

    fn finish(self) -> Value {
        let mut out = Map::new();
        out.insert("name".to_owned(), self.name.into());
        out.extend(self.body);
        let is_passed = |mapping: &Mapping| {
            let model = mapping.model.as_ref();
            mapping.price.is_none() && model.is_none_or(|model| *model == mapping.pattern)
        };
        let mapping = if self.mapping.iter().all(is_passed) {
            let names = self.mapping.into_iter().map(|mapping| mapping.pattern);
            names.collect()
        } else {
            let entries = self.mapping.into_iter().map(Mapping::finish);
            Value::Object(entries.collect())
        };
        out.insert("model_mapping".to_owned(), mapping);
        if !self.excluded.is_empty() {
            out.insert("excluded_models".to_owned(), self.excluded.into());
        }
        Value::Object(out)
    }
}

impl Mapping {
    fn finish(self) -> (String, Value) {
        let model = match (self.model, self.price) {
            // A price stands beside a name; what a pattern stands for has none.
            (Some(model), Some(price)) => json!({"mapped_model": model, "price": price}),
            (model, _) => model.map_or(Value::Null, Value::from),
        };
        (self.pattern, model)
    }
}
