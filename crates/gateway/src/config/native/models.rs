//! `models`: names that say themselves where they go.

use polygate_engine::config::{Fallbacks, Model, ModelRoute, Target};

use super::limits::limits;
use super::routes;
use super::settings::STRATEGIES;
use crate::config::names::{Named, Reference};
use crate::config::pieces::{affinity, deadlines, hedge, max_concurrent, price};
use crate::config::reader::{Item, Section};
use crate::config::yaml::Kind;

/// Every model of the section.
pub fn read(section: &Section<'_>) -> Vec<Model> {
    let entries = section.entries().into_iter();
    entries
        .filter_map(|(name, item)| model(name, &item))
        .collect()
}

/// One model; a text is another name of one.
pub fn model(name: &str, item: &Item<'_>) -> Option<Model> {
    let model = match &item.node.kind {
        Kind::Scalar { .. } if !item.node.is_null() => Model {
            routes: routes::alias(name, item),
            ..Model::named(name)
        },
        _ => described(name, item.section()?),
    };
    let named = Named::new(name, &item.spot);
    item.names().borrow_mut().models.push(named);
    Some(model)
}

fn described(name: &str, section: Section<'_>) -> Model {
    let routes = routes::routes(name, &section);
    let strategy = section.word("strategy", &STRATEGIES);
    let affinity = affinity(&section);
    let targets = targets(name, &section, &routes);
    let fallbacks = fallbacks(name, &section);
    let strict = section.boolean("strict").unwrap_or(false);
    let (hedge, continuation) = (hedge(&section), section.boolean("continuation"));
    let (timeouts, max_concurrent) = (deadlines(&section, true), max_concurrent(&section));
    let (limits, shadow) = (limits(&section), routes::shadow(name, &section));
    section.finish();
    Model {
        name: name.to_owned(),
        routes,
        strategy,
        affinity,
        targets,
        fallbacks,
        timeouts,
        max_concurrent,
        hedge,
        continuation,
        strict,
        limits,
        shadow,
    }
}

/// They get what no route takes: where one takes all there need be none.
fn targets(name: &str, section: &Section<'_>, routes: &[ModelRoute]) -> Vec<Target> {
    let takes_all = routes.last().is_some_and(ModelRoute::takes_all);
    let said = match takes_all {
        true => section.item("targets"),
        false => section.required("targets"),
    };
    let Some(whole) = said else {
        return Vec::new();
    };
    let items = whole.list();
    if items.is_empty() {
        whole.error("needs at least one target");
    }
    if takes_all {
        section.warn("targets", "get no call: the last route takes them all");
    }
    items.iter().filter_map(|item| target(name, item)).collect()
}

fn target(by: &str, item: &Item<'_>) -> Option<Target> {
    let section = item.section()?;
    let provider = section.required_text("provider");
    let model = section.text("model");
    let weight = section.number("weight");
    let (priority, price) = (section.number("priority"), price(&section));
    if let (Some(name), Some(said)) = (&provider, section.item("provider")) {
        let reference = reference(name, by, &said);
        item.names().borrow_mut().targets.push(reference);
    }
    section.finish();
    Some(Target {
        provider: provider?,
        model,
        weight,
        priority,
        price,
    })
}

/// A list is for any failure; a mapping has a list a cause.
fn fallbacks(by: &str, section: &Section<'_>) -> Fallbacks {
    let Some(item) = section.item("fallbacks") else {
        return Fallbacks::default();
    };
    if !matches!(item.node.kind, Kind::Map(_)) {
        return Fallbacks {
            any: names(by, &item.list()),
            ..Fallbacks::default()
        };
    }
    let Some(section) = item.section() else {
        return Fallbacks::default();
    };
    let list = |key| names(by, &section.items(key));
    let fallbacks = Fallbacks {
        quota: list("quota"),
        any: list("any"),
        context_length: list("context_length"),
        content_policy: list("content_policy"),
    };
    section.finish();
    fallbacks
}

fn names(by: &str, items: &[Item<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    for item in items {
        let Some(name) = item.text() else {
            continue;
        };
        let reference = reference(&name, by, item);
        item.names().borrow_mut().fallbacks.push(reference);
        names.push(name);
    }
    names
}

fn reference(name: &str, by: &str, item: &Item<'_>) -> Reference {
    Reference {
        name: name.to_owned(),
        by: by.to_owned(),
        spot: item.spot.clone(),
    }
}
