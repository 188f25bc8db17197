//! The store in SQLite or PostgreSQL. One text of SQL for both; `Pool` is the only place that knows which it is.

mod audit;
mod config;
mod error;
mod kept;
mod migrations;
mod notices;
mod pool;
mod quota;
mod signals;
mod usage;

pub use pool::SqlStore;
