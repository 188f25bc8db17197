//! Lists in pages: what the file has first, in its order, then the documents by number.

use axum::response::Json;
use polygate_store::config::{Kind, Page};
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::keys;
use super::problem::Problem;
use super::resource::Resource;
use super::route::{Param, ParamKind};
use super::view;
use super::write::asking;

/// Objects of a page, and the most there may be.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

/// Documents that are asked for at a time.
const CHUNK: u32 = 1000;

/// What lists take: all of them the first three, those of what can be disabled one more, those of keys all.
const PARAMETERS: [Param; 5] = [
    Param::limit(MOST, "so many at most; 100 unless said"),
    Param::CURSOR,
    Param {
        name: "name",
        kind: ParamKind::Text,
        about: "those whose id or name begins so",
    },
    Param {
        name: "enabled",
        kind: ParamKind::Flag,
        about: "those that are enabled, or not",
    },
    Param {
        name: "team",
        kind: ParamKind::Text,
        about: "those of this team",
    },
];

/// Which objects are wanted.
struct Wanted<'a> {
    name: &'a str,
    enabled: Option<bool>,
    team: Option<&'a str>,
}

/// What lists of this kind take.
pub fn parameters(kind: Kind) -> &'static [Param] {
    let [common @ .., _, _] = &PARAMETERS;
    let [with_enabled @ .., _] = &PARAMETERS;
    match kind {
        Kind::Key => &PARAMETERS,
        Kind::Provider | Kind::Team => with_enabled,
        Kind::Model | Kind::Price => common,
    }
}

impl<'a> Wanted<'a> {
    fn of(asked: &'a Asked) -> Result<Self, Problem> {
        let enabled = asked.query("enabled");
        Ok(Self {
            name: asked.query("name").unwrap_or_default(),
            enabled: enabled.map(|_| asked.flag("enabled")).transpose()?,
            team: asked.query("team"),
        })
    }

    fn is_all(&self) -> bool {
        self.name.is_empty() && self.enabled.is_none() && self.team.is_none()
    }

    fn has(&self, resource: &Resource, name: &str, body: &Map<String, Value>) -> bool {
        let text = |member: &str| body.get(member).and_then(Value::as_str);
        let title = resource.title.and_then(text);
        let is_enabled = || body.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        (name.starts_with(self.name) || title.is_some_and(|title| title.starts_with(self.name)))
            && self.enabled.is_none_or(|enabled| enabled == is_enabled())
            && self.team.is_none_or(|team| text("team") == Some(team))
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After so many of the file.
    File(usize),
    /// After the document of this number.
    After(i64),
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (word, number) = text.split_once('-')?;
        match word {
            "file" => Some(Place::File(number.parse().ok()?)),
            "id" => Some(Place::After(
                number.parse().ok().filter(|number| *number >= 0)?,
            )),
            _ => None,
        }
    }

    fn text(self) -> String {
        match self {
            Place::File(number) => format!("file-{number}"),
            Place::After(number) => format!("id-{number}"),
        }
    }
}

/// A page.
pub async fn list(asked: Asked, resource: &'static Resource) -> Result<Json<Value>, Problem> {
    let known: Vec<&str> = parameters(resource.kind)
        .iter()
        .map(|param| param.name)
        .collect();
    asked.knows(&known)?;
    let limit = asked.limit(USUAL, MOST)? as usize;
    let place = match asked.query("cursor") {
        None => Place::File(0),
        Some(text) => Place::read(text).ok_or_else(|| {
            Problem::invalid("'cursor' must be the 'next_cursor' of the page before")
        })?,
    };
    let version = asking(asked.state.admin.store.version()).await?;
    // One more than is shown, to know whether there is more.
    let wanted = Wanted::of(&asked)?;
    let mut found = of_file(&asked, resource, &wanted, place, limit + 1);
    let after = match place {
        Place::File(_) => 0,
        Place::After(number) => number,
    };
    of_database(&asked, resource, &wanted, after, limit + 1, &mut found).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| has_more)
        .map(|(place, _)| place.text());
    let views: Vec<Value> = found.into_iter().map(|(_, view)| view).collect();
    let mut answer = Map::new();
    answer.insert("version".to_owned(), version.into());
    answer.insert(resource.list.to_owned(), views.into());
    answer.insert("next_cursor".to_owned(), json!(next));
    Ok(Json(answer.into()))
}

fn of_file(
    asked: &Asked,
    resource: &Resource,
    wanted: &Wanted<'_>,
    place: Place,
    most: usize,
) -> Vec<(Place, Value)> {
    let Place::File(skipped) = place else {
        return Vec::new();
    };
    let objects = asked.state.admin.configuration.file_objects(resource.kind);
    let objects = objects.iter().enumerate().skip(skipped);
    let within = objects.filter(|(_, object)| {
        keys::is_within(asked, resource.kind, &object.name, &object.body)
            && wanted.has(resource, &object.name, &object.body)
    });
    within
        .take(most)
        .map(|(at, object)| (Place::File(at + 1), view::of_file(resource, object)))
        .collect()
}

async fn of_database(
    asked: &Asked,
    resource: &Resource,
    wanted: &Wanted<'_>,
    mut after: i64,
    most: usize,
    found: &mut Vec<(Place, Value)>,
) -> Result<(), Problem> {
    let admin = &asked.state.admin;
    let left_out = admin.configuration.left_out();
    while found.len() < most {
        let missing = u32::try_from(most - found.len()).unwrap_or(CHUNK);
        // Who sees or wants few of them goes through many.
        let limit = match asked.principal.confined() {
            None if wanted.is_all() => missing.min(CHUNK),
            _ => CHUNK,
        };
        let documents = asking(admin.store.page(resource.kind, Page { after, limit })).await?;
        let is_last = documents.len() < limit as usize;
        for document in &documents {
            after = document.id;
            let members = view::members(document);
            if found.len() < most
                && keys::is_within(asked, resource.kind, &document.name, &members)
                && wanted.has(resource, &document.name, &members)
            {
                let view = view::of_document(resource, document, &admin.sealer);
                let view = view::with_trouble(view, document, &left_out);
                found.push((Place::After(document.id), view));
            }
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for place in [
            Place::File(0),
            Place::File(7),
            Place::After(0),
            Place::After(i64::MAX),
        ] {
            assert_eq!(Place::read(&place.text()), Some(place));
        }
        for text in [
            "",
            "id",
            "id-",
            "id--1",
            "file--1",
            "x-1",
            "id-99999999999999999999",
            "é-1",
        ] {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }
}
