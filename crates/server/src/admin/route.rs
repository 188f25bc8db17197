//! A route of the admin API: what it answers with, who may call it, and what its description says. The router and the description
//! are made of the same list, so that neither has what the other has not.

use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use super::gate::{Rights, gate};
use super::role::{Access, Area};
use crate::State;

/// A route.
pub struct Route {
    /// `GET`, …
    pub method: Method,
    /// `/admin/v1/providers/{id}`.
    pub path: String,
    /// Who may call it; `None`: everybody.
    pub rights: Option<Rights>,
    /// What its description says.
    pub doc: Doc,
    handler: MethodRouter<State>,
}

/// What is said of a route.
#[derive(Clone, Debug, Default)]
pub struct Doc {
    /// Unique: `list_providers`.
    pub id: String,
    /// One line.
    pub summary: String,
    /// Parameters of the query.
    pub query: &'static [Param],
    /// The schema of its body, by name.
    pub body: Option<&'static str>,
    /// It may do without that.
    pub is_body_optional: bool,
    /// Its good answers: status, and the schema by name; `None`: without a body.
    pub answers: Vec<(u16, Option<&'static str>)>,
    /// Statuses of its own refusals, beside those that every route has.
    pub refusals: &'static [u16],
    /// It heeds `If-Match`, and `If-None-Match: *`.
    pub is_conditional: bool,
}

/// A parameter of a query.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: ParamKind,
    /// What it does.
    pub about: &'static str,
}

impl Param {
    /// Where a page begins.
    pub const CURSOR: Self = Self {
        name: "cursor",
        kind: ParamKind::Text,
        about: "the `next_cursor` of the page before",
    };

    /// How long a page is.
    pub const fn limit(most: u32, about: &'static str) -> Self {
        Self {
            name: "limit",
            kind: ParamKind::Number(1, most as i64),
            about,
        }
    }
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug)]
pub enum ParamKind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from … to.
    Number(i64, i64),
    /// One of these.
    Word(&'static [&'static str]),
}

impl Route {
    /// A route that answers `GET` by looking, and everything else by changing something.
    pub fn new<H, T>(
        method: Method,
        path: impl Into<String>,
        area: Area,
        handler: H,
        doc: Doc,
    ) -> Self
    where
        H: Handler<T, State>,
        T: 'static,
    {
        let access = match method {
            Method::GET => Access::Read,
            _ => Access::Write,
        };
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path: path.into(),
            rights: Some(Rights { area, access }),
            doc,
            handler: on(filter, handler),
        }
    }

    /// The same, though it looks only.
    #[must_use]
    pub fn that_reads(mut self) -> Self {
        self.rights = self.rights.map(|rights| Rights {
            access: Access::Read,
            ..rights
        });
        self
    }

    /// The same, though it costs something.
    #[must_use]
    pub fn that_costs(mut self) -> Self {
        self.rights = self.rights.map(|rights| Rights {
            access: Access::Write,
            ..rights
        });
        self
    }

    /// The same, for everybody.
    #[must_use]
    pub fn that_is_open(mut self) -> Self {
        self.rights = None;
        self
    }

    /// With its door.
    pub fn add_to(self, router: axum::Router<State>, state: &State) -> axum::Router<State> {
        let handler = match self.rights {
            Some(rights) => self
                .handler
                .layer(from_fn_with_state((state.clone(), rights), gate)),
            None => self.handler,
        };
        router.route(&self.path, handler)
    }
}
