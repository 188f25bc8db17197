//! The admin API: every route below `/admin`, its door, and what its handlers share.

mod asked;
mod audit;
mod body;
mod brake;
mod cache;
pub mod configuration;
mod documents;
mod explain;
mod gate;
mod keys;
mod list;
mod logs;
mod openapi;
mod problem;
mod resource;
mod role;
mod route;
mod secrets;
mod session;
mod usage;
mod versions;
mod view;
mod write;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::middleware::map_response;
use axum::response::Response;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use polygate_store::audit::Event;
use polygate_store::{Sealer, Store};

use crate::State;
use crate::pages::{check, health, overview};
use brake::Brake;
use configuration::Configuration;

pub use asked::Asked;
pub use explain::supposed;
pub use gate::identify;
pub use problem::{Field, Problem};
pub use role::{Area, Principal};
pub use route::{Doc, Param, ParamKind, Route};
pub use write::waiting;

/// How long the database may take for what an admin asks.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the admin API has beside the engine.
pub struct Admin {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Seals secrets, and hashes keys.
    pub sealer: Arc<Sealer>,
    /// Reads configurations.
    pub configuration: Arc<dyn Configuration>,
    /// Slows those who try keys.
    brake: Brake,
}

impl Admin {
    /// With this store, for whoever reads configurations.
    pub fn new(
        store: Arc<dyn Store>,
        sealer: Arc<Sealer>,
        configuration: Arc<dyn Configuration>,
    ) -> Self {
        Self {
            store,
            sealer,
            configuration,
            brake: Brake::default(),
        }
    }

    /// Microseconds since 1970.
    pub fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// Notes what somebody did that is no version.
    pub async fn note_of(
        &self,
        principal: &Principal,
        action: &str,
        subject: String,
        outcome: &str,
    ) {
        let event = Event {
            at: self.now(),
            actor: principal.actor(),
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            subject,
            version: None,
        };
        self.note(event).await;
    }

    /// Puts something into the audit log. Where that cannot be done now, the log of the process has it.
    async fn note(&self, event: Event) {
        let added = tokio::time::timeout(PATIENCE, self.store.add(&event)).await;
        let trouble = match added {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database does not answer".to_owned(),
        };
        tracing::warn!(trouble, ?event, "the audit log cannot be written");
    }
}

/// Every route.
pub fn routes() -> Vec<Route> {
    let mut routes = documents::routes();
    routes.extend(keys::routes());
    routes.extend(versions::routes());
    routes.extend(audit::routes());
    routes.extend(session::routes());
    routes.extend(openapi::routes());
    routes.extend(overview::routes());
    routes.extend(health::routes());
    routes.extend(check::routes());
    routes.extend(usage::routes());
    routes.extend(logs::routes());
    routes.extend(explain::routes());
    routes.extend(cache::routes());
    routes
}

/// The router of all of them.
pub fn router(state: &State) -> axum::Router<State> {
    let routes = routes().into_iter();
    let router = routes.fold(axum::Router::new(), |router, route| {
        route.add_to(router, state)
    });
    router.layer(map_response(unstored))
}

/// What an admin sees is for nobody's cache: a key is in it once.
async fn unstored(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
