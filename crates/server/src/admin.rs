//! The admin API: every route below `/admin`, its door, and what its handlers share.

mod asked;
mod brake;
mod gate;
mod problem;
mod role;
mod route;
mod session;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use polygate_store::Store;
use polygate_store::audit::Event;

use crate::State;
use crate::pages::{check, health, overview};
use brake::Brake;

pub use asked::Asked;
pub use gate::identify;
pub use problem::{Field, Problem};
pub use role::{Area, Principal, Role};
pub use route::{Doc, Param, ParamKind, Route};

/// How long the database may take for what an admin asks.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the admin API has beside the engine.
pub struct Admin {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Slows those who try keys.
    brake: Brake,
}

impl Admin {
    /// With this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
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

    /// Puts something into the audit log. Where that cannot be done now, the log of the process has it.
    pub async fn note(&self, event: Event) {
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
    let mut routes = session::routes();
    routes.extend(overview::routes());
    routes.extend(health::routes());
    routes.extend(check::routes());
    routes
}

/// The router of all of them.
pub fn router(state: &State) -> axum::Router<State> {
    let routes = routes().into_iter();
    routes.fold(axum::Router::new(), |router, route| {
        route.add_to(router, state)
    })
}
