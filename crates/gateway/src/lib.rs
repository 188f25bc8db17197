//! The binary's parts: command line, configuration, and how everything is joined.

pub mod boot;
pub mod cli;
pub mod config;
mod follow;
mod last_good;
pub mod limits;
pub mod listen;
mod quotas;
mod reload;
pub mod storage;
pub mod systemd;
mod upgrade;
pub mod watch;
