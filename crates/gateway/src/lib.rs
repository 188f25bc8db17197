//! The binary's parts: command line, configuration, and how everything is joined.

pub mod boot;
mod cache;
pub mod cli;
pub mod config;
pub mod explain;
pub mod export;
mod follow;
pub mod health;
pub mod import;
mod kept;
mod last_good;
mod ledger;
pub mod limits;
pub mod listen;
pub mod live;
mod price_list;
mod quotas;
mod reload;
mod retention;
mod signals;
pub mod storage;
pub mod systemd;
pub mod telling;
mod upgrade;
pub mod watch;
