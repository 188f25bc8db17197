//! HTTP in and out: routes, keys, bodies, errors in the client's format. Chooses no upstream and reads no provider's answer.
//!
//! Model endpoints are matched by [`router`] before the web framework, whose routing costs more than all we do to a call;
//! everything else (health, metrics, admin) is an axum [`pages`] router.

mod activity;
pub mod admin;
mod answer;
mod body;
mod connection;
mod cors;
mod frames;
mod given;
mod ingress;
mod key;
mod life;
mod models;
mod pages;
mod refusal;
mod render;
mod router;
mod serve;
mod stream;
pub mod tls;
mod trail;
mod upload;
mod wordless;

use std::sync::Arc;

use polygate_core::Secret;
use polygate_engine::Engine;
use polygate_engine::observe::Flush;
use polygate_engine::seats::Seats;

pub use admin::Admin;
pub use life::{Life, Phase};
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
    /// What the admin API has beside the engine.
    pub admin: Arc<Admin>,
    /// How far the gateway is on its way out.
    pub life: Life,
    /// The model calls that run.
    pub calls: Arc<Seats>,
    /// How many connections, and how many calls, the process bears where the configuration does not say.
    pub bearable: usize,
}
