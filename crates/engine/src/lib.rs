//! One call from admission to record: no web framework, no SQL, no provider's name.
//!
//! Read [`engine`] first: a call's whole story is there. Then [`attempt`] (one try), [`lane`] (native or translated) and
//! [`body`] (who owns the upstream's answer).

pub mod admit;
mod affinity;
pub mod attempt;
pub mod attribution;
pub mod body;
pub mod cache;
pub mod call;
pub mod catalogue;
pub mod chance;
pub mod choose;
pub mod cloak;
pub mod condition;
pub mod config;
pub mod count;
pub mod engine;
pub mod expect;
pub mod explain;
mod further;
pub mod guard;
pub mod health;
mod hedge;
mod hops;
pub mod kept;
pub mod lane;
pub mod observe;
pub mod passthrough;
pub mod pattern;
pub mod payload;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod proxy;
pub mod pulse;
pub mod quota;
pub mod route;
pub mod seats;
mod secrets;
mod shape;
pub mod signals;
pub mod snapshot;
pub mod status;
pub mod tariff;
mod tls;
pub mod transport;
mod unread;

pub use call::{Endpoint, Inbound, InboundBody};
pub use config::Config;
pub use engine::{Answered, Engine, Trail};
