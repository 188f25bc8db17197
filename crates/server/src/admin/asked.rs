//! A request of the admin API, taken apart.

use axum::extract::{FromRequest, Query, RawPathParams, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::role::Principal;
use crate::State;

/// How much of what somebody sent is repeated.
const SHOWN: usize = 100;

/// A request.
pub struct Asked {
    /// What there is.
    pub state: State,
    /// Who asks.
    pub principal: Principal,
    /// What the path names.
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// The head.
    pub headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    /// A part of the path by its name; empty where it has none.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Refuses parameters that a route does not know: one that is misspelt would be without effect.
    pub fn knows(&self, known: &[&str]) -> Result<(), Problem> {
        let mut names = self.query.iter().map(|(name, _)| name.as_str());
        match names.find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(SHOWN).collect();
                let there = match known {
                    [] => "this route takes no parameters".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                let message = format!("the parameter '{shown}' is not known here: {there}");
                Err(Problem::invalid(message))
            }
        }
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Yes or no; no unless it is there.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.query(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Problem::invalid(format!("'{name}' must be true or false"))),
        }
    }

    /// A number from 1 to the most there may be.
    pub fn limit(&self, usual: u32, most: u32) -> Result<u32, Problem> {
        let Some(text) = self.query("limit") else {
            return Ok(usual);
        };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| Problem::invalid(format!("'limit' must be a number from 1 to {most}")))
    }

    /// The number that a page is before, of lists that begin with the newest.
    pub fn before(&self) -> Result<i64, Problem> {
        let Some(text) = self.query("cursor") else {
            return Ok(i64::MAX);
        };
        let number = text.parse().ok().filter(|number| *number > 0);
        let message = "'cursor' must be the 'next_cursor' of the page before";
        number.ok_or_else(|| Problem::invalid(message))
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body's members, where there has to be one.
    pub fn object(&self) -> Result<Map<String, Value>, Problem> {
        if self.body.trim_ascii().is_empty() {
            return Err(Problem::invalid("the body is missing: a JSON object"));
        }
        self.members()
    }

    /// The body's members; none where it is empty.
    pub fn members(&self) -> Result<Map<String, Value>, Problem> {
        if self.body.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        members(&self.body)
    }
}

/// The members of a body.
pub fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::invalid("the body must be a JSON object")),
        Err(error) => Err(Problem::invalid(format!("the body is no JSON: {error}"))),
    }
}

impl FromRequest<State> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let params = params(&mut parts, state).await?;
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|error| Problem::invalid(error.body_text()))?;
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = query.iter().find(|(name, _)| !seen.insert(name)) {
            let shown: String = name.chars().take(SHOWN).collect();
            let message = format!("the parameter '{shown}' is there twice");
            return Err(Problem::invalid(message));
        }
        // No database takes it, and no name has it.
        let mut texts = params.iter().chain(&query).map(|(_, text)| text);
        if texts.any(|text| text.contains('\0')) {
            return Err(Problem::invalid("there is a NUL in the path or the query"));
        }
        let principal = parts.extensions.get::<Principal>().cloned();
        let principal = principal.ok_or_else(|| {
            let message = "a route of the admin API has no door";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        })?;
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(|error| {
            let code = match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "too_large",
                _ => "invalid_request",
            };
            Problem::new(error.status(), code, error.body_text())
        })?;
        Ok(Self {
            state: state.clone(),
            principal,
            params,
            query,
            headers,
            body,
        })
    }
}

async fn params(parts: &mut Parts, state: &State) -> Result<Vec<(String, String)>, Problem> {
    use axum::extract::FromRequestParts;
    match RawPathParams::from_request_parts(parts, state).await {
        Ok(params) => {
            let pairs = params.iter();
            Ok(pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect())
        }
        Err(error) => Err(Problem::invalid(error.body_text())),
    }
}
