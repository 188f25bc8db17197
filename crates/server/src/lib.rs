//! HTTP in and out: routes, keys, bodies, errors in the client's format. Chooses no upstream and reads no provider's answer.
//!
//! Model endpoints are matched by [`router`] before the web framework, whose routing costs more than all we do to a call;
//! everything else (health, metrics, admin) is an axum [`pages`] router.

mod answer;
mod body;
mod cors;
mod given;
mod ingress;
mod key;
mod models;
mod pages;
mod render;
mod router;
mod serve;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use polygate_core::Secret;
use polygate_engine::Engine;
use polygate_engine::observe::Flush;

pub use serve::{Server, Stop};

/// What every handler can reach.
#[derive(Clone)]
pub struct State {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Asks for all records so far to be in the metrics.
    pub flush: Flush,
    /// The admin's key. Never empty.
    pub admin_key: Secret,
    /// False from the moment the gateway begins to stop.
    pub ready: Arc<AtomicBool>,
}

impl State {
    /// Whether new work should come here.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}
