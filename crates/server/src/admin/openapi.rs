//! The description of the admin API (OpenAPI 3.1), made of the routes themselves.

mod accounts;
mod schemas;
mod shape;

use std::sync::LazyLock;

use axum::response::Json;
use http::Method;
use serde_json::{Map, Value, json};

use super::problem::Field;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};
use crate::State;

/// Refusals that every route with a door has.
const REFUSALS: [u16; 6] = [400, 401, 403, 413, 429, 503];

/// Its route: it says nothing of this gateway, and is for everybody.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "get_openapi".to_owned(),
        summary: "This description".to_owned(),
        answers: vec![(200, Some("Object"))],
        ..Doc::default()
    };
    let answer = async |_: axum::extract::State<State>| Json(description(&super::routes()));
    let path = "/admin/v1/openapi.json";
    vec![Route::new(Method::GET, path, Area::Session, answer, doc).that_is_open()]
}

/// What is wrong with a body, by the schema of this name.
pub fn check(schema: &str, body: &Value) -> Vec<Field> {
    static SCHEMAS: LazyLock<Value> = LazyLock::new(schemas::all);
    shape::check(&SCHEMAS[schema], body)
}

/// The description of these.
pub fn description(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Polygate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Providers, models, keys, teams and prices of a gateway; versions of its configuration, who wrote them, \
                            how its providers are, and what was used. The admin key, or a key with a role, as 'Authorization: Bearer'.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas::all(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let doc = &route.doc;
    let mut parameters: Vec<Value> = path_parameters(&route.path).collect();
    parameters.extend(doc.query.iter().map(parameter));
    if doc.is_conditional {
        parameters.push(header(
            "If-Match",
            "the tag of what was read: refused with 412 where it was changed since",
        ));
        if route.method == Method::POST {
            parameters.push(header(
                "If-None-Match",
                "`*`: refused with 412 where there is one",
            ));
        }
    }
    let mut operation = json!({
        "operationId": doc.id,
        "summary": doc.summary,
        "parameters": parameters,
        "responses": responses(route),
    });
    if let Some(name) = doc.body {
        operation["requestBody"] =
            json!({"required": !doc.is_body_optional, "content": content(name)});
    }
    if let Some(rights) = route.rights {
        operation["security"] = json!([{"bearer": []}]);
        operation["tags"] = json!([format!("{:?}", rights.area).to_lowercase()]);
    }
    operation
}

/// `{id}` and its like, of a path.
fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let parts = path.split('/');
    let names = parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let schema = match name {
            "version" => json!({"type": "integer", "minimum": 1}),
            _ => json!({"type": "string", "minLength": 1}),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    })
}

fn parameter(param: &Param) -> Value {
    let schema = match param.kind {
        ParamKind::Text => json!({"type": "string"}),
        ParamKind::Flag => json!({"type": "boolean"}),
        ParamKind::Number(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        ParamKind::Word(words) => json!({"type": "string", "enum": words}),
    };
    json!({"name": param.name, "in": "query", "description": param.about, "schema": schema})
}

fn header(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}})
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for (status, name) in &route.doc.answers {
        let mut response = json!({"description": "done"});
        if let Some(name) = name {
            response["content"] = content(name);
        }
        responses.insert(status.to_string(), response);
    }
    let of_door = REFUSALS.iter().filter(|_| route.rights.is_some());
    for status in route.doc.refusals.iter().chain(of_door) {
        let response = json!({"description": about(*status), "content": content("Error")});
        responses.insert(status.to_string(), response);
    }
    responses.into()
}

fn about(status: u16) -> &'static str {
    match status {
        400 => "the request cannot be understood",
        401 => "no key, or not the right one",
        403 => "the key's role does not allow it",
        404 => "there is no such thing",
        409 => "what is there stands against it",
        412 => "it was changed since",
        413 => "the body is too large",
        422 => "fields are wrong; they are named",
        429 => "too many wrong keys came from this address",
        503 => "the database cannot be reached",
        _ => "refused",
    }
}

fn content(name: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}})
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn references<'a>(value: &'a Value, found: &mut HashSet<&'a str>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value.as_str().filter(|_| name == "$ref") {
                        Some(reference) => {
                            found.insert(reference);
                        }
                        None => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_once_and_every_schema_is_used() {
        let routes = super::super::routes();
        let described = description(&routes);
        let mut ids = HashSet::new();
        for route in &routes {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &described["paths"][&route.path][&method];
            assert_eq!(
                operation["operationId"], route.doc.id,
                "{} {}",
                route.method, route.path
            );
            assert!(ids.insert(route.doc.id.clone()), "{}", route.doc.id);
            assert!(!route.doc.summary.is_empty() && !route.doc.answers.is_empty());
        }
        let paths = described["paths"].as_object().expect("paths").values();
        let operations: usize = paths
            .map(|path| path.as_object().expect("operations").len())
            .sum();
        assert_eq!(operations, routes.len());

        let mut found = HashSet::new();
        references(&described, &mut found);
        let schemas = described["components"]["schemas"]
            .as_object()
            .expect("schemas");
        for reference in &found {
            let name = reference
                .strip_prefix("#/components/schemas/")
                .expect("ours");
            assert!(schemas.contains_key(name), "{name} is not described");
        }
        for name in schemas.keys() {
            let reference = format!("#/components/schemas/{name}");
            assert!(
                found.contains(reference.as_str()),
                "{name} is described and not used"
            );
        }
    }
}
