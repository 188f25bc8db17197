//! Where a model's calls go beside its targets: `routes`, a text in place of a model, and `shadow`.

use polygate_engine::condition::Condition;
use polygate_engine::config::{ModelRoute, Percent, Shadow};

use crate::config::condition::when;
use crate::config::names::Reference;
use crate::config::reader::{Item, Section};

/// Shadow calls of a model at a time, unless the file says.
const AT_A_TIME: usize = 10;

/// A text in place of a model is another name of one.
pub fn alias(by: &str, item: &Item<'_>) -> Vec<ModelRoute> {
    let route = named(by, item).map(|model| ModelRoute {
        when: Condition::default(),
        percent: None,
        model,
    });
    route.into_iter().collect()
}

/// `routes`: the first that fits is taken.
pub fn routes(by: &str, section: &Section<'_>) -> Vec<ModelRoute> {
    let items = section.items("routes");
    let mut routes: Vec<ModelRoute> = Vec::new();
    for item in &items {
        let takes_all = routes.last().is_some_and(ModelRoute::takes_all);
        if takes_all {
            item.error("no call comes here: the route before takes them all");
        }
        routes.extend(route(by, item));
    }
    routes
}

fn route(by: &str, item: &Item<'_>) -> Option<ModelRoute> {
    let section = item.section()?;
    let when = when(&section);
    let percent = percent(&section);
    let model = section.required("model");
    let model = model.and_then(|model| named(by, &model));
    section.finish();
    Some(ModelRoute {
        when,
        percent,
        model: model?,
    })
}

/// `shadow`: who gets the calls too.
pub fn shadow(by: &str, section: &Section<'_>) -> Option<Shadow> {
    let section = section.section("shadow")?;
    let percent = percent(&section).unwrap_or(Percent::ALL);
    let max_concurrent = crate::config::pieces::max_concurrent(&section);
    let model = section.required("model");
    let model = model.and_then(|model| named(by, &model));
    section.finish();
    Some(Shadow {
        model: model?,
        percent,
        max_concurrent: max_concurrent.unwrap_or(AT_A_TIME),
    })
}

fn percent(section: &Section<'_>) -> Option<Percent> {
    let in_hundred = |text: &str| Percent::of(text.trim_end_matches('%').trim().parse().ok()?);
    section.item("percent")?.parsed(
        "a number from 0 to 100, with two decimals at most",
        in_hundred,
    )
}

/// The model that is led to.
fn named(by: &str, item: &Item<'_>) -> Option<String> {
    let name = item.text()?.trim().to_owned();
    if name.is_empty() {
        item.error("is empty");
        return None;
    }
    let reference = Reference {
        name: name.clone(),
        by: by.to_owned(),
        spot: item.spot.clone(),
    };
    item.names().borrow_mut().routes.push(reference);
    Some(name)
}
