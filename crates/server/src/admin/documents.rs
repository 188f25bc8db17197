//! Listed, read, made, changed and deleted: what every kind of document has in common.

use axum::response::{IntoResponse, Json, Response};
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use polygate_store::StoreError;
use polygate_store::config::{Document, Expect, Kind, Put};
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::body::Sent;
use super::keys;
use super::list::list;
use super::problem::Problem;
use super::resource::{RESOURCES, Resource};
use super::route::{Doc, Param, ParamKind, Route};
use super::secrets::seal;
use super::view;
use super::write::{
    Manner, PARAMETERS, asking, check, commit, dry, matches, tagged, wants_nothing,
};

/// How often a change is tried that others are faster than.
const TRIES: usize = 3;

/// What writes take.
pub const WRITING: &[Param] = &[
    Param {
        name: "dry_run",
        kind: ParamKind::Flag,
        about: "says what would come of it, and what else would be left out, and does not do it",
    },
    Param {
        name: "force",
        kind: ParamKind::Flag,
        about: "does it though other documents would be served no longer",
    },
];

/// The routes of every kind.
pub fn routes() -> Vec<Route> {
    RESOURCES.iter().flat_map(of).collect()
}

fn of(resource: &'static Resource) -> Vec<Route> {
    let all = format!("/admin/v1/{}", resource.path);
    let one = format!("{all}/{{id}}");
    let [view, new, change, views] = resource.schemas;
    let area = resource.area;
    let word = resource.path.replace('-', "_");
    let thing = resource.one;
    let doc = |verb: &str, summary: String| Doc {
        id: format!("{verb}_{word}"),
        summary,
        ..Doc::default()
    };
    let listed = Doc {
        query: super::list::parameters(resource.kind),
        answers: vec![(200, Some(views))],
        refusals: &[400],
        ..doc(
            "list",
            format!("Every {thing}: those of the file, then those of the database"),
        )
    };
    let made = Doc {
        query: WRITING,
        body: Some(new),
        answers: vec![(200, Some(view)), (201, Some(view))],
        refusals: &[400, 404, 409, 412, 422],
        is_conditional: true,
        ..doc("create", format!("Makes a {thing}"))
    };
    let read = Doc {
        answers: vec![(200, Some(view))],
        refusals: &[400, 404],
        ..doc("get", format!("One {thing}, by name or number"))
    };
    let changed = |verb: &str| Doc {
        query: WRITING,
        body: Some(change),
        answers: vec![(200, Some(view))],
        refusals: &[400, 404, 409, 412, 422],
        is_conditional: true,
        ..doc(
            verb,
            format!("Changes a {thing}: what is sent replaces what was there, null clears it"),
        )
    };
    let deleted = Doc {
        query: WRITING,
        answers: vec![(200, Some("Dry")), (204, None)],
        refusals: &[400, 404, 409, 412, 422],
        is_conditional: true,
        ..doc("delete", format!("Deletes a {thing}"))
    };
    vec![
        Route::new(
            Method::GET,
            &all,
            area,
            move |asked| list(asked, resource),
            listed,
        ),
        Route::new(
            Method::POST,
            &all,
            area,
            move |asked| create(asked, resource),
            made,
        ),
        Route::new(
            Method::GET,
            &one,
            area,
            move |asked| read_one(asked, resource),
            read,
        ),
        Route::new(
            Method::PUT,
            &one,
            area,
            move |asked| update(asked, resource),
            changed("update"),
        ),
        Route::new(
            Method::PATCH,
            &one,
            area,
            move |asked| update(asked, resource),
            changed("patch"),
        ),
        Route::new(
            Method::DELETE,
            &one,
            area,
            move |asked| delete(asked, resource),
            deleted,
        ),
    ]
}

async fn create(asked: Asked, resource: &'static Resource) -> Result<Response, Problem> {
    asked.knows(&PARAMETERS)?;
    let manner = Manner::of(&asked)?;
    let mut sent = Sent::read(resource, asked.object()?)?;
    let name = sent.name.clone().ok_or_else(|| {
        let word = resource.names.first().copied().unwrap_or("id");
        Problem::field(word, "is missing: it says what it is called")
    })?;
    not_in_file(&asked, resource, &name)?;
    let there = asking(asked.state.admin.store.document(resource.kind, &name)).await?;
    if there.is_some() {
        return Err(exists(&asked, resource, &name));
    }
    let made = match resource.kind {
        Kind::Key => Some(keys::make(&asked, &mut sent)?),
        _ => None,
    };
    let body = sent.onto(&Map::new());
    let put = put(&asked, resource, &name, body, None)?;
    let puts = vec![put];
    let left_out = check(&asked, &puts, manner, |field| sent.said(field)).await?;
    if manner.is_dry {
        let view = view::of_document(resource, &would_be(&puts, None), &asked.state.admin.sealer);
        return Ok(Json(dry(view, &left_out)).into_response());
    }
    match commit(&asked, &format!("create {}", resource.one), puts).await {
        Ok(_) => {}
        Err(StoreError::Conflict { .. }) => return Err(exists(&asked, resource, &name)),
        Err(error) => return Err(error.into()),
    }
    let document = written(&asked, resource, &name).await?;
    let mut view = view::of_document(resource, &document, &asked.state.admin.sealer);
    if let Some(key) = made.flatten() {
        view["key"] = key.reveal().into();
    }
    let mut answer = tagged(StatusCode::CREATED, document.version, view);
    if let Ok(place) =
        HeaderValue::from_str(&format!("/admin/v1/{}/{}", resource.path, document.id))
    {
        answer.headers_mut().insert(LOCATION, place);
    }
    Ok(answer)
}

async fn read_one(asked: Asked, resource: &'static Resource) -> Result<Response, Problem> {
    asked.knows(&[])?;
    let id = asked.param("id");
    if let Some(document) = find(&asked, resource, id).await? {
        let left_out = asked.state.admin.configuration.left_out();
        let view = view::of_document(resource, &document, &asked.state.admin.sealer);
        let view = view::with_trouble(view, &document, &left_out);
        return Ok(tagged(StatusCode::OK, document.version, view));
    }
    let objects = asked.state.admin.configuration.file_objects(resource.kind);
    let mut objects = objects.iter();
    let object = objects.find(|object| {
        object.name == id && keys::is_within(&asked, resource.kind, &object.name, &object.body)
    });
    match object {
        Some(object) => Ok(Json(view::of_file(resource, object)).into_response()),
        None => Err(Problem::missing(resource.one, id)),
    }
}

async fn update(asked: Asked, resource: &'static Resource) -> Result<Response, Problem> {
    asked.knows(&PARAMETERS)?;
    let manner = Manner::of(&asked)?;
    let mut sent = Sent::read(resource, asked.object()?)?;
    for _ in 0..TRIES {
        let before = there(&asked, resource).await?;
        sent = sent.meant_for(resource, &before.name);
        let is_conditional = matches(&asked.headers, &before)?.is_some();
        if let Some(name) = sent.name.as_deref().filter(|name| *name != before.name) {
            return renamed(resource, &before, name);
        }
        let mut body = sent.onto(&view::members(&before));
        if resource.kind == Kind::Key {
            keys::may_change(&asked, &before)?;
            keys::change(&asked, &sent, &mut body, &before)?;
        }
        let puts = vec![put(&asked, resource, &before.name, body, Some(&before))?];
        let left_out = check(&asked, &puts, manner, |field| sent.said(field)).await?;
        if manner.is_dry {
            let document = would_be(&puts, Some(&before));
            let view = view::of_document(resource, &document, &asked.state.admin.sealer);
            return Ok(Json(dry(view, &left_out)).into_response());
        }
        match commit(&asked, &format!("update {}", resource.one), puts).await {
            Ok(_) => {
                let document = written(&asked, resource, &before.name).await?;
                let view = view::of_document(resource, &document, &asked.state.admin.sealer);
                return Ok(tagged(StatusCode::OK, document.version, view));
            }
            Err(StoreError::Conflict { .. }) if !is_conditional => {}
            Err(StoreError::Conflict { .. }) => return Err(overtaken(&before)),
            Err(error) => return Err(error.into()),
        }
    }
    let message = "others are writing the same all the time: try again";
    Err(Problem::conflict("changed", message))
}

async fn delete(asked: Asked, resource: &'static Resource) -> Result<Response, Problem> {
    asked.knows(&PARAMETERS)?;
    let manner = Manner::of(&asked)?;
    for _ in 0..TRIES {
        let before = there(&asked, resource).await?;
        let is_conditional = matches(&asked.headers, &before)?.is_some();
        if resource.kind == Kind::Key {
            keys::may_change(&asked, &before)?;
        }
        let puts = vec![Put {
            kind: resource.kind,
            name: before.name.clone(),
            body: None,
            expect: Expect::Version(before.version),
        }];
        let left_out = check(&asked, &puts, manner, str::to_owned).await?;
        if manner.is_dry {
            let view = json!({"deleted": before.name});
            return Ok(Json(dry(view, &left_out)).into_response());
        }
        match commit(&asked, &format!("delete {}", resource.one), puts).await {
            Ok(_) => return Ok(StatusCode::NO_CONTENT.into_response()),
            Err(StoreError::Conflict { .. }) if !is_conditional => {}
            Err(StoreError::Conflict { .. }) => return Err(overtaken(&before)),
            Err(error) => return Err(error.into()),
        }
    }
    let message = "others are writing the same all the time: try again";
    Err(Problem::conflict("changed", message))
}

/// The document that a path means, by name or by number; `None` where there is none that this principal may see.
pub async fn find(
    asked: &Asked,
    resource: &Resource,
    id: &str,
) -> Result<Option<Document>, Problem> {
    if id.chars().any(char::is_control) {
        return Ok(None);
    }
    let store = &asked.state.admin.store;
    let mut found = asking(store.document(resource.kind, id)).await?;
    if found.is_none()
        && let Ok(number) = id.parse::<i64>()
        && !asked
            .state
            .admin
            .configuration
            .is_in_file(resource.kind, id)
    {
        found = asking(store.document_by_id(resource.kind, number)).await?;
    }
    Ok(found.filter(|one| keys::is_within(asked, one.kind, &one.name, &view::members(one))))
}

/// The document that is to be changed.
pub async fn there(asked: &Asked, resource: &Resource) -> Result<Document, Problem> {
    let id = asked.param("id");
    match find(asked, resource, id).await? {
        Some(document) => Ok(document),
        None => {
            let objects = asked.state.admin.configuration.file_objects(resource.kind);
            if objects.iter().any(|object| object.name == id) {
                return Err(in_file(resource, id));
            }
            not_in_file(asked, resource, id)?;
            Err(Problem::missing(resource.one, id))
        }
    }
}

/// A document as it was written just now.
pub async fn written(asked: &Asked, resource: &Resource, name: &str) -> Result<Document, Problem> {
    let found = asking(asked.state.admin.store.document(resource.kind, name)).await?;
    found.ok_or_else(|| {
        let message = format!("'{name}' was written, and deleted by somebody else");
        Problem::conflict("changed", message)
    })
}

/// A document's new body, its secrets sealed.
pub fn put(
    asked: &Asked,
    resource: &Resource,
    name: &str,
    mut body: Map<String, Value>,
    before: Option<&Document>,
) -> Result<Put, Problem> {
    let old = before.map(view::members);
    seal(
        resource.kind,
        name,
        &mut body,
        old.as_ref(),
        &asked.state.admin.sealer,
    )?;
    Ok(Put {
        kind: resource.kind,
        name: name.to_owned(),
        body: Some(Value::Object(body).to_string()),
        expect: before.map_or(Expect::Nothing, |before| Expect::Version(before.version)),
    })
}

/// What the first of these would be.
fn would_be(puts: &[Put], before: Option<&Document>) -> Document {
    let body = puts.first().and_then(|put| put.body.clone());
    let put = puts.first();
    Document {
        kind: put.map_or(Kind::Provider, |put| put.kind),
        name: put.map(|put| put.name.clone()).unwrap_or_default(),
        id: before.map_or(0, |before| before.id),
        body: body.unwrap_or_default(),
        version: before.map_or(0, |before| before.version),
        created: before.map_or(0, |before| before.created),
        updated: before.map_or(0, |before| before.updated),
    }
}

/// What the file has is the file's.
fn not_in_file(asked: &Asked, resource: &Resource, name: &str) -> Result<(), Problem> {
    if !asked
        .state
        .admin
        .configuration
        .is_in_file(resource.kind, name)
    {
        return Ok(());
    }
    Err(in_file(resource, name))
}

fn in_file(resource: &Resource, name: &str) -> Problem {
    let (one, shown) = (resource.one, name.chars().take(100).collect::<String>());
    let message = format!(
        "{one} '{shown}' is in the configuration file, which is not changed here: change the file"
    );
    Problem::conflict("in_file", message)
}

fn exists(asked: &Asked, resource: &Resource, name: &str) -> Problem {
    let message = format!("there is a {} '{name}' already", resource.one);
    if wants_nothing(&asked.headers) {
        return Problem::changed(message);
    }
    Problem::conflict("already_exists", message)
}

fn renamed(resource: &Resource, before: &Document, name: &str) -> Result<Response, Problem> {
    let word = resource.names.first().copied().unwrap_or("id");
    let message = format!(
        "'{}' cannot be renamed to '{name}': make a new one",
        before.name
    );
    Err(Problem::field(word, message))
}

fn overtaken(before: &Document) -> Problem {
    Problem::changed(format!(
        "'{}' was changed meanwhile: read it again",
        before.name
    ))
}
